"""`odonata task`: options in, no work here.

What is done is in `peer.task_name`, `peer.task_calls` and `peer.task_table`. The group finds its
commands by entry points (`odonata.task_commands`), as `odonata` itself does: `preheat` is the
scheduler's, and a peer imports no scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from odonata.cli import CommandGroup, print_json

if TYPE_CHECKING:
    from peer.task_name import Naming

_Function = TypeVar("_Function", bound=Callable[..., Any])
_T = TypeVar("_T")

_ENDPOINT = click.option(
    "-e", "--endpoint", type=click.Path(path_type=Path), envvar="ODONATA_DAEMON_SOCKET",
    help="The daemon's unix socket. Default: the one a daemon of this user makes.",
)  # fmt: skip
_SCHEDULER = click.option(
    "--scheduler", "schedulers", multiple=True, metavar="HOST:PORT",
    help="Whose hosts --everywhere means. Repeatable. Default: scheduler.addrs of the settings.",
)  # fmt: skip
_CONFIG = click.option(
    "-c", "--config", type=click.Path(path_type=Path), envvar="ODONATA_CONFIG",
    help="The daemon's YAML file, for --scheduler's default. Default: none, or $ODONATA_CONFIG.",
)  # fmt: skip
_JSON = click.option("--json", "json_form", is_flag=True, help="As JSON.")


def _naming_options(function: _Function) -> _Function:
    """Decorator: what makes an id of a URL; the command gets `naming`."""

    @click.option("--tag", help="As the download said.")
    @click.option("--application", help="Likewise.")
    @click.option("--revision", help="Likewise, of a model hub's repository.")
    @click.option("--piece-length", metavar="SIZE", help="Likewise, if it said one.")
    @click.option(
        "--filtered-query-param", "filtered_query_params", multiple=True, metavar="NAME",
        help="Query parameter that does not count. Repeatable. Default: signatures.",
    )  # fmt: skip
    @click.option(
        "--content-for-calculating-task-id", metavar="TEXT",
        help="The id is that of this text, whatever the URL.",
    )  # fmt: skip
    @click.option(
        "--by-blob-digest/--no-by-blob-digest", default=False, show_default=True,
        help="A registry's blob goes by its digest, as the proxy has it; `odonata get` does not.",
    )  # fmt: skip
    @wraps(function)
    def command(
        *args: Any,
        tag: str | None,
        application: str | None,
        revision: str | None,
        piece_length: str | None,
        filtered_query_params: tuple[str, ...],
        content_for_calculating_task_id: str | None,
        by_blob_digest: bool,
        **kwargs: Any,
    ) -> Any:
        from peer.task_name import Naming

        naming = Naming(
            tag=tag,
            application=application,
            revision=revision,
            piece_length=piece_length,
            filtered_query_params=filtered_query_params,
            content_for_calculating_task_id=content_for_calculating_task_id,
            by_blob_digest=by_blob_digest,
        )
        return function(*args, naming=naming, **kwargs)

    return command  # type: ignore[return-value]  # click calls it by its options


@click.group(cls=CommandGroup, entry_point_group="odonata.task_commands")
def task() -> None:
    """Look after the tasks on this host: list, describe, name, remove, and fetch ahead of time.

    A task is what a URL names, with its tag, application and piece length. ls, stat and rm ask the
    daemon of this host.
    """


@click.command()
@_ENDPOINT
@_JSON
def ls(endpoint: Path | None, json_form: bool) -> None:
    """List the tasks on this host, those used last first.

    Pieces: how many are whole, of how many. URLs are shown without credentials.
    """
    import time

    from peer.task_calls import list_tasks

    tasks = _run(list_tasks(_endpoint(endpoint)))
    if json_form:
        print_json({"tasks": tasks})
        return
    from rich.console import Console

    from peer.task_table import show_tasks

    show_tasks(Console(), tasks, time.time())


@click.command()
@click.argument("name", metavar="URL|ID")
@click.option("--everywhere", is_flag=True, help="Also ask every host what it holds.")
@_naming_options
@_ENDPOINT
@_SCHEDULER
@_CONFIG
@_JSON
def stat(
    name: str,
    everywhere: bool,
    naming: Naming,
    endpoint: Path | None,
    schedulers: tuple[str, ...],
    config: Path | None,
    json_form: bool,
) -> None:
    """Show what this host holds of a task, and what its scheduler knows of it.

    ID is a task's id or, of a task on this host, the beginning of it. With a URL say what else
    makes the id, as the download did.
    """
    import time

    import msgspec

    from peer.task_calls import stat_everywhere, stat_task

    socket = _endpoint(endpoint)
    task_id = _resolve(name, naming, socket)
    standing = _run(stat_task(socket, task_id))
    if everywhere:
        hosts = _run(stat_everywhere(_schedulers(schedulers, config), task_id))
        standing = msgspec.structs.replace(standing, hosts=hosts)
    if json_form:
        print_json(standing)
        return
    from rich.console import Console

    from peer.task_table import show_standing

    show_standing(Console(), standing, time.time())


@click.command()
@click.argument("name", metavar="URL|ID")
@click.option("--everywhere", is_flag=True, help="Also from every other host.")
@_naming_options
@_ENDPOINT
@_SCHEDULER
@_CONFIG
@_JSON
def rm(
    name: str,
    everywhere: bool,
    naming: Naming,
    endpoint: Path | None,
    schedulers: tuple[str, ...],
    config: Path | None,
    json_form: bool,
) -> None:
    """Remove a task from this host; its scheduler is told.

    What is being read goes when its last reader leaves. Files that were written of it stay. With
    --everywhere every host that a scheduler knows is asked to remove it, too; exit code 1 if one
    of them could not.
    """
    from peer.task_calls import remove_everywhere, remove_task

    socket = _endpoint(endpoint)
    task_id = _resolve(name, naming, socket)
    others = _schedulers(schedulers, config) if everywhere else ()
    was_here = _run(remove_task(socket, task_id))
    removals = _run(remove_everywhere(others, task_id)) if everywhere else ()
    if json_form:
        print_json({"id": task_id, "removed_here": was_here, "hosts": removals})
    else:
        from rich.console import Console

        from peer.task_table import show_removals

        click.echo(f"removed {task_id}" if was_here else f"{task_id} is not on this host")
        show_removals(Console(), removals)
    is_gone = was_here or any(one.outcome == "removed" for one in removals)
    if not is_gone or any(one.problem is not None for one in removals):
        click.get_current_context().exit(1)


@click.command("id")
@click.argument("url")
@_naming_options
@_JSON
def id_(url: str, naming: Naming, json_form: bool) -> None:
    """Print the id of the task that URL names. Nobody is asked.

    It is that of Dragonfly's clients, too, up to release 1.5.1 and for URLs with at most one query
    parameter in later ones.
    """
    from peer.task_name import id_of_url

    task_id = id_of_url(url, naming)
    if json_form:
        print_json({"id": task_id})
    else:
        click.echo(task_id)


def _endpoint(given: Path | None) -> Path:
    from peer.daemon_socket import default_endpoint

    return given or default_endpoint()


def _schedulers(given: tuple[str, ...], config: Path | None) -> tuple[str, ...]:
    if given:
        return given
    import os

    from odonata.settings.loading import load
    from peer.settings import DaemonSettings

    return load(DaemonSettings, file=config, environ=os.environ).settings.scheduler.addrs


def _resolve(name: str, naming: Naming, socket: Path) -> str:
    from peer.task_calls import list_tasks
    from peer.task_name import id_of, only_match

    return id_of(name, naming) or only_match(name, (one.id for one in _run(list_tasks(socket))))


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    import asyncio

    return asyncio.run(work)
