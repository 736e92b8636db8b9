"""Links and transfers: who shares which uplink and downlink, and how long bytes take.

Every host has one uplink and one downlink; the core of the network is never full, except for one
link between data centres if there is one. Transfers share all of them max-min fairly, as many long
TCP connections of equal delay do about; rates change only when a transfer begins or ends or a link
changes. No loss, no slow start, no header bytes: real links carry 4 to 6 % less.

How the rates are found
=======================

Each direction of a link is a pipe with a *level*: the most that any transfer gets in it. A pipe
that is not full has none (infinity). A transfer runs at the lowest level on its way, and a pipe's
level is where water would stand that fills its capacity, if each transfer is a vessel as high as
the lowest level of its *other* pipes. Levels that agree with each other in this way are the max-min
fair ones, and there is only one such set: every transfer is held by a full pipe in which nobody
gets more.

A change makes its pipes dirty; a dirty pipe computes its level anew, and if that differs, those of
its neighbours whose own level can depend on it become dirty. This ends: no level can fall below
that of the tightest pipe of all, so that one is right after its own turn and for ever, then the
second tightest, and so on. What is far from a change is not touched, so it costs tens of
microseconds, not a filling of the whole network (200 peers with 64 pieces: 43 s became 1.3 s).
`tests/support/filling.py` fills progressively; the rates here are held against it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from odonata.errors import CallerError, InternalError
from simulator.world import Timer, World

UNLIMITED = 1e12
"""Bytes per second of a link that is no limit; a number, so that arithmetic stays plain."""

SAME_LEVEL = 1e-9
"""Levels that differ by less than this share are one: rounding must not travel through a swarm."""

GRAIN_S = 1e-9
"""What the clock can tell apart. Transfers that end so close together end at once."""

MAX_TURNS_PER_CHANGE = 10_000_000
"""Levels computed for one change. A change that makes 400 pipes dirty takes some thousands."""


@dataclass(slots=True, eq=False)
class Pipe:
    """One direction of a link, capacity in bytes per second. Each transfer with its other pipes."""

    capacity: float
    level: float = inf
    is_dirty: bool = False
    transfers: dict[Transfer, tuple[Pipe, ...]] = field(
        default_factory=dict["Transfer", "tuple[Pipe, ...]"]
    )


@dataclass(slots=True, eq=False)
class Link:
    """A host's place in the network; rates in bytes per second, delay one way in seconds.

    `idc` names its data centre: what goes from one to another takes the link between them, too.
    """

    name: str
    up: float = UNLIMITED
    down: float = UNLIMITED
    delay_s: float = 0.0
    idc: str = ""
    sent: float = 0.0  # bytes that left by the uplink
    uplink: Pipe = field(init=False)
    downlink: Pipe = field(init=False)

    def __post_init__(self) -> None:
        self.uplink, self.downlink = Pipe(self.up), Pipe(self.down)

    @property
    def used(self) -> float:
        """Bytes per second that leave by the uplink now."""
        return sum(transfer.rate for transfer in self.uplink.transfers)


@dataclass(slots=True, eq=False)
class Transfer:
    """Bytes on their way: `left` of them at `since_s`."""

    giver: Link
    taker: Link
    left: float
    on_done: Callable[[], None]
    path: tuple[Pipe, ...] = ()
    rate: float = 0.0
    since_s: float = 0.0
    due_s: float = inf  # when it will have arrived, at this rate
    queued_s: float = inf  # when it is looked at
    is_over: bool = False
    is_held: bool = False  # nothing moves until it is released


class Network:
    """All transfers of a world."""

    def __init__(self, world: World, *, between_idcs: float = UNLIMITED) -> None:
        """`between_idcs`: bytes per second of the one link between all data centres."""
        self._world = world
        self._between = Pipe(between_idcs)
        self._transfers: dict[Transfer, None] = {}
        self._dirty: deque[Pipe] = deque()
        self._queue: list[tuple[float, int, Transfer]] = []
        self._queued = 0
        self._next: Timer | None = None
        self._changed = False

    def send(self, giver: Link, taker: Link, n_bytes: int, on_done: Callable[[], None]) -> Transfer:
        """Send `n_bytes`; `on_done` is called when the last one has arrived."""
        path: tuple[Pipe, ...] = (giver.uplink, taker.downlink)
        if giver.idc != taker.idc and self._between.capacity < UNLIMITED:
            path = (*path, self._between)
        transfer = Transfer(giver, taker, float(n_bytes), on_done, path, since_s=self._world.now)
        self._add(transfer)
        return transfer

    def stop(self, transfer: Transfer) -> None:
        """Stop it; what has passed has passed."""
        transfer.is_held = False
        if not transfer.is_over:
            self._settle(transfer)
            self._remove(transfer)
            self._change()

    def hold(self, transfer: Transfer) -> None:
        """Nothing more passes, until it is released."""
        if not transfer.is_over:
            self.stop(transfer)
            transfer.is_held = True
            transfer.rate, transfer.due_s, transfer.queued_s = 0.0, inf, inf

    def release(self, transfer: Transfer) -> None:
        """What was held goes on, with what is left of it."""
        if transfer.is_held:
            transfer.is_held = transfer.is_over = False
            transfer.since_s = self._world.now
            self._add(transfer)

    def transfers(self) -> tuple[Transfer, ...]:
        """All that move now."""
        return tuple(self._transfers)

    def set_uplink(self, link: Link, rate: float) -> None:
        """From now on `link` sends at most `rate` bytes per second. CallerError unless above 0."""
        if rate <= 0:
            raise CallerError(
                f"the uplink of {link.name} can not be {rate} bytes/s: it must be above 0"
            )
        link.up = link.uplink.capacity = rate
        self._mark(link.uplink)
        self._change()

    def settle(self) -> None:
        """Count what has passed until now."""
        for transfer in self._transfers:
            self._settle(transfer)

    # --- changes --------------------------------------------------------------------------------

    def _change(self) -> None:
        """All changes of one moment are answered by one new computation."""
        if not self._changed:
            self._changed = True
            self._world.after(0.0, self._compute)

    def _mark(self, pipe: Pipe) -> None:
        if not pipe.is_dirty:
            pipe.is_dirty = True
            self._dirty.append(pipe)

    def _add(self, transfer: Transfer) -> None:
        self._transfers[transfer] = None
        for pipe in transfer.path:
            pipe.transfers[transfer] = tuple(other for other in transfer.path if other is not pipe)
            self._mark(pipe)
        self._change()

    def _remove(self, transfer: Transfer) -> None:
        transfer.is_over = True
        del self._transfers[transfer]
        for pipe in transfer.path:
            del pipe.transfers[transfer]
            self._mark(pipe)

    def _settle(self, transfer: Transfer) -> None:
        now = self._world.now
        passed = min(transfer.rate * (now - transfer.since_s), transfer.left)
        transfer.since_s = now
        transfer.left -= passed
        transfer.giver.sent += passed

    # --- rates ----------------------------------------------------------------------------------

    def _compute(self) -> None:
        self._changed = False
        for pipe in self._find_levels():
            for transfer, others in pipe.transfers.items():
                rate = min(pipe.level, _lowest(others))
                if rate != transfer.rate:
                    self._set_rate(transfer, rate)
        self._set_alarm()

    def _find_levels(self) -> dict[Pipe, None]:
        """Bring all levels to agree; return the pipes in which a rate may have changed."""
        dirty = self._dirty
        touched: dict[Pipe, None] = {}
        for _ in range(MAX_TURNS_PER_CHANGE):
            if not dirty:
                return touched
            pipe = dirty.popleft()
            pipe.is_dirty = False
            touched[pipe] = None
            old, new = pipe.level, _level(pipe)
            if old == new or abs(new - old) <= SAME_LEVEL * new < inf:
                continue
            pipe.level = new
            lower = min(old, new)
            for others in pipe.transfers.values():
                for other in others:
                    # Above its own level it is all the same to a pipe how high a neighbour stands.
                    if lower < other.level and not other.is_dirty:
                        other.is_dirty = True
                        dirty.append(other)
        raise InternalError(f"rates do not settle at {self._world.now:.6f} s of virtual time")

    def _set_rate(self, transfer: Transfer, rate: float) -> None:
        self._settle(transfer)
        transfer.rate = rate
        transfer.due_s = transfer.since_s + transfer.left / rate
        if transfer.due_s < transfer.queued_s:
            self._enqueue(transfer)

    # --- arrivals -------------------------------------------------------------------------------

    def _enqueue(self, transfer: Transfer) -> None:
        """A transfer that got slower keeps its place, and is put back when that comes up."""
        transfer.queued_s = transfer.due_s
        self._queued += 1
        heapq.heappush(self._queue, (transfer.due_s, self._queued, transfer))

    def _set_alarm(self) -> None:
        queue = self._queue
        while queue and (queue[0][2].is_over or queue[0][0] != queue[0][2].queued_s):
            heapq.heappop(queue)
        at_s = queue[0][0] if queue else inf
        if self._next is not None and self._next.at_s != at_s:
            self._next.cancel()
            self._next = None
        if self._next is None and at_s < inf:
            self._next = self._world.at(at_s, self._arrive)

    def _arrive(self) -> None:
        self._next = None
        done: list[Transfer] = []
        now = self._world.now + GRAIN_S
        while self._queue and self._queue[0][0] <= now:
            at_s, _, transfer = heapq.heappop(self._queue)
            if transfer.is_over or at_s != transfer.queued_s:
                continue
            if transfer.due_s > now:
                self._enqueue(transfer)
                continue
            transfer.giver.sent += transfer.left
            transfer.left = 0.0
            self._remove(transfer)
            done.append(transfer)
        if done:
            self._change()
        else:
            self._set_alarm()
        for transfer in done:
            transfer.on_done()


def _lowest(pipes: tuple[Pipe, ...]) -> float:
    if len(pipes) == 1:
        return pipes[0].level
    return min(pipe.level for pipe in pipes)


def _level(pipe: Pipe) -> float:
    """How high the capacity stands in vessels as high as the levels of the other pipes."""
    count = len(pipe.transfers)
    if not count:
        return inf
    heights = [_lowest(others) for others in pipe.transfers.values()]
    even = pipe.capacity / count
    if min(heights) >= even:
        return even
    if sum(heights) <= pipe.capacity:
        return inf
    heights.sort()
    room = pipe.capacity
    for filled, height in enumerate(heights):
        share = room / (count - filled)
        if height >= share:
            return share
        room -= height
    return inf  # full to the brim, but for rounding
