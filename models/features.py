"""What a ranker sees of a child's candidates: one numpy array per feature, one row per candidate.

Serving and training build these arrays with this one file. It ranks nothing and knows no peer:
the scheduler reads its own state into a `CandidateBatch`, a data set reads recorded decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LOCATION_SEPARATOR = "|"
"""Between the elements of a location, widest first: "area|country|city"."""
LOCATION_DEPTH = 5
"""Elements of a location that count (Dragonfly's default)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidateBatch:
    """Features of n candidates for one child; each array has shape (n,).

    Bandwidths are bits per second, lengths bytes, costs seconds. `booked_tx_bits_per_s`,
    `upload_piece_count` and `upload_content_length` are what this scheduler has handed out on the
    candidate's host and not taken back; `reported_tx_bits_per_s` is what the host said of itself.
    `cost_mean_s` and `cost_std_s` (population) are over the window of the candidate's own piece
    costs without the latest, `cost_last_s`; all three are 0 where `cost_count` is below 2.
    """

    max_tx_bits_per_s: FloatArray
    booked_tx_bits_per_s: FloatArray
    reported_tx_bits_per_s: FloatArray
    upload_content_length: FloatArray
    upload_piece_count: FloatArray
    same_idc: FloatArray
    location_affinity: FloatArray
    is_seed: BoolArray
    is_first_download: BoolArray  # state ReceivedNormal or Running
    can_serve: BoolArray  # state Running, BackToSource or Succeeded
    cost_count: FloatArray
    cost_last_s: FloatArray
    cost_mean_s: FloatArray
    cost_std_s: FloatArray
    cost_window: int

    def __len__(self) -> int:
        """Return n."""
        return len(self.is_seed)


def same_idc(child: str, parent: str) -> float:
    """1 if both name the same data centre (case ignored), else 0; an empty name matches nothing."""
    return 1.0 if child and child.casefold() == parent.casefold() else 0.0


def location_affinity(child: str, parent: str) -> float:
    """Share of `LOCATION_DEPTH` leading elements that agree, 0..1; 1 for equal locations."""
    if not child or not parent:
        return 0.0
    ours, theirs = child.casefold(), parent.casefold()
    if ours == theirs:
        return 1.0
    agreed = 0
    pairs = zip(ours.split(LOCATION_SEPARATOR), theirs.split(LOCATION_SEPARATOR), strict=False)
    for our, their in list(pairs)[:LOCATION_DEPTH]:
        if our != their:
            break
        agreed += 1
    return agreed / LOCATION_DEPTH
