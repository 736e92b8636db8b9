"""`odonata cache`: files that live in the swarm and nowhere else. Options in, no work here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from peer import persistent_command as option

if TYPE_CHECKING:
    from peer.persistent_client import ExportWish


@click.group()
def cache() -> None:
    """Put files into the swarm and take them out: persistent cache tasks.

    An imported file is kept by several hosts until its time is over. It is in no other storage:
    what must outlive that time belongs elsewhere (`odonata store`).
    """


@cache.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@option.REPLICAS
@option.TTL
@click.option("--tag", help="Makes another task of the same content.")
@click.option("--application", help="Likewise, by who asks.")
@click.option("--piece-length", metavar="SIZE", help="4MiB or more. Default: by content length.")
@click.option(
    "--content-for-calculating-task-id", metavar="TEXT",
    help="The id is that of this text, whatever the content.",
)  # fmt: skip
@option.IMPORT_TIMEOUT
@option.ENDPOINT
@option.QUIET
@option.JSON
def import_(
    path: Path,
    replicas: int,
    ttl: str,
    tag: str | None,
    application: str | None,
    piece_length: str | None,
    content_for_calculating_task_id: str | None,
    timeout: str,
    endpoint: Path | None,
    no_progress: bool,
    json_form: bool,
) -> None:
    """Import a file of this host, and print the id of its task.

    The daemon reads the file, keeps a copy that shares its blocks if the volume can, and its
    scheduler has the other replicas made, which goes on behind this command.
    """
    from odonata.units import parse_duration_s, parse_size
    from odonata.wire.message import TaskType
    from peer.persistent_client import ImportWish

    wish = ImportWish(
        path=path,
        replica_count=replicas,
        ttl_s=parse_duration_s(ttl),
        timeout_s=parse_duration_s(timeout),
        tag=tag,
        application=application,
        piece_length=None if piece_length is None else parse_size(piece_length),
        content_for_calculating_task_id=content_for_calculating_task_id,
    )
    daemon = option.client(TaskType.PERSISTENT_CACHE, endpoint)
    with option.busy(f"importing {path.name}", quiet=no_progress):
        task = option.run(daemon.import_cache(wish))
    option.tell_imported(task, json_form=json_form)


@cache.command()
@click.argument("task_id", metavar="ID")
@option.export_options
@option.ENDPOINT
@option.QUIET
@option.JSON
def export(
    task_id: str,
    wish: ExportWish,
    endpoint: Path | None,
    no_progress: bool,
    json_form: bool,
) -> None:
    """Write the content of a task into a file.

    What other hosts hold comes from them. The file is whole and checked, or it is not there.
    """
    from odonata.wire.message import TaskType
    from peer.get_progress import make_display

    daemon = option.client(TaskType.PERSISTENT_CACHE, endpoint)
    with make_display(wish.output.name, quiet=no_progress or json_form) as display:
        option.run(daemon.export_cache(task_id, wish, display))
    option.tell_output(wish.output, task_id, json_form=json_form)


@cache.command()
@click.argument("task_id", metavar="ID")
@option.ENDPOINT
@option.JSON
def stat(task_id: str, endpoint: Path | None, json_form: bool) -> None:
    """Show what the scheduler knows of a task: its replicas, and until when it lives."""
    from odonata.wire.message import TaskType

    daemon = option.client(TaskType.PERSISTENT_CACHE, endpoint)
    option.tell_task(option.run(daemon.stat(task_id)), json_form=json_form)


@cache.command()
@option.ENDPOINT
@option.JSON
def ls(endpoint: Path | None, json_form: bool) -> None:
    """List the persistent cache tasks on this host, whole or in part."""
    from odonata.wire.message import TaskType

    daemon = option.client(TaskType.PERSISTENT_CACHE, endpoint)
    option.tell_copies(option.run(daemon.list_local()), json_form=json_form)


@cache.command()
@click.argument("task_id", metavar="ID")
@option.ENDPOINT
@option.JSON
def rm(task_id: str, endpoint: Path | None, json_form: bool) -> None:
    """Remove a task from this host, and have the swarm forget it.

    Nobody can export it any more. Copies on other hosts are let off and go when their disks want
    room, or when their time is over.
    """
    import json

    from odonata.wire.message import TaskType

    option.run(option.client(TaskType.PERSISTENT_CACHE, endpoint).remove(task_id))
    click.echo(json.dumps({"task_id": task_id}, indent=2) if json_form else f"removed {task_id}")
