"""A place in which schedulers and hosts die and come back, and streams break.

It carries out the scheduler's effects as `Place` does, over lines that fail, and decides nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from odonata.ids import peer_id
from odonata.wire.message import Register
from peer.core.event import SchedulerFound
from scheduler.core.effect import Answer, CloseStream
from scheduler.core.invariant import check
from simulator.fault.contact import Contact, HeldReport
from simulator.fault.stream import Speaker, Stream
from simulator.fault.wire import HarshNetwork, HarshWire
from simulator.place import Place
from simulator.wire import SCHEDULER

if TYPE_CHECKING:
    from models.ranker import Ranker
    from odonata.wire.message import Download, PeerMessage
    from scheduler.core.effect import SchedulerEffect
    from scheduler.core.event import SchedulerEvent
    from scheduler.core.limits import Limits
    from simulator.download import SimulatedDownload
    from simulator.host import SimulatedHost
    from simulator.network import Network
    from simulator.node import Node
    from simulator.parts import Parts
    from simulator.scenario import Scenario
    from simulator.wire import Wire


SEEK_INTERVAL_S: Final = 1.0
"""How often a daemon asks a scheduler whether it is there again."""


class Tenant(Protocol):
    """The swarm that lives here."""

    task_id: str
    nodes: dict[str, Node]

    @property
    def content(self) -> Download:
        """What everybody wants."""
        ...


class HarshPlace(Place):
    """Hosts, one scheduler at a time, and the streams between them, by peer id."""

    wire: HarshWire
    network: HarshNetwork

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        limits: Limits,
        ranker: Ranker,
        parts: Parts,
        thorough: bool,
        keep_log: bool,
    ) -> None:
        """`thorough`: the scheduler's invariants are checked after each event."""
        self.life = 0  # of the scheduler: how many there were before
        self.streams: dict[str, Stream] = {}
        self.is_closing = False
        self.tenant: Tenant | None = None
        self._thorough = thorough
        super().__init__(
            scenario,
            seed=seed,
            scheduler_limits=limits,
            ranker=ranker,
            keep_log=keep_log,
            parts=parts,
        )
        self.contacts = {host.name: Contact(self, host) for host in self.hosts.values()}
        self.wire.changed = self.network.look_again

    def _lines(self) -> tuple[Wire, Network]:
        scenario, world = self.scenario, self.world
        wire = HarshWire(world, scenario.delay_s, world.rng("wire"))
        return wire, HarshNetwork(world, wire, between_idcs=scenario.between_idcs)

    def begin(self) -> None:
        """All hosts announce themselves."""
        for contact in self.contacts.values():
            contact.begin()

    # --- the scheduler --------------------------------------------------------------------------

    def tell(self, event: SchedulerEvent) -> None:
        """It hears of it now."""
        super().tell(event)
        if self._thorough and self.scheduler is not None:
            check(self.scheduler)

    def lose_scheduler(self) -> None:
        """It dies: whoever reaches its machine hears so."""
        self.world.note(SCHEDULER, "is lost")
        self.scheduler = None
        self.life += 1
        if self._alarm is not None:
            self._alarm.cancel()
        for stream in list(self.streams.values()):
            if stream.is_open:
                stream.reset()
        for name, contact in self.contacts.items():
            self.wire.carry(SCHEDULER, name, contact.suspect)

    def restart_scheduler(self) -> None:
        """Another one begins, and knows nothing."""
        self.world.note(SCHEDULER, "is back")
        self.scheduler = self._new_scheduler(f"scheduler/{self.life}")

    # --- streams --------------------------------------------------------------------------------

    def open_stream(self, speaker: Speaker, *, resumes: bool = False) -> Stream:
        """A peer begins to talk; `resumes`: about a download whose scheduler it has lost."""
        stream = self.streams[speaker.peer_id] = Stream(self, speaker, resumes=resumes)
        return stream

    def say(self, run: SimulatedDownload, message: PeerMessage) -> None:
        """Bring a message of a peer to the scheduler."""
        self.world.note(run.node.name, f"says {type(message).__name__}")
        stream = self.streams.get(run.peer_id)
        if stream is None:
            stream = self.open_stream(run)
        elif isinstance(message, Register) and not stream.is_open:
            stream = self.open_stream(run, resumes=True)
        stream.say(message)

    def _found_by(self, run: SimulatedDownload) -> None:
        """A daemon asks again and again, and finds the scheduler once a word gets through."""
        if run.over:
            return
        if self.scheduler is not None and self.wire.joins(run.node.name, SCHEDULER):
            run.give(SchedulerFound(tells_digests=run.node.is_ours))
        else:
            self.world.after(SEEK_INTERVAL_S, partial(self._found_by, run))

    def report_held(self, host: SimulatedHost) -> None:
        """A host has found a scheduler: it tells what it holds, unless that is known."""
        tenant, scheduler = self.tenant, self.scheduler
        if tenant is None or scheduler is None:
            return
        node = tenant.nodes[host.host.id]
        is_known = any(
            peer.host.announced.id == host.host.id for peer in scheduler.state.peers.values()
        )
        if node.alive and node.whole and not node.active and not is_known:
            unique = f"{self.ids.getrandbits(128):032x}"
            name = peer_id(host.host.ip, host.name, unique, is_seed=host.is_seed)
            self.world.note(host.name, f"reports what it holds as {name}")
            HeldReport(self, node, tenant.task_id, name).tell(tenant.content)

    def _perform(self, effect: SchedulerEffect) -> None:
        if not isinstance(effect, Answer | CloseStream):
            super()._perform(effect)
            return
        stream = self.streams[effect.peer_id]
        if not stream.is_heard or stream.life != self.life:
            return
        name = stream.host
        if isinstance(effect, Answer):
            answer = effect.answer
            what = type(answer).__name__
            parents = " ".join(parent.peer_id for parent in getattr(answer, "parents", ()))
            self.world.note(SCHEDULER, f"answers {effect.peer_id}: {what} {parents}".rstrip())
            self.wire.carry(SCHEDULER, name, lambda: stream.hear(answer), stream=effect.peer_id)
        else:
            error = effect.error
            stream.is_heard = False
            self.wire.carry(SCHEDULER, name, lambda: stream.end(error), stream=effect.peer_id)
