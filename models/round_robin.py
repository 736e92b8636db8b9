"""The `round_robin` ranker: whoever has waited longest for a child is next.

It looks at nothing but whose turn it is. The scheduler counts the edges it makes and notes with
each peer the latest that leads from it (fact `turns_since_named`), so the ranker itself remembers
nothing. A peer that was never named has waited since the first edge; among such the dice decide.
"""

from __future__ import annotations

import numpy as np

from models.facts import CandidateBatch
from models.ranker import Ranking
from models.rule import unable


class RoundRobinRanker:
    """The `round_robin` ranker."""

    name = "round_robin"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score by the turns since each was named."""
        del seed  # it draws no lots
        turns = np.nan_to_num(batch["turns_since_named"])
        return Ranking(scores=turns, bad=unable(batch), ranked_by=self.name)
