"""The guarded ranker: each reason for which the rule ranks, and that it always ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from support.ranker_bundle import candidates

from models.facts import FACT_NAMES, CandidateBatch, FloatArray
from models.features import feature_matrix
from models.guard import (
    FALLBACKS,
    NO_MODEL,
    GuardedRanker,
    GuardLimits,
    ModelHolder,
    known_share,
    stale_share,
    stopped_clock,
)
from models.manifest import BundleReason
from models.rule import rule_score

BATCH = candidates(1)
LIMITS = GuardLimits()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def falling_scores(features: FloatArray) -> FloatArray:
    return -np.arange(len(features), dtype=np.float64)


class Model:
    """Takes `took_s` of the clock for its answer, which is `answer(features)`."""

    def __init__(
        self,
        clock: Clock,
        took_s: float = 0.0,
        answer: Callable[[FloatArray], FloatArray] = falling_scores,
        version: str = "1",
    ) -> None:
        self.clock = clock
        self.took_s = took_s
        self.answer = answer
        self.version = version
        self.asked = 0

    def score(self, features: FloatArray) -> FloatArray:
        self.asked += 1
        self.clock.now_s += self.took_s
        return self.answer(features)


def guarded(
    took_s: float = 0.0, answer: Callable[[FloatArray], FloatArray] | None = None
) -> tuple[GuardedRanker, Model, ModelHolder]:
    clock = Clock()
    model = Model(clock, took_s) if answer is None else Model(clock, took_s, answer)
    holder = ModelHolder(model)
    return GuardedRanker(holder, clock), model, holder


def changed(**columns: float) -> CandidateBatch:
    facts = BATCH.facts.copy()
    for name, value in columns.items():
        facts[:, FACT_NAMES.index(name)] = value
    return CandidateBatch(facts)


def assert_the_rule_ranked(
    guard: GuardedRanker, batch: CandidateBatch, reason: str, *, has_model: bool = True
) -> None:
    """Features are computed for a model only; without one they would cost more than the rule."""
    before = guard.counts[reason]
    ranking = guard.rank(batch, 1)
    assert (ranking.ranked_by, ranking.fallback, ranking.model_version) == ("rule", reason, "")
    # Which order a processor's own kernel sums in is seen in the last bit.
    np.testing.assert_allclose(ranking.scores, rule_score(batch), rtol=1e-12)
    if has_model:
        assert ranking.features is not None
        assert ranking.features.tobytes() == feature_matrix(batch).tobytes()
    else:
        assert ranking.features is None
    assert guard.counts[reason] == before + 1
    assert reason in FALLBACKS


def test_a_good_model_ranks() -> None:
    guard, model, _ = guarded(took_s=0.004)
    for _ in range(5):
        ranking = guard.rank(BATCH, 1)
        assert ranking.scores.tolist() == [-row for row in range(len(BATCH))]
        assert (ranking.ranked_by, ranking.model_version, ranking.fallback) == ("learned", "1", "")
    assert guard.counts == {"": 5}
    assert model.asked == 5


def test_no_model() -> None:
    guard = GuardedRanker(ModelHolder(), stopped_clock)
    assert_the_rule_ranked(guard, BATCH, NO_MODEL, has_model=False)


@pytest.mark.parametrize("reason", get_args(BundleReason))
def test_a_bundle_that_cannot_be_served(reason: str) -> None:
    guard, _, holder = guarded()
    guard.rank(BATCH, 1)
    holder.swap(None, reason)
    assert_the_rule_ranked(guard, BATCH, reason, has_model=False)


def test_an_exception_of_the_model() -> None:
    def fail(_features: FloatArray) -> FloatArray:
        raise RuntimeError("a wire is loose")

    guard, model, _ = guarded(answer=fail)
    for _ in range(3):
        assert_the_rule_ranked(guard, BATCH, "error")
    assert model.asked == 3


def test_the_first_error_of_each_model_is_told() -> None:
    def fail(_features: FloatArray) -> FloatArray:
        raise RuntimeError("a wire is loose")

    told: list[tuple[str, str]] = []
    clock = Clock()
    models = [Model(clock, answer=fail, version=version) for version in ("1", "2")]
    holder = ModelHolder(models[0])
    guard = GuardedRanker(holder, clock, tell=lambda name, error: told.append((name, str(error))))
    for model in models:
        holder.swap(model)
        for _ in range(3):
            guard.rank(BATCH, 1)
    assert told == [("1", "a wire is loose"), ("2", "a wire is loose")]
    assert guard.counts == {"error": 6}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number(bad: float) -> None:
    def answer(features: FloatArray) -> FloatArray:
        scores = np.zeros(len(features))
        scores[-1] = bad
        return scores

    guard, _, _ = guarded(answer=answer)
    assert_the_rule_ranked(guard, BATCH, "not_finite")


def test_too_few_scores() -> None:
    guard, _, _ = guarded(answer=lambda features: np.zeros(len(features) - 1))
    assert_the_rule_ranked(guard, BATCH, "not_finite")


# --- the time budget ------------------------------------------------------------------------------


def test_the_answer_of_a_slow_model_is_thrown_away() -> None:
    guard, _, _ = guarded(took_s=0.0051)
    assert_the_rule_ranked(guard, BATCH, "budget")


def test_a_model_that_is_slow_again_and_again_rests_and_is_tried_again() -> None:
    guard, model, _ = guarded(took_s=1.0)
    for _ in range(LIMITS.overrun_limit):
        assert_the_rule_ranked(guard, BATCH, "budget")
    for _ in range(10):
        assert_the_rule_ranked(guard, BATCH, "resting")
    assert model.asked == LIMITS.overrun_limit
    model.clock.now_s += LIMITS.rest_s
    model.took_s = 0.0
    assert guard.rank(BATCH, 1).ranked_by == "learned"


def test_a_rest_is_earned_in_a_row() -> None:
    guard, model, _ = guarded()
    for _ in range(10):
        model.took_s = 1.0
        for _ in range(LIMITS.overrun_limit - 1):
            assert_the_rule_ranked(guard, BATCH, "budget")
        model.took_s = 0.0
        assert guard.rank(BATCH, 1).ranked_by == "learned"


def test_nothing_is_held_against_another_model() -> None:
    guard, model, holder = guarded(took_s=1.0)
    for _ in range(LIMITS.overrun_limit):
        guard.rank(BATCH, 1)
    assert guard.rank(BATCH, 1).fallback == "resting"
    holder.swap(Model(model.clock, version="2"))
    assert guard.rank(BATCH, 1).model_version == "2"
    assert guard.counts == {"budget": LIMITS.overrun_limit, "resting": 1, "": 1}


# --- what is known --------------------------------------------------------------------------------


def test_nothing_is_known_of_anybodys_speed() -> None:
    strangers = CandidateBatch.of_columns({"child_count": [0.0, 3.0]})
    guard, model, _ = guarded()
    assert_the_rule_ranked(guard, strangers, "unknown")
    assert model.asked == 0


def test_one_in_ten_that_is_known_is_enough() -> None:
    for known, share in ((0, 0.0), (1, 0.1), (5, 0.5)):
        batch = CandidateBatch.of_columns(
            {
                "served_piece_count": [3.0] * known + [0.0] * (10 - known),
                "served_rate_bytes_per_s": [1e6] * known + [np.nan] * (10 - known),
                "swarm_rate_bytes_per_s": [1e6] * 10,
            }
        )
        assert known_share(feature_matrix(batch)) == share
        guard, _, _ = guarded()
        assert guard.rank(batch, 1).ranked_by == ("learned" if known else "rule")


def test_hosts_that_were_not_heard_of_for_long() -> None:
    guard, model, _ = guarded()
    assert_the_rule_ranked(guard, changed(report_age_s=LIMITS.stale_age_s + 1), "stale")
    assert model.asked == 0
    assert guard.rank(changed(report_age_s=LIMITS.stale_age_s), 1).ranked_by == "learned"


def test_up_to_half_may_be_stale() -> None:
    ages = np.where(np.arange(len(BATCH)) < len(BATCH) // 2, 1e6, 1.0)
    facts = BATCH.facts.copy()
    facts[:, FACT_NAMES.index("report_age_s")] = ages
    assert stale_share(CandidateBatch(facts), LIMITS.stale_age_s) == 0.5
    guard, _, _ = guarded()
    assert guard.rank(CandidateBatch(facts), 1).ranked_by == "learned"


# --- the holder -----------------------------------------------------------------------------------


def test_a_holder_says_why_it_is_empty() -> None:
    holder = ModelHolder()
    assert (holder.model, holder.reason) == (None, NO_MODEL)
    model = Model(Clock())
    holder.swap(model)
    assert (holder.model, holder.reason) == (model, "")
    holder.swap(None, "checksum")
    assert (holder.model, holder.reason) == (None, "checksum")
    holder.swap(None)
    assert holder.reason == NO_MODEL


def test_all_reasons_have_words() -> None:
    assert set(get_args(BundleReason)) < set(FALLBACKS)
    assert all(FALLBACKS.values())
