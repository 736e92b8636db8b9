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
_EXPORT = (
    click.option(
        "-O", "--output", required=True, type=click.Path(path_type=Path), help="File to write."
    ),
    click.option("--overwrite", is_flag=True, help="Replace an existing file."),
    click.option(
        "--force-hard-link", is_flag=True, help="Fail rather than copy; the file shares its bytes."
    ),
    click.option("-d", "--digest", help="What the content must be, such as sha256:HEX."),
    click.option(
        "--timeout", metavar="DURATION", default="2h", show_default=True, help="Give up after."
    ),
)


IMPORT_TIMEOUT = click.option(
    "--timeout", metavar="DURATION", default="30m", show_default=True, help="Give up after."
)


def export_options(function: _Function) -> _Function:
    """Decorator: where a content goes, and how; the command gets `wish`, an `ExportWish`."""

    @wraps(function)
    def command(
        *args: Any,
        output: Path,
        overwrite: bool,
        force_hard_link: bool,
        digest: str | None,
        timeout: str,
        **kwargs: Any,
    ) -> Any:
        from odonata.units import parse_duration_s
        from peer.persistent_client import ExportWish

        wish = ExportWish(
            output=output,
            digest=digest,
            overwrite=overwrite,
            force_hard_link=force_hard_link,
            timeout_s=parse_duration_s(timeout),
        )
        return function(*args, wish=wish, **kwargs)

    decorated: Any = command
    for option in reversed(_EXPORT):
        decorated = option(decorated)
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


def tell_imported(task: PersistentFacts, *, json_form: bool) -> None:
    """What became of an import, on stdout: for people the id, to go on with."""
    if json_form:
        tell_task(task, json_form=True)
    else:
        click.echo(task.id)


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
