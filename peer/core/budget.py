"""What a daemon has learned of beginnings: how soon bytes come from peers, how soon from an origin.

Theory of operation
===================

One `Budget` belongs to one daemon and is shared by all its downloads. It is told, download by
download, how long it took from the beginning to the first byte from a peer, and how long an origin
took to answer; it says how long a download should wait for peers before it asks the source as well
(`peer.core.beside` does that).

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

What it has learned of how many requests at once an origin rewards is kept beside that (`origins`).

No clock is read here; times are seconds. Nothing of this outlives the daemon.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Final

from peer.core.source_streams import Origins

PRIOR_WEIGHT: Final = 4.0
"""As many observations of its own a daemon must have to believe them as much as the prior."""
PEER_PRIOR_S: Final = 0.6
"""Median from the beginning to the first byte of a peer: a question to the scheduler, a connection,
a list, a connection and a question more; five round trips, and work on both sides, which may be
busy with fifty others."""
SOURCE_PRIOR_S: Final = 0.2
"""Median of an origin's answer: name, connection, TLS, question; a registry adds a redirect."""
PRIOR_SPREAD: Final = 0.8
"""Of the logarithms, for both: two in three lie within a factor of 2.2."""
QUANTILE: Final = 1.645
"""In standard deviations: one beginning in twenty takes longer (with the prior alone: 2.2 s)."""
BUDGET_MIN_S: Final = 2.0
"""Below this a busy machine would send downloads to the source: of 500 at once on two cores, that
all had a seed at work for them, 19 asked it with 0.5 s."""
BUDGET_MAX_S: Final = 10.0
"""Whatever was learned: a swarm that begins later than that is no help. As long as a client waits
for the head of an origin's answer."""
HALF_LIFE_S: Final = 600.0
MEMORY: Final = 64.0
"""Observations that count at most."""
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

    def _decay(self, now: float) -> None:
        passed_s, self.at = max(0.0, now - self.at), max(now, self.at)
        kept = 0.5 ** (passed_s / HALF_LIFE_S)
        if self.weight * kept > MEMORY - 1.0:
            kept = (MEMORY - 1.0) / self.weight
        self.weight *= kept
        self.squares *= kept


class Budget:
    """One daemon's. `host` is that of an origin's URL, "" if it has none."""

    def __init__(self) -> None:
        self.origins = Origins()
        self._peers = Times(PEER_PRIOR_S)
        self._sources: OrderedDict[str, Times] = OrderedDict()

    def peers_began(self, took_s: float, now: float) -> None:
        """The first byte from a peer came `took_s` after its download had begun."""
        self._peers.add(took_s, now)

    def source_answered(self, host: str, took_s: float, now: float) -> None:
        """An origin began to answer `took_s` after it was asked."""
        times = self._sources.setdefault(host, Times(SOURCE_PRIOR_S))
        self._sources.move_to_end(host)
        times.add(took_s, now)
        if len(self._sources) > HOSTS_MAX:
            self._sources.popitem(last=False)

    def source_s(self, host: str, now: float) -> float:
        """What this origin takes to answer, as a rule."""
        times = self._sources.get(host)
        return SOURCE_PRIOR_S if times is None else times.quantile(0.0, now)

    def budget_s(self, host: str, now: float) -> float:
        """How long a download of this origin's content waits for a first byte from peers."""
        learned_s = self._peers.quantile(QUANTILE, now)
        return min(max(learned_s, self.source_s(host, now), BUDGET_MIN_S), BUDGET_MAX_S)
