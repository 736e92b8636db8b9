"""dfdaemon.v2.DfdaemonDownload: what users of this host ask, over the unix socket.

Whoever may open the socket acts with the daemon's rights on files: its folder and mode are the
fence. `TaskService` is a part of it, too. What is not served is answered UNIMPLEMENTED by the
server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from dragonfly_api import dfdaemon_pb2
from google.protobuf.empty_pb2 import Empty

from odonata.wire.dragonfly import download_request_from_wire, local_task_to_wire, require_id
from odonata.wire.dragonfly.feature import NO_P2P, features_in
from odonata.wire.message import Download
from peer.runtime.hub import Hub
from peer.runtime.local_task import describe_task, stat_task
from peer.runtime.task_admin import TaskAdmin
from peer.runtime.task_stream import TaskStream


class DownloadService:
    """The rpcs, by their names. Errors are raised; the server turns them into statuses."""

    def __init__(
        self, hub: Hub, admin: TaskAdmin, host_id: str, *, check: Callable[[Download], None]
    ) -> None:
        """`check` raises ForbiddenError for a download that this host's users may not have."""
        self._check = check
        self._hub = hub
        self._admin = admin
        self._stream = TaskStream(hub, admin, host_id)

    async def DownloadTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Any
    ) -> None:
        """A user's download: when the user leaves, it ends (unless others want it, too)."""
        features = features_in(context.invocation_metadata())
        download = download_request_from_wire(request)
        self._check(download)
        wish = msgspec.structs.replace(download, no_p2p=NO_P2P in features)
        await self._stream.serve(wish, context, linger=False, features=features)

    async def StatLocalTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.StatLocalTaskRequest, _context: Any
    ) -> dfdaemon_pb2.StatLocalTaskResponse:
        task_id = require_id("task_id", request.task_id)
        return local_task_to_wire(stat_task(self._hub.storage, task_id))

    async def ListLocalTasks(  # noqa: N802  # the rpc's name
        self, _request: dfdaemon_pb2.ListLocalTasksRequest, _context: Any
    ) -> dfdaemon_pb2.ListLocalTasksResponse:
        tasks = [local_task_to_wire(describe_task(task)) for task in self._hub.storage.tasks()]
        return dfdaemon_pb2.ListLocalTasksResponse(tasks=tasks)

    async def DeleteLocalTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DeleteLocalTaskRequest, _context: Any
    ) -> Empty:
        await self._admin.delete(require_id("task_id", request.task_id), everywhere=False)
        return Empty()

    async def DeleteHost(  # noqa: N802  # the rpc's name
        self, _request: Empty, _context: Any
    ) -> Empty:
        await self._admin.leave()
        return Empty()
