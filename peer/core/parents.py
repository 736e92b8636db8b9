"""What is known of each parent of one download: what it holds, how fast it is, how far to trust it.

Book-keeping only: who is asked for what is decided in `peer.core.selection`, what follows from a
failure in `peer.core.fetching`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from odonata.wire.message import Parent, Piece
from peer.core.limits import DownloadLimits

if TYPE_CHECKING:
    from random import Random

_Fact = TypeVar("_Fact")

IDLE_SHARE_MIN = 0.1
"""A parent that says it is full still counts with a tenth of its link, as Dragonfly's client has
it: its word is about a second old."""


YOUNG_S = 0.2
"""A transfer that has not been sent for so long yet has no rate."""

LOOKS = 8
"""Answers to how far a transfer is that are remembered: one a second for the seconds that count."""


@dataclass(slots=True)
class Flight:
    """One piece on its way from one parent."""

    number: int
    asked_at: float
    deadline: float
    length: int = 0  # in bytes; its parent may have taken the offer back meanwhile
    concurrency: int = 1  # pieces in flight then, this one included
    began_at: float | None = None  # the parent began to send; None: not as far as we know
    looked_at: float | None = None  # when it was asked how far it is
    looks: deque[tuple[float, int]] = field(
        default_factory=lambda: deque[tuple[float, int]](maxlen=LOOKS)
    )
    """When it was how far, in bytes, since it began."""
    doubted_at: float | None = None  # it was late, and how far it is was asked
    spared_until: float = -inf  # it is not late until then: it will be there soon
    is_passed_on: bool = False  # its parent was being sent it, too, when it was asked for...
    held_at: float | None = None  # ...and said then that it has it

    @property
    def owed_since(self) -> float:
        """Since when its parent could have sent all of it, if that is known."""
        return self.asked_at if self.held_at is None else self.held_at

    @property
    def moves(self) -> bool:
        """Something came between the latest two looks, or before the only one."""
        before = self.looks[-2][1] if len(self.looks) > 1 else 0
        return bool(self.looks) and self.looks[-1][1] > before

    def keeps_up(self, bytes_per_s: float) -> bool:
        """It began, and has come at this rate at least, as far as it was looked at.

        Not if that was in its first moments, when nothing has come but what was in some buffer.
        """
        if self.began_at is None or not self.looks:
            return False
        at, received = self.looks[-1]
        took_s = at - self.began_at
        return took_s >= YOUNG_S and received >= bytes_per_s * took_s


class Given(NamedTuple):
    """A parent said at first at `since` that it is giving a piece to somebody else."""

    since: float
    ask_at: float
    """Not before then is it asked for again."""


@dataclass(slots=True)
class ParentState:
    """One parent. Rates are bytes per second, None until measured or told."""

    parent: Parent
    heard_at: float
    is_met: bool = False  # it said what it knows of the content
    is_far: bool = False  # in another data centre than we are, if that is a difference (`far_once`)
    leaving: bool = False  # an answer did not name it any more: it brings what is on its way
    listing: bool = True  # it may still offer more
    finished: bool = False  # its list ended well
    foreseen: bool = False  # that it holds the only piece we have from the scheduler, so far
    offers: dict[int, Piece] = field(default_factory=dict[int, Piece])
    coming: dict[int, Piece] = field(default_factory=dict[int, Piece])
    """What it is being sent itself, and would pass on."""
    in_flight: dict[int, Flight] = field(default_factory=dict[int, Flight])
    goodput: float | None = None
    piece_s: float | None = None
    spare: float | None = None
    told_up: float | None = None  # what it says it has for uploads
    used: float | None = None  # what it says it sends, to all its children
    used_told_at: float = 0.0
    weight: float = 1.0  # below 1: what was measured is not to be counted on
    not_passed: int = 0  # refusals in a row of what it would pass on
    pass_on_after: float = 0.0  # not asked before then for what it is being sent
    strikes: int = 0
    refusals: int = 0
    not_found: int = 0
    avoid_until: float = 0.0
    reconnect_at: float | None = None
    meta_asked_at: float | None = None
    fruitless_s: float = 0.0  # see `fruitless`; up to `counted_until`
    counted_until: float = 0.0
    hopeless_until: float = 0.0
    usual_at: float | None = None  # it brought a piece that took as long as pieces take
    given: dict[int, Given] = field(default_factory=dict[int, "Given"])
    is_seed: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_seed = self.parent.host.is_seed  # looked at with every event

    @property
    def peer_id(self) -> str:
        return self.parent.peer_id

    @property
    def is_dear(self) -> bool:
        """Whether its way to us is scarce: asked only for what no other parent holds."""
        return self.is_seed or self.is_far

    @property
    def rate(self) -> float | None:
        """What it can probably spare for one more piece: what it gave us, and what it says.

        The geometric mean, since either may be off by a large factor: the measured one when others
        come or go, the told one when a limit lies elsewhere on the path.
        """
        measured = None if self.goodput is None else self.goodput * self.weight
        if measured is not None and self.spare is not None:
            return sqrt(measured * self.spare)
        return measured if measured is not None else self.spare

    def measure(self, n_bytes: int, took_s: float, memory: float) -> None:
        """It brought `n_bytes` in `took_s`."""
        rate = n_bytes / max(took_s, 1e-6)
        old_rate = rate if self.goodput is None else self.goodput
        old_s = took_s if self.piece_s is None else self.piece_s
        self.goodput = old_rate + memory * (rate - old_rate)
        self.piece_s = old_s + memory * (took_s - old_s)
        self.strikes = self.refusals = 0
        self.weight = 1.0

    @property
    def oldest(self) -> Flight | None:
        """What has been on its way from it for the longest time, of what it has itself."""
        for flight in self.in_flight.values():
            if not flight.is_passed_on:
                return flight
        return None

    @property
    def passes_on(self) -> int:
        """Pieces on their way from it that it did not have when they were asked for."""
        if not self.in_flight:
            return 0
        return sum([flight.is_passed_on for flight in self.in_flight.values()])

    def begin_anew(self, now: float) -> None:
        """What it was waited for until now does not count any more."""
        self.fruitless_s, self.counted_until, self.not_passed = 0.0, now, 0

    def fruitless(self, now: float) -> float:
        """Seconds in which something was on its way from it since it last brought a piece.

        With what was stopped because it took too long: a parent that is asked, found late and left
        again and again has brought nothing all the same. Several at once count once.
        """
        flight = self.oldest
        if flight is None:
            return self.fruitless_s
        return self.fruitless_s + max(0.0, now - max(flight.asked_at, self.counted_until))

    def count_fruitless(self, now: float) -> None:
        """Before a flight is stopped: it shall not be forgotten how long it took."""
        self.fruitless_s, self.counted_until = self.fruitless(now), now

    def told_given(self, numbers: Iterable[int], now: float, pause_s: float) -> None:
        """It is giving these to somebody else."""
        for number in numbers:
            if number in self.offers:
                known = self.given.get(number)
                since = now if known is None else known.since
                self.given[number] = Given(since=since, ask_at=now + pause_s)

    def is_given(self, number: int, now: float) -> bool:
        """It said a moment ago that it is giving this to somebody else."""
        given = self.given.get(number)
        return given is not None and now < given.ask_at

    def given_for_s(self, number: int, now: float) -> float:
        """How long ago it first said so."""
        given = self.given.get(number)
        return 0.0 if given is None else now - given.since

    def has_refused(self, now: float, limits: DownloadLimits, rng: Random) -> None:
        """It has no free slot: left alone for a moment, longer each time.

        Drawn, lest all who were refused at one moment come back at one moment.
        """
        pause_s = limits.refused_avoid_s * 2.0 ** min(self.refusals, 16)
        self.refusals += 1
        pause_s = min(pause_s, limits.refused_avoid_max_s)
        self.avoid_until = max(self.avoid_until, now + pause_s * rng.uniform(0.75, 1.25))

    def will_not_pass(self, now: float, limits: DownloadLimits, rng: Random) -> None:
        """It passes on as many as it can: as if it had refused, but that counts by itself."""
        pause_s = limits.pass_pause_s * 2.0 ** min(self.not_passed, 16)
        self.not_passed += 1
        pause_s = min(pause_s, limits.refused_avoid_max_s)
        self.pass_on_after = now + pause_s * rng.uniform(0.75, 1.25)

    def moments(self) -> Iterator[float]:
        """When something may be asked of it that may not be asked now."""
        if self.offers:
            yield self.avoid_until
        if self.coming:
            yield self.pass_on_after
        yield from (given.ask_at for given in self.given.values())
        if self.reconnect_at is not None:
            yield self.reconnect_at

    def told_load(self, max_rate: float, used_rate: float, now: float) -> None:
        """Its own word on its uplink; a maximum of 0 says nothing."""
        self.heard_at = now
        self.used, self.used_told_at = used_rate, now
        if max_rate > 0:
            self.told_up = max_rate
            self.spare = max(max_rate - used_rate, max_rate * IDLE_SHARE_MIN)


class Parents:
    """All parents of one download, who holds what among them, and who must not come back."""

    def __init__(self, limits: DownloadLimits, idc: str = "") -> None:
        """`idc`: the data centre we are in, "" if that is not known."""
        self._limits = limits
        self._idc = idc.casefold()
        self._by_id: dict[str, ParentState] = {}
        self._blamed: dict[str, str] = {}
        self._gone: dict[str, str] = {}  # left since the scheduler last named parents
        self._decisions: dict[str, int] = {}  # which answer chose whom
        self._holders: dict[int, int] = {}
        self._near_holders: dict[int, int] = {}  # without those who are dear
        self._dear_only: set[int] = set()
        self.broken_off: set[int] = set()
        """Pieces that were being passed on to us, and broke off."""
        self.had_wide_seed = False
        """The last seed among them that could be judged was wide, or one of several."""

    def __iter__(self) -> Iterator[ParentState]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, peer_id: str) -> ParentState | None:
        return self._by_id.get(peer_id)

    def is_blamed(self, peer_id: str) -> bool:
        return peer_id in self._blamed

    @property
    def has_peers(self) -> bool:
        """Somebody is among them whose way to us is not scarce."""
        return any(not state.is_dear for state in self._by_id.values())

    def admit(self, parent: Parent, now: float) -> ParentState | None:
        """Take a named parent in; None if there is no room for it."""
        if len(self._by_id) >= self._limits.max_parents:
            return None
        idc = parent.host.idc.casefold()
        is_far = self._limits.far_once and bool(idc and self._idc) and idc != self._idc
        state = ParentState(parent=parent, heard_at=now, is_far=is_far)
        self._by_id[parent.peer_id] = state
        return state

    def remove(self, peer_id: str, *, has_failed: bool = True) -> None:
        """It is a parent no more (it may be named again)."""
        state = self._by_id.pop(peer_id, None)
        if state is None:
            return
        if has_failed:
            self._remember(self._gone, peer_id, "gone")
        for number in state.offers:
            self._count(number, state, -1)

    def blame(self, peer_id: str, why: str) -> None:
        """Never again in this download."""
        self.remove(peer_id)
        self._remember(self._blamed, peer_id, why)

    def named(self, peer_ids: Iterable[str], decision: int, *, was_asked: bool) -> None:
        """Answer number `decision` names these.

        One that nobody asked for repeats those that stay: they keep the answer that chose them, if
        we know them from a reserve only, or have left them meanwhile, as well.
        """
        for peer_id in peer_ids:
            known = None if was_asked else self._decisions.get(peer_id)
            self._decisions.pop(peer_id, None)  # named last, forgotten last
            self._remember(self._decisions, peer_id, decision if known is None else known)

    def decision_of(self, peer_id: str) -> int:
        """Which answer chose it, from 1; 0 if that is not remembered."""
        return self._decisions.get(peer_id, 0)

    def take_gone(self) -> tuple[str, ...]:
        """Who left since this was asked last."""
        gone = tuple(self._gone)
        self._gone.clear()
        return gone

    # --- who holds what -------------------------------------------------------------------------

    def offer(self, state: ParentState, piece: Piece, now: float) -> None:
        state.coming.pop(piece.number, None)
        if piece.number not in state.offers:
            flight = state.in_flight.get(piece.number)
            if flight is not None:
                flight.held_at = now
            state.offers[piece.number] = piece
            self._count(piece.number, state, 1)

    def forget(self, state: ParentState, number: int) -> None:
        """It does not hold this piece after all."""
        state.given.pop(number, None)
        state.coming.pop(number, None)
        if state.offers.pop(number, None) is not None:
            self._count(number, state, -1)

    def does_not_pass(self, state: ParentState, number: int, *, is_broken_off: bool) -> None:
        """It is not being sent the piece, or not any more (`is_broken_off`, in the middle)."""
        state.coming.pop(number, None)
        if is_broken_off:
            self.broken_off.add(number)

    def forget_everywhere(self, number: int) -> None:
        """Nobody needs to be asked for this piece any more."""
        for state in self._by_id.values():
            state.offers.pop(number, None)
            state.given.pop(number, None)
            state.coming.pop(number, None)
        self._holders.pop(number, None)
        self._near_holders.pop(number, None)
        self._dear_only.discard(number)
        self.broken_off.discard(number)

    @property
    def holder_counts(self) -> Mapping[int, int]:
        """How many of the parents hold each piece that one of them offers."""
        return self._holders

    def holders(self, number: int) -> int:
        """How many of the parents hold it."""
        return self._holders.get(number, 0)

    def near_holders(self, number: int) -> int:
        """How many of the parents hold it whose way to us is not scarce."""
        return self._near_holders.get(number, 0)

    @property
    def dear_only(self) -> AbstractSet[int]:
        """Pieces that are offered by nobody whose way to us is not scarce."""
        return self._dear_only

    def _count(self, number: int, state: ParentState, step: int) -> None:
        held = self._holders[number] = self._holders.get(number, 0) + step
        near = self._near_holders.get(number, 0)
        if not state.is_dear:
            near = self._near_holders[number] = near + step
        if held and not near:
            self._dear_only.add(number)
        else:
            self._dear_only.discard(number)

    def _remember(self, memory: dict[str, _Fact], peer_id: str, fact: _Fact) -> None:
        while len(memory) >= self._limits.max_parent_memory:
            del memory[next(iter(memory))]
        memory[peer_id] = fact
