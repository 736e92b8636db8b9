"""A daemon that holds persistent tasks, for tests: a real DfdaemonUpload server; no bytes move.

Asked for a replica it goes through a daemon's conversation with the scheduler that it belongs to.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from dragonfly_api import common_pb2, dfdaemon_pb2
from google.protobuf.empty_pb2 import Empty
from support.persistent_client import PersistentClient, host_message

from odonata.errors import DiskFullError
from odonata.grpc_server import GrpcServer


class FakeHolder:
    """`kept` and `fetched` hold every request. `full`: it refuses to fetch."""

    def __init__(self, name: str, task_id: str) -> None:
        self.name = name
        self.port = 0
        self.task_id = task_id
        self.client: PersistentClient | None = None
        self.full = False
        self.kept: list[tuple[str, bool]] = []
        self.fetched: list[Any] = []

    @property
    def host(self) -> common_pb2.Host:
        """What it announces."""
        return host_message(self.name, "127.0.0.1", self.port)

    async def UpdatePersistentTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.UpdatePersistentTaskRequest, _context: Any
    ) -> Empty:
        return self._keep(request)

    async def UpdatePersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.UpdatePersistentCacheTaskRequest, _context: Any
    ) -> Empty:
        return self._keep(request)

    def _keep(self, request: Any) -> Empty:
        self.kept.append((request.task_id, request.persistent))
        return Empty()

    async def DownloadPersistentTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DownloadPersistentTaskRequest, _context: Any
    ) -> AsyncGenerator[dfdaemon_pb2.DownloadPersistentTaskResponse]:
        yield dfdaemon_pb2.DownloadPersistentTaskResponse(host_id=self.name)
        await self._fetch(request)

    async def DownloadPersistentCacheTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DownloadPersistentCacheTaskRequest, _context: Any
    ) -> AsyncGenerator[dfdaemon_pb2.DownloadPersistentCacheTaskResponse]:
        yield dfdaemon_pb2.DownloadPersistentCacheTaskResponse(host_id=self.name)
        await self._fetch(request)

    async def _fetch(self, request: Any) -> None:
        self.fetched.append(request)
        if self.full:
            raise DiskFullError("no space left")
        assert self.client is not None, "it has no scheduler"
        peer = self.client.peer(self.name, f"{self.name}-{uuid.uuid4()}", self.task_id)
        await peer.download(persistent=request.persistent)


@asynccontextmanager
async def serving_holder(
    name: str, client: PersistentClient, task_id: str
) -> AsyncGenerator[FakeHolder]:
    """A holder that has announced itself to `client`'s scheduler and serves."""
    holder = FakeHolder(name, task_id)
    holder.client = client
    server = GrpcServer()
    server.add_service(dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"], holder)
    holder.port = server.bind_tcp("127.0.0.1", 0, "port")
    await server.start()
    try:
        await client.announce(holder.host)
        yield holder
    finally:
        await server.stop(0)
