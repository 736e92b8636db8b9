"""Judging rankers: through the protocol, on the same decisions, with what is bad at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from support.learning_world import World, world_rows

from models.facts import CandidateBatch, FloatArray
from models.ranker import Ranker, Ranking
from odonata.errors import CallerError
from training.evaluate import (
    BY_HOSTS,
    BY_TIME,
    Evaluation,
    cross_evaluate,
    evaluate,
    rules,
)
from training.metric import METRICS


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return world_rows(World(decisions=200, decision_gap_s=20.0))


@pytest.fixture(scope="module")
def crossed(rows: pd.DataFrame) -> Evaluation:
    return cross_evaluate(rows)


@dataclass
class ByChildren:
    """Ranks by the number of children; remembers what it was shown."""

    name: str = "by-children"
    best_is_bad: bool = False
    shown: list[CandidateBatch] = field(default_factory=list[CandidateBatch])

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        del seed
        self.shown.append(batch)
        scores = -batch["child_count"]
        bad = scores == scores.max() if self.best_is_bad else np.zeros(len(batch), dtype=np.bool_)
        return Ranking(scores=scores, bad=bad, ranked_by=self.name)


@dataclass
class Oracle:
    """Knows what came of every parent, by its report's age (which is unlike any other's)."""

    goodput: dict[float, float]
    name: str = "oracle"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        del seed
        scores = np.array([self.goodput.get(age, 0.0) for age in batch["report_age_s"].tolist()])
        return Ranking(scores=scores, bad=np.zeros(len(batch), dtype=np.bool_), ranked_by=self.name)


def delivered(rows: pd.DataFrame) -> FloatArray:
    """Goodput of all rows in B/s, 0 where there is none."""
    goodput: FloatArray = np.exp(rows["label_log_goodput"].to_numpy(dtype=np.float64))
    return np.where(np.isnan(goodput), 0.0, goodput)


def mean(evaluation: Evaluation, ranker: str, metric: str = "regret@1", part: str = "all") -> float:
    cell = evaluation.figure(ranker, metric, part=part)
    assert cell is not None
    return cell.value.mean


def test_oracle_misses_nothing_and_the_others_do(rows: pd.DataFrame) -> None:
    goodput = delivered(rows).tolist()
    oracle = Oracle(dict(zip(rows["report_age_s"].tolist(), goodput, strict=True)))
    evaluation = evaluate(rows, {**rules(), "oracle": oracle})
    assert mean(evaluation, "oracle") == 0
    assert mean(evaluation, "oracle", "ndcg@4") == pytest.approx(1)
    assert mean(evaluation, "oracle", "pairwise") == 1
    assert 0 < mean(evaluation, "rule") < mean(evaluation, "random")


def test_rankers_are_shown_the_whole_group_once(rows: pd.DataFrame) -> None:
    ranker = ByChildren()
    evaluate(rows, {"by-children": ranker})
    assert len(ranker.shown) == rows["decision_id"].nunique()
    assert all(len(batch) == 12 for batch in ranker.shown)


def test_whoever_is_bad_comes_after_all_others(rows: pd.DataFrame) -> None:
    rankers: dict[str, Ranker] = {
        "plain": ByChildren(),
        "averse": ByChildren(best_is_bad=True),
    }
    evaluation = evaluate(rows, rankers)
    assert mean(evaluation, "averse") > mean(evaluation, "plain")


def test_random_misses_what_a_blind_choice_misses(rows: pd.DataFrame) -> None:
    """The expectation of regret@1 over all choices, exactly."""
    goodput = delivered(rows)[rows["observed"].to_numpy(dtype=bool)].reshape(-1, 4)
    expected = (1 - goodput / goodput.max(axis=1, keepdims=True)).mean()
    cell = evaluate(rows, rules()).figure("random", part="all")
    assert cell is not None
    assert cell.value.low <= expected <= cell.value.high


def test_order_of_rows_and_seed_decide_nothing_but_lots(rows: pd.DataFrame) -> None:
    first = evaluate(rows, rules(), seed=1)
    again = evaluate(rows.sample(frac=1.0, random_state=3), rules(), seed=1)
    assert first.figures == again.figures
    other = evaluate(rows, rules(), seed=2)
    assert mean(first, "rule", "hit@1") == mean(other, "rule", "hit@1")
    assert mean(first, "random") != mean(other, "random")


def test_slices_hold_what_they_say(rows: pd.DataFrame) -> None:
    thin = rows["observed"] & (rows["row"] % 2 == 0)
    evaluation = evaluate(rows.assign(is_thin=thin), rules())
    groups = {cell.slice: cell.groups for cell in evaluation.figures}
    cold = rows.loc[rows["observed"] & (rows["served_piece_count"] < 4), "decision_id"].nunique()
    assert groups["cold"] == cold
    per_decision = rows.loc[rows["observed"] & ~thin].groupby("decision_id").size()
    assert groups["thick"] == int((per_decision >= 2).sum())
    assert groups["all"] == rows["decision_id"].nunique()


def test_all_rankers_are_judged_on_the_same_held_out_decisions(crossed: Evaluation) -> None:
    assert crossed.parts == (BY_TIME, BY_HOSTS)
    for part in crossed.parts:
        cells = [cell for cell in crossed.figures if cell.part == part and cell.slice == "all"]
        assert {cell.ranker for cell in cells} == {*rules(), "linear", "learned"}
        assert len({cell.groups for cell in cells}) == 1
        assert {cell.metric for cell in cells} == set(METRICS)


def test_differences_are_those_of_the_figures(crossed: Evaluation) -> None:
    for part in crossed.parts:
        difference = crossed.difference("rule", part=part)
        assert difference is not None
        change = mean(crossed, "learned", part=part) - mean(crossed, "rule", part=part)
        assert difference.value.mean == pytest.approx(change)
        assert difference.value.low <= difference.value.mean <= difference.value.high
        assert difference.is_better == (change < 0)


def test_learned_beats_lots_on_what_it_has_not_seen(crossed: Evaluation) -> None:
    for part in crossed.parts:
        difference = crossed.difference("random", part=part)
        assert difference is not None
        assert difference.value.high < 0


def test_goodput_head_is_calibrated_where_it_has_not_learned(crossed: Evaluation) -> None:
    curves = {curve.part: curve for curve in crossed.calibrations}
    assert set(curves) == {BY_TIME, BY_HOSTS}
    for curve in curves.values():
        assert abs(curve.bias) < 0.3
        assert curve.predicted == tuple(sorted(curve.predicted))
        assert np.corrcoef(curve.predicted, curve.measured)[0, 1] > 0.8


def test_shuffled_labels_teach_nothing(rows: pd.DataFrame) -> None:
    """The canary for leaks: with labels of other parents nothing but lots can come out."""
    observed = rows["observed"] & ~rows["is_failed"]
    mixed = rows.copy()
    mixed.loc[observed, "label_log_goodput"] = np.random.default_rng(1).permutation(
        rows.loc[observed, "label_log_goodput"].to_numpy()
    )
    evaluation = cross_evaluate(mixed)
    for part in evaluation.parts:
        difference = evaluation.difference("random", part=part)
        assert difference is not None
        assert difference.value.low < 0 < difference.value.high


def test_what_is_too_small_is_left_out_with_a_note() -> None:
    small = world_rows(World(decisions=22, decision_gap_s=0.01))
    evaluation = cross_evaluate(small)
    assert not evaluation.figures
    assert any("by time: not judged" in note for note in evaluation.notes)
    assert any("not judged" in note and "hosts" in note for note in evaluation.notes)


def test_nothing_to_judge_is_an_error(rows: pd.DataFrame) -> None:
    with pytest.raises(CallerError, match="no decision can be judged"):
        evaluate(rows.assign(observed=False), rules())


def test_more_decisions_than_are_judged_are_drawn_by_the_seed(rows: pd.DataFrame) -> None:
    evaluation = evaluate(rows, rules(), decisions_max=50)
    cell = evaluation.figure("rule", part="all")
    assert cell is not None
    assert cell.groups == 50
