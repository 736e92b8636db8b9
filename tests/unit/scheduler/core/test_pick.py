"""Taking the best of a ranking, and exploring: what is taken, and how likely that was."""

from dataclasses import replace
from math import sqrt
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ranker import Ranking
from scheduler.core.pick import SEED_BITS, Lots, Pick, pick

DRAWS = 2000
"""Seeds per frequency test."""
SIGMAS = 5.0
"""Over some 200 frequencies a run of luck this long comes once in 10,000 sets of seeds; the seeds
here are fixed, so that it comes never or always."""


def ranking(scores: list[float], bad: list[bool] | None = None, *, by_lot: bool = False) -> Ranking:
    return Ranking(
        scores=np.array(scores, dtype=np.float64),
        bad=np.array(bad or [False] * len(scores)),
        ranked_by="test",
        by_lot=by_lot,
    )


def lots(number: int) -> Lots:
    """Those of one decision of many, each with a seed of its own."""
    return Lots(Random(), Random(number).getrandbits(SEED_BITS))


def picked(
    ranked: Ranking, counts: list[int] | None = None, *, seed: int = 1, eps: float = 0.0
) -> Pick:
    loads = counts or [0] * len(ranked.scores)
    return pick(ranked, loads, lots(seed), places=4, exploration=eps)


def test_the_best_come_first_and_others_not_at_all() -> None:
    found = picked(ranking([3, 1, 6, 5, 2, 4]))
    assert found.rows == (2, 3, 5, 0)
    assert found.order == (2, 3, 5, 0, 4, 1)
    assert found.propensities.tolist() == [1, 0, 1, 1, 0, 1]


def test_equals_go_by_the_children_of_their_hosts() -> None:
    assert picked(ranking([1.0] * 5), [4, 3, 2, 1, 0]).rows == (4, 3, 2, 1)


def test_what_is_equal_even_then_goes_by_the_dice_and_shares_the_place() -> None:
    ranked = ranking([2, 1, 1, 1, 9, 9])
    seen = {picked(ranked, seed=seed).rows for seed in range(60)}
    assert {rows[3] for rows in seen} == {1, 2, 3}
    assert picked(ranked).propensities == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 1, 1])


def test_bad_ones_are_left_out_and_have_no_chance() -> None:
    found = picked(ranking([9, 1, 2], [True, False, False]), eps=1.0)
    assert sorted(found.rows) == [1, 2]
    assert found.left_out.tolist() == [True, False, False]
    assert found.propensities.tolist() == [0, 1, 1]


def test_when_all_are_bad_none_is() -> None:
    found = picked(ranking([1, 2], [True, True]))
    assert found.rows == (1, 0)
    assert not found.left_out.any()
    assert found.propensities.tolist() == [1, 1]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_without_a_choice_nothing_is_explored(count: int) -> None:
    found = picked(ranking([float(n) for n in range(count)]), eps=1.0)
    assert found.rows == tuple(reversed(range(count)))
    assert (found.exploration, found.explored) == (0.0, False)
    assert found.propensities.tolist() == [1.0] * count


def test_bad_ones_are_no_choice() -> None:
    found = picked(ranking([5, 4, 3, 2, 1], [False] * 4 + [True]), eps=1.0)
    assert found.rows == (0, 1, 2, 3)
    assert not found.explored


def test_exploring_draws_among_all_that_are_good() -> None:
    ranked = ranking([float(n) for n in range(8)], [True] + [False] * 7)
    drawn = [picked(ranked, seed=seed, eps=1.0) for seed in range(100)]
    assert all(one.explored and len(set(one.rows)) == 4 for one in drawn)
    assert {row for one in drawn for row in one.rows} == set(range(1, 8))


def test_without_exploration_the_answer_is_always_the_best() -> None:
    ranked = ranking([float(n) for n in range(8)])
    assert {picked(ranked, seed=seed).rows for seed in range(50)} == {(7, 6, 5, 4)}


def test_the_chances_follow_from_the_seed_alone() -> None:
    once, again = Lots(Random(5), 77), Lots(Random(6), 77)
    assert once.rng.random() == again.rng.random()
    assert Lots(Random(), 78).rng.random() != Lots(Random(), 77).rng.random()
    assert Lots(Random(), 77).rng.random() != Random(77).random(), "that is the ranker's"


def test_whether_it_explores_is_read_off_the_seed() -> None:
    share = sum(lots(number).explores(0.3) for number in range(DRAWS)) / DRAWS
    assert share == pytest.approx(0.3, abs=SIGMAS * sqrt(0.3 * 0.7 / DRAWS))
    assert Lots(Random(), 2**SEED_BITS - 1).explores(1.0)
    assert not Lots(Random(), 0).explores(0.0)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from((0.0, 0.5, 1.0)), st.integers(0, 2), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    places=st.integers(1, 6),
    eps=st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
    by_lot=st.booleans(),
)
def test_propensities_sum_to_the_places(
    rows: list[tuple[float, int, bool]], places: int, eps: float, seed: int, by_lot: bool
) -> None:
    scores, counts, bad = (list(column) for column in zip(*rows, strict=True))
    ranked = ranking(scores, bad, by_lot=by_lot)
    found = pick(ranked, counts, Lots(Random(), seed), places=places, exploration=eps)
    is_good = ~found.left_out
    assert len(set(found.rows)) == len(found.rows) == min(places, int(is_good.sum()))
    assert found.propensities.sum() == pytest.approx(len(found.rows))
    assert (found.propensities >= 0).all()
    assert (found.propensities <= 1 + 1e-12).all()
    assert not found.propensities[found.left_out].any()
    assert all(found.propensities[row] > 0 for row in found.rows)
    assert sorted(found.order) == list(range(len(rows)))
    assert np.array_equal(found.left_out, ranked.bad) or ranked.bad.all()


@pytest.mark.parametrize("eps", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize(
    ("scores", "counts", "bad"),
    [
        ([6, 5, 4, 3, 2, 1], [0] * 6, []),
        ([6, 5, 4, 3, 3, 3, 1], [0] * 7, [1]),
        ([1] * 9, [1, 0, 0, 1, 1, 1, 2, 0, 1], [3]),
        ([1] * 7, [0] * 7, []),
    ],
    ids=["all differ", "equals at the border", "equals by load too", "all equal"],
)
def test_the_frequencies_are_the_logged_propensities(
    scores: list[float], counts: list[int], bad: list[int], eps: float
) -> None:
    """Each candidate is in the answer as often as was logged, within what chance allows for."""
    ranked = ranking(scores, [row in bad for row in range(len(scores))])
    hits = np.zeros(len(scores))
    found = None
    for seed in range(DRAWS):
        found = pick(ranked, counts, lots(seed), places=4, exploration=eps)
        hits[list(found.rows)] += 1
    assert found is not None
    for hit, logged in zip(hits / DRAWS, found.propensities, strict=True):
        assert hit == pytest.approx(logged, abs=SIGMAS * sqrt(logged * (1 - logged) / DRAWS) + 1e-9)


def test_lots_give_everybody_the_same_chance() -> None:
    """Of a ranker that draws lots the propensity is not that of the one order it drew."""
    hits = np.zeros(7)
    found = None
    for seed in range(DRAWS):
        scores = np.random.default_rng(seed).random(7).tolist()
        found = picked(ranking(scores, by_lot=True), seed=seed, eps=0.02)
        hits[list(found.rows)] += 1
    assert found is not None
    assert found.propensities == pytest.approx([4 / 7] * 7)
    bound = SIGMAS * sqrt(4 / 7 * 3 / 7 / DRAWS)
    assert hits / DRAWS == pytest.approx([4 / 7] * 7, abs=bound)


# --- with a temperature ---------------------------------------------------------------------------


def warm(scores: list[float], temperature: float, bad: list[int] | None = None) -> Ranking:
    cold = ranking(scores, [row in (bad or []) for row in range(len(scores))])
    return replace(cold, temperature=temperature)


def test_without_a_temperature_to_speak_of_the_best_are_taken() -> None:
    found = picked(warm([float(n) for n in range(12)], 1e-3))
    assert found.rows == (11, 10, 9, 8)
    assert found.propensities[8:] == pytest.approx([1, 1, 1, 1], abs=1e-4)
    assert found.propensities.sum() == pytest.approx(4)


def test_a_hot_ranking_takes_anybody_within_reach_and_nobody_beyond() -> None:
    ranked = warm([float(n) for n in range(12)], 1e9)
    assert {row for seed in range(99) for row in picked(ranked, seed=seed).rows} == set(
        range(4, 12)
    )
    assert picked(ranked).propensities == pytest.approx([0.0] * 4 + [0.5] * 8)


def test_the_chances_fall_with_the_score() -> None:
    found = picked(warm([0.1 * n for n in range(8)], 0.3))
    assert (np.diff(found.propensities) > 0).all()
    # As if each came after a time of its own, at the rate exp(score / temperature).
    rates = -np.log1p(-found.propensities)
    assert np.diff(np.log(rates)) == pytest.approx([0.1 / 0.3] * 7)


def test_the_answer_is_in_the_order_of_the_scores() -> None:
    ranked = warm([0.1 * n for n in range(9)], 0.3)
    for seed in range(50):
        rows = picked(ranked, seed=seed).rows
        assert list(rows) == sorted(rows, reverse=True)
        assert len(set(rows)) == 4


@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize(
    ("scores", "bad"),
    [
        ([0.1, 0.5, 0.2, 0.9, 0.3, 0.35, 0.8], []),
        ([1.0] * 12, []),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1], [2]),
        ([9.0, 0.5, 0.5, 0.4, 0.3, 0.2], []),
        ([5.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0], []),
    ],
    ids=["few", "all equal", "equals at the border", "one far ahead", "four far ahead"],
)
def test_the_frequencies_of_a_warm_pick_are_the_logged_propensities(
    scores: list[float], bad: list[int], eps: float
) -> None:
    ranked = warm(scores, 0.4, bad)
    hits = np.zeros(len(scores))
    found = picked(ranked)
    for seed in range(DRAWS):
        found = pick(ranked, [0] * len(scores), lots(seed), places=4, exploration=eps)
        hits[list(found.rows)] += 1
    for hit, logged in zip(hits / DRAWS, found.propensities, strict=True):
        bound = SIGMAS * sqrt(max(logged * (1 - logged), 0.0) / DRAWS)
        assert hit == pytest.approx(logged, abs=bound + 1e-9)


@given(
    scores=st.lists(st.floats(-1000, 1000), min_size=1, max_size=20),
    temperature=st.floats(1e-6, 1e6),
    places=st.integers(1, 8),
    seed=st.integers(0, 2**63 - 1),
    eps=st.floats(0, 1),
)
def test_warm_propensities_sum_to_the_places(
    scores: list[float], temperature: float, places: int, seed: int, eps: float
) -> None:
    ranked = warm(scores, temperature)
    found = pick(ranked, [0] * len(scores), Lots(Random(), seed), places=places, exploration=eps)
    assert len(set(found.rows)) == len(found.rows) == min(places, len(scores))
    assert found.propensities.sum() == pytest.approx(len(found.rows))
    assert (found.propensities >= 0).all()
    assert (found.propensities <= 1 + 1e-9).all()
    assert all(found.propensities[row] > 0 for row in found.rows)
