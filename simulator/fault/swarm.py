"""A swarm that lives through a plan of faults.

It does to the world what the plan says, when it says so, and what daemons and users do about it:
hosts that come back begin anew, streams that are silent for too long are given up.
"""

from __future__ import annotations

from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from models.named import make_ranker
from odonata.errors import SourceError
from odonata.wire.message import SourceAnswer
from scheduler.core.event import HostDeleted, SeedFailed, SeedFinished
from scheduler.core.limits import Limits
from simulator.client import STOCK
from simulator.fault.ending import Ending, ending_of
from simulator.fault.place import HarshPlace
from simulator.fault.plan import (
    AnyFault,
    Cancel,
    Crash,
    Cut,
    Delay,
    DiskFull,
    Jump,
    Liar,
    Plan,
    SchedulerCrash,
    SourceTrouble,
    StreamBreak,
    Uploads,
)
from simulator.fault.stream import CLIENT_SILENCE_S, SERVER_SILENCE_S
from simulator.parts import Parts
from simulator.swarm import TaskSwarm
from simulator.wire import SCHEDULER

if TYPE_CHECKING:
    from odonata.wire.message import Download
    from scheduler.core.effect import TriggerSeed
    from scheduler.core.event import SchedulerEvent
    from simulator.download import SimulatedDownload
    from simulator.host import SimulatedHost
    from simulator.node import Node

SLOW_SHARE: Final = 0.02
"""What is left of an uplink that has become slow."""
RESTART_S: Final = 1.0
"""From a daemon's start to its user's next download: it has found its scheduler by then."""
LAST_WORD_S: Final = 5.0
"""How long a daemon waits for the scheduler to end a stream after its own last word."""
RUN_S: Final = 12 * 3600.0
"""After the last fault everybody must have ended in this time. Stock clients wait for hours."""
DRAIN_S: Final = 4 * 3600.0
"""After the last download nobody announces himself, and all must be forgotten in this time: two
announcements missed, and a sweep of tasks every half hour."""


class HarshSwarm(TaskSwarm):
    """One content, everybody who wants it, and everything that goes wrong."""

    place: HarshPlace

    def __init__(
        self,
        plan: Plan,
        *,
        parts: Parts | None = None,
        thorough: bool = True,
        keep_log: bool = False,
    ) -> None:
        """`thorough`: the scheduler's invariants are checked after each event."""
        self.plan = plan
        self.endings: list[Ending] = []
        self.ghosts: list[str] = []
        place = HarshPlace(
            plan.scenario,
            seed=plan.seed,
            limits=Limits(records=False, graph=plan.graph, mesh_parent_limit=plan.mesh_parents),
            ranker=make_ranker(plan.policy),
            parts=parts or Parts(),
            thorough=thorough,
            keep_log=keep_log,
        )
        for host in place.hosts.values():
            if host.name in plan.stock:
                host.limits, host.is_ours = STOCK.limits, False
                host.slots = STOCK.seed_slots if host.is_seed else STOCK.peer_slots
            for fault in plan.faults:
                if isinstance(fault, Liar) and fault.host == host.name:
                    host.lie = fault.lie
        super().__init__(place, 1)
        place.tenant = self
        self.runs: dict[str, SimulatedDownload] = {}  # the latest one by name of the host
        self._named = {node.name: node for node in self.nodes.values()}
        self._calls: dict[str, int] = {}  # life of the scheduler that triggered, by peer id
        self._to_begin = len(self.peers)

    @property
    def content(self) -> Download:
        """What everybody wants, without anybody's wishes."""
        return self._download

    # --- from begin to end ----------------------------------------------------------------------

    def live(self) -> None:
        """Let it all happen, until nothing is left to happen."""
        world, place = self.world, self.place
        place.begin()
        for fault in self.plan.faults:
            world.at(fault.at_s, partial(self._happen, fault))
            if isfinite(fault.until_s()):
                world.at(fault.until_s(), partial(self._pass, fault))
        for i, node in enumerate(self.peers):
            delay_s = self.scenario.arrival_s * i / len(self.peers)
            world.after(delay_s + RESTART_S, partial(self._start, node))
        ends = [fault.until_s() for fault in self.plan.faults if isfinite(fault.until_s())]
        last_s = max([fault.at_s for fault in self.plan.faults] + ends, default=0.0)
        world.run(until_s=last_s + RUN_S, is_over=self._is_quiet)
        self._look_for_ghosts()
        place.is_closing = True
        world.run(until_s=world.now + DRAIN_S, is_over=lambda: False)
        self.network.settle()
        for run in self.downloads.values():
            if not run.over:
                self._note_end(run)

    def _look_for_ghosts(self) -> None:
        """Streams that the scheduler believes in and that it was told are over."""
        core = self.place.scheduler
        if core is not None:
            self.ghosts = [
                f"the scheduler believes that the stream of {peer.id} is open"
                for peer in core.state.peers.values()
                if peer.stream_is_open and not self.place.streams[peer.id].is_heard
            ]

    def _is_quiet(self) -> bool:
        return self._to_begin == 0 and all(run.over for run in self.runs.values())

    def _start(self, node: Node) -> None:
        self._to_begin -= 1
        running = self.runs.get(node.name)
        if node.alive and (running is None or running.over):
            private = node.name in self.plan.private
            wanted = replace(self._download, disable_back_to_source=private)
            self._begin(node, wanted, triggered=False)

    def _begin(self, node: Node, download: Download, *, triggered: bool) -> None:
        del triggered
        run = self._new_run(node, download)
        self.runs[node.name] = run
        is_stock = not node.is_ours
        run.begin(
            scheduler=self.place.contacts[node.name].is_well,
            needs_size=is_stock and self.plan.sized,
        )

    def _on_end(self, run: SimulatedDownload) -> None:
        self._note_end(run)
        stream = self.place.streams.get(run.peer_id)
        if stream is not None:
            self.world.after(LAST_WORD_S, stream.close)
        if run.peer_id in self._calls:
            self._report_call(run)

    def _note_end(self, run: SimulatedDownload) -> None:
        self.endings.append(ending_of(run, self.scenario))

    # --- seeds ----------------------------------------------------------------------------------

    def trigger(self, effect: TriggerSeed) -> None:
        """The scheduler asks a seed to fetch the content."""
        node, life = self.nodes[effect.host.id], self.place.life
        self.world.note(node.name, "is triggered")
        if not self.place.wire.joins(SCHEDULER, node.name):
            self.world.after(3.0, partial(self._call_failed, node, life))
        elif not node.alive:
            self._call_failed(node, life)
        else:
            running = self.runs.get(node.name)
            if running is None or running.over:
                # Known before it begins, for it may end at once.
                self._begin_called(node, effect.download, life)
            else:
                self._calls[running.peer_id] = life

    def _begin_called(self, node: Node, download: Download, life: int) -> None:
        run = self._new_run(node, download)
        self.runs[node.name] = run
        self._calls[run.peer_id] = life
        needs_size = not node.is_ours and self.plan.sized
        run.begin(scheduler=self.place.contacts[node.name].is_well, needs_size=needs_size)

    def _report_call(self, run: SimulatedDownload) -> None:
        """The call that triggered a download ends with it."""
        life, host_id, error = self._calls.pop(run.peer_id), run.node.host.id, run.error
        event: SchedulerEvent = SeedFinished(task_id=self.task_id, host_id=host_id)
        if error is not None:
            answer = None
            if isinstance(error, SourceError) and error.status_code is not None:
                answer = SourceAnswer(message=error.detail, status_code=error.status_code)
            event = SeedFailed(
                task_id=self.task_id, host_id=host_id, reason=error.detail, answer=answer
            )
        self.place.wire.carry(run.node.name, SCHEDULER, partial(self._tell, life, event))

    def _call_failed(self, node: Node, life: int) -> None:
        event = SeedFailed(
            task_id=self.task_id,
            host_id=node.host.id,
            reason="connection reset",
            unreachable=True,
        )
        self._tell(life, event)

    def _tell(self, life: int, event: SchedulerEvent) -> None:
        """The scheduler hears the end of a call, if it is the one that made it."""
        if life == self.place.life:
            self.place.tell(event)

    # --- what goes wrong ------------------------------------------------------------------------

    def _happen(self, fault: AnyFault) -> None:
        self.world.note("fault", str(fault))
        match fault:
            case Crash():
                self._crash(fault)
            case SchedulerCrash():
                self._crash_scheduler(fault)
            case Cut():
                self._cut(fault)
            case Delay():
                self.place.wire.delay(fault.up_to_s)
            case Jump():
                is_host = fault.who != SCHEDULER
                host = self.place.host_named(fault.who) if is_host else None
                (self.place if host is None else host).clock.jump(fault.by_s)
            case SourceTrouble():
                self._trouble_source(fault)
            case _:
                self._hit(fault, self._named[fault.host])

    def _hit(self, fault: StreamBreak | Uploads | Liar | DiskFull | Cancel, node: Node) -> None:
        run = self.runs.get(node.name)
        match fault:
            case StreamBreak():
                stream = None if run is None else self.place.streams.get(run.peer_id)
                if stream is not None and stream.is_open:
                    stream.close()
                    stream.speaker.stream_ended("connection reset")
            case Uploads(what="slow"):
                self.network.set_uplink(node.link, node.link.up * SLOW_SHARE)
            case Uploads(what=what):
                node.trouble = None if what == "slow" else what
            case DiskFull():
                node.room = fault.pieces
            case Cancel():
                if run is not None and not run.over:
                    run.cancel()
            case Liar():
                pass  # from the beginning

    def _pass(self, fault: AnyFault) -> None:
        """It is over."""
        self.world.note("fault", f"no more: {fault}")
        match fault:
            case Cut():
                self.place.wire.heal(fault)
            case Delay():
                self.place.wire.hurry(fault.up_to_s)
            case Uploads():
                node = self._named[fault.host]
                if fault.what == "slow":
                    self.network.set_uplink(node.link, node.link.up / SLOW_SHARE)
                else:
                    node.trouble = None
            case SourceTrouble():
                if fault.what == "slow":
                    self.network.set_uplink(self.source.link, self.source.link.up / SLOW_SHARE)
                else:
                    self.source.mood = None
            case _:
                raise AssertionError(f"{fault} does not pass")

    def _trouble_source(self, fault: SourceTrouble) -> None:
        if fault.what == "slow":
            self.network.set_uplink(self.source.link, self.source.link.up * SLOW_SHARE)
            return
        self.source.mood = fault.what
        if fault.what in {"refuse", "cut"}:
            self.source.break_all()

    def _crash_scheduler(self, fault: SchedulerCrash) -> None:
        if self.place.scheduler is None:
            return
        self.place.lose_scheduler()
        if fault.back_after_s is not None:
            self.world.after(fault.back_after_s, self.place.restart_scheduler)

    # --- hosts that die and come back -----------------------------------------------------------

    def _crash(self, fault: Crash) -> None:
        host = self.place.host_named(fault.host)
        if not host.alive:
            return
        host.alive = False
        node = self._named[host.name]
        self.place.contacts[host.name].end()
        is_silent = fault.manner == "silent"
        self._end_runs(node, is_silent=is_silent)
        node.die(silently=is_silent)
        if is_silent:
            self.place.wire.lose(host.name)
            self.world.after(CLIENT_SILENCE_S, partial(self._miss, node.name))
        elif fault.manner == "leaves":
            left = HostDeleted(host_id=host.host.id)
            self.place.wire.carry(host.name, SCHEDULER, partial(self.place.tell, left))
        if fault.back_after_s is not None:
            self._to_begin += 0 if host.is_seed else 1
            self.world.after(fault.back_after_s, partial(self._come_back, host, fault))

    def _end_runs(self, node: Node, *, is_silent: bool) -> None:
        run = self.runs.get(node.name)
        for stream in self.place.streams.values():
            if stream.host == node.name:
                if is_silent:
                    stream.is_open = False
                    self.world.after(SERVER_SILENCE_S, stream.be_closed)
                elif stream.is_open:
                    stream.close()
        if run is None or run.over:
            return
        run.crash()
        self._note_end(run)
        life = self._calls.pop(run.peer_id, None)
        if life is not None:
            fail = partial(self._call_failed, node, life)
            if is_silent:
                self.world.after(CLIENT_SILENCE_S, fail)
            else:
                self.place.wire.carry(node.name, SCHEDULER, fail)

    def _come_back(self, host: SimulatedHost, fault: Crash) -> None:
        node = self._named[host.name]
        self.world.note(host.name, "is back")
        self.place.wire.find(host.name)
        host.alive = True
        node.revive(keeps_data=fault.keeps_data)
        self.place.contacts[host.name].begin()
        if not host.is_seed:
            self.world.after(RESTART_S, partial(self._start, node))

    # --- partitions -----------------------------------------------------------------------------

    def _cut(self, fault: Cut) -> None:
        self.place.wire.cut(fault)
        self.world.after(SERVER_SILENCE_S, partial(self._give_up_peers, fault))
        self.world.after(CLIENT_SILENCE_S, partial(self._give_up_others, fault))

    def _give_up_peers(self, fault: Cut) -> None:
        """The scheduler has heard nothing of some peers for too long."""
        if self.place.wire.is_cut(fault):
            for stream in list(self.place.streams.values()):
                if not self.place.wire.joins(stream.host, SCHEDULER):
                    stream.be_closed()

    def _give_up_others(self, fault: Cut) -> None:
        """Nor have peers of the scheduler or of parents, nor it of the seeds that it called."""
        joins = self.place.wire.joins
        if not self.place.wire.is_cut(fault):
            return
        for stream in list(self.place.streams.values()):
            if not joins(stream.host, SCHEDULER):
                stream.lose("keepalive timeout")
        for peer_id, life in list(self._calls.items()):
            node = self.downloads[peer_id].node
            if not joins(node.name, SCHEDULER):
                del self._calls[peer_id]
                self._call_failed(node, life)
        for name in fault.places():
            self._miss(name)

    def _miss(self, name: str) -> None:
        """Children give up streams to a host that has been silent for too long."""
        for run in list(self.runs.values()):
            if not run.over and not self.place.wire.joins(run.node.name, name):
                run.lose_parents(name, "keepalive timeout")
