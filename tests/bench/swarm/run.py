"""One run: a swarm of real processes fetches one content from a cold start, and is watched."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
from bench.swarm.calibrate import Calibration
from bench.swarm.content import Content, fault_of
from bench.swarm.ground import Carried, Ground
from bench.swarm.machine import IDLE_MIN, IdleWatch
from bench.swarm.member import (
    STATUS_PORT,
    member_words,
    origin_words,
    socket_path,
)
from bench.swarm.outcome import VANISHED, Arrival, HostOutcome, RunOutcome, Usage, payload
from bench.swarm.policy import Policy
from bench.swarm.world import ORIGIN, SCHEDULER, HostPlan, WorldPlan, world_bound_s
from bench.yardstick import cpu_s_of
from grpc_health.v1 import health_pb2

from odonata.client.answer import to_follow
from odonata.errors import UnavailableError
from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub, health_stub
from odonata.swarm.process import Processes, died_early
from odonata.wire.dragonfly import PieceArrived, download_request_to_wire, progress_from_wire
from odonata.wire.message import Download, TrafficType

READY_TIMEOUT_S: Final = 90.0  # eighteen Python programs on two busy cores take some 12 s
READY_POLL_S: Final = 0.2
LONGEST_BOUNDS: Final = 20.0
"""A run that takes this many times the bound, and a minute, is stopped: its hosts did not end."""
LONGEST_S: Final = 60.0

OnPiece = Callable[[str, int], None]
"""Told the host's name and the piece's bytes."""


class Run:
    """One swarm on a ground. `measure` once."""

    def __init__(
        self,
        world: WorldPlan,
        policy: Policy,
        ground: Ground,
        calibration: Calibration,
        content: Content,
        folder: Path,
        on_piece: OnPiece = lambda _name, _length: None,
    ) -> None:
        """`folder`: for this run alone; it is emptied before and after."""
        self._world = world
        self._policy = policy
        self._ground = ground
        self._calibration = calibration
        self._content = content
        self._folder = folder
        self._on_piece = on_piece
        self._names = {ground.ip(host): host.name for host in world.hosts}
        self._pieces: dict[str, list[Arrival]] = {host.name: [] for host in world.peers}
        self._begun_s = 0.0
        self._vanished: set[str] = set()
        self._port = 0

    async def measure(self) -> RunOutcome:
        """Start everybody, have all peers fetch, stop everybody, compare. UnavailableError."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        try:
            async with Processes(lambda _name, _line: None) as processes:
                await self._start(processes)
                return await self._watch(processes)
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    # --- the start ---

    @property
    def _members(self) -> list[HostPlan]:
        if not self._policy.has_swarm:
            return list(self._world.peers)
        return [self._world.host(SCHEDULER), *self._world.seeds, *self._world.peers]

    @property
    def _daemons(self) -> list[HostPlan]:
        return [host for host in self._members if host.name != SCHEDULER]

    async def _start(self, processes: Processes) -> None:
        await self._start_origin(processes)
        for host in self._members:
            words = member_words(host, self._world, self._policy, self._ground, self._folder)
            await processes.start(host.name, self._ground.words(host, words))
        ready = asyncio.ensure_future(self._ready())
        ended = asyncio.ensure_future(processes.first_end())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise died_early(ended.result())
            ready.result()
        finally:
            ready.cancel()
            ended.cancel()

    async def _start_origin(self, processes: Processes) -> None:
        origin = self._world.host(ORIGIN)
        said: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def hear(_name: str, line: str) -> None:
            if line.startswith("listening ") and not said.done():
                said.set_result(int(line.split()[1]))

        rate = float("inf") if self._ground.is_shaped else origin.link.up or float("inf")
        words = origin_words(self._content.folder, self._ground.ip(origin), rate)
        child = await processes.start(ORIGIN, self._ground.words(origin, words), hear)
        try:
            self._port = await asyncio.wait_for(said, READY_TIMEOUT_S)
        except TimeoutError:
            raise died_early(child) from None

    async def _ready(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                sockets = [socket_path(self._folder, host) for host in self._daemons]
                await asyncio.gather(*(_serving(path) for path in sockets))
                if self._policy.has_swarm:
                    await self._announced()
        except TimeoutError:
            raise UnavailableError(
                f"the swarm was not ready after {READY_TIMEOUT_S:.0f} s; is the machine busy?"
            ) from None

    async def _announced(self) -> None:
        """Until the scheduler knows every daemon; its list of hosts has no push."""
        while True:
            if await asyncio.to_thread(self._known_hosts) >= len(self._daemons):
                return
            await asyncio.sleep(READY_POLL_S)

    def _known_hosts(self) -> int:
        scheduler = self._world.host(SCHEDULER)
        told = self._ask(scheduler, self._ground.ip(scheduler), STATUS_PORT, "/hosts")
        return int(json.loads(told)["total_count"])

    def _ask(self, host: HostPlan, ip: str, port: int, path: str) -> str:
        """What a server on `host` answers to somebody on the same host."""
        connection = http.client.HTTPConnection(ip, port)
        connection.sock = self._ground.connect(host, ip, port)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    # --- while it runs ---

    async def _watch(self, processes: Processes) -> RunOutcome:
        world = self._world
        bound_s = world_bound_s(world, self._calibration.rates)
        pids = [processes.child(h.name).process.pid for h in self._members]
        pids.append(processes.child(ORIGIN).process.pid)
        carried, cpu_s, idle = self._carried(), cpu_s_of(pids), IdleWatch()
        self._begun_s = time.monotonic()
        fates = [asyncio.ensure_future(idle.sample())]
        fates += [asyncio.ensure_future(self._fate(host, processes)) for host in world.peers]
        try:
            limit_s = LONGEST_S + LONGEST_BOUNDS * bound_s
            hosts = await asyncio.gather(*(self._host(host, limit_s) for host in world.peers))
            share, worst = idle.stop()
        finally:
            for fate in fates:
                fate.cancel()
        alive = [processes.child(h.name).process.pid for h in self._members
                 if h.name not in self._vanished]  # fmt: skip
        alive.append(processes.child(ORIGIN).process.pid)
        usage = Usage(cpu_s=cpu_s_of(alive) - cpu_s, idle=share, idle_worst=worst)
        sent, received = self._payloads(carried)
        origin = world.host(ORIGIN)
        asked = await asyncio.to_thread(
            self._ask, origin, self._ground.ip(origin), self._port, "/sent"
        )
        return RunOutcome(
            scenario=world.scenario,
            policy=self._policy.name,
            world=world.number,
            size=world.size,
            bound_s=bound_s,
            hosts=tuple(hosts),
            origin_bytes=int(asked),
            uplinks=self._uplinks(),
            sent=sent,
            received=received,
            usage=usage,
            rejected=self._objection(share),
        )

    def _uplinks(self) -> dict[str, float]:
        rates = self._calibration.rates.up
        return {h.name: rates[h.name] for h in self._daemons if h.name in rates}

    def _objection(self, idle: float) -> str:
        if idle < IDLE_MIN:
            return f"the CPU was idle for {idle:.0%} of the time only, below {IDLE_MIN:.0%}"
        if self._calibration.wrong:
            return f"links are not as they were set: {'; '.join(self._calibration.wrong)}"
        return ""

    async def _host(self, host: HostPlan, limit_s: float) -> HostOutcome:
        await asyncio.sleep(host.arrives_at_s)
        arrived_at_s = self._now()
        output = self._folder / f"{host.name}.out"
        try:
            async with asyncio.timeout(limit_s):
                failure = await self._fetch(host, output)
        except TimeoutError:
            failure = f"it did not end in {limit_s:.0f} s"
        ended_at_s = self._now()
        if host.name in self._vanished:
            failure = VANISHED
        elif not failure:
            failure = await asyncio.to_thread(fault_of, output, self._content)
        return HostOutcome(
            name=host.name,
            arrived_at_s=arrived_at_s,
            ended_at_s=ended_at_s,
            failure=failure,
            pieces=tuple(self._pieces[host.name]),
        )

    async def _fetch(self, host: HostPlan, output: Path) -> str:
        """Have its daemon fetch the content into a file. Returns what failed."""
        download = Download(
            url=self._content.url(self._ground.ip(self._world.host(ORIGIN)), self._port),
            piece_length=self._world.piece_length,
            output_path=str(output),
            force_hard_link=True,
        )
        try:
            async with open_channel(f"unix:{socket_path(self._folder, host)}") as channel:
                call = download_stub(channel).DownloadTask(
                    download_request_to_wire(download), metadata=to_follow(download)
                )
                async for response in call:
                    self._note(host.name, progress_from_wire(response).step)
        except grpc.aio.AioRpcError as error:
            return error.details() or str(error.code())
        return ""

    def _note(self, name: str, step: object) -> None:
        if not isinstance(step, PieceArrived):
            return
        piece = step.piece
        giver = self._names.get(piece.parent_id.partition("-")[0], "unknown")
        if piece.traffic_type is TrafficType.BACK_TO_SOURCE:
            giver = ORIGIN
        self._pieces[name].append(
            Arrival(at_s=self._now(), number=piece.number, length=piece.length, giver=giver)
        )
        self._on_piece(name, piece.length)

    async def _fate(self, host: HostPlan, processes: Processes) -> None:
        """What happens to it in mid-run."""
        if host.degrades_at_s is not None and host.degraded_up is not None:
            await asyncio.sleep(host.degrades_at_s)
            await asyncio.to_thread(self._ground.set_uplink, host, host.degraded_up)
        if host.vanishes_at_s is not None:
            await asyncio.sleep(max(0.0, self._begun_s + host.vanishes_at_s - time.monotonic()))
            self._vanished.add(host.name)
            await asyncio.to_thread(self._ground.cut, host)
            with suppress(ProcessLookupError):
                processes.child(host.name).process.kill()

    def _now(self) -> float:
        return time.monotonic() - self._begun_s

    # --- what the links carried ---

    def _carried(self) -> Mapping[str, Carried | None]:
        return {host.name: self._ground.carried(host) for host in self._daemons}

    def _payloads(
        self, before: Mapping[str, Carried | None]
    ) -> tuple[dict[str, float], dict[str, float]]:
        sent: dict[str, float] = {}
        received: dict[str, float] = {}
        for name, now in self._carried().items():
            begun = before[name]
            if now is None or begun is None or name in self._vanished:
                continue
            delta = Carried(now.sent - begun.sent, now.received - begun.received)
            sent[name], received[name] = payload(delta, self._calibration.overhead)
        return sent, received


async def _serving(path: Path) -> None:
    async with open_channel(f"unix:{path}") as channel:
        request: Any = health_pb2.HealthCheckRequest()
        await health_stub(channel).Check(request, wait_for_ready=True)
