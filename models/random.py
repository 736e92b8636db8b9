"""The `random` ranker: every candidate as good as any other. The floor that others must beat.

Also the least biased logging policy: what it chose says nothing about what it saw.
"""

from __future__ import annotations

import numpy as np

from models.facts import CandidateBatch
from models.ranker import Ranking
from models.rule import unable


class RandomRanker:
    """The `random` ranker."""

    name = "random"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score by lots: uniform in 0..1, the same for the same seed and length of the batch."""
        scores = np.random.default_rng(seed).random(len(batch))
        return Ranking(scores=scores, bad=unable(batch), ranked_by=self.name, by_lot=True)
