"""The ranker of a running scheduler, as its settings ask for it, with its model and its stopwatch.

`scheduler.algorithm` names it. "default" and "learned" are the learned ranker under guard, with the
rule behind it, and a watch over the place where models are published; with `model.enable: false`
"default" is the rule alone. What is slow, stale or broken is `models.guard`'s to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from models.facts import CandidateBatch
from models.guard import GuardedRanker, GuardLimits, ModelHolder
from models.named import make_ranker
from models.ranker import Ranker, Ranking
from scheduler.runtime.model_watch import ModelWatch
from scheduler.settings import SchedulerSettings

_log = structlog.get_logger(__name__)


def _model_failed(version: str, error: Exception) -> None:
    _log.error("model_failed", model_version=version, exc_info=error)


class LiveRanker:
    """A ranker that tells `observe` how many seconds each decision took. `start` looks for a model.

    `guard` and `watch` are None unless the learned ranker was asked for; `holder` holds its model.
    """

    def __init__(self, settings: SchedulerSettings, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self.holder = ModelHolder()
        self.guard: GuardedRanker | None = None
        self.watch: ModelWatch | None = None
        self._ranker = self._made(settings)

    def _made(self, settings: SchedulerSettings) -> Ranker:
        algorithm, model = settings.scheduler.algorithm, settings.model
        if algorithm not in ("default", "learned"):
            return make_ranker(algorithm)
        if not model.enable:
            return make_ranker("rule")
        self.watch = ModelWatch(
            model.dir, self.holder, model.check_interval_s, is_expected=algorithm == "learned"
        )
        limits = GuardLimits(budget_s=model.budget_s)
        self.guard = GuardedRanker(self.holder, time.perf_counter, limits, _model_failed)
        return self.guard

    @property
    def name(self) -> str:
        """Of the ranker that is asked: "learned" also while the rule answers for it."""
        return self._ranker.name

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Rank, and say how long it took."""
        started_s = time.perf_counter()
        ranking = self._ranker.rank(batch, seed)
        self._observe(time.perf_counter() - started_s)
        return ranking

    async def start(self) -> None:
        """Load the model that is published, if one is, and watch for others."""
        if self.watch is not None:
            await self.watch.start()

    async def close(self) -> None:
        """Stop watching."""
        if self.watch is not None:
            await self.watch.close()
