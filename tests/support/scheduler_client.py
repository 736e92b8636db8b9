"""A stock client of a scheduler, for tests: official stubs, one object for each download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from dragonfly_api import common_pb2, scheduler_pb2
from support.grpc_stub import EOF

from odonata.grpc_client import open_channel
from odonata.grpc_stub import scheduler_stub
from odonata.telemetry.settings import TelemetrySettings
from odonata.wire.dragonfly import (
    PeerRequest,
    answer_from_wire,
    host_to_wire,
    request_to_wire,
)
from odonata.wire.dragonfly.feature import FEATURES_KEY
from odonata.wire.message import (
    Download,
    Host,
    HostType,
    PeerMessage,
    Piece,
    Register,
    SchedulerAnswer,
)
from scheduler.settings import ModelSettings, SchedulerSettings, ServerSettings

# Long enough for a loaded machine; a test that needs it has failed.
PATIENCE_S = 20.0
MIB = 1024 * 1024
TASK = "a" * 64
URL = "http://origin.example/blob"


def settings(port: int = 0, **server: Any) -> SchedulerSettings:
    """A scheduler on loopback, on any free port, that records nothing and looks for no model."""
    return SchedulerSettings(
        server=ServerSettings(listen_ip="127.0.0.1", port=port, **server),
        telemetry=TelemetrySettings(enable=False),
        model=ModelSettings(enable=False),
    )


def host(name: str, ip: str, port: int = 4000, *, seed: bool = False) -> Host:
    """A host that runs a daemon; `name` is its id too."""
    return Host(
        id=name,
        type=HostType.SUPER if seed else HostType.NORMAL,
        hostname=name,
        ip=ip,
        port=port,
        download_port=port,
    )


def download(**fields: Any) -> Download:
    """16 MiB in 4 pieces, as a stock peer registers it after it asked the source."""
    sized: dict[str, Any] = {
        "actual_content_length": 16 * MIB,
        "actual_piece_length": 4 * MIB,
        "actual_piece_count": 4,
    }
    return Download(url=URL, **{**sized, **fields})


def piece(number: int, parent_id: str = "") -> Piece:
    """Piece `number` of `download`."""
    return Piece(number=number, offset=number * 4 * MIB, length=4 * MIB, parent_id=parent_id)


class SchedulerClient:
    """The stub of one channel, with deadlines."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: Any = scheduler_stub(channel)

    async def announce(self, host: Host, interval_s: float | None = None) -> None:
        """AnnounceHost."""
        request = scheduler_pb2.AnnounceHostRequest(host=host_to_wire(host))
        if interval_s is not None:
            request.interval.FromNanoseconds(round(interval_s * 1e9))
        await self.stub.AnnounceHost(request, timeout=PATIENCE_S)

    async def stat_task(self, task_id: str = TASK) -> common_pb2.Task:
        """StatTask."""
        request = scheduler_pb2.StatTaskRequest(host_id="anyone", task_id=task_id)
        task: common_pb2.Task = await self.stub.StatTask(request, timeout=PATIENCE_S)
        return task

    def peer(
        self, host_id: str, peer_id: str, task_id: str = TASK, features: str = ""
    ) -> PeerConversation:
        """Open an AnnouncePeer stream; `features`: what a peer of ours says that it can."""
        return PeerConversation(self.stub, host_id, task_id, peer_id, features)


class PeerConversation:
    """One AnnouncePeer stream."""

    def __init__(
        self, stub: Any, host_id: str, task_id: str, peer_id: str, features: str = ""
    ) -> None:
        self.host_id = host_id
        self.task_id = task_id
        self.peer_id = peer_id
        self.call = stub.AnnouncePeer(metadata=((FEATURES_KEY, features),) if features else None)

    def request(self, message: PeerMessage) -> scheduler_pb2.AnnouncePeerRequest:
        """`message` as it goes over the wire."""
        return request_to_wire(
            PeerRequest(
                host_id=self.host_id, task_id=self.task_id, peer_id=self.peer_id, message=message
            )
        )

    async def send(self, *messages: PeerMessage) -> None:
        """Send messages, one after the other."""
        for message in messages:
            await self.call.write(self.request(message))

    async def register(self, **fields: Any) -> None:
        """Send the Register of `download(**fields)`."""
        await self.send(Register(download=download(**fields)))

    async def read(self) -> scheduler_pb2.AnnouncePeerResponse | None:
        """The next answer as it came; None at the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            response = await self.call.read()
        return None if response is EOF else response

    async def answer(self) -> SchedulerAnswer:
        """The next answer; the stream must not end instead."""
        response = await self.read()
        assert response is not None, await self.call.code()
        return answer_from_wire(response)

    async def headers(self) -> dict[str, str]:
        """The initial metadata, waited for as long as a stock client would: 10 s."""
        async with asyncio.timeout(10):
            return dict(await self.call.initial_metadata())

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the server to end the stream, without half-closing; status and message."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.call.code(), await self.call.details()


@asynccontextmanager
async def connected(address: str) -> AsyncGenerator[SchedulerClient]:
    """A client of the scheduler at `address`."""
    async with open_channel(address) as channel:
        yield SchedulerClient(channel)
