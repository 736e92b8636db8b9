"""The rpcs of dfdaemon.v2 about persistent and persistent cache tasks, by their names.

One part for each of the two services of a daemon: what users of this host ask by the unix socket
(DfdaemonDownload), and what schedulers and other peers ask (DfdaemonUpload). Both kinds of task go
the same way, by the `Shelf` of their kind. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Any

from dragonfly_api import common_pb2
from google.protobuf.empty_pb2 import Empty
from msgspec.structs import replace

from odonata.wire.dragonfly import HeldPiece, require_id
from odonata.wire.dragonfly.persistent import (
    dfdaemon_message,
    local_copy_to_wire,
    persistent_held_to_wire,
    persistent_progress_to_wire,
)
from odonata.wire.message import TaskType
from peer.runtime.host_info import HostReporter
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

    def __init__(self, shelf: Shelf, host_id: str) -> None:
        self._tasks = shelf.tasks
        self._importer = shelf.importer
        self._kind = shelf.tasks.kind
        to_wire = partial(persistent_progress_to_wire, self._kind)
        # No discard: a copy may be one of few, and a digest that does not fit may be mistyped.
        self._stream = TaskStream(shelf.tasks.hub, None, host_id, to_wire)

    async def download(self, request: Any, context: Any, *, linger: bool, here: bool) -> None:
        """`here`: the caller is on this host, and may have a file written."""
        task_id, download = download_of(request)
        if not here:
            download = replace(download, output_path=None, need_piece_content=False)
        persistent = bool(request.persistent)
        download = await self._tasks.prepare(task_id, download, persistent=persistent)
        await self._stream.serve(download, context, linger=linger, task_id=task_id)

    async def upload(self, request: Any) -> Any:
        return await self._importer.run(import_of(request))

    async def stat(self, request: Any) -> Any:
        return await self._tasks.stat(require_id("task_id", request.task_id))

    def stat_local(self, request: Any) -> Any:
        copy = self._tasks.stat_local(require_id("task_id", request.task_id))
        return local_copy_to_wire(self._kind, copy)

    def list_local(self) -> Any:
        copies = [local_copy_to_wire(self._kind, copy) for copy in self._tasks.list_local()]
        return dfdaemon_message(self._kind, "ListLocal{}TasksResponse", tasks=copies)

    async def update(self, request: Any) -> Empty:
        task_id = require_id("task_id", request.task_id)
        await self._tasks.keep(task_id, persistent=request.persistent)
        return Empty()

    async def delete(self, request: Any) -> Empty:
        await self._tasks.delete(require_id("task_id", request.task_id))
        return Empty()

    async def sync(self, request: Any, reporter: HostReporter) -> AsyncGenerator[Any]:
        task_id = require_id("task_id", request.task_id)
        facts = reporter.facts
        wanted = frozenset(request.interested_piece_numbers)
        async for pieces in self._tasks.hub.offers(task_id, wanted):
            for piece in pieces:
                held = HeldPiece(
                    number=piece.number,
                    offset=piece.offset,
                    length=piece.length,
                    ip=facts.ip,
                    tcp_port=facts.tcp_port,
                )
                yield persistent_held_to_wire(self._kind, held)


class PersistentDownloadService:
    """For users of this host. A download ends when its user leaves; an import is undone."""

    def __init__(self, stored: Shelf, cached: Shelf, host_id: str) -> None:
        self._stored = _Kind(stored, host_id)
        self._cached = _Kind(cached, host_id)

    async def DownloadPersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, context: Any
    ) -> None:
        await self._stored.download(request, context, linger=False, here=True)

    async def UploadPersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> common_pb2.PersistentTask:
        task: common_pb2.PersistentTask = await self._stored.upload(request)
        return task

    async def StatPersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> common_pb2.PersistentTask:
        task: common_pb2.PersistentTask = await self._stored.stat(request)
        return task

    async def StatLocalPersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Any:
        return self._stored.stat_local(request)

    async def ListLocalPersistentTasks(  # noqa: N802  # the rpc's name
        self, _request: Any, _context: Any
    ) -> Any:
        return self._stored.list_local()

    async def DownloadPersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, context: Any
    ) -> None:
        await self._cached.download(request, context, linger=False, here=True)

    async def UploadPersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> common_pb2.PersistentCacheTask:
        task: common_pb2.PersistentCacheTask = await self._cached.upload(request)
        return task

    async def StatPersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> common_pb2.PersistentCacheTask:
        task: common_pb2.PersistentCacheTask = await self._cached.stat(request)
        return task

    async def StatLocalPersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Any:
        return self._cached.stat_local(request)

    async def ListLocalPersistentCacheTasks(  # noqa: N802  # the rpc's name
        self, _request: Any, _context: Any
    ) -> Any:
        return self._cached.list_local()


class PersistentUploadService:
    """For schedulers and other peers. A scheduler's order goes on when the scheduler hangs up."""

    def __init__(self, stored: Shelf, cached: Shelf, reporter: HostReporter) -> None:
        self._stored = _Kind(stored, reporter.facts.id)
        self._cached = _Kind(cached, reporter.facts.id)
        self._reporter = reporter

    async def DownloadPersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, context: Any
    ) -> None:
        await self._stored.download(request, context, linger=True, here=False)

    async def SyncPersistentPieces(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> AsyncGenerator[Any]:
        async for held in self._stored.sync(request, self._reporter):
            yield held

    async def UpdatePersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Empty:
        return await self._stored.update(request)

    async def StatPersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> common_pb2.PersistentTask:
        task: common_pb2.PersistentTask = await self._stored.stat(request)
        return task

    async def DeletePersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Empty:
        return await self._stored.delete(request)

    async def DownloadPersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, context: Any
    ) -> None:
        await self._cached.download(request, context, linger=True, here=False)

    async def SyncPersistentCachePieces(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> AsyncGenerator[Any]:
        async for held in self._cached.sync(request, self._reporter):
            yield held

    async def UpdatePersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Empty:
        return await self._cached.update(request)

    async def StatPersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> common_pb2.PersistentCacheTask:
        task: common_pb2.PersistentCacheTask = await self._cached.stat(request)
        return task

    async def DeletePersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Empty:
        return await self._cached.delete(request)


class PersistentRemovalService:
    """DfdaemonUpload's removals, for users of this host: DfdaemonDownload has none of its own."""

    def __init__(self, stored: Shelf, cached: Shelf, host_id: str) -> None:
        self._kinds = {
            TaskType.PERSISTENT: _Kind(stored, host_id),
            TaskType.PERSISTENT_CACHE: _Kind(cached, host_id),
        }

    async def DeletePersistentTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Empty:
        return await self._kinds[TaskType.PERSISTENT].delete(request)

    async def DeletePersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: Any, _context: Any
    ) -> Empty:
        return await self._kinds[TaskType.PERSISTENT_CACHE].delete(request)
