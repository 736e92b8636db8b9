"""`odonata store`: files written to object storage through the swarm. Options in, no work here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from peer import persistent_command as option
from peer.storage_option import storage_options

if TYPE_CHECKING:
    from odonata.wire.origin import ObjectStorage
    from peer.persistent_client import ExportWish


@click.group()
def store() -> None:
    """Write files to object storage through the swarm and read them back: persistent tasks.

    What was imported is kept by several hosts until its time is over, and in the object storage for
    good. To read what others wrote there, use `odonata get`.
    """


@store.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--url", required=True, help="Where it goes, such as s3://BUCKET/KEY.")
@option.REPLICAS
@option.TTL
@storage_options
@option.IMPORT_TIMEOUT
@option.ENDPOINT
@option.QUIET
@option.JSON
def import_(
    path: Path,
    url: str,
    replicas: int,
    ttl: str,
    storage: ObjectStorage,
    timeout: str,
    endpoint: Path | None,
    no_progress: bool,
    json_form: bool,
) -> None:
    """Write a file of this host to object storage, and print the id of its task.

    Other hosts reach the storage in their own way: credentials given here go no further than this
    daemon.
    """
    from odonata.units import parse_duration_s
    from odonata.wire.message import TaskType
    from peer.persistent_client import ImportWish

    wish = ImportWish(
        path=path,
        replica_count=replicas,
        ttl_s=parse_duration_s(ttl),
        timeout_s=parse_duration_s(timeout),
    )
    daemon = option.client(TaskType.PERSISTENT, endpoint)
    with option.busy(f"importing {path.name}", quiet=no_progress):
        task = option.run(daemon.import_stored(wish, url, storage))
    option.tell_imported(task, json_form=json_form)


@store.command()
@click.argument("url")
@option.export_options
@storage_options
@option.ENDPOINT
@option.QUIET
@option.JSON
def export(
    url: str,
    wish: ExportWish,
    storage: ObjectStorage,
    endpoint: Path | None,
    no_progress: bool,
    json_form: bool,
) -> None:
    """Write what was imported under URL into a file: from other hosts, else from the storage.

    URL, region and endpoint make the id of the task, so say them as the import did.
    """
    from odonata.wire.message import TaskType
    from peer.get_progress import make_display
    from peer.persistent_client import stored_task_id

    daemon = option.client(TaskType.PERSISTENT, endpoint)
    with make_display(wish.output.name, quiet=no_progress or json_form) as display:
        option.run(daemon.export_stored(url, storage, wish, display))
    option.tell_output(wish.output, stored_task_id(url, storage), json_form=json_form)


@store.command()
@click.argument("url")
@storage_options
@option.ENDPOINT
@option.JSON
def stat(url: str, storage: ObjectStorage, endpoint: Path | None, json_form: bool) -> None:
    """Show what the scheduler knows of what was imported under URL."""
    from odonata.wire.message import TaskType
    from peer.persistent_client import stored_task_id

    daemon = option.client(TaskType.PERSISTENT, endpoint)
    task = option.run(daemon.stat(stored_task_id(url, storage)))
    option.tell_task(task, json_form=json_form)


@store.command()
@option.ENDPOINT
@option.JSON
def ls(endpoint: Path | None, json_form: bool) -> None:
    """List the persistent tasks on this host, whole or in part."""
    from odonata.wire.message import TaskType

    daemon = option.client(TaskType.PERSISTENT, endpoint)
    option.tell_copies(option.run(daemon.list_local()), json_form=json_form)
