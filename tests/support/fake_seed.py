"""A seed peer for tests: a real DfdaemonUpload server that is told how to behave.

It keeps its triggers and goes through a seed's conversation with the scheduler; no bytes move.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from dragonfly_api import dfdaemon_pb2
from support.scheduler_client import SchedulerClient, connected, host, piece

from odonata.errors import OdonataError
from odonata.grpc_server import GrpcServer
from odonata.wire.dragonfly import download_request_from_wire
from odonata.wire.dragonfly.feature import share_in
from odonata.wire.message import (
    BackToSourceFinished,
    BackToSourceStarted,
    Download,
    Host,
    NeedBackToSource,
    PieceBackToSourceFinished,
    Register,
    SourceShare,
)


class FakeSeed:
    """`triggers` holds every Download asked for, `shares` what was said with it of sharing.

    `error`: what DownloadTask ends with.

    `reach_source` and `finish` are the moments it waits for: set them to let it go on. Without a
    `client` it never speaks to the scheduler.
    """

    def __init__(self, name: str, ip: str) -> None:
        self.name = name
        self.ip = ip
        self.port = 0
        self.peer_id = f"{name}-peer-seed"
        self.client: SchedulerClient | None = None
        self.error: OdonataError | None = None
        self.triggers: list[Download] = []
        self.shares: list[SourceShare | None] = []
        self.triggered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.reach_source = asyncio.Event()
        self.finish = asyncio.Event()
        self.task_id = ""
        self.time_remaining_s: float | None = None

    @property
    def host(self) -> Host:
        """What it announces."""
        return host(self.name, self.ip, self.port, seed=True)

    async def DownloadTask(  # noqa: N802  # the rpc's name
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Any
    ) -> None:
        """The trigger."""
        self.triggers.append(download_request_from_wire(request))
        self.shares.append(share_in(context.invocation_metadata()))
        self.time_remaining_s = context.time_remaining()
        self.triggered.set()
        try:
            if self.error is not None:
                raise self.error
            await self.reach_source.wait()
            if self.client is not None:
                await self._fetch(self.client, self.triggers[-1])
            else:
                await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _fetch(self, client: SchedulerClient, wanted: Download) -> None:
        own = client.peer(self.name, self.peer_id, self.task_id)
        await own.send(Register(download=wanted))
        answer = await own.answer()
        assert isinstance(answer, NeedBackToSource), answer
        await own.send(BackToSourceStarted())
        await own.send(*(PieceBackToSourceFinished(piece=piece(number)) for number in range(4)))
        await self.finish.wait()
        await own.send(BackToSourceFinished())
        await own.end()


@asynccontextmanager
async def serving_seed(
    name: str, ip: str, port: int = 0, *parts: object
) -> AsyncGenerator[FakeSeed]:
    """A seed that serves, with more rpcs by `parts`; it has announced itself nowhere yet."""
    seed = FakeSeed(name, ip)
    server = GrpcServer()
    descriptor = dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"]
    server.add_service(descriptor, seed, *parts)
    seed.port = server.bind_tcp(ip, port, "port")
    await server.start()
    try:
        yield seed
    finally:
        await server.stop(0)


@asynccontextmanager
async def announced_seed(
    address: str, task_id: str, name: str = "seed", ip: str = "127.0.0.9"
) -> AsyncGenerator[FakeSeed]:
    """A seed that has announced itself to the scheduler at `address`; it fetches `task_id`."""
    async with serving_seed(name, ip) as seed, connected(address) as client:
        seed.client = client
        seed.task_id = task_id
        await client.announce(seed.host)
        yield seed
