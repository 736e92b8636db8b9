"""What hosts have served and received, as their children reported it, and how fast the swarm is.

Theory of operation
===================

A child says of each piece how long it was and how long it took. A parent gives several pieces at a
time, so these costs may not be summed: they overlap. What is summed is *busy time*, the union of
the pieces' intervals. A piece that finished now after `cost_s` adds what is new in it,
`min(cost_s, now - the host's previous finish)`. So an idle host loses nothing, and one that gives
eight children an eighth each is as fast as one that gives a single child everything.

    rate = decayed bytes / decayed busy time

Bytes and busy time are halved every 10 min for what the host can do, every 10 s for what it does
now. Both fade alike, so that a rate does not change while nothing happens: only what comes next
weighs more. Pieces and failures are counted with the long half-life.

The swarm's rate is the geometric mean of its hosts' rates, each host once, those that have not
served for long fading alike. It is kept by taking out what a host contributed last and putting in
what it contributes now; weights grow with time instead of the sums shrinking, so that an event
costs the same with ten hosts and with ten thousand, and rounding errors fade too.

Between two data centres it is single pieces that are compared, by length over cost: how far away
the other one is says nothing of how many hosts serve there.

Nothing here judges (`judgement` does). All of it is O(1) per event, and of a fixed size per host
and for a bounded number of pairs of data centres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, exp2, inf, log, nan

LONG_HALF_LIFE_S = 600.0
"""Of what a host can do: long enough for several downloads, short enough for a change of the day.
"""
RECENT_HALF_LIFE_S = 10.0
"""Of what a host does now."""
LONGEST_COST_S = 1800.0
"""No piece is believed to have taken longer (`Limits.piece_timeout_s`): what a child says is a
claim, and one absurd claim may not stand for hours of serving."""
USUAL_PIECES = 32
"""Over which a piece's usual rate is taken: a few seconds of a busy download."""
SHORTEST_BUSY_S = 1e-6
"""Less busy time than this tells no rate: a clock's resolution, or sums that have all but faded."""
LONGEST_FADE = 500.0
"""Half-lives after which what was is nothing: 2**-500, still far from what a float can't hold."""


def faded(age_s: float, half_life_s: float) -> float:
    """The weight of what is `age_s` old: 1 now (and before), a half after each half-life."""
    if age_s <= 0.0:
        return 1.0  # pieces that were reported together
    return exp2(-min(age_s / half_life_s, LONGEST_FADE))


@dataclass(slots=True)
class DecayedRate:
    """Bytes over busy seconds, both halved every `half_life_s`."""

    half_life_s: float
    content_bytes: float = 0.0
    busy_s: float = 0.0
    at_s: float = -inf

    def add(self, now: float, length: int, busy_s: float) -> None:
        """Add `length` bytes that kept the host busy for `busy_s` more, until `now`."""
        if now > self.at_s:
            weight = faded(now - self.at_s, self.half_life_s)
            self.content_bytes *= weight
            self.busy_s *= weight
            self.at_s = now
        self.content_bytes += length
        self.busy_s += busy_s

    @property
    def bytes_per_s(self) -> float:
        """The rate; NaN if nothing is known."""
        if self.busy_s < SHORTEST_BUSY_S or self.content_bytes <= 0:
            return nan
        return self.content_bytes / self.busy_s

    def with_silence(self, now: float) -> float:
        """The rate if all the time since the latest piece had been busy, too; NaN if unknown."""
        silent_s = max(now - self.at_s, 0.0)
        weight = faded(silent_s, self.half_life_s)
        if not self.content_bytes or silent_s + self.busy_s < SHORTEST_BUSY_S:
            return nan
        return self.content_bytes * weight / (self.busy_s * weight + silent_s)


@dataclass(slots=True)
class DecayedCount:
    """A number of things, each halved every `half_life_s`."""

    half_life_s: float
    value: float = 0.0
    at_s: float = -inf

    def add(self, now: float) -> None:
        """Count one more."""
        if now > self.at_s:
            self.value = self.at(now)
            self.at_s = now
        self.value += 1.0

    def at(self, now: float) -> float:
        """The count as it has faded until `now`."""
        return self.value * faded(now - self.at_s, self.half_life_s)


@dataclass(slots=True)
class HostHistory:
    """What one host gave to others, or what it got from others: rates, counts, and how old."""

    long: DecayedRate = field(default_factory=lambda: DecayedRate(LONG_HALF_LIFE_S))
    recent: DecayedRate = field(default_factory=lambda: DecayedRate(RECENT_HALF_LIFE_S))
    pieces: DecayedCount = field(default_factory=lambda: DecayedCount(LONG_HALF_LIFE_S))
    failures: DecayedCount = field(default_factory=lambda: DecayedCount(LONG_HALF_LIFE_S))
    log_piece_rate: float = 0.0
    measured_count: int = 0
    finished_at_s: float = -inf
    heard_at_s: float = -inf

    def served(self, now: float, length: int, cost_s: float) -> float:
        """A piece of `length` bytes finished now that took `cost_s`; return the busy time it adds.

        A cost that is no number is none.
        """
        cost_s = min(max(0.0, cost_s), LONGEST_COST_S)
        busy_s = 0.0
        if now > self.finished_at_s:
            busy_s = min(cost_s, now - self.finished_at_s)
            self.long.add(now, length, busy_s)
            self.recent.add(now, length, busy_s)
            self.pieces.add(now)
        else:  # reported together with the one before: nothing has faded, no time was spent
            self.long.content_bytes += length
            self.recent.content_bytes += length
            self.pieces.value += 1.0
        self.finished_at_s = self.heard_at_s = now
        if length > 0 and cost_s >= SHORTEST_BUSY_S:
            self.measured_count = min(self.measured_count + 1, USUAL_PIECES)
            step = log(length / cost_s) - self.log_piece_rate
            self.log_piece_rate += step / self.measured_count
        return busy_s

    def failed(self, now: float) -> None:
        """A piece failed now, or was given up as late."""
        self.failures.add(now)
        self.heard_at_s = now

    @property
    def rate_bytes_per_s(self) -> float:
        """What the host can do, with the long half-life; NaN if nothing is known."""
        return self.long.bytes_per_s

    @property
    def recent_rate_bytes_per_s(self) -> float:
        """What the host did lately, with the short half-life; NaN if nothing is known."""
        return self.recent.bytes_per_s

    def usual_piece_rate_bytes_per_s(self, least_pieces: int) -> float:
        """Length over cost of the latest pieces, as a geometric mean; NaN for too few of them.

        This is not the host's rate: pieces share that. It says how long a piece takes.
        """
        return exp(self.log_piece_rate) if self.measured_count >= least_pieces else nan

    def piece_count(self, now: float) -> float:
        """Finished pieces, each halved every 10 min."""
        return self.pieces.at(now)

    def failure_count(self, now: float) -> float:
        """Failed pieces, each halved every 10 min."""
        return self.failures.at(now)

    def age_s(self, now: float) -> float:
        """Seconds since the last piece, good or bad; NaN if there was none."""
        return nan if self.heard_at_s == -inf else now - self.heard_at_s


@dataclass(slots=True)
class PieceRate:
    """Length over cost of pieces, as a geometric mean; each piece halved every 10 min."""

    weight: float = 0.0
    weighted_log: float = 0.0
    at_s: float = -inf

    def add(self, now: float, log_rate: float) -> None:
        """A piece came at e to the `log_rate` bytes per second."""
        fade = faded(now - self.at_s, LONG_HALF_LIFE_S)
        self.weight = self.weight * fade + 1.0
        self.weighted_log = self.weighted_log * fade + log_rate
        self.at_s = now

    @property
    def bytes_per_s(self) -> float:
        """The rate; NaN if nothing is known."""
        return exp(self.weighted_log / self.weight) if self.weight else nan

    def piece_count(self, now: float) -> float:
        """Pieces behind it, as they have faded until `now`."""
        return self.weight * faded(now - self.at_s, LONG_HALF_LIFE_S)


class PairRates:
    """How fast pieces go from one data centre to another, and over all of them (`overall`).

    Unlike a host's rate these are of single pieces, so they compare with each other only. A host
    that names no data centre is in none. Case is ignored.
    """

    LIMIT = 4096
    """Pairs: 64 data centres. Names are claims; of more, those that served longest ago go."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], PieceRate] = {}
        self.overall = PieceRate()

    def __len__(self) -> int:
        return len(self._pairs)

    def served(self, now: float, giver: str, taker: str, length: int, cost_s: float) -> None:
        """A piece of `length` bytes took `cost_s` from the one to the other.

        Less than a clock can tell says nothing.
        """
        if not (giver and taker and length > 0 and SHORTEST_BUSY_S <= cost_s <= LONGEST_COST_S):
            return
        log_rate = log(length / cost_s)
        self.overall.add(now, log_rate)
        key = (giver.casefold(), taker.casefold())
        pair = self._pairs.pop(key, None) or PieceRate()
        pair.add(now, log_rate)
        self._pairs[key] = pair
        if len(self._pairs) > self.LIMIT:
            del self._pairs[next(iter(self._pairs))]

    def between(self, giver: str, taker: str) -> PieceRate:
        """What is known of a pair; it may be nothing."""
        return self._pairs.get((giver.casefold(), taker.casefold()), UNKNOWN_PAIR)


UNKNOWN_PAIR = PieceRate()
"""Nothing is known. Nobody adds to it."""


@dataclass(slots=True)
class SwarmShare:
    """What one host contributes to the swarm's rate: the logarithm of its own, and since when."""

    log_rate: float = 0.0
    at_s: float = -inf  # never: it contributes nothing


class SwarmRate:
    """The geometric mean of the hosts' rates, those that serve weighing most.

    A host's weight halves every `LONG_HALF_LIFE_S` since it last served.
    """

    REBASE_AFTER = 200.0
    """Half-lives after which weights are counted from a new zero: 2**200 is still a float."""
    LEAST_WEIGHT = 1e-6
    """Of all hosts left, in hosts that serve now: below that (20 half-lives) there may be nothing
    left but rounding errors of those that were taken out, and no rate is known."""

    def __init__(self) -> None:
        self._zero_s = 0.0
        self._latest_s = 0.0
        self._weight = 0.0
        self._weighted_log = 0.0
        self._host_count = 0

    def served(self, now: float, share: SwarmShare, rate_bytes_per_s: float) -> None:
        """The host of `share` served, at this rate so far; NaN or 0 says nothing."""
        if not 0 < rate_bytes_per_s < inf:
            return
        self._rebase(now)
        self.forget(share)
        share.log_rate, share.at_s = log(rate_bytes_per_s), now
        self._latest_s = now
        self._add(share, 1.0)
        self._host_count += 1

    def forget(self, share: SwarmShare) -> None:
        """The host of `share` is no more."""
        if share.at_s == -inf:
            return
        self._add(share, -1.0)
        share.at_s = -inf
        self._host_count -= 1
        if self._host_count == 0:
            self._weight = self._weighted_log = 0.0

    @property
    def bytes_per_s(self) -> float:
        """The swarm's rate; NaN if nobody has served yet."""
        return exp(self.log_bytes_per_s)

    @property
    def log_bytes_per_s(self) -> float:
        """Its logarithm; NaN if nobody has served yet."""
        if self._host_count == 0:
            return nan
        least = self.LEAST_WEIGHT * self._weight_of(self._latest_s)
        return nan if self._weight < least else self._weighted_log / self._weight

    def _weight_of(self, at_s: float) -> float:
        power = (at_s - self._zero_s) / LONG_HALF_LIFE_S
        return exp2(max(power, -LONGEST_FADE))

    def _add(self, share: SwarmShare, sign: float) -> None:
        weight = sign * self._weight_of(share.at_s)
        self._weight += weight
        self._weighted_log += weight * share.log_rate

    def _rebase(self, now: float) -> None:
        """Count weights from `now` on, before they outgrow a float."""
        if self._host_count == 0:
            self._zero_s = now
        elif now - self._zero_s > self.REBASE_AFTER * LONG_HALF_LIFE_S:
            scale = faded(now - self._zero_s, LONG_HALF_LIFE_S)
            self._weight *= scale
            self._weighted_log *= scale
            self._zero_s = now
