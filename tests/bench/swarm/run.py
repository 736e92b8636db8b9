"""One run: a swarm of real processes fetches its contents from a cold start, and is watched."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from bench.swarm.calibrate import Calibration
from bench.swarm.content import fault_of
from bench.swarm.fleet import Fleet, Stage
from bench.swarm.ground import Carried, Ground
from bench.swarm.machine import IDLE_MIN, IdleWatch
from bench.swarm.outcome import (
    VANISHED,
    Arrival,
    FileOutcome,
    HostOutcome,
    RunOutcome,
    Usage,
    payload,
)
from bench.swarm.world import HostPlan, world_bound_s
from bench.yardstick import cpu_s_of
from msgspec.structs import replace

from odonata.swarm.process import Processes

LONGEST_BOUNDS: Final = 20.0
"""A run that takes this many times the bound, and a minute, is stopped: its hosts did not end."""
LONGEST_S: Final = 60.0

OnPiece = Callable[[str, int], None]
"""Told the host's name and the piece's bytes."""
OnLine = Callable[[str, str], None]
"""Told the name of a process and a line that it says."""


def ignore(_name: str, _line: str) -> None:
    """Nobody wants to know."""


class Run:
    """One swarm on a ground. `measure` once."""

    def __init__(
        self,
        stage: Stage,
        fleet: Fleet,
        ground: Ground,
        calibration: Calibration,
        on_piece: OnPiece = lambda _name, _length: None,
        on_line: OnLine = ignore,
    ) -> None:
        self._stage = stage
        self._world = stage.world
        self._fleet = fleet
        self._ground = ground
        self._calibration = calibration
        self._on_piece = on_piece
        self._on_line = on_line
        self._pieces: dict[str, list[Arrival]] = {host.name: [] for host in self._world.peers}
        self._begun_s = 0.0
        self._vanished: set[str] = set()

    async def measure(self) -> RunOutcome:
        """Start everybody, have all peers fetch, stop everybody, compare. UnavailableError.

        The stage's folder is emptied before and after.
        """
        folder = self._stage.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            async with Processes(self._on_line) as processes:
                await self._fleet.start(processes)
                return await self._watch(processes)
        finally:
            for host in self._world.peers:
                if host.degrades_at_s is not None or host.vanishes_at_s is not None:
                    self._ground.mend(host)  # for the next run on these links
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _watch(self, processes: Processes) -> RunOutcome:
        carried, crossed = self._carried(), self._ground.crossed()
        cpu_s, idle = self._cpu_s(processes), IdleWatch()
        self._begun_s = time.monotonic()
        fates = [asyncio.ensure_future(idle.sample())]
        fates += [asyncio.ensure_future(self._fate(h, processes)) for h in self._world.peers]
        try:
            hosts = await asyncio.gather(*(self._host(host) for host in self._world.peers))
            share, worst = idle.stop()
        finally:
            for fate in fates:
                fate.cancel()
        for fate in fates:
            if fate.done() and not fate.cancelled():
                fate.result()  # what could not be done to a link
        used_s = sum(now - cpu_s[name] for name, now in self._cpu_s(processes).items())
        faults = await asyncio.gather(*(self._checked(host) for host in hosts))
        sent, received = self._payloads(carried)
        world = self._world
        return RunOutcome(
            scenario=world.scenario,
            policy=self._stage.policy.name,
            world=world.number,
            size=world.size,
            bound_s=self._bound_s,
            hosts=tuple(faults),
            origin_bytes=await self._fleet.origin_bytes(),
            uplinks=self._uplinks(),
            sent=sent,
            received=received,
            crossed_bytes=self._crossed(crossed),
            sites={host.name: host.site for host in world.hosts} if world.n_sites > 1 else {},
            usage=Usage(cpu_s=used_s, idle=share, idle_worst=worst),
            rejected=self._objection(share),
        )

    @property
    def _bound_s(self) -> float:
        return world_bound_s(self._world, self._calibration.rates)

    def _cpu_s(self, processes: Processes) -> dict[str, float]:
        """CPU seconds so far, by process, of those that have not vanished."""
        names = [name for name in self._fleet.names if name not in self._vanished]
        return {name: cpu_s_of([processes.child(name).process.pid]) for name in names}

    def _uplinks(self) -> dict[str, float]:
        rates = self._calibration.rates.up
        return {host.name: rates[host.name] for host in self._fleet.hosts if host.name in rates}

    def _objection(self, idle: float) -> str:
        if idle < IDLE_MIN:
            return f"the CPU was idle for {idle:.0%} of the time only, below {IDLE_MIN:.0%}"
        if self._calibration.wrong:
            return f"links are not as they were set: {'; '.join(self._calibration.wrong)}"
        return ""

    # --- one host ---

    async def _host(self, host: HostPlan) -> HostOutcome:
        await asyncio.sleep(host.arrives_at_s)
        arrived_at_s = self._now()
        gate = asyncio.Semaphore(self._world.at_once)
        orders = [self._file(host, content, gate) for content in self._world.order(host)]
        files = await asyncio.gather(*orders)
        failures = [one.failure for one in files if one.failure]
        return HostOutcome(
            name=host.name,
            arrived_at_s=arrived_at_s,
            ended_at_s=self._now(),
            failure=VANISHED if host.name in self._vanished else "".join(failures[:1]),
            pieces=tuple(self._pieces[host.name]),
            files=tuple(files),
        )

    async def _file(self, host: HostPlan, content: int, gate: asyncio.Semaphore) -> FileOutcome:
        """One content, once the gate lets it pass."""

        def note(number: int, length: int, giver: str) -> None:
            at_s = self._now()
            self._pieces[host.name].append(
                Arrival(at_s=at_s, number=number, length=length, giver=giver, content=content)
            )
            self._on_piece(host.name, length)

        limit_s = LONGEST_S + LONGEST_BOUNDS * self._bound_s
        wanted, output = self._stage.contents[content], self._output(host.name, content)
        async with gate:
            begun_s = self._now()
            try:
                async with asyncio.timeout(limit_s):
                    failure = await self._fleet.fetch(host, wanted, output, note)
            except TimeoutError:
                failure = f"it did not end in {limit_s:.0f} s"
            return FileOutcome(content=content, took_s=self._now() - begun_s, failure=failure)

    async def _checked(self, host: HostOutcome) -> HostOutcome:
        """With what is wrong with its copies, if it has all."""
        if host.failure:
            return host
        return replace(host, failure=await asyncio.to_thread(self._fault, host.name))

    def _fault(self, name: str) -> str:
        faults = (
            fault_of(self._output(name, number), content)
            for number, content in enumerate(self._stage.contents)
        )
        return next((fault for fault in faults if fault), "")

    def _output(self, name: str, content: int) -> Path:
        return self._stage.folder / f"{name}.{content}.out"

    async def _fate(self, host: HostPlan, processes: Processes) -> None:
        """What happens to it in mid-run."""
        if host.degrades_at_s is not None and host.degraded_up is not None:
            await asyncio.sleep(host.degrades_at_s)
            await asyncio.to_thread(self._ground.set_uplink, host, host.degraded_up)
        if host.vanishes_at_s is not None:
            await asyncio.sleep(host.vanishes_at_s)
            self._vanished.add(host.name)
            await asyncio.to_thread(self._ground.cut, host)
            with suppress(ProcessLookupError):
                processes.child(host.name).process.kill()

    def _now(self) -> float:
        return time.monotonic() - self._begun_s

    # --- what the links carried ---

    def _carried(self) -> Mapping[str, Carried | None]:
        return {host.name: self._ground.carried(host) for host in self._fleet.hosts}

    def _crossed(self, begun: Carried | None) -> float | None:
        """Payload that left the first site since then; None: there is one site."""
        now = self._ground.crossed()
        if now is None or begun is None:
            return None
        delta = Carried(now.sent - begun.sent, now.received - begun.received)
        return payload(delta, self._calibration.overhead)[0]

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
