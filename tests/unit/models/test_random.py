"""The random ranker: fair lots that can be drawn again."""

from __future__ import annotations

import numpy as np

from models.facts import CandidateBatch
from models.random import RandomRanker


def batch(count: int) -> CandidateBatch:
    return CandidateBatch.of_columns({"can_serve": [1.0] * (count - 1) + [0.0]})


def test_the_same_seed_draws_the_same_lots() -> None:
    first, again, other = (RandomRanker().rank(batch(20), seed) for seed in (3, 3, 4))
    assert first.scores.tolist() == again.scores.tolist() != other.scores.tolist()
    assert first.by_lot


def test_what_is_known_does_not_matter_but_who_cannot_serve_is_bad() -> None:
    ranking = RandomRanker().rank(batch(3), 1)
    told = CandidateBatch.of_columns({"child_count": [9.0, 0.0, 5.0]})
    assert ranking.scores.tolist() == RandomRanker().rank(told, 1).scores.tolist()
    assert ranking.bad.tolist() == [False, False, True]


def test_everybody_wins_about_as_often() -> None:
    ranker, candidates = RandomRanker(), batch(4)
    wins = np.bincount(
        [int(np.argmax(ranker.rank(candidates, seed).scores)) for seed in range(2000)]
    )
    # 500 each; 100 is five standard deviations.
    assert (abs(wins - 500) < 100).all()
