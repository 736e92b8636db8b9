"""The ranker of a running scheduler: what goes wrong with its model is seen."""

from __future__ import annotations

from structlog.testing import capture_logs
from support.ranker_bundle import candidates

from models.facts import FloatArray
from scheduler.runtime.ranking import LiveRanker
from scheduler.settings import ModelSettings, SchedulerSettings


class Broken:
    """A model that loads, and can't rank."""

    version = "7"

    def score(self, features: FloatArray) -> FloatArray:
        raise ZeroDivisionError(f"of {len(features)} candidates")


def test_a_model_that_fails_is_logged_once_and_the_rule_ranks() -> None:
    took_s: list[float] = []
    ranker = LiveRanker(SchedulerSettings(model=ModelSettings(enable=True)), took_s.append)
    ranker.holder.swap(Broken())
    with capture_logs() as logs:
        rankings = [ranker.rank(candidates(1), seed) for seed in range(3)]
    assert [ranking.fallback for ranking in rankings] == ["error"] * 3
    assert len(took_s) == 3
    (failed,) = [line for line in logs if line["event"] == "model_failed"]
    assert failed["model_version"] == "7"
    assert isinstance(failed["exc_info"], ZeroDivisionError)
