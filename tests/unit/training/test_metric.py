"""Ranking metrics against what they are defined to be, and intervals against known spreads."""

from __future__ import annotations

from itertools import pairwise, permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.facts import FloatArray
from training.metric import METRICS, Groups, intervals, judge

goodputs = st.lists(st.floats(0.0, 1e9, allow_subnormal=False), min_size=2, max_size=9).filter(
    lambda values: max(values) > 1e-3
)


def judged(goodput: list[float], scores: list[float], *, seed: int = 0) -> dict[str, float]:
    values = judge(Groups(np.array([goodput])), np.array([scores]), seed=seed)[0]
    return dict(zip(METRICS, values.tolist(), strict=True))


def naive(goodput: list[float], order: tuple[int, ...]) -> dict[str, float]:
    """The definitions, one after the other, for a ranking without ties."""
    relative = [value / max(goodput) for value in goodput]
    taken = [relative[place] for place in order]
    ideal = sorted(relative, reverse=True)

    def dcg(values: list[float]) -> float:
        return sum(value / log2(2 + place) for place, value in enumerate(values[:4]))

    places = {who: place for place, who in enumerate(order)}
    pairs = [
        places[better] < places[worse]
        for better in range(len(relative))
        for worse in range(len(relative))
        if relative[better] > relative[worse]
    ]
    return {
        "regret@1": 1 - taken[0],
        "regret@4": 1 - max(taken[:4]),
        "hit@1": float(taken[0] >= 0.95),
        "ndcg@4": dcg(taken) / dcg(ideal),
        "pairwise": sum(pairs) / len(pairs) if pairs else float("nan"),
    }


@given(goodputs)
def test_perfect_ranker_misses_nothing(goodput: list[float]) -> None:
    found = judged(goodput, goodput)
    assert found["regret@1"] == found["regret@4"] == 0
    assert found["hit@1"] == 1
    assert found["ndcg@4"] == pytest.approx(1)
    assert np.isnan(found["pairwise"]) or found["pairwise"] == 1


@given(goodputs, st.randoms(use_true_random=False))
def test_any_order_is_judged_by_the_definitions(goodput: list[float], lots: object) -> None:
    order = list(range(len(goodput)))
    lots.shuffle(order)  # type: ignore[attr-defined]  # hypothesis' Random
    scores = [0.0] * len(goodput)
    for place, who in enumerate(order):
        scores[who] = float(-place)
    assert judged(goodput, scores) == pytest.approx(naive(goodput, tuple(order)), nan_ok=True)


@given(goodputs, st.lists(st.floats(-10, 10), min_size=9, max_size=9))
def test_values_stay_within_their_ranges(goodput: list[float], scores: list[float]) -> None:
    found = judged(goodput, scores[: len(goodput)])
    for name, value in found.items():
        assert np.isnan(value) or -1e-12 <= value <= 1 + 1e-12, name
    assert found["regret@4"] <= found["regret@1"] + 1e-12


def test_equal_scores_are_judged_as_lots_would_be() -> None:
    goodput = [8.0, 4.0, 2.0]
    expected = np.mean(
        [[naive(goodput, order)[name] for name in METRICS] for order in permutations(range(3))],
        axis=0,
    )
    many = 4000
    values = judge(Groups(np.tile(goodput, (many, 1))), np.zeros((many, 3)), seed=1)
    assert values.mean(axis=0) == pytest.approx(expected, abs=0.01)


def test_padding_changes_nothing() -> None:
    narrow = judged([3.0, 9.0], [1.0, 2.0])
    wide = judge(
        Groups(np.array([[3.0, 9.0, np.nan, np.nan], [1.0, 2.0, 3.0, 4.0]])),
        np.array([[1.0, 2.0, 99.0, -99.0], [4.0, 3.0, 2.0, 1.0]]),
    )
    assert wide[0].tolist() == pytest.approx(list(narrow.values()))


def test_failed_parents_come_last_and_groups_without_choice_do_not_count() -> None:
    nan = np.nan
    groups = Groups(np.array([[5.0, 0.0], [0.0, 0.0], [7.0, nan], [nan, nan]]))
    assert groups.counts.tolist() == [True, False, False, False]
    assert judged([5.0, 0.0], [0.0, 1.0])["regret@1"] == 1


def test_hit_is_within_five_percent() -> None:
    assert judged([100.0, 95.0], [0.0, 1.0])["hit@1"] == 1
    assert judged([100.0, 94.9], [0.0, 1.0])["hit@1"] == 0


def test_nothing_to_judge_is_no_error() -> None:
    values = judge(Groups(np.empty((0, 3))), np.empty((0, 3)))
    assert values.shape == (0, len(METRICS))
    assert all(np.isnan(bound.mean) for bound in intervals(values, np.empty(0, dtype=np.int64)))


def test_interval_of_independent_values_is_that_of_their_mean() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, (400, 1))
    bound = intervals(values, np.arange(400))[0]
    assert bound.mean == pytest.approx(float(values.mean()))
    assert (bound.high - bound.low) / 2 == pytest.approx(1.96 * 2.0 / np.sqrt(400), rel=0.15)


def test_interval_widens_when_values_of_a_cluster_agree() -> None:
    draws = np.random.default_rng(2)
    clusters = np.repeat(np.arange(20), 20)
    alike: FloatArray = draws.normal(0, 1, 20)[clusters][:, None]
    wide = intervals(alike, clusters)[0]
    narrow = intervals(alike, np.arange(400))[0]
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_paired_difference_is_narrower_than_the_values_themselves() -> None:
    draws = np.random.default_rng(3)
    base = draws.normal(0, 1, (200, 1))
    better = base - 0.1 + draws.normal(0, 0.01, (200, 1))
    clusters = np.arange(200)
    change = intervals(better - base, clusters)[0]
    alone = intervals(base, clusters)[0]
    assert change.high < 0
    assert change.high - change.low < (alone.high - alone.low) / 10


def test_unknown_values_do_not_count() -> None:
    bound = intervals(np.array([[1.0], [np.nan], [3.0]]), np.array([0, 1, 2]))[0]
    assert bound.mean == 2


def test_wider_groups_are_not_easier_to_rank_at_random() -> None:
    """A random ranker misses more, the more (equally spread) parents there are."""
    draws = np.random.default_rng(4)
    misses: list[float] = []
    for width in (2, 4, 8):
        goodput = np.exp(draws.normal(0, 0.5, (3000, width)))
        misses.append(float(judge(Groups(goodput), draws.random(goodput.shape))[:, 0].mean()))
    assert all(fewer < more for fewer, more in pairwise(misses))
