"""How well a ranking of one decision's parents was, judged by what these parents then delivered.

Only parents with an outcome can be judged: the best of a group is the best *observed* one, so all
figures are against what somebody tried, not against what could have been. A group with one observed
parent says nothing about a choice and does not count; neither does one in which nobody delivered.

    relative goodput   goodput / best goodput of the group; 0 for a parent that failed
    regret@k           1 - the best relative goodput among the k first: what a child that takes them
                       all at once still misses. regret@1 is the figure to look at.
    hit@1              whether the first is within 5 % of the best
    NDCG@4             sum of relative goodput / log2(1 + place) over the 4 first, over the best
                       such sum (Jaervelin and Kekaelaeinen 2002, linear gain). It saturates: a
                       ranking that misses a quarter of the goodput may still show 0.8.
    pairwise accuracy  share of pairs of different goodput that are in the right order, equal
                       scores counting half

Equal scores are common in rules. They are broken by lot and the figures averaged over `TIE_DRAWS`
of them, as the scheduler breaks them by lot too.

Confidence intervals resample whole tasks (decisions about one content share their hosts and their
moment), the same for all rankers, so that differences are paired. Which rows make a group and who
ranks is `evaluate`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.facts import BoolArray, FloatArray

IntArray = NDArray[np.int64]

METRICS: tuple[str, ...] = ("regret@1", "regret@4", "hit@1", "ndcg@4", "pairwise")
"""Names of the columns of `Scores.values`."""
LOWER_IS_BETTER = frozenset({"regret@1", "regret@4"})

DEPTH = 4
"""Parents in one answer by Dragonfly's documents and our default."""
HIT_TOLERANCE = 0.05
TIE_DRAWS = 8
"""Over 1,400 simulated decisions, eight were within 0.0004 of sixty-four for every metric."""
BOOTSTRAP_DRAWS = 1000
"""The bounds of a 95 % interval then rest on 25 draws each."""
CLUSTERS_MIN = 8
"""Fewer clusters make an interval that is far too narrow: then a finer unit is resampled."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Labelled parents of g decisions, padded to the widest group: (g, w).

    `goodput` in B/s, 0 for a failed parent, NaN where a group has no such member.
    """

    goodput: FloatArray

    @property
    def is_member(self) -> BoolArray:
        """Where a parent stands, (g, w)."""
        return ~np.isnan(self.goodput)

    @property
    def counts(self) -> BoolArray:
        """Which groups can be judged: two parents at least, one of which delivered, (g,)."""
        delivered = np.nan_to_num(self.goodput) > 0
        counts: BoolArray = (self.is_member.sum(axis=1) >= 2) & delivered.any(axis=1)
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95 % bootstrap interval; NaN if nothing was judged."""

    mean: float
    low: float
    high: float


def judge(groups: Groups, scores: FloatArray, *, seed: int = 0) -> FloatArray:
    """All metrics of each group, (g, len(METRICS)), from `scores` of the same shape as `goodput`.

    Higher scores come first; what stands in a score beside a member does not matter. Every group
    must count (`Groups.counts`).
    """
    member = groups.is_member
    if not len(member):
        return np.empty((0, len(METRICS)))
    relative = np.where(member, groups.goodput, 0.0)
    relative = relative / relative.max(axis=1, keepdims=True)
    scores = np.where(member, scores, -np.inf)
    draws = np.random.default_rng(seed)
    first = np.mean(
        [_ordered(relative, scores, member, draws) for _ in range(TIE_DRAWS)], axis=0
    )  # (g, 4)
    accuracy = _pairwise(relative, scores, member)
    return np.column_stack([first, accuracy])


def _ordered(
    relative: FloatArray, scores: FloatArray, member: BoolArray, draws: np.random.Generator
) -> FloatArray:
    """The four metrics that need an order, with ties broken by lot; padding always comes last."""
    order = np.lexsort((draws.random(scores.shape), -scores, ~member), axis=1)
    taken = np.take_along_axis(relative, order, axis=1)[:, :DEPTH]
    ideal = -np.sort(-relative, axis=1)[:, :DEPTH]
    discount = 1.0 / np.log2(2.0 + np.arange(taken.shape[1], dtype=np.float64))
    return np.column_stack(
        [
            1.0 - taken[:, 0],
            1.0 - taken.max(axis=1),
            (taken[:, 0] >= 1.0 - HIT_TOLERANCE).astype(np.float64),
            (taken @ discount) / (ideal @ discount),
        ]
    )


def _pairwise(relative: FloatArray, scores: FloatArray, member: BoolArray) -> FloatArray:
    """Share of pairs in the right order; NaN where all members delivered the same."""
    both = member[:, :, None] & member[:, None, :]
    better = both & (relative[:, :, None] > relative[:, None, :])
    above = scores[:, :, None] > scores[:, None, :]
    equal = scores[:, :, None] == scores[:, None, :]
    right = (better & above).sum(axis=(1, 2)) + 0.5 * (better & equal).sum(axis=(1, 2))
    pairs = better.sum(axis=(1, 2))
    return np.where(pairs > 0, right / np.maximum(pairs, 1), np.nan)


def intervals(
    values: FloatArray, clusters: IntArray, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> list[Interval]:
    """Mean and interval of each column of `values` (g, m), resampling whole clusters (g,).

    The same seed and clusters resample alike, so the interval of a difference of two rankers is
    that of the difference of their values. NaN values do not count.
    """
    if not len(values):
        return [Interval(mean=np.nan, low=np.nan, high=np.nan)] * values.shape[1]
    known = ~np.isnan(values)
    sums = _per_cluster(np.where(known, values, 0.0), clusters)
    counts = _per_cluster(known.astype(np.float64), clusters)
    size = len(sums)
    weights = np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ sums) / (weights @ counts)
        mean = sums.sum(axis=0) / counts.sum(axis=0)
    return [_interval(float(mean[column]), means[:, column]) for column in range(values.shape[1])]


def _per_cluster(values: FloatArray, clusters: IntArray) -> FloatArray:
    _, number = np.unique(clusters, return_inverse=True)
    sums = np.zeros((int(number.max()) + 1, values.shape[1]))
    np.add.at(sums, number, values)
    return sums


def _interval(mean: float, draws: FloatArray) -> Interval:
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Interval(mean=mean, low=np.nan, high=np.nan)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(mean=mean, low=float(low), high=float(high))
