"""What a daemon has learned of peers and of origins: how soon bytes come, and how many.

Theory of operation
===================

One `Budget` belongs to one daemon and is shared by all its downloads. It is told, download by
download, how long peers were waited for until the first byte came, how long an origin took to
answer and how much it brought then; it says how long a download should wait for peers before it
asks the source as well, and what of theirs is too little (`peer.core.patience` goes by both).

Beginnings differ by factors, not by summands, so logarithms are averaged. Few of them say little:
an average is drawn towards a prior that weighs as much as `PRIOR_WEIGHT` observations, and so is
the spread. What was seen long ago says little, too: its weight halves every `HALF_LIFE_S`, and no
more than `MEMORY` observations count in all, so that a daemon that was moved learns anew soon.

A beginning that never came teaches nothing: if dead parents made the budget longer, the next dead
parents would cost more. One that came after the budget was over is learned like any other, for
peers are still listened to while the source is asked, so the budget can grow.

The budget is a high quantile of what peers take, at least `BUDGET_MIN_S`, and never less than the
origin itself takes to answer, since asking it any sooner would gain nothing; at most
`BUDGET_MAX_S`.

Downloads that go on at once share this host's processor and its link. So the least budget grows
with their number, and what is too little from peers shrinks with it: each of five hundred gets a
five-hundredth of what one alone would get, from whomever. Of an origin likewise: what it brings to
one of several that ask it is multiplied by their number. The least budget also grows with how late
this host's alarms are: whoever is woken half a second late has not looked for half a second, and
does not know whether anything came.

Peers bring too little, a *trickle*, if it is less than `TRICKLE_SHARE` of what this origin brings.
Of an origin that was never asked it is only known that it will do better than a modem.

What it has learned of how many requests at once an origin rewards is kept beside that (`origins`).

No clock is read here; times are seconds. Nothing of this outlives the daemon.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import exp, inf, log, sqrt
from typing import Final

from peer.core.source_streams import Origins

PRIOR_WEIGHT: Final = 4.0
"""As many observations of its own a daemon must have to believe them as much as the prior."""
PEER_PRIOR_S: Final = 0.12
"""Median of the longer of two waits: for a parent's first word, which takes a connection and a
question, and for the first byte after a piece was asked for, which takes the same. Two round trips
of a wide-area network, and work on both sides."""
SOURCE_PRIOR_S: Final = 0.2
"""Median of an origin's answer: name, connection, TLS, question; a registry adds a redirect."""
PRIOR_SPREAD: Final = 0.8
"""Of the logarithms, for both: two in three lie within a factor of 2.2."""
QUANTILE: Final = 1.645
"""In standard deviations: one beginning in twenty takes longer (with the prior alone: 0.45 s)."""
BUDGET_MIN_S: Final = 0.2
"""Of one download that has this daemon for itself: what a hiccup of a disk or a processor takes."""
CROWD_S: Final = 0.025
"""So much more for each other download that goes on here: what its beginning takes a processor, on
all sides. (Of 500 at once on two cores, that all had a seed at work for them, 19 asked the source
after 0.5 s; with 256 that go on at once this makes it 6.6 s.)"""
RECALL_S: Final = 1.0
"""How long what was learned is not asked for again: it fades in minutes."""
LATE_FACTOR: Final = 30.0
"""Where alarms are late by so much, everything may take so many times longer: a beginning is a
dozen steps on either side, and each waits for its turn."""
LATE_HALF_LIFE_S: Final = 5.0
STALL_MIN_S: Final = 2.0
"""Once peers have brought something they are there: a pause is nothing out of the ordinary."""
TRICKLE_SHARE: Final = 1 / 8
"""Less than this part of what the origin brings is too little. Not nearer to one, for a swarm that
is only slower than its origin is what the origin has it for."""
TRICKLE_UNKNOWN_BYTES_PER_S: Final = 32 * 1024.0
"""Too little in comparison with an origin of which nothing is known. A quarter of what is too slow
for any one piece: where links are thin (ten hosts behind 10 Mbit/s) a swarm that is well may bring
no more for a while, and all of them would ask an origin that has no more to give either."""
BUDGET_MAX_S: Final = 10.0
"""Whatever was learned: a swarm that begins later than that is no help. As long as a client waits
for the head of an origin's answer."""
HALF_LIFE_S: Final = 600.0
MEMORY: Final = 64.0
"""Observations that count at most."""
FORGOTTEN_WEIGHT: Final = 1 / 64
"""Of an observation that is an hour old."""
HOSTS_MAX: Final = 256
"""Origins remembered; the one not heard of for longest goes first. A node has a few registries."""
SHORTEST_S: Final = 1e-4
"""Anything quicker counts as this: the logarithm of nothing is no number."""


@dataclass(slots=True)
class Times:
    """Decayed mean and spread of the logarithms of some times."""

    prior_s: float
    weight: float = 0.0
    mean: float = 0.0
    squares: float = 0.0  # of the distances from the mean, summed
    at: float = 0.0

    def add(self, took_s: float, now: float) -> None:
        """One more observation."""
        self._decay(now)
        self.weight += 1.0
        away = log(max(took_s, SHORTEST_S)) - self.mean
        self.mean += away / self.weight
        self.squares += away * (1.0 - 1.0 / self.weight) * away

    def quantile(self, deviations: float, now: float) -> float:
        """So many standard deviations above the median, the prior counted in."""
        self._decay(now)
        own, total = self.weight, self.weight + PRIOR_WEIGHT
        prior = log(self.prior_s)
        mean = (PRIOR_WEIGHT * prior + own * self.mean) / total
        squares = PRIOR_WEIGHT * PRIOR_SPREAD**2 + self.squares
        return exp(mean + deviations * sqrt(squares / total))

    def own_mean(self, now: float) -> float | None:
        """The mean without the prior; None: nothing was seen, or all of it very long ago."""
        self._decay(now)
        return exp(self.mean) if self.weight > FORGOTTEN_WEIGHT else None

    def _decay(self, now: float) -> None:
        passed_s, self.at = max(0.0, now - self.at), max(now, self.at)
        kept = 0.5 ** (passed_s / HALF_LIFE_S)
        if self.weight * kept > MEMORY - 1.0:
            kept = (MEMORY - 1.0) / self.weight
        self.weight *= kept
        self.squares *= kept


@dataclass(slots=True)
class OriginTimes:
    """What is known of one origin."""

    answer: Times = field(default_factory=lambda: Times(SOURCE_PRIOR_S))
    rate: Times = field(default_factory=lambda: Times(TRICKLE_UNKNOWN_BYTES_PER_S))
    """Bytes per second to all who ask it from here. No prior is made use of."""
    askers: int = 0


class Budget:
    """One daemon's. `host` is that of an origin's URL, "" if it has none."""

    def __init__(self) -> None:
        self.origins = Origins()
        self.downloads = 0
        """How many go on at this daemon."""
        self._peers = Times(PEER_PRIOR_S)
        self._late_s = 0.0
        self._late_at = 0.0
        self._learned_s = 0.0
        self._learned_until = -inf  # it is asked for with each event of each download
        self._sources: OrderedDict[str, OriginTimes] = OrderedDict()

    # --- what happens ---------------------------------------------------------------------------

    def begun(self) -> None:
        """A download goes on from now on..."""
        self.downloads += 1

    def ended(self) -> None:
        """...and does not any more."""
        self.downloads -= 1

    def woken(self, late_s: float, now: float) -> None:
        """A download was woken so long after it had to be. The latest is half forgotten soon."""
        self._late_s = max(late_s, self.late_s(now))
        self._late_at = now

    def peers_began(self, took_s: float, now: float) -> None:
        """A download waited so long for peers until their first byte came."""
        self._peers.add(took_s, now)
        self._learned_until = -inf

    def source_answered(self, host: str, took_s: float, now: float) -> None:
        """An origin began to answer `took_s` after it was asked."""
        self._origin(host).answer.add(took_s, now)

    def asks_source(self, host: str) -> None:
        """A download of this daemon gets bytes from an origin..."""
        self._origin(host).askers += 1

    def leaves_source(self, host: str) -> None:
        """...and does not any more."""
        origin = self._origin(host)
        origin.askers = max(0, origin.askers - 1)  # 0 if it was forgotten meanwhile

    def source_brought(self, host: str, bytes_per_s: float, now: float) -> None:
        """An origin has sent to one of those who ask it at this rate for a while."""
        origin = self._origin(host)
        origin.rate.add(bytes_per_s * max(1, origin.askers), now)

    # --- what follows ---------------------------------------------------------------------------

    def source_s(self, host: str, now: float) -> float:
        """What this origin takes to answer, as a rule."""
        origin = self._sources.get(host)
        return SOURCE_PRIOR_S if origin is None else origin.answer.quantile(0.0, now)

    def budget_s(self, host: str, now: float) -> float:
        """How long a download of this origin's content waits for a first byte from peers."""
        if now > self._learned_until:
            self._learned_s = self._peers.quantile(QUANTILE, now)
            self._learned_until = now + RECALL_S
        least_s = BUDGET_MIN_S + self.strain_s(now)
        return min(max(self._learned_s, self.source_s(host, now), least_s), BUDGET_MAX_S)

    def late_s(self, now: float) -> float:
        """How late this host's alarms were lately."""
        kept: float = 0.5 ** (max(0.0, now - self._late_at) / LATE_HALF_LIFE_S)
        return self._late_s * kept

    def strain_s(self, now: float) -> float:
        """How much longer everything may take here, for this host has much else to do."""
        return CROWD_S * max(0, self.downloads - 1) + LATE_FACTOR * self.late_s(now)

    def trickle_bytes_per_s(self, host: str, now: float) -> float:
        """Less than this from peers is too little for one download of this origin's content."""
        origin = self._sources.get(host)
        rate = None if origin is None else origin.rate.own_mean(now)
        alone = TRICKLE_UNKNOWN_BYTES_PER_S if rate is None else rate * TRICKLE_SHARE
        return alone / max(1, self.downloads)

    def _origin(self, host: str) -> OriginTimes:
        origin = self._sources.setdefault(host, OriginTimes())
        self._sources.move_to_end(host)
        if len(self._sources) > HOSTS_MAX:
            self._sources.popitem(last=False)
        return origin
