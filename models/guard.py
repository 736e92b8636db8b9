"""The learned ranker under guard: whatever is wrong with the model, the decision is made.

For each decision the current model is asked; if it can't answer, or should not be trusted with this
very decision, the rule ranks it and the ranking says why (`fallback`, see `FALLBACKS`).

A failure of the model never fails a decision: asking it is a supervised boundary. The clock and the
model are handed in, nothing is read from disk, and nothing waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.facts import CandidateBatch, FloatArray
from models.features import FEATURE_NAMES, feature_matrix
from models.learned import Scorer
from models.ranker import Ranking
from models.rule import unable
from models.rule_ranker import RuleRanker

Clock = Callable[[], float]
"""Seconds since some moment; never runs backwards."""

Tell = Callable[[str, Exception], None]
"""Hears of a model's version, and of the error that it failed with."""

NO_MODEL = "no_model"

FALLBACKS: Final[Mapping[str, str]] = {
    # There is no model. All but the first are a `BundleError`'s.
    NO_MODEL: "no model is published",
    "missing": "the model that was published is gone",
    "unreadable": "the model's files can't be read",
    "manifest": "the model's manifest is broken or of another format",
    "checksum": "the model's files are not those that were published",
    "schema": "the model was made for other features",
    "no_lightgbm": "lightgbm is not installed",
    "model": "the model's text does not parse",
    "golden": "the model scores other than it promises",
    # There is one.
    "unknown": "next to nothing is known of the candidates' speed",
    "stale": "most candidates' hosts have not announced themselves for long",
    "error": "the model failed",
    "budget": "the model took longer than a decision may, and its answer was thrown away",
    "resting": "the model was too slow several times in a row, and rests",
    "not_finite": "the model gave a score that is no number",
}
"""Every reason for which the rule ranks in the model's place, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """When the model is not trusted with a decision."""

    budget_s: float = 0.005
    """For one decision, features not counted. Two heads of 150 trees score 40 candidates in 0.8 ms
    and 128, the most there are, in 3.7 ms (p99, one thread, 2 busy cores); and all peers of the
    scheduler wait meanwhile."""
    overrun_limit: int = 3
    """So many overruns in a row are no accident of a busy machine..."""
    rest_s: float = 60.0
    """...and the model is not asked for so long: a slow one costs 3 waits a minute at most."""
    stale_age_s: float = 900.0
    """A host that announced itself longer ago is stale: three times the 5 min of stock peers."""
    stale_share: float = 0.5
    """Up to this share of stale candidates the model may rank: age is one of its features."""
    known_share: float = 0.1
    """Of so few candidates at least something about their speed must be known. Below it there is
    nothing to learn from, and the rule says openly what it assumes."""


class ModelHolder:
    """The current model, exchanged by reference: a decision sees one model or the other."""

    def __init__(self, model: Scorer | None = None, reason: str = NO_MODEL) -> None:
        self._model = model
        self._reason = "" if model else reason

    @property
    def model(self) -> Scorer | None:
        """Who ranks; None: nobody."""
        return self._model

    @property
    def reason(self) -> str:
        """Why there is no model; "" if there is one."""
        return self._reason

    def swap(self, model: Scorer | None, reason: str = "") -> None:
        """Put `model` in place, or take the old one away for `reason`."""
        self._model = model
        self._reason = "" if model else reason or NO_MODEL


class GuardedRanker:
    """The `learned` ranker as it serves. Not for several threads: it counts.

    `tell` hears of the first error of each model that is asked; the others are only counted.
    """

    name = "learned"

    def __init__(
        self,
        holder: ModelHolder,
        clock: Clock,
        limits: GuardLimits | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._holder = holder
        self._clock = clock
        self._limits = limits or GuardLimits()
        self._tell = tell
        self._has_told = False
        self._rule = RuleRanker()
        self._asked: Scorer | None = None
        self._overruns = 0
        self._rests_until_s = 0.0
        self.counts: Counter[str] = Counter()
        """Decisions by fallback; "": the model's own."""

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """The model's ranking, or the rule's with the reason."""
        model = self._holder.model
        if model is None:  # and nobody who looks at features
            self.counts[self._holder.reason] += 1
            return self._by_rule(batch, None, self._holder.reason, seed)
        features = feature_matrix(batch)
        scores: FloatArray | None = None
        reason = self._why_not(model, batch, features)
        if not reason:
            scores, reason = self._ask(model, features)
        self.counts[reason] += 1
        if scores is None:
            return self._by_rule(batch, features, reason, seed)
        return Ranking(
            scores=scores,
            bad=unable(batch),
            ranked_by=self.name,
            model_version=model.version,
            features=features,
        )

    def _by_rule(
        self, batch: CandidateBatch, features: FloatArray | None, reason: str, seed: int
    ) -> Ranking:
        ranking = self._rule.rank(batch, seed)
        return Ranking(
            scores=ranking.scores,
            bad=ranking.bad,
            ranked_by=ranking.ranked_by,
            fallback=reason,
            features=features,
            temperature=ranking.temperature,
        )

    def _why_not(self, model: Scorer, batch: CandidateBatch, features: FloatArray) -> str:
        """Why the model is not even asked; "" if it is."""
        if model is not self._asked:  # another one: nothing is held against it
            self._asked, self._overruns, self._rests_until_s = model, 0, float("-inf")
            self._has_told = False
        if known_share(features) < self._limits.known_share:
            return "unknown"
        if stale_share(batch, self._limits.stale_age_s) > self._limits.stale_share:
            return "stale"
        return "resting" if self._clock() < self._rests_until_s else ""

    def _ask(self, model: Scorer, features: FloatArray) -> tuple[FloatArray | None, str]:
        """The model's scores, or None and why they are not used."""
        started_s = self._clock()
        try:
            scores = model.score(features)
        except Exception as error:  # noqa: BLE001  # the supervised boundary: a model must not stop the scheduler
            self._failed(model, error)
            return None, "error"
        now_s = self._clock()
        if now_s - started_s > self._limits.budget_s:
            self._overruns += 1
            if self._overruns >= self._limits.overrun_limit:
                self._overruns = 0
                self._rests_until_s = now_s + self._limits.rest_s
            return None, "budget"
        self._overruns = 0
        if scores.shape != (len(features),) or not np.isfinite(scores).all():
            return None, "not_finite"
        return scores, ""

    def _failed(self, model: Scorer, error: Exception) -> None:
        if self._tell is not None and not self._has_told:
            self._has_told = True
            self._tell(model.version, error)


_OWN_SPEED = [FEATURE_NAMES.index(name) for name in ("uplink_to_group", "own_speed_to_swarm")]
_HISTORY = FEATURE_NAMES.index("served_pieces")


def known_share(features: FloatArray) -> float:
    """Share of the candidates of whose speed anything is known: announced, measured or served."""
    known = ~np.isnan(features[:, _OWN_SPEED]).all(axis=1) | (features[:, _HISTORY] > 0)
    return float(known.mean())


def stale_share(batch: CandidateBatch, age_s: float) -> float:
    """Share of the candidates whose hosts were heard of longer than `age_s` ago."""
    return float((batch["report_age_s"] > age_s).mean())


def stopped_clock() -> float:
    """A clock for worlds of virtual time, where asking a model takes none."""
    return 0.0
