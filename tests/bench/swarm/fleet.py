"""The processes of one run, from their start to what each is asked for: daemons and an origin.

What a fleet must be able to do is `Fleet`; `rival` has another one. Watching it is `run`'s.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
from bench.swarm.content import Content
from bench.swarm.ground import Ground
from bench.swarm.member import STATUS_PORT, member_words, origin_words, socket_path
from bench.swarm.policy import Policy
from bench.swarm.world import ORIGIN, SCHEDULER, HostPlan, WorldPlan
from grpc_health.v1 import health_pb2

from odonata.errors import UnavailableError
from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub, health_stub
from odonata.swarm.process import Processes, died_early
from odonata.wire.dragonfly import PieceArrived, download_request_to_wire, progress_from_wire
from odonata.wire.dragonfly.feature import FEATURES_KEY, UNSIZED_STARTED
from odonata.wire.message import Download, TrafficType, Value

# Each piece is told as it lands: when it did is what is measured.
TOLD: Final = ((FEATURES_KEY, UNSIZED_STARTED),)
READY_TIMEOUT_S: Final = 90.0  # eighteen Python programs on two busy cores take some 12 s
READY_POLL_S: Final = 0.2
UNKNOWN: Final = "unknown"
"""Who gave a piece, where nobody says."""

Note = Callable[[int, int, str], None]
"""Told a piece's number, its bytes and the name of the host that gave it."""


class Stage(Value, frozen=True, kw_only=True):
    """What a run takes place on. `folder`: for this run alone."""

    world: WorldPlan
    policy: Policy
    contents: tuple[Content, ...]
    folder: Path


class Fleet(Protocol):
    """All processes of one run."""

    @property
    def hosts(self) -> list[HostPlan]:
        """Seeds and peers that have a process."""
        ...

    @property
    def names(self) -> list[str]:
        """Of all processes, also those that are neither."""
        ...

    async def start(self, processes: Processes) -> None:
        """Start all; returns when they are ready. UnavailableError."""
        ...

    async def fetch(self, host: HostPlan, content: Content, output: Path, note: Note) -> str:
        """Have a peer fetch a content into a file. Returns what failed; "" if nothing did."""
        ...

    async def origin_bytes(self) -> int:
        """Content that has left the origin."""
        ...


class Daemons:
    """A scheduler, seeds and peers of ours, by the rules of a policy; and an origin."""

    def __init__(self, stage: Stage, ground: Ground) -> None:
        self._stage = stage
        self._ground = ground
        self._names = {ground.ip(host): host.name for host in stage.world.hosts}
        self._port = 0

    @property
    def hosts(self) -> list[HostPlan]:
        world = self._stage.world
        return [*(world.seeds if self._stage.policy.has_swarm else ()), *world.peers]

    @property
    def names(self) -> list[str]:
        return [ORIGIN, *(host.name for host in self._members)]

    @property
    def _members(self) -> list[HostPlan]:
        with_scheduler = self._stage.policy.has_swarm
        return [*([self._stage.world.host(SCHEDULER)] if with_scheduler else []), *self.hosts]

    async def start(self, processes: Processes) -> None:
        await self._start_origin(processes)
        stage, ground = self._stage, self._ground
        for host in self._members:
            words = member_words(host, stage.world, stage.policy, ground, stage.folder)
            await processes.start(host.name, ground.words(host, words))
        await ready_or_dead(processes, self._ready())

    async def _start_origin(self, processes: Processes) -> None:
        origin = self._stage.world.host(ORIGIN)
        said: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def hear(_name: str, line: str) -> None:
            if line.startswith("listening ") and not said.done():
                said.set_result(int(line.split()[1]))

        rate = float("inf") if self._ground.is_shaped else origin.link.up or float("inf")
        words = origin_words(self._stage.contents[0].folder, self._ground.ip(origin), rate)
        child = await processes.start(ORIGIN, self._ground.words(origin, words), hear)
        try:
            self._port = await asyncio.wait_for(said, READY_TIMEOUT_S)
        except TimeoutError:
            raise died_early(child) from None

    async def _ready(self) -> None:
        sockets = [socket_path(self._stage.folder, host) for host in self.hosts]
        await asyncio.gather(*(_serving(path) for path in sockets))
        while self._stage.policy.has_swarm:  # a list of hosts has no push
            if await asyncio.to_thread(self._known_hosts) >= len(self.hosts):
                return
            await asyncio.sleep(READY_POLL_S)

    def _known_hosts(self) -> int:
        scheduler = self._stage.world.host(SCHEDULER)
        return int(json.loads(self._ask(scheduler, STATUS_PORT, "/hosts"))["total_count"])

    def _ask(self, host: HostPlan, port: int, path: str) -> str:
        """What a server on `host` answers to somebody on the same host."""
        ip = self._ground.ip(host)
        connection = http.client.HTTPConnection(ip, port)
        connection.sock = self._ground.connect(host, ip, port)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    async def fetch(self, host: HostPlan, content: Content, output: Path, note: Note) -> str:
        stage = self._stage
        origin = self._ground.ip(stage.world.host(ORIGIN))
        download = Download(
            url=content.url(origin, self._port),
            piece_length=stage.world.piece_length,
            output_path=str(output),
            force_hard_link=True,
        )
        try:
            async with open_channel(f"unix:{socket_path(stage.folder, host)}") as channel:
                call = download_stub(channel).DownloadTask(
                    download_request_to_wire(download), metadata=TOLD
                )
                async for response in call:
                    self._note(progress_from_wire(response).step, note)
        except grpc.aio.AioRpcError as error:
            return error.details() or str(error.code())
        return ""

    def _note(self, step: object, note: Note) -> None:
        if not isinstance(step, PieceArrived):
            return
        piece = step.piece
        giver = self._names.get(piece.parent_id.partition("-")[0], UNKNOWN)
        if piece.traffic_type is TrafficType.BACK_TO_SOURCE:
            giver = ORIGIN
        note(piece.number, piece.length, giver)

    async def origin_bytes(self) -> int:
        origin = self._stage.world.host(ORIGIN)
        return int(await asyncio.to_thread(self._ask, origin, self._port, "/sent"))


async def ready_or_dead(processes: Processes, wait: Coroutine[Any, Any, None]) -> None:
    """Wait until all are ready. UnavailableError if one dies first or it takes too long."""
    ready = asyncio.ensure_future(wait)
    ended = asyncio.ensure_future(processes.first_end())
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            raise died_early(ended.result())
        ready.result()
    except TimeoutError:
        raise UnavailableError(
            f"the swarm was not ready after {READY_TIMEOUT_S:.0f} s; is the machine busy?"
        ) from None
    finally:
        ready.cancel()
        ended.cancel()


async def _serving(path: Path) -> None:
    async with open_channel(f"unix:{path}") as channel:
        request = health_pb2.HealthCheckRequest()
        await health_stub(channel).Check(request, wait_for_ready=True)
