"""When a transfer is late, and when a parent is past hope. Questions only: `fetching` acts on them.

Both compare with what this download has seen itself. What it sees is the time from asking for a
piece to having it, the wait in the parent's queue included; so a busy parent, a narrow downlink or
a busy child make the measure longer, not the judgement harsher.

*Late* is a matter of one transfer and costs the parent nothing but the piece. *Past hope* is a
matter of a parent, and the scheduler will hear of it; so it takes more: the parent itself has
brought pieces before; for several times as long as that took, or as pieces take in this download on
average, nothing has come from it although something was on its way; it has begun to send, so that
it is not its queue that takes so long, where slow children may stand before us; and it does not say
that it sends as much as ever, to others.
"""

from __future__ import annotations

from collections.abc import Iterator

from peer.core.limits import DownloadLimits
from peer.core.parents import ParentState


DOUBT_SHARE = 0.5
"""Of the time to being past hope, after which it is asked how far the transfer is."""


class Lateness:
    """The measure of one download. Times are seconds.

    A download that neither hedges nor replaces finds nothing late and nobody past hope, as
    Dragonfly's client does.
    """

    def __init__(self, limits: DownloadLimits) -> None:
        self._limits = limits
        self._cares = limits.hedge or limits.replace_slow
        self._count = 0
        self._total_s = 0.0

    def brought(self, took_s: float) -> None:
        """A piece came from a parent, `took_s` after it was asked for."""
        self._count += 1
        self._total_s += took_s

    def late_s(self) -> float | None:
        """After how long a transfer is late, None while there is nothing to compare with."""
        limits = self._limits
        if not self._count or not self._cares:
            return None
        return max(limits.slow_factor * self._total_s / self._count, limits.min_slow_s)

    def hopeless_s(self, state: ParentState) -> float | None:
        """For how long this parent may bring nothing, None while there is nothing to compare with.

        A parent that never brought anything is never past hope: it may be new to a queue that the
        others have stood in already. Its transfers run into their timeouts.
        """
        usual_s = self._usual_s(state)
        if usual_s is None:
            return None
        return max(self._limits.hopeless_factor * usual_s, self._limits.hopeless_s)

    def is_in_doubt(self, state: ParentState, now: float) -> bool:
        """It may soon be past hope: time to ask how far its oldest transfer is."""
        doubt_at = self._doubt_at(state, now)
        return doubt_at is not None and doubt_at <= now

    def is_hopeless(self, state: ParentState, now: float) -> bool:
        """It is past hope, and this is news."""
        hopeless_at = self._hopeless_at(state, now)
        return hopeless_at is not None and hopeless_at <= now and not self._is_busy(state, now)

    def moments(self, state: ParentState, now: float) -> Iterator[float]:
        """When it will be in doubt, or past hope, if it goes on to bring nothing."""
        doubt_at = self._doubt_at(state, now)
        if doubt_at is not None:
            yield doubt_at
        hopeless_at = self._hopeless_at(state, now)
        if hopeless_at is not None:
            yield hopeless_at

    def _usual_s(self, state: ParentState) -> float | None:
        enough = self._count >= self._limits.hopeless_after_pieces
        if not self._cares or not enough or state.piece_s is None:
            return None
        return max(self._total_s / self._count, state.piece_s)

    def _begun_s(self, usual_s: float) -> float:
        return max(self._limits.begun_factor * usual_s, self._limits.begun_s)

    def _doubt_at(self, state: ParentState, now: float) -> float | None:
        """Early enough that what comes of it is known in time."""
        flight, usual_s, limit_s = state.oldest, self._usual_s(state), self.hopeless_s(state)
        if flight is None or usual_s is None or limit_s is None or flight.began_at is not None:
            return None
        at = now + DOUBT_SHARE * limit_s - state.fruitless(now)
        if flight.looked_at is not None:
            at = max(at, flight.looked_at + self._limits.look_interval_s)
        return max(at, flight.asked_at + self._begun_s(usual_s), state.hopeless_until)

    def _hopeless_at(self, state: ParentState, now: float) -> float | None:
        flight, usual_s, limit_s = state.oldest, self._usual_s(state), self.hopeless_s(state)
        if flight is None or usual_s is None or limit_s is None or flight.began_at is None:
            return None
        return max(
            now + limit_s - state.fruitless(now),
            flight.began_at + self._begun_s(usual_s),
            state.hopeless_until,
        )

    def _is_busy(self, state: ParentState, now: float) -> bool:
        """It sends to others what it does not send to us."""
        limits = self._limits
        if state.used is None or state.goodput is None:
            return False
        is_news = now - state.used_told_at <= limits.busy_word_s
        return is_news and state.used >= limits.busy_share * state.goodput
