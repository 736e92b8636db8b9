"""The linear baseline: what a straight line makes of the same features. For evaluation only.

Ridge regression (scikit-learn) on what the goodput head learns, unknowns imputed by the median and
features standardised. Trees that do not beat it have learned nothing that a line could not say.
It is never served.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from models.facts import CandidateBatch, FloatArray
from models.features import feature_matrix
from models.ranker import Ranking
from models.rule import unable
from odonata.errors import CallerError
from training.fit import learnable, log_goodput_ratio
from training.rows import feature_values

ALPHA = 1.0
"""Ridge's usual strength on standardised features; it only has to tame collinear ones."""
ROWS_MIN = 20


@dataclass(frozen=True, slots=True, eq=False)
class LinearRanker:
    """The `linear` ranker: score = features, unknowns filled, times a weight each."""

    fill: FloatArray
    mean: FloatArray
    scale: FloatArray
    weight: FloatArray
    name: str = "linear"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score by the line; bad is only who can't serve."""
        del seed  # it draws no lots
        features = feature_matrix(batch)
        filled = np.where(np.isnan(features), self.fill, features)
        scores = ((filled - self.mean) / self.scale) @ self.weight
        return Ranking(scores=scores, bad=unable(batch), ranked_by=self.name, features=features)


def fit_linear(rows: pd.DataFrame) -> LinearRanker:
    """Fit on the labelled parents. CallerError if there are fewer than `ROWS_MIN` of them."""
    rows = rows.loc[learnable(rows)]
    label = log_goodput_ratio(rows)
    known = ~np.isnan(label)
    if known.sum() < ROWS_MIN:
        raise CallerError(
            f"too little for a line: {int(known.sum())} labelled parents, {ROWS_MIN} are needed"
        )
    # scikit-learn ships no types: its three steps are used through Any, and only here.
    impute: Any = import_module("sklearn.impute")
    preprocess: Any = import_module("sklearn.preprocessing")
    linear: Any = import_module("sklearn.linear_model")
    imputer = impute.SimpleImputer(strategy="median", keep_empty_features=True)
    scaler = preprocess.StandardScaler()
    ridge = linear.Ridge(alpha=ALPHA)
    features = scaler.fit_transform(imputer.fit_transform(feature_values(rows)[known]))
    ridge.fit(features, label[known])
    return LinearRanker(
        fill=np.asarray(imputer.statistics_, dtype=np.float64),
        mean=np.asarray(scaler.mean_, dtype=np.float64),
        scale=np.asarray(scaler.scale_, dtype=np.float64),
        weight=np.asarray(ridge.coef_, dtype=np.float64),
    )
