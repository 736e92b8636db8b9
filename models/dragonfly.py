"""Dragonfly's default evaluator, formula for formula (2.5): the baseline of all others.

    total = 0.6 Load + 0.2 IDC + 0.1 Location + 0.1 HostType
    Load  = 0.5 Peak + 0.3 Duration + 0.2 Concurrency

All parts lie in 0..1. A host that does not say its bandwidth has no load score at all, and a seed
counts for its type only while it downloads from others; both are Dragonfly's habits and kept, since
this ranker is what others are compared with.
"""

from __future__ import annotations

import numpy as np

from models.facts import BoolArray, CandidateBatch, FloatArray
from models.ranker import Ranking

LOAD_WEIGHT = 0.6
IDC_WEIGHT = 0.2
LOCATION_WEIGHT = 0.1
HOST_TYPE_WEIGHT = 0.1

PEAK_WEIGHT = 0.5
DURATION_WEIGHT = 0.3
CONCURRENCY_WEIGHT = 0.2

DURATION_HORIZON_S = 60.0
"""Booked content that takes a minute of the whole uplink scores 0."""
CONCURRENT_PIECE_BYTES = 16 * 1024 * 1024
"""An uplink is thought to want one piece in flight per 16 MiB/s."""
BITS_PER_BYTE = 8

BAD_COST_RATIO = 20.0
"""Latest cost over the mean of the others, while the window is not full."""
BAD_COST_SIGMAS = 3.0
"""Standard deviations above the mean of the others, once the window is full."""


class DragonflyRanker:
    """The `dragonfly` ranker."""

    name = "dragonfly"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score by the formula above and mark the bad parents."""
        del seed  # it draws no lots
        return Ranking(scores=total_score(batch), bad=bad_parents(batch), ranked_by=self.name)


def total_score(batch: CandidateBatch) -> FloatArray:
    """Weighted sum of all parts, shape (n,), 0..1."""
    return (
        LOAD_WEIGHT * load_score(batch)
        + IDC_WEIGHT * batch["same_idc"]
        + LOCATION_WEIGHT * batch["location_affinity"]
        + HOST_TYPE_WEIGHT * host_type_score(batch)
    )


def load_score(batch: CandidateBatch) -> FloatArray:
    """0 (busy, or bandwidth unknown) to 1 (idle)."""
    load = (
        PEAK_WEIGHT * peak_score(batch)
        + DURATION_WEIGHT * duration_score(batch)
        + CONCURRENCY_WEIGHT * concurrency_score(batch)
    )
    return np.where(batch["max_tx_bits_per_s"] > 0, load, 0.0)


def peak_score(batch: CandidateBatch) -> FloatArray:
    """Share of the uplink that is not booked."""
    most = _known_bandwidth(batch)
    return np.maximum(0.0, 1.0 - batch["booked_tx_bits_per_s"] / most)


def duration_score(batch: CandidateBatch) -> FloatArray:
    """1 minus the minutes that the booked content takes at the whole uplink."""
    drain_s = batch["upload_content_length"] * BITS_PER_BYTE / _known_bandwidth(batch)
    return np.maximum(0.0, 1.0 - drain_s / DURATION_HORIZON_S)


def concurrency_score(batch: CandidateBatch) -> FloatArray:
    """1 while fewer pieces are in flight than the uplink wants, then falling as 1/x."""
    wanted = _known_bandwidth(batch) / CONCURRENT_PIECE_BYTES / BITS_PER_BYTE
    ratio = batch["upload_piece_count"] / wanted
    score = 1.0 / np.maximum(1.0, ratio)
    return np.where(wanted > 1.0, score, 0.0)


def host_type_score(batch: CandidateBatch) -> FloatArray:
    """A seed in its first download 1, any other seed 0, a normal host 0.5."""
    of_seed = np.where(batch.is_true("is_first_download"), 1.0, 0.0)
    return np.where(batch.is_true("is_seed"), of_seed, 0.5)


def bad_parents(batch: CandidateBatch) -> BoolArray:
    """Whether each candidate is in no state to serve, or its latest piece cost far too much.

    Fewer than 2 costs: good. Window not full: bad if the latest is above 20 times the mean of the
    others. Window full: bad if it is above their mean plus 3 standard deviations.
    """
    full = batch["cost_count"] >= batch["cost_window"]
    by_ratio = batch["cost_last_s"] > BAD_COST_RATIO * batch["cost_mean_s"]
    by_sigma = batch["cost_last_s"] > batch["cost_mean_s"] + BAD_COST_SIGMAS * batch["cost_std_s"]
    slow = (batch["cost_count"] >= 2) & np.where(full, by_sigma, by_ratio)
    return ~batch.is_true("can_serve") | slow


def _known_bandwidth(batch: CandidateBatch) -> FloatArray:
    """The uplink in bits/s, 1 where unknown: `load_score` drops those rows."""
    return np.maximum(1.0, batch["max_tx_bits_per_s"])
