"""The swarm of one content in virtual time: the production cores of scheduler and peers do it.

It wires nodes, source and downloads together in a place, starts the downloads, makes go wrong what
the scenario says, and waits for the end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from odonata.ids import peer_id, task_id_of
from odonata.wire.message import Download
from scheduler.core.event import SeedFailed, SeedFinished, StreamClosed
from simulator.bound import bound_s
from simulator.download import SimulatedDownload, Surroundings
from simulator.network import UNLIMITED
from simulator.node import Node
from simulator.place import Place
from simulator.report import Giver, Outcome, SwarmReport
from simulator.source import Source

if TYPE_CHECKING:
    from models.ranker import Ranker
    from odonata.telemetry.record import Recorder
    from scheduler.core.effect import TriggerSeed
    from scheduler.core.limits import Limits
    from simulator.host import SimulatedHost
    from simulator.scenario import Scenario

URL = "http://origin.example/blob"
LONGEST_S = 24 * 3600.0
"""A swarm that is not done in a day of virtual time hangs."""


class TaskSwarm:
    """All who fetch one content, from a cold start, in a place that has begun."""

    def __init__(self, place: Place, number: int) -> None:
        """`number` of the file in this place, from 1."""
        self.place = place
        self.world = place.world
        self.scenario = scenario = place.scenario.of_file(number)
        self.network = place.network
        self.number = number
        self.source = Source(self.world, self.network, place.wire, scenario)
        self.downloads: dict[str, SimulatedDownload] = {}  # by peer id, in order of beginning
        self._download = Download(url=f"{URL}/{number}", piece_length=scenario.piece_length)
        self.task_id = task_id_of(self._download)
        self._triggered: dict[str, str] = {}  # peer id of a triggered seed -> its host id
        self._starts: dict[str, int] = {}  # by name of the host
        self.nodes = {name: self._node(host) for name, host in place.hosts.items() if host.alive}
        self.seeds = [node for node in self.nodes.values() if node.host.is_seed]
        self.peers = [node for node in self.nodes.values() if not node.host.is_seed]
        self._waiting = len(self.peers)
        self._sent_before = {node.name: node.link.sent for node in self.nodes.values()}
        self._bound_s = self._bound()
        self._around = Surroundings(
            world=self.world,
            network=self.network,
            wire=place.wire,
            parts=place.parts,
            source=self.source,
            nodes=self.nodes,
            task_id=self.task_id,
            recorder=place.recorder,
            say=place.say,
            seek=place.seek,
            on_end=self._on_end,
        )
        place.swarms[self.task_id] = self

    def run(self) -> SwarmReport:
        """Let everybody download; return how it went."""
        begun_at_s = self.world.now
        for i, node in enumerate(self.peers):
            self.world.after(self._arrival_s(i, node), partial(self._start, node))
        if self.number == 1:
            self._plan_faults()
        self.world.run(until_s=begun_at_s + LONGEST_S, is_over=lambda: self._waiting <= 0)
        self.network.settle()
        return self._report()

    def _arrival_s(self, place: int, node: Node) -> float:
        joins_at_s = self.place.hosts[node.host.id].joins_at_s
        if joins_at_s is not None and self.number == 1:
            return joins_at_s
        return self.scenario.arrival_s * place / len(self.peers)

    # --- hosts ----------------------------------------------------------------------------------

    def _node(self, host: SimulatedHost) -> Node:
        return Node(
            world=self.world,
            host=host.host,
            link=host.link,
            wire=self.place.wire,
            clock=host.clock,
            slots=host.slots,
            limits=host.limits,
            budget=host.budget,
            waiting_max=self.scenario.waiting_max,
            is_ours=host.is_ours,
            told_up=host.told_up,
            lie=host.lie,
        )

    def _bound(self) -> float:
        hosts = self.place.hosts
        peers = [hosts[node.host.id] for node in self.peers]
        between = self.scenario.between_idcs if self.scenario.idcs > 1 else UNLIMITED
        return bound_s(
            self.scenario.size,
            source_up=self.scenario.source_up,
            seed_ups=[node.link.up for node in self.seeds],
            peer_ups=[host.link.up for host in peers],
            peer_downs=[host.link.down for host in peers],
            takers=sum(host.vanishes_at_s is None for host in peers),
            between_idcs=None if between >= UNLIMITED else between,
        )

    def _start(self, node: Node) -> None:
        if node.alive:
            self._begin(node, self._download, triggered=False)
        else:
            self._waiting -= 1

    def _new_run(self, node: Node, download: Download) -> SimulatedDownload:
        """A download that has not begun."""
        unique = f"{self.place.ids.getrandbits(128):032x}"
        name = peer_id(node.host.ip, node.name, unique, is_seed=node.host.is_seed)
        count = self._starts[node.name] = self._starts.get(node.name, 0) + 1
        dice = self.world.rng(f"download/{self.number}/{node.name}/{count}")
        run = SimulatedDownload(self._around, node, download, name, dice)
        self.downloads[name] = self.place.downloads[name] = run
        self.world.note(node.name, f"starts {name}")
        return run

    def _begin(self, node: Node, download: Download, *, triggered: bool) -> None:
        run = self._new_run(node, download)
        if triggered:
            self._triggered[run.peer_id] = node.host.id
        run.begin(scheduler=self.place.scheduler is not None)

    def _on_end(self, run: SimulatedDownload) -> None:
        host = self._triggered.pop(run.peer_id, None)
        tell = self.place.tell_later
        if host is None:
            self._waiting -= 1
        elif run.error is None:
            tell(SeedFinished(task_id=self.task_id, host_id=host))
        else:
            tell(SeedFailed(task_id=self.task_id, host_id=host, reason=run.error.detail))

    def trigger(self, effect: TriggerSeed) -> None:
        """The scheduler asks a seed to fetch the content."""
        node = self.nodes.get(effect.host.id)
        self.world.note(effect.host.hostname, "is triggered")
        if node is not None and node.alive:
            self._begin(node, effect.download, triggered=True)
        else:
            self._seed_unreachable(effect.host.id)

    def _seed_unreachable(self, host_id: str) -> None:
        self.place.tell_later(
            SeedFailed(
                task_id=self.task_id,
                host_id=host_id,
                reason="connection reset",
                unreachable=True,
            )
        )

    # --- what goes wrong ------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        faults, place = self.scenario.faults, self.place
        hosts = {host.name: host for host in place.hosts.values()}
        for name, at_s in faults.crash_at_s.items():
            self.world.at(at_s, partial(place.crash, hosts[name]))
        for name, count in faults.crash_at_pieces.items():
            node = self.nodes[hosts[name].host.id]
            node.dies_with, node.on_crash = count, partial(place.crash, hosts[name])
        if faults.scheduler_lost_at_s is not None:
            self.world.at(faults.scheduler_lost_at_s, place.lose_scheduler)

    def crash(self, host: SimulatedHost) -> None:
        """A host dies: what it served breaks, and its own download is lost."""
        node = self.nodes.get(host.host.id)
        if node is None:
            return
        node.die()
        for run in list(self.downloads.values()):
            if run.node is node and not run.over:
                run.crash()
                self.place.tell_later(StreamClosed(peer_id=run.peer_id))
                if self._triggered.pop(run.peer_id, None) is None:
                    self._waiting -= 1
                else:
                    self._seed_unreachable(node.host.id)

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
        givers += [
            Giver(name=node.name, sent=node.link.sent - self._sent_before[node.name])
            for node in self.nodes.values()
        ]
        return SwarmReport(
            size=self.scenario.size,
            bound_s=self._bound_s,
            outcomes=tuple(outcomes),
            givers=tuple(givers),
            source_requests=self.source.requests,
            blamed=tuple(
                (run.node.name, parent, number)
                for run in self.downloads.values()
                for parent, number in run.blamed
            ),
        )


class Swarm(TaskSwarm):
    """One content in a place of its own, which begins now."""

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
        place = Place(
            scenario,
            seed=seed,
            scheduler_limits=scheduler_limits,
            ranker=ranker,
            recorder=recorder,
            keep_log=keep_log,
        )
        super().__init__(place, 1)
        place.begin()
