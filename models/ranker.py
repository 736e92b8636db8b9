"""The protocol between whoever schedules and whoever ranks: facts in, scores out.

A ranker is pure: the same batch and seed give the same ranking, and it neither waits nor remembers.
Which candidates may be chosen at all, how many are taken and how ties are broken, the scheduler
decides.
"""

from __future__ import annotations

from typing import Protocol

from models.facts import BoolArray, CandidateBatch, FloatArray
from odonata.wire.message import Value


class Ranking(Value, frozen=True, kw_only=True, eq=False):
    """Scores of a batch, higher is better; `bad` marks candidates better left alone.

    Both have shape (n,); scores are finite. `ranked_by` names who ranked in the end; `fallback`
    says why it was not the one that was asked ("" if it was), `model_version` which model did.
    `features`: what it saw, shape (n, len(FEATURES)), if it looked at features; so that they are
    computed once, and recorded as they were seen. `by_lot`: the scores are lots, each order as
    likely as any other (it matters for the propensities that are recorded). `temperature`: scores
    that differ by less are guesses, and the scheduler may take the lesser one instead, the less
    often the farther it is behind (weights `exp(score / temperature)`); 0: the best are taken.
    """

    scores: FloatArray
    bad: BoolArray
    ranked_by: str
    model_version: str = ""
    fallback: str = ""
    features: FloatArray | None = None
    by_lot: bool = False
    temperature: float = 0.0


class Ranker(Protocol):
    """Ranks the candidates of one child."""

    @property
    def name(self) -> str:
        """What it is called in settings, records and metrics."""
        ...

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score every candidate of the batch; `len(batch)` is at least 1.

        `seed` is all the chance there is: rankers that draw no lots ignore it.
        """
        ...
