"""The rolling window of a peer's piece costs, with mean and deviation at no cost per question.

Costs are kept as whole nanoseconds and summed as Python integers, so that thousands of additions
and removals leave no rounding behind.
"""

from __future__ import annotations

from array import array
from math import sqrt

NS_PER_S = 1_000_000_000
_MAX_NS = 2**63 - 1


class CostWindow:
    """The latest `limit` piece costs."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._costs = array("q")  # 8 bytes a cost; once full, a ring
        self._latest = -1
        self._sum = 0
        self._sum_of_squares = 0
        self._told: tuple[float, float, float] | None = (0.0, 0.0, 0.0)

    def __len__(self) -> int:
        return len(self._costs)

    def append(self, cost_s: float) -> None:
        """Add a cost in seconds; the oldest one falls out of a full window."""
        self._told = None
        cost = round(cost_s * NS_PER_S)
        if not 0 <= cost <= _MAX_NS:
            cost = min(max(0, cost), _MAX_NS)
        self._latest = (self._latest + 1) % self.limit
        if len(self._costs) < self.limit:
            self._costs.append(cost)
        else:
            oldest = self._costs[self._latest]
            self._sum -= oldest
            self._sum_of_squares -= oldest * oldest
            self._costs[self._latest] = cost
        self._sum += cost
        self._sum_of_squares += cost * cost

    def latest_and_others(self) -> tuple[float, float, float]:
        """Return the latest cost, and mean and population deviation of the others, in seconds.

        All 0 with fewer than 2 costs. Computed once after each new cost: a candidate is looked at
        more often than it finishes a piece.
        """
        if self._told is None:
            self._told = self._compute()
        return self._told

    def _compute(self) -> tuple[float, float, float]:
        count = len(self._costs) - 1
        if count < 1:
            return 0.0, 0.0, 0.0
        last = self._costs[self._latest]
        total = self._sum - last
        squares = self._sum_of_squares - last * last
        variance = (squares * count - total * total) / (count * count)
        return last / NS_PER_S, total / count / NS_PER_S, sqrt(max(0.0, variance)) / NS_PER_S
