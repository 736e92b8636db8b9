"""The options that `odonata cache` and `odonata store` share, and how their work is run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from odonata.wire.dragonfly.persistent import LocalCopy, PersistentFacts
    from odonata.wire.message import TaskType
    from peer.persistent_client import DaemonClient

_Function = TypeVar("_Function", bound=Callable[..., Any])
_T = TypeVar("_T")

ENDPOINT = click.option(
    "-e", "--endpoint", type=click.Path(path_type=Path), envvar="ODONATA_DAEMON_SOCKET",
    help="The daemon's unix socket. Default: the one a daemon of this user makes.",
)  # fmt: skip
JSON = click.option("--json", "json_form", is_flag=True, help="As JSON.")
QUIET = click.option("--no-progress", is_flag=True, help="Say nothing but the result and errors.")
REPLICAS = click.option(
    "--replicas", type=click.IntRange(min=1), default=2, show_default=True,
    help="Hosts that are to keep a copy, this one included.",
)  # fmt: skip
TTL = click.option(
    "--ttl", metavar="DURATION", default="1h", show_default=True,
    help="How long it lives, from 1m to 7d (168h).",
)  # fmt: skip
OUTPUT = click.option(
    "-O", "--output", required=True, type=click.Path(path_type=Path), help="File to write."
)
DIGEST = click.option("-d", "--digest", help="What the content must be, such as sha256:HEX.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an existing file.")
FORCE_HARD_LINK = click.option(
    "--force-hard-link", is_flag=True, help="Fail rather than copy; the file shares its bytes."
)


def timeout_option(default: str) -> Callable[[_Function], _Function]:
    """Decorator: --timeout."""
    return click.option(
        "--timeout", metavar="DURATION", default=default, show_default=True, help="Give up after."
    )


def storage_options(function: _Function) -> _Function:
    """Decorator: --storage-*; the command gets `storage`, an `ObjectStorage`.

    Secrets may come by environment, for a command line is seen by every process.
    """
    names = {
        "region": "Where the bucket is.",
        "endpoint": "URL of the storage, if it is not the scheme's own.",
        "access-key-id": "Who asks.",
        "access-key-secret": "And their secret.",
        "session-token": "Of temporary credentials.",
        "security-token": "Likewise, as OSS and COS call it.",
        "credential-path": "File with credentials, on the daemon's host.",
        "predefined-acl": "Of the object that is written (gs).",
    }

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        from odonata.wire.origin import ObjectStorage

        fields = (*(one.replace("-", "_") for one in names), "insecure_skip_verify")
        given = {name: value for name in fields if (value := kwargs.pop(f"storage_{name}"))}
        return function(*args, storage=ObjectStorage(**given), **kwargs)

    decorated: Any = click.option(
        "--storage-insecure-skip-verify", is_flag=True, help="Accept any certificate."
    )(command)
    for name, text in reversed(names.items()):
        variable = "ODONATA_STORAGE_" + name.upper().replace("-", "_")
        decorated = click.option(
            f"--storage-{name}", envvar=variable, help=f"{text} Or ${variable}."
        )(decorated)
    return decorated  # type: ignore[no-any-return]  # click calls it by its options


def client(kind: TaskType, endpoint: Path | None) -> DaemonClient:
    """The daemon at `endpoint`, or where one of this user is."""
    from peer.daemon_socket import default_endpoint
    from peer.persistent_client import DaemonClient

    return DaemonClient(endpoint or default_endpoint(), kind)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """To its end."""
    return asyncio.run(work)


@contextmanager
def busy(what: str, *, quiet: bool) -> Generator[None]:
    """On a terminal: that something is under way, and for how long."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(what, markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


def tell_task(task: PersistentFacts, *, json_form: bool) -> None:
    """What the scheduler knows, on stdout."""
    import time

    from rich.console import Console

    from peer.persistent_table import show_task, task_json

    if json_form:
        click.echo(task_json(task))
    else:
        show_task(Console(), task, time.time())


def tell_copies(copies: list[LocalCopy], *, json_form: bool) -> None:
    """What this host holds, on stdout."""
    import time

    from rich.console import Console

    from peer.persistent_table import copies_json, show_copies

    if json_form:
        click.echo(copies_json(copies))
    else:
        show_copies(Console(), copies, time.time())


def tell_output(output: Path, task_id: str, *, json_form: bool) -> None:
    """Where the content went, for programs; people have seen it."""
    import json

    if json_form:
        found = output.absolute()
        size = found.stat().st_size
        click.echo(json.dumps({"task_id": task_id, "output": str(found), "length": size}, indent=2))
