"""The learned ranker: how the two heads are blended, and what it hands over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ranker_bundle import candidates, log_goodput, tiny_bundle

from models.bundle import BlendWeights, load_bundle
from models.facts import FACT_NAMES, CandidateBatch
from models.features import feature_matrix
from models.learned import LearnedRanker, blend, z_score

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> LearnedRanker:
    folder = tmp_path_factory.mktemp("bundle")
    tiny_bundle(folder, "7", trees=30)
    return LearnedRanker(load_bundle(folder))


@given(VALUES)
def test_z_scores_have_mean_0_and_spread_1_or_say_nothing(values: list[float]) -> None:
    scores = z_score(np.array(values))
    assert np.isfinite(scores).all()
    if scores.any():
        assert scores.mean() == pytest.approx(0, abs=1e-6)
        assert scores.std() == pytest.approx(1)
    else:
        assert max(values) - min(values) < 1e-9


@given(VALUES)
def test_z_scores_keep_the_order(values: list[float]) -> None:
    scores = z_score(np.array(values))
    order = np.argsort(values, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()


def test_rounding_is_no_difference() -> None:
    assert z_score(np.array([0.1 + 0.2, 0.3, 0.3])).tolist() == [0.0, 0.0, 0.0]
    assert z_score(np.array([5.0])).tolist() == [0.0]


def test_heads_on_other_scales_count_by_their_weights() -> None:
    rank, goodput = np.array([1000.0, -1000.0]), np.array([0.001, 0.002])
    assert blend(BlendWeights(rank=0.75, goodput=0.25), rank, goodput).tolist() == [0.5, -0.5]
    one = blend(BlendWeights(rank=0.5, goodput=0.5), rank, np.zeros(2))
    assert one.tolist() == [0.5, -0.5]  # a head that sees no difference says nothing


def test_it_ranks_as_the_world_is(ranker: LearnedRanker) -> None:
    regrets: list[float] = []
    for seed in range(500, 540):
        batch = candidates(seed, 15)
        truth = log_goodput(batch, np.zeros(15))
        best = int(np.argmax(ranker.rank(batch, 0).scores))
        regrets.append(1 - float(np.exp(truth[best] - truth.max())))
    assert np.mean(regrets) < 0.1  # by chance about 0.6


def test_a_ranking_says_who_made_it_and_of_what(ranker: LearnedRanker) -> None:
    facts = candidates(3).facts.copy()
    facts[2, FACT_NAMES.index("can_serve")] = 0
    batch = CandidateBatch(facts)
    ranking = ranker.rank(batch, 1)
    assert (ranking.ranked_by, ranking.model_version, ranking.fallback) == ("learned", "7", "")
    assert ranking.features is not None
    assert ranking.features.tobytes() == feature_matrix(batch).tobytes()
    assert np.flatnonzero(ranking.bad).tolist() == [2]
    assert not ranking.by_lot


def test_a_candidate_alone_scores_0(ranker: LearnedRanker) -> None:
    assert ranker.rank(candidates(1, 1), 0).scores.tolist() == [0.0]


def test_fewer_children_never_score_worse(ranker: LearnedRanker) -> None:
    """The model is held to the directions that the features promise."""
    column = FACT_NAMES.index("child_count")
    for seed in range(20):
        facts = candidates(seed, 8).facts.copy()
        facts[1] = facts[0]
        facts[0, column], facts[1, column] = 1.0, 9.0
        scores = ranker.rank(CandidateBatch(facts), 0).scores
        assert scores[0] >= scores[1]


def test_the_same_again(tmp_path: Path, ranker: LearnedRanker) -> None:
    tiny_bundle(tmp_path, "7", trees=30)
    again = LearnedRanker(load_bundle(tmp_path))
    for seed in range(5):
        batch = candidates(seed, 40)
        assert ranker.rank(batch, 1).scores.tobytes() == again.rank(batch, 2).scores.tobytes()
