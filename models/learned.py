"""The `learned` ranker: two LightGBM heads, blended.

    score = w_rank * z(rank head) + w_goodput * z(goodput head)

`z` is the z-score within the group, that is among the candidates of one decision, so that heads on
different scales can be added up. The rank head (lambdarank) knows only who is better than whom in a
group; the goodput head estimates ln(goodput / the swarm's rate). A head that sees no difference
says nothing: all its z-scores are 0.

Nothing here falls back or is timed: that is `models.guard`. Loading is `models.bundle`'s.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from models.booster import Booster
from models.facts import CandidateBatch, FloatArray
from models.features import feature_matrix
from models.manifest import BlendWeights, Manifest
from models.ranker import Ranking
from models.rule import unable

SPREAD_MIN = 1e-9
"""Heads that differ less than this over a group are rounding: a z-score would blow it up to 1."""


class Scorer(Protocol):
    """Scores the candidates of one decision from their features."""

    @property
    def version(self) -> str:
        """Which model it is, for records."""
        ...

    def score(self, features: FloatArray) -> FloatArray:
        """(n, len(FEATURES)) -> (n,), higher is better."""
        ...


class LearnedModel:
    """A model that was loaded and checked. Immutable."""

    def __init__(self, manifest: Manifest, rank: Booster, goodput: Booster) -> None:
        self.manifest = manifest
        self._rank = rank
        self._goodput = goodput

    @property
    def version(self) -> str:
        """The version of its bundle."""
        return self.manifest.version

    def score(self, features: FloatArray) -> FloatArray:
        """Blend the heads over the candidates of one decision."""
        weights = self.manifest.weights
        return blend(weights, self._rank.predict(features), self._goodput.predict(features))

    def log_goodput(self, features: FloatArray) -> FloatArray:
        """Logarithm of each candidate's expected goodput over the swarm's rate, shape (n,)."""
        return self._goodput.predict(features)


class LearnedRanker:
    """The `learned` ranker, without a guard: for offline judgement."""

    name = "learned"

    def __init__(self, model: Scorer) -> None:
        self._model = model

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score by the model; bad is only who can't serve."""
        del seed  # it draws no lots
        features = feature_matrix(batch)
        return Ranking(
            scores=self._model.score(features),
            bad=unable(batch),
            ranked_by=self.name,
            model_version=self._model.version,
            features=features,
        )


def blend(weights: BlendWeights, rank: FloatArray, goodput: FloatArray) -> FloatArray:
    """Weighted sum of both heads' z-scores within the group."""
    return weights.rank * z_score(rank) + weights.goodput * z_score(goodput)


def z_score(values: FloatArray) -> FloatArray:
    """(value - mean) / standard deviation; zeros for one value or none that differs."""
    if np.ptp(values) < SPREAD_MIN:
        return np.zeros(len(values))
    z: FloatArray = (values - values.mean()) / values.std()
    return z
