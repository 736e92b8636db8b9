"""From rows to a ranker: gradient-boosted trees that order parents, and a head that says how fast.

**What is learned.** Two small LightGBM models over the features of `models.features`:

- the *rank head*: lambdarank within each decision, over its labelled parents only. Whatever slows
  the child slows all its parents alike and cancels; taking parents nobody tried for bad ones would
  cost 1.5 to 2 times the regret, and weighting by propensity only adds variance (measured on a
  synthetic swarm). Its unit means nothing.
- the *goodput head*: regression on ln(goodput / swarm's rate), so that it holds on faster networks.
  A parent that failed counts as `FAILED_LOG_RATIO`: a censored cost, never a missing row.

The ranker blends the z-scores of both within a decision, which was the most robust on few decisions
and on many (`models.learned`).

**What holds it.** Monotone constraints from the features' specs: more children never make a parent
better, a faster history never worse, whatever the sample says. `Size` makes the trees fewer and
smaller where the data is small, by the rule written there.

**Deterministic.** The same rows, config and version of LightGBM give the same text, byte for byte:
one thread, fixed seeds, no sampling that depends on the machine, rows in their own order.

Nothing here judges (`evaluate`) or stores (`models.bundle`, `registry`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import pandas as pd

from models.booster import Booster
from models.facts import BoolArray, FloatArray
from models.features import FEATURE_NAMES, FEATURES
from models.learned import blend
from models.manifest import BlendWeights
from odonata.errors import CallerError
from training.label import GRADE_MAX, grades
from training.metric import IntArray
from training.rows import feature_values

FAILED_LOG_RATIO = float(np.log(0.01))
"""Goodput of a failed parent for the head: a hundredth of the swarm's rate. A choice: below every
hidden slow host (a tenth), and not so low that a few failures draw all predictions down."""
RATIO_LIMIT = 7.0
"""Labels of the head are clipped to a thousand times the swarm's rate, as features are."""
THIN_WEIGHT = 0.5
"""For the head a goodput from one small piece counts half. A choice, not tuned."""

TREES_MAX = 150
LEAVES_MAX = 31
"""Beyond 150 x 31 a decision of 40 candidates costs more than 0.2 ms (measured)."""
ROWS_PER_TREE = 10
TREES_MIN = 40
LEAF_ROWS_SHARE = 0.02
LEAF_ROWS = (5, 50)
LEAVES_MIN = 6
ROWS_PER_LEAF = 250
"""Parents of one host resemble each other: trees of little data must stay small, not to learn hosts
by heart. On made-up swarms of 400 decisions 8 leaves had 5 to 8 % less regret on new hosts than 31,
on swarms of 3000 decisions 0 to 3 % more; on simulated ones 6 to 15 were equal within the noise."""
LEARNING_RATE = 0.05

GROUPS_MIN = 20
ROWS_MIN = 60
"""Below, a fit is meaningless; on made-up swarms of 60 decisions it drew level with the rule.
Whether a model may serve, the gate says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How to fit. The defaults are what is published; the seed decides ties between splits."""

    seed: int = 1
    trees_max: int = TREES_MAX
    leaves_max: int = LEAVES_MAX
    truncation: int = 8
    """Places of a ranking that matter to lambdarank: as many parents as our peers get."""
    weights: BlendWeights = field(default_factory=BlendWeights)
    groups_min: int = GROUPS_MIN
    rows_min: int = ROWS_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big the trees may be for `rows` labelled parents."""

    rows: int
    trees: int
    leaves: int
    leaf_rows: int

    @classmethod
    def of(cls, rows: int, config: FitConfig) -> Size:
        """A leaf per 250 rows, a fiftieth of the rows in each, a tree per 10; within bounds."""
        leaf_rows = int(np.clip(rows * LEAF_ROWS_SHARE, *LEAF_ROWS))
        leaves = int(np.clip(rows // ROWS_PER_LEAF, LEAVES_MIN, LEAVES_MAX))
        trees = int(np.clip(rows // ROWS_PER_TREE, TREES_MIN, TREES_MAX))
        return cls(
            rows=rows,
            trees=min(trees, config.trees_max),
            leaves=min(leaves, config.leaves_max),
            leaf_rows=leaf_rows,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """Both models as LightGBM's native text, how they are blended, and what they rest on."""

    config: FitConfig
    size: Size
    rank_text: str
    goodput_text: str
    decisions: int
    """Groups that the order was learned from."""
    parents: int
    """Labelled parents in them."""
    failed: int
    """Of these, the ones that failed."""
    importance: dict[str, tuple[float, float]]
    """Share of the gain by feature, (rank head, goodput head), each adding up to 1."""

    def model(self) -> FittedModel:
        """The two heads, blended as a scheduler would, for judging before anything is written."""
        return FittedModel(self)


class FittedModel:
    """A `models.learned.Scorer` that was not yet written as a bundle."""

    version = "unwritten"

    def __init__(self, fitted: Fitted) -> None:
        self._weights = fitted.config.weights
        self._rank = Booster(fitted.rank_text.encode(), FEATURE_NAMES)
        self._goodput = Booster(fitted.goodput_text.encode(), FEATURE_NAMES)

    def score(self, features: FloatArray) -> FloatArray:
        """Blend both heads over the candidates of one decision."""
        return blend(self._weights, self._rank.predict(features), self._goodput.predict(features))

    def log_goodput(self, features: FloatArray) -> FloatArray:
        """Return ln of each candidate's expected goodput over the swarm's rate, shape (n,)."""
        return self._goodput.predict(features)


def fit(rows: pd.DataFrame, config: FitConfig | None = None) -> Fitted:
    """Fit both models on rows as `training.rows` describes them.

    CallerError if there is too little to learn from: it says how much there is and is needed.
    """
    config = config or FitConfig()
    used = learnable(rows)
    _check_enough(rows, used, config)
    rows = rows.loc[used].sort_values(["at_s", "decision_id", "row"], kind="stable")
    size = Size.of(len(rows), config)
    features = feature_values(rows)
    rank = _fit_rank(rows, features, size, config)
    goodput = _fit_goodput(rows, features, size, config)
    return Fitted(
        config=config,
        size=size,
        rank_text=rank.model_to_string(num_iteration=-1),
        goodput_text=goodput.model_to_string(num_iteration=-1),
        decisions=int(rows["decision_id"].nunique()),
        parents=len(rows),
        failed=int(rows["is_failed"].sum()),
        importance=_importance(rank, goodput),
    )


def learnable(rows: pd.DataFrame) -> BoolArray:
    """Labelled parents of decisions with at least two of them: mask over the rows."""
    labelled = rows["observed"].astype(bool)
    count = labelled.groupby(rows["decision_id"]).transform("sum")
    return (labelled & (count >= 2)).to_numpy(dtype=bool)


def log_goodput_ratio(rows: pd.DataFrame) -> FloatArray:
    """What the goodput head learns: ln(goodput / swarm's rate); NaN where there is no outcome.

    Failed parents stand at `FAILED_LOG_RATIO`. Before any host has served, a scheduler does not
    know the swarm's rate: those rows are taken relative to the mean of their task, moved to where
    the others lie, so that the first downloads of a new swarm teach, too.
    """
    label = rows["label_log_goodput"].to_numpy(dtype=np.float64)
    in_task = rows.groupby("task_id", sort=False)["label_log_goodput"].transform("mean")
    swarm = rows["swarm_rate_bytes_per_s"].to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = label - np.log(swarm)
    known: BoolArray = np.isfinite(ratio)
    middle = float(ratio[known].mean()) if known.any() else 0.0
    ratio = np.where(known, ratio, label - in_task.to_numpy(dtype=np.float64) + middle)
    ratio = np.clip(ratio, -RATIO_LIMIT, RATIO_LIMIT)
    return np.where(rows["is_failed"].to_numpy(dtype=bool), FAILED_LOG_RATIO, ratio)


def _check_enough(rows: pd.DataFrame, used: BoolArray, config: FitConfig) -> None:
    groups = int(rows.loc[used, "decision_id"].nunique())
    parents = int(used.sum())
    if groups < config.groups_min or parents < config.rows_min:
        raise CallerError(
            f"too little to learn from: {groups} decisions with at least two labelled parents, "
            f"{parents} such parents; {config.groups_min} and {config.rows_min} are needed (of "
            f"{int(rows['decision_id'].nunique())} decisions and {len(rows)} candidates in all). "
            "Record more downloads"
        )


def _fit_rank(
    rows: pd.DataFrame, features: FloatArray, size: Size, config: FitConfig
) -> lightgbm.Booster:
    params = _params(size, config) | {
        "objective": "lambdarank",
        "lambdarank_truncation_level": config.truncation,
        "label_gain": [float(2**grade - 1) for grade in range(GRADE_MAX + 1)],
    }
    sizes = np.asarray(rows.groupby("decision_id", sort=False).size(), dtype=np.int64)
    data = _dataset(features, np.asarray(grades(rows), dtype=np.float64), group=sizes)
    return _train(params, data, size)


def _fit_goodput(
    rows: pd.DataFrame, features: FloatArray, size: Size, config: FitConfig
) -> lightgbm.Booster:
    label = log_goodput_ratio(rows)
    weight = np.where(rows["is_thin"].to_numpy(dtype=bool), THIN_WEIGHT, 1.0)
    params = _params(size, config) | {"objective": "regression"}
    data = _dataset(features, label, weight=weight)
    return _train(params, data, size)


def _dataset(
    features: FloatArray,
    label: FloatArray,
    *,
    group: IntArray | None = None,
    weight: FloatArray | None = None,
) -> lightgbm.Dataset:
    names = list(FEATURE_NAMES)
    return lightgbm.Dataset(
        features, label=label, group=group, weight=weight, feature_name=names, free_raw_data=True
    )


def _train(params: dict[str, Any], data: lightgbm.Dataset, size: Size) -> lightgbm.Booster:
    library: Any = lightgbm  # the types of train's callbacks, which are not used, are partial
    booster: lightgbm.Booster = library.train(params, data, num_boost_round=size.trees)
    return booster


def _params(size: Size, config: FitConfig) -> dict[str, Any]:
    return {
        "num_leaves": size.leaves,
        "min_data_in_leaf": size.leaf_rows,
        "learning_rate": LEARNING_RATE,
        "monotone_constraints": [feature.spec.monotone for feature in FEATURES],
        "monotone_constraints_method": "intermediate",
        "lambda_l2": 1.0,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _importance(
    rank: lightgbm.Booster, goodput: lightgbm.Booster
) -> dict[str, tuple[float, float]]:
    shares = [_gain_share(rank), _gain_share(goodput)]
    return {
        name: (float(shares[0][number]), float(shares[1][number]))
        for number, name in enumerate(FEATURE_NAMES)
    }


def _gain_share(booster: lightgbm.Booster) -> FloatArray:
    gain = np.asarray(booster.feature_importance(importance_type="gain"), dtype=np.float64)
    return gain / max(float(gain.sum()), np.finfo(np.float64).tiny)
