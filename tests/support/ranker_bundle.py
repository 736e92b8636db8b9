"""Tiny learned rankers for tests: trained in milliseconds, the same files each time.

The world they learn from is simple: a host that served fast and has few children gives more.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import lightgbm
import numpy as np

from models.bundle import Manifest, publish, write_bundle
from models.facts import CandidateBatch, FloatArray
from models.features import FEATURE_NAMES, FEATURES, feature_matrix

GROUP_COUNT = 40
GROUP_SIZE = 8
MIB = 1024.0 * 1024.0
_PARAMS: dict[str, Any] = {
    "num_leaves": 7,
    "min_data_in_leaf": 5,
    "learning_rate": 0.2,
    "monotone_constraints": [feature.spec.monotone for feature in FEATURES],
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 1,
    "verbosity": -1,
}


def candidates(seed: int, count: int = GROUP_SIZE) -> CandidateBatch:
    """One decision's candidates: hosts of which much is known, strangers, all kinds of load."""
    rng = np.random.default_rng(seed)
    known = rng.random(count) < 0.8
    pieces = np.where(known, rng.integers(1, 100, count), 0)
    rate = np.where(known, np.exp(rng.normal(np.log(50 * MIB), 0.8, count)), np.nan)
    return CandidateBatch.of_columns(
        {
            "max_tx_bits_per_s": np.where(rng.random(count) < 0.9, 1e9, 0.0),
            "report_age_s": rng.uniform(0, 300, count),
            "child_count": rng.integers(0, 6, count).astype(float),
            "served_rate_bytes_per_s": rate,
            "served_recent_rate_bytes_per_s": rate * np.exp(rng.normal(0, 0.1, count)),
            "served_piece_count": pieces.astype(float),
            "served_age_s": np.where(known, rng.uniform(0, 60, count), np.nan),
            "swarm_rate_bytes_per_s": np.full(count, 50 * MIB),
            "finished_piece_count": rng.integers(0, 33, count).astype(float),
            "total_piece_count": np.full(count, 32.0),
            "piece_length": np.full(count, 4 * MIB),
            "same_idc": (rng.random(count) < 0.5).astype(float),
        }
    )


def log_goodput(batch: CandidateBatch, noise: FloatArray) -> FloatArray:
    """What a child would get, as a logarithm over the swarm's rate."""
    rate = np.nan_to_num(np.log(batch["served_rate_bytes_per_s"] / (50 * MIB)))
    goodput: FloatArray = rate - np.log1p(batch["child_count"]) + noise
    return goodput


def grow(params: dict[str, Any], rows: lightgbm.Dataset, trees: int) -> lightgbm.Booster:
    """Train a model of `trees` trees."""
    # Its types say too little of its callbacks.
    train = cast("Any", lightgbm.train)  # pyright: ignore[reportUnknownMemberType]
    booster: lightgbm.Booster = train(params, rows, trees)
    return booster


@cache
def boosters(trees: int = 10) -> tuple[lightgbm.Booster, lightgbm.Booster]:
    """Rank head and goodput head."""
    rng = np.random.default_rng(7)
    batches = [candidates(seed) for seed in range(GROUP_COUNT)]
    features = np.concatenate([feature_matrix(batch) for batch in batches])
    labels = [log_goodput(batch, rng.normal(0, 0.1, GROUP_SIZE)) for batch in batches]
    grades = np.concatenate([np.argsort(np.argsort(label)) for label in labels])
    rows: dict[str, Any] = {"feature_name": list(FEATURE_NAMES), "free_raw_data": False}
    ranks = lightgbm.Dataset(features, grades, group=[GROUP_SIZE] * GROUP_COUNT, **rows)
    rates = lightgbm.Dataset(features, np.concatenate(labels), **rows)
    return (
        grow({**_PARAMS, "objective": "lambdarank"}, ranks, trees),
        grow({**_PARAMS, "objective": "regression"}, rates, trees),
    )


def tiny_bundle(
    directory: Path, version: str = "1", *, trees: int = 10, **changes: Any
) -> Manifest:
    """Write a bundle that `models.bundle.load_bundle` takes. `changes`: as `write_bundle`'s."""
    rank, goodput = boosters(trees)
    fields: dict[str, Any] = {
        "name": "parent-ranker",
        "version": version,
        "created_at_s": 1_800_000_000.0,
        "model": rank.model_to_string(),
        "goodput": goodput.model_to_string(),
        "golden": [candidates(1000), candidates(1001, 3)],
        "card": {"rows": GROUP_COUNT * GROUP_SIZE, "about": "a toy"},
        **changes,
    }
    return write_bundle(directory, **fields)


def published(place: Path, version: str = "1", **changes: Any) -> Path:
    """Publish a tiny bundle at `place`; returns its folder there."""
    drafts = place.parent / "drafts" / version
    tiny_bundle(drafts, version, **changes)
    return publish(drafts, place)
