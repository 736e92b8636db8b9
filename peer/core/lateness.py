"""When a transfer is late, and when a parent is past hope. Questions only: `fetching` acts on them.

Theory of operation
===================

All is compared with what this download has seen itself: how long its pieces take from asking to
having, the wait in the parent's queue included. So a busy parent, a narrow downlink or a busy child
make the measure longer, not the judgement harsher.

*Late* is a matter of one transfer and costs the parent nothing but the piece. With `spare_late`
it takes the longer the more of them share our downlink, and one that is late goes
on all the same if it will be there sooner than a new one would be, by how far it is: to stop it
would throw away what has come. *Past hope* is a matter of a parent, and the scheduler will hear of
it; so it takes more. The parent has brought pieces before, it has begun to send this one (in a
queue one may stand behind slow children, which is nobody's fault), and either

- it *crawls*: for seconds on end it has sent at a small share of what it used to give. Not if other
  transfers crawl as well or no other piece came as usual meanwhile: then it may be our own link; or
- it is *fruitless*: for many times as long as a piece takes, something was on its way from it and
  nothing has come, not even as several transfers, each of which was stopped as late.

Neither counts while it says that it sends about as much as ever, to others.

How far a transfer is, the driver is asked from time to time, once it takes longer than most do.

Measured in simulation (60 peers, 32 pieces of 4 MiB, 40 Mbit/s, a seed of 1 or 10 uplinks, 5 worlds
each; scheduler and clients ours): see `DownloadLimits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from peer.core.limits import DownloadLimits
from peer.core.parents import Flight, Parents, ParentState


class _Measure(NamedTuple):
    """What is usual for a parent: seconds for a piece, and how long is too long."""

    usual_s: float
    fruitless_s: float
    begun_s: float


class Lateness:
    """The measure of one download. Times are seconds.

    A download that neither hedges nor replaces finds nothing late and nobody past hope, as
    Dragonfly's client does.
    """

    def __init__(self, limits: DownloadLimits, parents: Parents) -> None:
        self._limits = limits
        self._parents = parents
        self._cares = limits.hedge or limits.replace_slow
        self._count = 0
        self._total_s = 0.0
        self._total_flights = 0.0

    def brought(
        self, state: ParentState, took_s: float, now: float, *, concurrency: float = 1.0
    ) -> None:
        """A piece came from a parent, `took_s` after it was asked for.

        `concurrency`: pieces in flight meanwhile, this one included.
        """
        self._count += 1
        self._total_s += took_s
        self._total_flights += concurrency
        if took_s <= USUAL_FACTOR * self._total_s / self._count:
            state.usual_at = now

    @property
    def usual_s(self) -> float | None:
        """What a piece took so far, on average; None before the first."""
        return self._total_s / self._count if self._count else None

    def late_s(self, flights: int = 1, *, at_end: bool = False) -> float | None:
        """After how long a transfer is late where `flights` are on their way.

        None while there is nothing to compare with. `at_end`: nothing else is left to ask for.
        """
        limits = self._limits
        if not self._count or not self._cares:
            return None
        factor = limits.end_factor if at_end and limits.spare_late else limits.slow_factor
        return max(factor * self._usual_s(flights), limits.min_slow_s)

    def judge(self, flight: Flight, flights: int, now: float, *, is_new: bool = False) -> None:
        """How far a late transfer is was told: it is spared for as long as it needs, or not.

        `is_new`: nobody near has the piece, so that who passes it on brings it as soon as anybody,
        unless at a crawl.
        """
        left_s = _left_s(flight)
        slow_s = self._limits.slow_factor * self._usual_s(flights)
        if flight.is_passed_on and flight.moves and is_new and left_s <= slow_s:
            flight.spared_until = now + self._usual_s(flights)
            flight.doubted_at = None
        elif left_s <= self._usual_s(flights):
            flight.spared_until = now + max(SPARED_FACTOR * left_s, SPARED_MIN_S)
            flight.doubted_at = None
        else:
            flight.doubted_at = -inf

    def look_at(self, state: ParentState, now: float) -> float | None:
        """When to ask how far the oldest transfer of this parent is; None: there is no need."""
        flight, interval_s = state.oldest, self._limits.look_s
        if flight is None or (measure := self._measure(state)) is None:
            return None
        at = flight.asked_at + interval_s
        if flight.began_at is None:
            # Soon to be fruitless, by many short transfers: this one is all there is to look at.
            doubt_at = now + DOUBT_SHARE * measure.fruitless_s - state.fruitless(now)
            at = min(at, max(doubt_at, flight.asked_at + measure.begun_s))
        if flight.looked_at is not None:
            at = max(at, flight.looked_at + interval_s)
        return max(at, state.hopeless_until)

    def is_hopeless(self, state: ParentState, now: float) -> bool:
        """It is past hope, and this is news."""
        if now < state.hopeless_until or self._is_busy(state, now):
            return False
        fruitless_at = self._fruitless_at(state, now)
        is_fruitless = fruitless_at is not None and fruitless_at <= now
        return is_fruitless or (self._crawls(state) and self._is_alone_in_it(state, now))

    def moments(self, state: ParentState, now: float) -> Iterator[float]:
        """When it is to be looked at, or is past hope if it goes on to bring nothing."""
        if state.oldest is None:
            return
        for at in (self.look_at(state, now), self._fruitless_at(state, now)):
            if at is not None:
                yield at

    # --- inside ---------------------------------------------------------------------------------

    def _usual_s(self, flights: int) -> float:
        """What a piece takes if so many are in flight: no less than the mean of all so far."""
        return self._total_s / self._count * max(1.0, flights * self._count / self._total_flights)

    def _measure(self, state: ParentState) -> _Measure | None:
        """None while there is nothing to compare with.

        A parent that never brought anything is never past hope: it may be new to a queue that the
        others have stood in already. Its transfers run into their timeouts.
        """
        limits = self._limits
        if not self._cares or self._count < limits.hopeless_after_pieces or state.piece_s is None:
            return None
        usual_s = max(self._total_s / self._count, state.piece_s)
        return _Measure(
            usual_s=usual_s,
            fruitless_s=max(limits.hopeless_factor * usual_s, limits.hopeless_s),
            begun_s=max(limits.begun_factor * usual_s, limits.begun_s),
        )

    def _fruitless_at(self, state: ParentState, now: float) -> float | None:
        flight = state.oldest
        if flight is None or flight.began_at is None or (measure := self._measure(state)) is None:
            return None
        return max(
            now + measure.fruitless_s - state.fruitless(now),
            flight.began_at + measure.begun_s,
            state.hopeless_until,
        )

    def _crawls(self, state: ParentState) -> bool:
        if self._measure(state) is None or state.goodput is None or state.oldest is None:
            return False
        rate = speed(state.oldest, self._limits.hopeless_s)
        return rate is not None and rate * self._limits.crawl_factor < state.goodput

    def _is_alone_in_it(self, state: ParentState, now: float) -> bool:
        """Other parents bring pieces as ever, so that it is not our own link."""
        others = [other for other in self._parents if other is not state]
        since = now - max(self._limits.hopeless_s, self._total_s / self._count)
        is_usual = any(other.usual_at is not None and other.usual_at >= since for other in others)
        return is_usual and not any(self._crawls(other) for other in others)

    def _is_busy(self, state: ParentState, now: float) -> bool:
        """It sends to others what it does not send to us."""
        limits = self._limits
        if state.used is None or state.goodput is None:
            return False
        is_news = now - state.used_told_at <= limits.busy_word_s
        return is_news and state.used >= limits.busy_share * state.goodput


USUAL_FACTOR = 2.0
"""A piece that took no longer than this many means came as usual."""

ANSWER_S = 0.1
"""For the driver to say how far a late transfer is: it does so at once, on a busy machine later."""

SPARED_FACTOR = 1.5
"""What a late transfer still needs, at its rate so far, it is given with this much to spare."""
SPARED_MIN_S = 0.05
"""But at least as long as the last bytes take from the kernel to the disk."""

DOUBT_SHARE = 0.5
"""Of the time to being fruitless, after which transfers that are stopped early are looked at."""


def _left_s(flight: Flight) -> float:
    """How long it will take yet, at the rate at which it came so far."""
    if flight.began_at is None or not flight.looks:
        return inf
    at, received = flight.looks[-1]
    took_s = at - flight.began_at
    return took_s * max(0, flight.length - received) / received if took_s > 0 and received else inf


def speed(flight: Flight, window_s: float) -> float | None:
    """Bytes per second over the latest `window_s` or a little more; None: it is too young."""
    if not flight.looks:
        return None
    last_at, last_bytes = flight.looks[-1]
    before = [look for look in flight.looks if last_at - look[0] >= window_s]
    if not before:
        return None
    at, received = before[-1]
    return (last_bytes - received) / (last_at - at)
