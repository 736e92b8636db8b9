"""What outlives a file: the world, its network, its hosts, its scheduler and its telemetry.

It carries out the effects of the one real SchedulerCore: answers go to the download they name,
triggers to the swarm of their task. It decides nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from models.dragonfly import DragonflyRanker
from odonata.errors import CapacityError, NotFoundError, UnavailableError
from odonata.telemetry.record import NoRecorder, Recorder
from peer.core.event import SchedulerAnswered, SchedulerFound
from scheduler.core.effect import Answer, CloseStream, TriggerSeed, WakeAt, WriteRecord
from scheduler.core.event import HostAnnounced, PeerSpoke, Ticked
from scheduler.core.limits import Limits
from simulator.clock import Clock
from simulator.host import BITS, draw_hosts
from simulator.network import Network
from simulator.parts import Parts
from simulator.wire import Wire
from simulator.world import World

if TYPE_CHECKING:
    from models.ranker import Ranker
    from odonata.wire.message import PeerMessage
    from scheduler.core.core import SchedulerCore
    from scheduler.core.effect import SchedulerEffect
    from scheduler.core.event import SchedulerEvent
    from simulator.clock import Alarm
    from simulator.download import SimulatedDownload
    from simulator.host import SimulatedHost
    from simulator.scenario import Scenario


_PASSING = (NotFoundError, CapacityError, UnavailableError)
"""Errors that a download meets by registering anew."""


class SwarmOfTask(Protocol):
    """Who fetches one content."""

    def trigger(self, effect: TriggerSeed) -> None:
        """A seed is asked to fetch it."""
        ...

    def crash(self, host: SimulatedHost) -> None:
        """A host dies."""
        ...


class Place:
    """One world with its hosts and one scheduler. `swarms` by task id, `downloads` by peer id."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        scheduler_limits: Limits | None = None,
        ranker: Ranker | None = None,
        recorder: Recorder | None = None,
        label: str = "",
        keep_log: bool = True,
        parts: Parts | None = None,
    ) -> None:
        """`recorder` takes what scheduler and peers record; None: nobody does.

        `label` tells ids of several studies of one world apart; it changes nothing else.
        """
        self.scenario = scenario
        self.recorder: Recorder = recorder or NoRecorder()
        self.world = World(seed, keep_log=keep_log)
        self.parts = parts or Parts()
        self.wire, self.network = self._lines()
        self.hosts = {host.host.id: host for host in draw_hosts(scenario, self.world)}
        self._by_name = {host.name: host for host in self.hosts.values()}
        self.swarms: dict[str, SwarmOfTask] = {}
        self.downloads: dict[str, SimulatedDownload] = {}
        self.ids = self.world.rng(f"ids/{label}")
        self.clock = Clock(self.world)  # the scheduler's
        self._limits = scheduler_limits or Limits(records=recorder is not None)
        self._ranker = ranker or DragonflyRanker()
        self.scheduler: SchedulerCore | None = self._new_scheduler("scheduler")
        self._alarm: Alarm | None = None

    def _lines(self) -> tuple[Wire, Network]:
        scenario = self.scenario
        network = Network(self.world, between_idcs=scenario.between_idcs)
        return Wire(self.world, scenario.delay_s), network

    def _new_scheduler(self, name: str) -> SchedulerCore:
        return self.parts.scheduler(self._limits, self._ranker, self.world.rng(name))

    @property
    def seeds(self) -> list[SimulatedHost]:
        return [host for host in self.hosts.values() if host.is_seed]

    @property
    def peers(self) -> list[SimulatedHost]:
        return [host for host in self.hosts.values() if not host.is_seed]

    def host_named(self, name: str) -> SimulatedHost:
        """`peer1`, `seed1`, ...; KeyError if there is none."""
        return self._by_name[name]

    def begin(self) -> None:
        """Hosts announce themselves, and what is to happen to them takes its time from now."""
        for host in self.hosts.values():
            self._announce(host)
            if host.vanishes_at_s is not None:
                self.world.after(host.vanishes_at_s, partial(self.crash, host))
            if host.degrades:
                self._plan_degrading(host)

    def _announce(self, host: SimulatedHost) -> None:
        if host.alive:
            used = int(host.link.used * BITS) if host.told_up else 0
            said = replace(host.host, tx_bandwidth_bits_per_s=used)
            interval_s = self.scenario.announce_interval_s
            shares = self.scenario.seeds_share and host.is_seed
            self.tell(HostAnnounced(host=said, interval_s=interval_s, shares_source=shares))
            self.world.after(interval_s, partial(self._announce, host))

    def _plan_degrading(self, host: SimulatedHost) -> None:
        degrading, whole = self.scenario.degrading, host.link.up
        assert degrading is not None, "no host degrades without a plan"

        def change(rate: float, what: str) -> None:
            self.world.note(host.name, what)
            self.network.set_uplink(host.link, rate)

        self.world.after(degrading.at_s, lambda: change(whole / degrading.factor, "degrades"))
        if degrading.lasts_s is not None:
            recovers_at_s = degrading.at_s + degrading.lasts_s
            self.world.after(recovers_at_s, lambda: change(whole, "recovers"))

    def crash(self, host: SimulatedHost) -> None:
        """A host dies, with everything on it."""
        if host.alive:
            self.world.note(host.name, "crashes")
            host.alive = False
            for swarm in list(self.swarms.values()):
                swarm.crash(host)

    # --- the scheduler --------------------------------------------------------------------------

    def say(self, run: SimulatedDownload, message: PeerMessage) -> None:
        """Bring a message of a peer to the scheduler."""
        self.world.note(run.node.name, f"says {type(message).__name__}")
        if self.scheduler is None:
            self.world.after(0.0, lambda: run.stream_ended("connection refused"))
            return
        self.tell_later(
            PeerSpoke(
                host_id=run.node.host.id,
                task_id=run.task_id,
                peer_id=run.peer_id,
                message=message,
                is_ours=run.node.is_ours or (self.scenario.seeds_share and run.node.host.is_seed),
                checks_pieces=run.node.is_ours,
                shares_far=run.node.is_ours,
                writes_pieces=True,  # stock peers do not, but the simulation does it for them
            )
        )

    def seek(self, run: SimulatedDownload, pause_s: float) -> None:
        """After a pause and a round trip the download finds the scheduler, if it answers."""
        self.world.after(pause_s + 2 * self.scenario.delay_s, partial(self._found_by, run))

    def _found_by(self, run: SimulatedDownload) -> None:
        if self.scheduler is not None:
            run.give(SchedulerFound(tells_digests=run.node.is_ours))

    def tell_later(self, event: SchedulerEvent) -> None:
        """It hears of it a delay later."""
        self.world.after(self.scenario.delay_s, lambda: self.tell(event))

    def tell(self, event: SchedulerEvent) -> None:
        """It hears of it now."""
        if self.scheduler is not None:
            for effect in self.scheduler.handle(event, self.clock.now):
                self._perform(effect)

    def lose_scheduler(self) -> None:
        """It dies, and does not come back."""
        self.world.note("scheduler", "is lost")
        self.scheduler = None
        for run in list(self.downloads.values()):
            ended = partial(run.stream_ended, "connection reset")
            self.world.after(self.scenario.delay_s, ended)

    def _perform(self, effect: SchedulerEffect) -> None:
        delay_s = self.scenario.delay_s
        if isinstance(effect, Answer):
            run = self.downloads[effect.peer_id]
            self.world.note("scheduler", f"answers {effect.peer_id}: {_short(effect)}")
            answered = SchedulerAnswered(answer=effect.answer)
            self.world.after(delay_s, lambda: run.give(answered))
        elif isinstance(effect, CloseStream):
            run = self.downloads[effect.peer_id]
            reason = "ended" if effect.error is None else effect.error.detail
            refused = not isinstance(effect.error, _PASSING)
            self.world.after(delay_s, lambda: run.stream_ended(reason, refused=refused))
        elif isinstance(effect, TriggerSeed):
            swarm = self.swarms[effect.task_id]
            self.world.after(delay_s, lambda: swarm.trigger(effect))
        elif isinstance(effect, WriteRecord):
            self.recorder.write(effect.record)
        elif isinstance(effect, WakeAt):
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self.clock.at(effect.at_s, lambda: self.tell(Ticked()))


def _short(effect: Answer) -> str:
    parents = getattr(effect.answer, "parents", ())
    return " ".join([type(effect.answer).__name__, *(p.peer_id for p in parents)])
