"""A synthetic load on one scheduler core: hosts of uneven rates fetch from each other for hours.

No peer cores and no exact network: what is real here is the scheduler, and what its clients report.
A transfer runs at the share it finds when it begins, of its parent's uplink or its child's
downlink, whichever is less, times a lognormal noise; so rates are more uneven than in a real swarm,
where shares even out. Children fetch several pieces at a time from several parents, and those of
ours say that a parent is past hope by the same rule as our peer (`peer.core.lateness`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from random import Random

from support.scheduler_world import PIECE_LENGTH, download, host

from models.dragonfly import DragonflyRanker
from odonata.wire.message import (
    BackToSourceFinished,
    BackToSourceStarted,
    Finished,
    NeedBackToSource,
    NormalTask,
    PeerMessage,
    Piece,
    PieceBackToSourceFinished,
    PieceFailed,
    PieceFinished,
    Register,
    Started,
    TrafficType,
)
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import Answer
from scheduler.core.event import HostAnnounced, PeerSpoke, SchedulerEvent, Ticked
from scheduler.core.limits import Limits
from scheduler.core.standing import HostState

HOPELESS_FACTOR = 10.0
HOPELESS_S = 3.0
HOPELESS_AFTER_PIECES = 4
HOPELESS_AVOID_S = 10.0
"""The rule of `peer.core.limits`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """What the hosts are like and do. Rates are lognormal around `median_bytes_per_s`.

    Only clients of ours (`is_ours`) say that a parent is past hope; stock clients wait.
    """

    host_count: int = 200
    sigma: float = 0.8
    median_bytes_per_s: float = 8e6
    noise_sigma: float = 0.3
    downloads_per_s: float = 0.8
    piece_count: int = 32
    task_life_s: float = 60.0
    failure_share: float = 0.0
    is_ours: bool = True


@dataclass(slots=True, eq=False)
class Node:
    """A host and what passes its links now. `pace` 0.02: it has dropped to 2 %."""

    id: str
    up_bytes_per_s: float
    down_bytes_per_s: float
    uploads: dict[int, Transfer] = field(default_factory=dict[int, "Transfer"])
    download_count: int = 0
    pace: float = 1.0


@dataclass(slots=True, eq=False)
class Transfer:
    """A piece on its way. `left_s` at `at_s`, at the pace that its parent had then."""

    number: int
    child: Child
    parent_id: str
    piece: int
    began_s: float
    at_s: float
    left_s: float
    turn: int = 0  # of its end: an earlier one does not count


@dataclass(slots=True, eq=False)
class Child:
    """One download. `parents` maps peers to when they may be asked again."""

    id: str
    node: Node
    task_id: str
    slots: int
    slots_per_parent: int
    missing: list[int]
    held: set[int] = field(default_factory=set[int])
    parents: dict[str, float] = field(default_factory=dict[str, float])
    flights: dict[int, Transfer] = field(default_factory=dict[int, Transfer])
    brought: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    count: int = 0
    total_s: float = 0.0
    is_over: bool = False
    at_source: bool = False
    looks_again: bool = False


class StandingLoad:
    """One world. `run` it for a while; look at `core`."""

    def __init__(self, settings: LoadSettings, seed: int) -> None:
        self.settings = settings
        self.rng = Random(seed)
        self.core = SchedulerCore(Limits(records=False), DragonflyRanker(), Random(seed))
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.children: dict[str, Child] = {}
        self.pieces = 0
        self.standings: list[tuple[float, str, str]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._born = 0
        self._alarm_s = inf
        self._task_id = ""
        self._task_ends_s = -inf
        self._states: dict[str, HostState] = {}
        for number in range(settings.host_count):
            self._add_host(f"h{number}")
        self._next_download()

    def run(self, until_s: float) -> None:
        """Let everything happen up to that time."""
        while self._queue and self._queue[0][0] <= until_s:
            self.now, _, happen = heappop(self._queue)
            happen()
        self.now = until_s

    def at(self, when_s: float, happen: Callable[[], None]) -> None:
        """Let `happen` be called at that time."""
        self._born += 1
        heappush(self._queue, (when_s, self._born, happen))

    def set_pace(self, host_id: str, pace: float) -> None:
        """From now on the host's uplink does `pace` of what it can."""
        node = self.nodes[host_id]
        ratio, node.pace = node.pace / pace, pace
        for transfer in node.uploads.values():
            transfer.left_s = max(0.0, transfer.left_s - (self.now - transfer.at_s)) * ratio
            self._expect(transfer)

    # --- hosts and downloads ---

    def _add_host(self, host_id: str) -> None:
        settings, rng = self.settings, self.rng
        up, down = (
            settings.median_bytes_per_s * rng.lognormvariate(0.0, settings.sigma) for _ in range(2)
        )
        self.nodes[host_id] = Node(host_id, up, max(up, down))
        self._handle(HostAnnounced(host=host(host_id), interval_s=1e9))

    def _next_download(self) -> None:
        settings, rng = self.settings, self.rng
        if self.now >= self._task_ends_s:
            self._task_id = f"t{self._born}"
            self._task_ends_s = self.now + settings.task_life_s
        self.start(rng.choice(list(self.nodes)))
        self.at(self.now + rng.expovariate(settings.downloads_per_s), self._next_download)

    def start(self, host_id: str, slots: int | None = None) -> None:
        """A host begins to fetch the present task, unless it has it already."""
        settings, rng, node = self.settings, self.rng, self.nodes[host_id]
        peer_id = f"{self._task_id}-{host_id}"
        if peer_id in self.children:
            return
        child = Child(
            id=peer_id,
            node=node,
            task_id=self._task_id,
            slots=slots or rng.randint(1, 16),
            slots_per_parent=rng.choice((1, 1, 4)),
            missing=list(range(settings.piece_count)),
        )
        rng.shuffle(child.missing)
        self.children[peer_id] = child
        size = settings.piece_count * PIECE_LENGTH
        self._say(child, Register(download=download(size=size)))

    def _handle(self, event: SchedulerEvent) -> None:
        for effect in self.core.handle(event, self.now):
            if isinstance(effect, Answer):
                self._obey(self.children[effect.peer_id], effect)
        self._note_standings()
        wake_at_s = self.core.wake_at_s
        if wake_at_s is not None and wake_at_s < self._alarm_s:
            self._alarm_s = wake_at_s
            self.at(wake_at_s, self._tick)

    def _tick(self) -> None:
        self._alarm_s = inf
        self._handle(Ticked())

    def _note_standings(self) -> None:
        """Keep a diary: when whose standing became what."""
        state = self.core.state
        if not state.verdicts.evictions:
            return
        for known in state.hosts.values():
            if self._states.get(known.id, HostState.GOOD) is not known.standing.state:
                self._states[known.id] = known.standing.state
                self.standings.append((self.now, known.id, known.standing.state))

    def _say(self, child: Child, message: PeerMessage) -> None:
        self._handle(
            PeerSpoke(
                host_id=child.node.id,
                task_id=child.task_id,
                peer_id=child.id,
                message=message,
                is_ours=self.settings.is_ours,
                writes_pieces=True,
            )
        )

    def _obey(self, child: Child, effect: Answer) -> None:
        answer = effect.answer
        if isinstance(answer, NormalTask):
            for parent in answer.parents:
                child.parents.setdefault(parent.peer_id, -inf)
            self.at(self.now + 0.01, lambda: self._begin(child, Started()))
        elif isinstance(answer, NeedBackToSource) and not child.at_source:
            child.at_source = True
            self.at(self.now + 0.01, lambda: self._begin(child, BackToSourceStarted()))

    def _begin(self, child: Child, message: PeerMessage) -> None:
        if child.is_over:
            return
        self._say(child, message)
        if child.at_source:
            self._fetch_from_source(child)
        else:
            self._fill(child)

    def _fetch_from_source(self, child: Child) -> None:
        """One after the other, at the rate of the downlink."""
        if child.is_over or not child.missing:
            return
        number = child.missing.pop()
        cost_s = PIECE_LENGTH / child.node.down_bytes_per_s

        def stored() -> None:
            if child.is_over:
                return
            child.held.add(number)
            piece = _piece(number, "", cost_s, TrafficType.BACK_TO_SOURCE)
            self._say(child, PieceBackToSourceFinished(piece=piece))
            self._end_if_whole(child)
            self._fetch_from_source(child)

        self.at(self.now + cost_s, stored)

    # --- pieces from parents ---

    def _fill(self, child: Child) -> None:
        if child.is_over or child.at_source:
            return
        while len(child.flights) < child.slots and child.missing:
            found = self._pick(child)
            if found is None:
                self._fill_later(child)
                return
            self._ask(child, *found)

    def _fill_later(self, child: Child) -> None:
        """Look again in a second, once."""

        def again() -> None:
            child.looks_again = False
            self._fill(child)

        if not child.looks_again:
            child.looks_again = True
            self.at(self.now + 1.0, again)

    def _pick(self, child: Child) -> tuple[str, int] | None:
        """A parent with a free slot that holds something, the idle ones first; and a piece."""
        busy = [flight.parent_id for flight in child.flights.values()]
        parents = [
            peer_id
            for peer_id, avoid_until_s in child.parents.items()
            if avoid_until_s <= self.now and busy.count(peer_id) < child.slots_per_parent
        ]
        self.rng.shuffle(parents)
        parents.sort(key=busy.count)
        for peer_id in parents:
            held = self.children[peer_id].held
            for number in child.missing:
                if number in held:
                    return peer_id, number
        return None

    def _ask(self, child: Child, parent_id: str, number: int) -> None:
        parent = self.children[parent_id].node
        child.missing.remove(number)
        self._born += 1
        child.node.download_count += 1
        share = min(
            parent.up_bytes_per_s / (len(parent.uploads) + 1),
            child.node.down_bytes_per_s / child.node.download_count,
        )
        noise = self.rng.lognormvariate(0.0, self.settings.noise_sigma)
        transfer = Transfer(
            number=self._born,
            child=child,
            parent_id=parent_id,
            piece=number,
            began_s=self.now,
            at_s=self.now,
            left_s=PIECE_LENGTH / (share * noise) / parent.pace,
        )
        parent.uploads[transfer.number] = child.flights[transfer.number] = transfer
        self._expect(transfer)
        self._watch(transfer)

    def _expect(self, transfer: Transfer) -> None:
        """Set the end of a transfer, in place of the one it had."""
        transfer.at_s = self.now
        transfer.turn += 1
        turn = transfer.turn

        def ends() -> None:
            if transfer.turn == turn and transfer.number in transfer.child.flights:
                self._finish(transfer)

        self.at(self.now + transfer.left_s, ends)

    def _land(self, transfer: Transfer) -> None:
        child = transfer.child
        del child.flights[transfer.number]
        del self.children[transfer.parent_id].node.uploads[transfer.number]
        child.node.download_count -= 1

    def _finish(self, transfer: Transfer) -> None:
        child, cost_s = transfer.child, self.now - transfer.began_s
        self._land(transfer)
        if self.rng.random() < self.settings.failure_share:
            self._blame(transfer)
            return
        child.held.add(transfer.piece)
        child.count += 1
        child.total_s += cost_s
        child.brought[transfer.parent_id] = (self.now, cost_s)
        self.pieces += 1
        piece = _piece(transfer.piece, transfer.parent_id, cost_s, TrafficType.REMOTE_PEER)
        self._say(child, PieceFinished(piece=piece))
        self._end_if_whole(child)
        self._fill(child)

    def _blame(self, transfer: Transfer) -> None:
        child = transfer.child
        child.missing.append(transfer.piece)
        child.parents[transfer.parent_id] = self.now + HOPELESS_AVOID_S
        self._say(child, PieceFailed(parent_id=transfer.parent_id, number=transfer.piece))
        self._fill(child)

    def _watch(self, transfer: Transfer) -> None:
        """See to it that a parent that brings nothing for far too long is blamed."""
        child = transfer.child
        if not self.settings.is_ours or child.count < HOPELESS_AFTER_PIECES:
            return
        if transfer.parent_id not in child.brought:
            return
        brought_s, usual_s = child.brought[transfer.parent_id]
        usual_s = max(usual_s, child.total_s / child.count)
        since_s = max(brought_s, transfer.began_s)
        hopeless_s = since_s + max(HOPELESS_FACTOR * usual_s, HOPELESS_S)
        if hopeless_s <= self.now:
            self._land(transfer)
            self._blame(transfer)
        else:
            self.at(hopeless_s, lambda: self._look_again(transfer))

    def _look_again(self, transfer: Transfer) -> None:
        if transfer.number in transfer.child.flights:
            self._watch(transfer)

    def _end_if_whole(self, child: Child) -> None:
        if len(child.held) == self.settings.piece_count and not child.is_over:
            child.is_over = True
            self._say(child, BackToSourceFinished() if child.at_source else Finished())


def _piece(number: int, parent_id: str, cost_s: float, traffic: TrafficType) -> Piece:
    return Piece(
        number=number,
        offset=number * PIECE_LENGTH,
        length=PIECE_LENGTH,
        parent_id=parent_id,
        traffic_type=traffic,
        cost_s=cost_s,
    )
