"""Fitting: the same bytes each time, true to its constraints, better than guessing, and frank about
too little data.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.learning_world import World, world_rows

from models.facts import FloatArray
from models.features import FEATURES
from models.learned import LearnedRanker
from odonata.errors import CallerError
from training.evaluate import evaluate, rules
from training.fit import (
    FAILED_LOG_RATIO,
    LEAVES_MAX,
    TREES_MAX,
    FitConfig,
    Fitted,
    Size,
    fit,
    log_goodput_ratio,
)
from training.rows import feature_values


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return world_rows(World(decisions=400))


@pytest.fixture(scope="module")
def fitted(rows: pd.DataFrame) -> Fitted:
    return fit(rows)


def test_same_rows_and_seed_give_the_same_bytes(rows: pd.DataFrame, fitted: Fitted) -> None:
    again = fit(rows.copy(), FitConfig(seed=1))
    assert again.rank_text.encode() == fitted.rank_text.encode()
    assert again.goodput_text.encode() == fitted.goodput_text.encode()


def test_order_of_the_rows_does_not_matter(rows: pd.DataFrame, fitted: Fitted) -> None:
    mixed = rows.sample(frac=1.0, random_state=5)
    again = fit(mixed)
    assert (again.rank_text, again.goodput_text) == (fitted.rank_text, fitted.goodput_text)


def test_unobserved_candidates_teach_nothing(rows: pd.DataFrame, fitted: Fitted) -> None:
    observed = rows.loc[rows["observed"]]
    assert fit(observed).rank_text == fitted.rank_text


def test_seed_reaches_the_model(rows: pd.DataFrame, fitted: Fitted) -> None:
    assert fit(rows, FitConfig(seed=2)).rank_text != fitted.rank_text


@pytest.mark.parametrize(
    "feature", [feature.spec for feature in FEATURES if feature.spec.monotone], ids=lambda s: s.name
)
def test_model_keeps_to_what_can_only_get_better(
    rows: pd.DataFrame, fitted: Fitted, feature: object
) -> None:
    number = next(place for place, each in enumerate(FEATURES) if each.spec is feature)
    spec = FEATURES[number].spec
    base = feature_values(rows)[:50]
    model = fitted.model()
    scores: list[FloatArray] = []
    for value in np.linspace(max(spec.low, -3.0), min(spec.high, 3.0), 15):
        changed = base.copy()
        changed[:, number] = value
        scores.append(model.log_goodput(changed))
    steps = np.diff(np.array(scores), axis=0) * spec.monotone
    assert (steps >= -1e-12).all()


def test_learned_beats_lots_and_is_no_worse_than_the_rule_on_a_new_world() -> None:
    fitted = fit(world_rows(World(decisions=1000)))
    world = world_rows(World(hosts=120, decisions=500), seed=99)
    rankers = {**rules(), "learned": LearnedRanker(fitted.model())}
    evaluation = evaluate(world, rankers)
    misses = {name: evaluation.figure(name, part="all") for name in rankers}
    regret = {name: cell.value.mean for name, cell in misses.items() if cell is not None}
    assert regret["learned"] < 0.5 * regret["random"]
    assert regret["learned"] <= regret["rule"]


def test_goodput_is_relative_to_the_swarm_and_failures_are_low(rows: pd.DataFrame) -> None:
    observed = rows.loc[rows["observed"]]
    label = log_goodput_ratio(observed)
    failed = observed["is_failed"].to_numpy(dtype=bool)
    assert failed.any()
    assert (label[failed] == FAILED_LOG_RATIO).all()
    plain = observed["label_log_goodput"] - np.log(observed["swarm_rate_bytes_per_s"])
    assert label[~failed] == pytest.approx(plain.to_numpy()[~failed])


def test_model_holds_on_a_faster_network(rows: pd.DataFrame, fitted: Fitted) -> None:
    """All rates a hundred times higher: the same labels, so the same model."""
    faster = rows.assign(
        label_log_goodput=rows["label_log_goodput"] + np.log(100.0),
        swarm_rate_bytes_per_s=rows["swarm_rate_bytes_per_s"] * 100.0,
    )
    labels = [log_goodput_ratio(frame.loc[frame["observed"]]) for frame in (rows, faster)]
    assert labels[0] == pytest.approx(labels[1])


def test_first_downloads_of_a_swarm_teach_relative_to_their_task(rows: pd.DataFrame) -> None:
    """Their goodput in another unit would be another label, if it were not for the task's mean."""
    first = rows["task_id"] == rows["task_id"].iloc[0]
    unknown = rows.assign(swarm_rate_bytes_per_s=rows["swarm_rate_bytes_per_s"].mask(first))
    observed = unknown.loc[unknown["observed"]]
    faster = observed.assign(
        label_log_goodput=observed["label_log_goodput"].where(
            ~first.loc[observed.index], observed["label_log_goodput"] + 5.0
        )
    )
    label = log_goodput_ratio(observed)
    assert np.isfinite(label).all()
    assert log_goodput_ratio(faster) == pytest.approx(label)


def test_trees_stay_small_where_data_is_small() -> None:
    config = FitConfig()
    sizes = [Size.of(rows, config) for rows in (60, 500, 2_000, 20_000, 2_000_000)]
    assert [size.leaves for size in sizes] == sorted(size.leaves for size in sizes)
    assert [size.trees for size in sizes] == sorted(size.trees for size in sizes)
    assert sizes[0].leaves * sizes[0].trees <= 250
    assert (sizes[-1].trees, sizes[-1].leaves) == (TREES_MAX, LEAVES_MAX)


def test_too_little_data_says_how_much_there_is_and_is_needed(rows: pd.DataFrame) -> None:
    few = rows.loc[rows["decision_id"].isin(rows["decision_id"].unique()[:7])]
    with pytest.raises(CallerError, match=r"7 decisions .* 28 such parents; 20 and 60 are needed"):
        fit(few)
    with pytest.raises(CallerError, match="0 decisions"):
        fit(rows.assign(observed=False))
