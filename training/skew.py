"""Whether what was logged live can be trusted: skew and liveness of features.

Skew: the features in the rows, as the ranker saw them, against the same ones computed anew from the
facts in the rows, decision by decision, bit for bit. A difference means that training would learn
from something else than serving sees. Liveness: a feature that never changes in live traffic has no
signal; mostly somebody forgot to fill in its facts. This module only compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.facts import CandidateBatch, FloatArray
from models.features import FEATURE_NAMES, feature_matrix
from odonata.wire.message import Value
from training.rows import FACT_NAMES, feature_values

Advance = Callable[[int], None]
"""Told how many more decisions are done."""


class Mismatch(Value, frozen=True, kw_only=True):
    """How often a feature differs, and where first (in the order of the rows)."""

    feature: str
    count: int
    decision_id: str
    peer_id: str
    logged: float
    recomputed: float


class SkewReport(Value, frozen=True, kw_only=True):
    """What the comparison found; `mismatches` in the order of the features, none: no skew."""

    row_count: int
    decision_count: int
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.mismatches


def recompute(rows: pd.DataFrame, advance: Advance | None = None) -> FloatArray:
    """All features anew from the facts, shape (n, len(FEATURES)), aligned with `rows`.

    The rows of a decision must stand together, all of them and in their order (`row`): ranks within
    the group depend on it, and so may the last bit of a vectorised logarithm.
    """
    facts = rows[list(FACT_NAMES)].to_numpy(dtype=np.float64, copy=True)
    features = np.empty((len(rows), len(FEATURE_NAMES)), dtype=np.float64)
    for first, end in _spans(rows):
        features[first:end] = feature_matrix(CandidateBatch(facts[first:end]))
        if advance is not None:
            advance(1)
    return features


def skew(rows: pd.DataFrame, advance: Advance | None = None) -> SkewReport:
    """Compare logged with recomputed features, bit for bit (any NaN equals any other)."""
    logged = feature_values(rows)
    again = recompute(rows, advance)
    differs = ~_same_bits(logged, again)
    found = [
        _mismatch(rows, number, differs[:, number], logged, again)
        for number in range(len(FEATURE_NAMES))
        if bool(differs[:, number].any())
    ]
    return SkewReport(
        row_count=len(rows),
        decision_count=int(rows["decision_id"].nunique()),
        mismatches=tuple(found),
    )


def liveness(rows: pd.DataFrame) -> tuple[str, ...]:
    """The features that have one and the same value (or NaN) in all rows; needs 2 rows or more."""
    if len(rows) < 2:
        return ()
    values = feature_values(rows)
    same = _same_bits(values, np.broadcast_to(values[:1], values.shape))
    return tuple(name for number, name in enumerate(FEATURE_NAMES) if same[:, number].all())


def _spans(rows: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """First row and end of each run of rows with the same decision."""
    ids = rows["decision_id"]
    starts = np.flatnonzero((ids != ids.shift()).to_numpy(dtype=np.bool_))
    edges = [*starts.tolist(), len(rows)]
    yield from pairwise(edges)


def _same_bits(left: FloatArray, right: FloatArray) -> NDArray[np.bool_]:
    bits = np.ascontiguousarray(left).view(np.int64) == np.ascontiguousarray(right).view(np.int64)
    same: NDArray[np.bool_] = bits | (np.isnan(left) & np.isnan(right))
    return same


def _mismatch(
    rows: pd.DataFrame,
    number: int,
    where: NDArray[np.bool_],
    logged: FloatArray,
    again: FloatArray,
) -> Mismatch:
    first = int(np.flatnonzero(where)[0])
    return Mismatch(
        feature=FEATURE_NAMES[number],
        count=int(where.sum()),
        decision_id=str(rows["decision_id"].iloc[first]),
        peer_id=str(rows["peer_id"].iloc[first]),
        logged=float(logged[first, number]),
        recomputed=float(again[first, number]),
    )
