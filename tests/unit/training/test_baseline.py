"""The linear baseline: finds a line where there is one, and copes with what is unknown."""

from __future__ import annotations

import numpy as np
import pytest
from support.learning_world import World, world_rows

from models.ranker import Ranker
from odonata.errors import CallerError
from training.baseline import fit_linear
from training.evaluate import evaluate, rules
from training.rows import candidate_batch


def test_line_ranks_better_than_lots() -> None:
    rows = world_rows(World(decisions=300))
    linear: Ranker = fit_linear(rows)
    evaluation = evaluate(world_rows(World(decisions=200), seed=9), {**rules(), "linear": linear})
    ours, lots = (evaluation.figure(name, part="all") for name in ("linear", "random"))
    assert ours is not None
    assert lots is not None
    assert ours.value.high < lots.value.low


def test_unknown_features_are_filled() -> None:
    rows = world_rows(World(decisions=60))
    assert rows["served_rate_bytes_per_s"].isna().any()
    batch = candidate_batch(rows.iloc[:12])  # the first decision
    ranking = fit_linear(rows).rank(batch, seed=1)
    assert np.isfinite(ranking.scores).all()
    assert ranking.ranked_by == "linear"


def test_too_little_is_said() -> None:
    with pytest.raises(CallerError, match="too little for a line"):
        fit_linear(world_rows(World(decisions=3)))
