"""A whole swarm in virtual time: the production cores of scheduler and peers do it.

It wires scheduler, hosts, source and network together, starts the downloads, makes go wrong what
the scenario says, and waits for the end.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from models.dragonfly import DragonflyRanker
from odonata.ids import host_id, peer_id, task_id_of
from odonata.telemetry.record import NoRecorder, Recorder
from odonata.wire.message import Download, Host, HostType, PeerMessage
from peer.core.event import SchedulerAnswered
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import (
    Answer,
    CloseStream,
    SchedulerEffect,
    TriggerSeed,
    WakeAt,
    WriteRecord,
)
from scheduler.core.event import (
    HostAnnounced,
    PeerSpoke,
    SchedulerEvent,
    SeedFailed,
    SeedFinished,
    StreamClosed,
    Ticked,
)
from scheduler.core.limits import Limits
from simulator.download import SimulatedDownload, Surroundings
from simulator.network import Link, Network
from simulator.node import Node
from simulator.report import Giver, Outcome, SwarmReport
from simulator.scenario import Scenario
from simulator.source import Source
from simulator.world import World

if TYPE_CHECKING:
    from models.ranker import Ranker
    from simulator.world import Timer

URL = "http://origin.example/blob"
LONGEST_S = 7 * 24 * 3600.0
"""A swarm that is not done in a week of virtual time hangs."""


class Swarm:
    """One world with one task."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        scheduler_limits: Limits | None = None,
        ranker: Ranker | None = None,
        recorder: Recorder | None = None,
        keep_log: bool = True,
    ) -> None:
        """`recorder` takes what scheduler and peers record; None: nobody does."""
        self._recorder = recorder or NoRecorder()
        self.world = World(seed, keep_log=keep_log)
        self.scenario = scenario
        self.network = Network(self.world)
        self.source = Source(self.world, self.network, scenario)
        self.nodes: dict[str, Node] = {}
        self.downloads: dict[str, SimulatedDownload] = {}  # by peer id, in order of beginning
        self._ids = self.world.rng("ids")
        self._download = Download(url=URL, piece_length=scenario.piece_length)
        self._task_id = task_id_of(self._download)
        self._scheduler: SchedulerCore | None = SchedulerCore(
            scheduler_limits or Limits(),
            ranker or DragonflyRanker(),
            self.world.rng("scheduler"),
        )
        self._alarm: Timer | None = None
        self._triggered: dict[str, str] = {}  # peer id of a triggered seed -> its host id
        self._waiting = scenario.peers
        self._around = Surroundings(
            world=self.world,
            network=self.network,
            source=self.source,
            nodes=self.nodes,
            say=self._say,
            on_end=self._on_end,
        )
        self.seeds = [self._add("seed", i) for i in range(1, scenario.seeds + 1)]
        self.peers = [self._add("peer", i) for i in range(1, scenario.peers + 1)]

    def run(self) -> SwarmReport:
        """Let everybody download; return how it went."""
        for node in self.nodes.values():
            self._tell(HostAnnounced(host=node.host))
        for i, node in enumerate(self.peers):
            at_s = self.scenario.arrival_s * i / len(self.peers)
            self.world.at(at_s, partial(self._start, node))
        self._plan_faults()
        self.world.run(until_s=LONGEST_S, is_over=lambda: self._waiting <= 0)
        self.network.settle()
        return self._report()

    # --- hosts ----------------------------------------------------------------------------------

    def _add(self, kind: str, number: int) -> Node:
        scenario, name, is_seed = self.scenario, f"{kind}{number}", kind == "seed"
        up = scenario.seed_up if is_seed else scenario.peer_up
        down = scenario.seed_down if is_seed else scenario.peer_down
        # Addresses in 10.0.0.0/8 by number; nothing is ever sent there.
        ip = str(IPv4Address("10.0.0.0") + number + (0 if is_seed else 1 << 16))
        host = Host(
            id=host_id(ip, name, is_seed=is_seed),
            type=HostType.SUPER if is_seed else HostType.NORMAL,
            hostname=name,
            ip=ip,
            port=4000,
            max_tx_bandwidth_bits_per_s=int(up * 8),
        )
        node = Node(
            world=self.world,
            host=host,
            link=Link(name, up=up, down=down, delay_s=scenario.delay_s),
            slots=scenario.seed_slots if is_seed else scenario.peer_slots,
            delay_s=scenario.delay_s,
            lies=name in scenario.faults.bad_digest,
        )
        self.nodes[host.id] = node
        return node

    def _start(self, node: Node) -> None:
        if node.alive:
            self._begin(node, self._download, triggered=False)
        else:
            self._waiting -= 1

    def _begin(self, node: Node, download: Download, *, triggered: bool) -> None:
        unique = f"{self._ids.getrandbits(128):032x}"
        name = peer_id(node.host.ip, node.name, unique, is_seed=node.host.is_seed)
        run = SimulatedDownload(self._around, node, download, name)
        self.downloads[name] = run
        if triggered:
            self._triggered[name] = node.host.id
        self.world.note(node.name, f"starts {name}")
        run.begin(scheduler=self._scheduler is not None)

    def _on_end(self, run: SimulatedDownload) -> None:
        host = self._triggered.pop(run.peer_id, None)
        if host is None:
            self._waiting -= 1
        elif run.error is None:
            self._tell_later(SeedFinished(task_id=self._task_id, host_id=host))
        else:
            reason = run.error.detail
            self._tell_later(SeedFailed(task_id=self._task_id, host_id=host, reason=reason))

    # --- the scheduler --------------------------------------------------------------------------

    def _say(self, run: SimulatedDownload, message: PeerMessage) -> None:
        """Bring a message of a peer to the scheduler."""
        self.world.note(run.node.name, f"says {type(message).__name__}")
        if self._scheduler is None:
            self.world.after(0.0, lambda: run.stream_ended("connection refused"))
            return
        self._tell_later(
            PeerSpoke(
                host_id=run.node.host.id,
                task_id=self._task_id,
                peer_id=run.peer_id,
                message=message,
            )
        )

    def _tell_later(self, event: SchedulerEvent) -> None:
        self.world.after(self.scenario.delay_s, lambda: self._tell(event))

    def _tell(self, event: SchedulerEvent) -> None:
        if self._scheduler is not None:
            for effect in self._scheduler.handle(event, self.world.now):
                self._perform(effect)

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
            self.world.after(delay_s, lambda: run.stream_ended(reason))
        elif isinstance(effect, TriggerSeed):
            self.world.after(delay_s, lambda: self._trigger(effect))
        elif isinstance(effect, WriteRecord):
            self._recorder.write(effect.record)
        elif isinstance(effect, WakeAt):
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self.world.at(effect.at_s, lambda: self._tell(Ticked()))

    def _trigger(self, effect: TriggerSeed) -> None:
        node = self.nodes[effect.host.id]
        self.world.note(node.name, "is triggered")
        if not node.alive:
            self._seed_unreachable(node)
            return
        self._begin(node, effect.download, triggered=True)

    def _seed_unreachable(self, node: Node) -> None:
        self._tell_later(
            SeedFailed(
                task_id=self._task_id,
                host_id=node.host.id,
                reason="connection reset",
                unreachable=True,
            )
        )

    # --- what goes wrong ------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        faults = self.scenario.faults
        by_name = {node.name: node for node in self.nodes.values()}
        for name, at_s in faults.crash_at_s.items():
            self.world.at(at_s, partial(self._crash, by_name[name]))
        for name, count in faults.crash_at_pieces.items():
            node = by_name[name]
            node.dies_with, node.on_crash = count, partial(self._crash, node)
        if faults.scheduler_lost_at_s is not None:
            self.world.at(faults.scheduler_lost_at_s, self._lose_scheduler)

    def _crash(self, node: Node) -> None:
        if not node.alive:
            return
        self.world.note(node.name, "crashes")
        node.die()
        for run in list(self.downloads.values()):
            if run.node is node and not run.over:
                run.crash()
                self._tell_later(StreamClosed(peer_id=run.peer_id))
                if self._triggered.pop(run.peer_id, None) is None:
                    self._waiting -= 1
                else:
                    self._seed_unreachable(node)

    def _lose_scheduler(self) -> None:
        self.world.note("scheduler", "is lost")
        self._scheduler = None
        for run in list(self.downloads.values()):
            ended = partial(run.stream_ended, "connection reset")
            self.world.after(self.scenario.delay_s, ended)

    # --- the result -----------------------------------------------------------------------------

    def _report(self) -> SwarmReport:
        outcomes = [
            Outcome(
                name=run.node.name,
                started_at_s=run.started_at_s,
                ended_at_s=run.ended_at_s,
                error=run.error,
                crashed=run.crashed,
                fetched_from=dict(run.fetched_from),
            )
            for run in self.downloads.values()
            if not run.node.host.is_seed
        ]
        givers = [Giver(name="source", sent=self.source.link.sent)]
        givers += [Giver(name=n.name, sent=n.link.sent) for n in self.nodes.values()]
        return SwarmReport(
            size=self.scenario.size,
            bound_s=self.scenario.bound_s(),
            outcomes=tuple(outcomes),
            givers=tuple(givers),
            source_requests=self.source.requests,
            blamed=tuple(
                (run.node.name, parent, number)
                for run in self.downloads.values()
                for parent, number in run.blamed
            ),
        )


def _short(effect: Answer) -> str:
    parents = getattr(effect.answer, "parents", ())
    return " ".join([type(effect.answer).__name__, *(p.peer_id for p in parents)])
