"""The rpcs of dfdaemon.v2 about persistent and persistent cache tasks.

Both kinds of task go the same way, by the `Shelf` of their kind, which also gives the rpcs their
names. For each kind there are parts of the two services of a daemon: what users of this host ask by
the unix socket (DfdaemonDownload), and what schedulers and other peers ask (DfdaemonUpload).
Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.empty_pb2 import Empty
from msgspec.structs import replace

from odonata.wire.dragonfly import HeldPiece, require_id
from odonata.wire.dragonfly.persistent import (
    PersistentTaskMessage,
    dfdaemon_message,
    local_copy_to_wire,
    persistent_held_to_wire,
    persistent_progress_to_wire,
    rpcs_named,
)
from odonata.wire.message import Download
from peer.runtime.dynconfig import DynconfigFile
from peer.runtime.host_info import HostFacts
from peer.runtime.persistent.importer import Importer
from peer.runtime.persistent.request import download_of, import_of
from peer.runtime.persistent.tasks import PersistentTasks
from peer.runtime.task_stream import TaskStream


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """All that serves one kind of task."""

    tasks: PersistentTasks
    importer: Importer


class _Kind:
    """The rpcs of one kind, for both services."""

    def __init__(self, shelf: Shelf, facts: HostFacts) -> None:
        self._tasks = shelf.tasks
        self._facts = facts
        self._kind = shelf.tasks.kind
        to_wire = partial(persistent_progress_to_wire, self._kind)
        # No discard: a copy may be one of few, and a digest that does not fit may be mistyped.
        self.stream = TaskStream(shelf.tasks.hub, None, facts.id, to_wire)

    async def download_for_others(self, request: Any, context: Any) -> None:
        """A scheduler's order goes on when the scheduler hangs up."""
        task_id, download = download_of(request)
        download = replace(download, output_path=None, need_piece_content=False)
        download = await self.prepared(task_id, download, request)
        await self.stream.serve(download, context, linger=True, task_id=task_id)

    async def prepared(self, task_id: str, download: Download, request: Any) -> Download:
        persistent = bool(request.persistent)
        return await self._tasks.prepare(task_id, download, persistent=persistent)

    async def stat(self, request: Any, _context: Any) -> PersistentTaskMessage:
        return await self._tasks.stat(require_id("task_id", request.task_id))

    async def stat_local(self, request: Any, _context: Any) -> Any:
        copy = self._tasks.stat_local(require_id("task_id", request.task_id))
        return local_copy_to_wire(self._kind, copy)

    async def list_local(self, _request: Any, _context: Any) -> Any:
        copies = [local_copy_to_wire(self._kind, copy) for copy in self._tasks.list_local()]
        return dfdaemon_message(self._kind, "ListLocal{}TasksResponse", tasks=copies)

    async def update(self, request: Any, _context: Any) -> Empty:
        task_id = require_id("task_id", request.task_id)
        await self._tasks.keep(task_id, persistent=request.persistent)
        return Empty()

    async def delete(self, request: Any, _context: Any) -> Empty:
        await self._tasks.delete(require_id("task_id", request.task_id))
        return Empty()

    async def sync(self, request: Any, _context: Any) -> AsyncGenerator[Any]:
        task_id = require_id("task_id", request.task_id)
        wanted = frozenset(request.interested_piece_numbers)
        async for offer in self._tasks.hub.offers(task_id, wanted):
            for piece in offer.pieces:
                held = HeldPiece(
                    number=piece.number,
                    offset=piece.offset,
                    length=piece.length,
                    ip=self._facts.ip,
                    tcp_port=self._facts.tcp_port,
                )
                yield persistent_held_to_wire(self._kind, held)


class _OfUsers:
    """The rpcs of one kind by which users of this host give and take."""

    def __init__(self, kind: _Kind, shelf: Shelf, block_list: DynconfigFile) -> None:
        self._kind = kind
        self._shelf = shelf
        self._block_list = block_list

    async def download_here(self, request: Any, context: Any) -> None:
        """The caller is on this host, and may have a file written."""
        task_id, download = download_of(request)
        self._block_list.check_export(download)
        download = await self._kind.prepared(task_id, download, request)
        # What the scheduler has told of the task counts, too.
        self._block_list.check_export(download)
        await self._kind.stream.serve(download, context, linger=False, task_id=task_id)

    async def upload(self, request: Any, _context: Any) -> PersistentTaskMessage:
        wish = import_of(request)
        given = Download(
            type=self._shelf.tasks.kind, url=wish.url, tag=wish.tag, application=wish.application
        )
        self._block_list.check_import(given)
        return await self._shelf.importer.run(wish)


def user_part(shelf: Shelf, facts: HostFacts, block_list: DynconfigFile) -> object:
    """For users of this host. A download ends when its user leaves; an import is undone.

    What `block_list` forbids them is refused.
    """
    rpcs = _Kind(shelf, facts)
    of_users = _OfUsers(rpcs, shelf, block_list)
    return rpcs_named(
        shelf.tasks.kind,
        {
            "Download{}Task": of_users.download_here,
            "Upload{}Task": of_users.upload,
            "Stat{}Task": rpcs.stat,
            "StatLocal{}Task": rpcs.stat_local,
            "ListLocal{}Tasks": rpcs.list_local,
        },
    )


def peer_part(shelf: Shelf, facts: HostFacts) -> object:
    """For schedulers and other peers."""
    rpcs = _Kind(shelf, facts)
    return rpcs_named(
        shelf.tasks.kind,
        {
            "Download{}Task": rpcs.download_for_others,
            "Sync{}Pieces": rpcs.sync,
            "Update{}Task": rpcs.update,
            "Stat{}Task": rpcs.stat,
            "Delete{}Task": rpcs.delete,
        },
    )


def removal_part(shelf: Shelf, facts: HostFacts) -> object:
    """DfdaemonUpload's removals, for users of this host: DfdaemonDownload has none of its own."""
    return rpcs_named(shelf.tasks.kind, {"Delete{}Task": _Kind(shelf, facts).delete})
