"""The protocol between whoever schedules and whoever ranks: features in, scores out.

A ranker is pure: the same batch gives the same ranking, and it neither waits nor remembers. Which
candidates may be chosen at all, how many are taken and how ties are broken is the scheduler's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models.features import BoolArray, CandidateBatch, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """Scores of a batch, higher is better; `bad` marks candidates better left alone.

    Both have shape (n,). `reason` says who ranked and why, for the record of the decision: the
    ranker's name, or why another one stood in for it.
    """

    scores: FloatArray
    bad: BoolArray
    reason: str


class Ranker(Protocol):
    """Ranks the candidates of one child."""

    @property
    def name(self) -> str:
        """Name and version, as recorded with every decision."""
        ...

    def rank(self, batch: CandidateBatch) -> Ranking:
        """Score every candidate of the batch; `len(batch)` is at least 1."""
        ...
