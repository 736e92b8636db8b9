"""What both services of a daemon answer alike: a task of the swarm, and a folder of an origin.

A part of DfdaemonUpload and of DfdaemonDownload. Errors are raised; the server turns them into
statuses.
"""

from __future__ import annotations

from typing import Any

from dragonfly_api import common_pb2, dfdaemon_pb2
from google.protobuf.empty_pb2 import Empty

from odonata.wire.dragonfly import require_id
from peer.runtime.source_list import SourceLister
from peer.runtime.task_admin import TaskAdmin


class TaskService:
    """The rpcs, by their names."""

    def __init__(self, admin: TaskAdmin, lister: SourceLister) -> None:
        self._admin = admin
        self._lister = lister

    async def StatTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.StatTaskRequest, _context: Any
    ) -> common_pb2.Task:
        return await self._admin.stat(require_id("task_id", request.task_id))

    async def ListTaskEntries(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.ListTaskEntriesRequest, _context: Any
    ) -> dfdaemon_pb2.ListTaskEntriesResponse:
        return await self._lister.answer(request)

    async def DeleteTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DeleteTaskRequest, _context: Any
    ) -> Empty:
        await self._admin.delete(require_id("task_id", request.task_id))
        return Empty()
