"""The rolling window of a peer's piece costs, with mean and deviation at no cost per question.

Costs are kept as whole microseconds, four bytes each, and summed as Python integers, so that
thousands of additions and removals leave no rounding behind. A microsecond is a thousandth of what
the smallest piece takes. Most downloads have tens of pieces, so a cost is added by making the bytes
anew: an array takes 50 bytes more, and of a full window (8 KB) it is less than a microsecond.
"""

from __future__ import annotations

from math import sqrt
from struct import Struct

from scheduler.core.history import LONGEST_COST_S

US_PER_S = 1_000_000
_LONGEST = round(LONGEST_COST_S * US_PER_S)
_COST = Struct("=I")
assert _LONGEST.bit_length() <= 8 * _COST.size
_TOLD = Struct("=3d")
_NOTHING = _TOLD.pack(0.0, 0.0, 0.0)


class CostWindow:
    """The latest `limit` piece costs."""

    __slots__ = ("_costs", "_count", "_latest", "_sum", "_sum_of_squares", "_told", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._costs = b""  # once full, a ring
        self._count = 0
        self._latest = -1
        self._sum = 0
        self._sum_of_squares = 0
        self._told: bytes | None = _NOTHING

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """No cost will come any more: keep only what they amount to."""
        self.latest_and_others()
        self._costs = b""
        self._sum = self._sum_of_squares = 0

    def append(self, cost_s: float) -> None:
        """Add a cost in seconds, at most `LONGEST_COST_S`; the oldest falls out of a full window.

        After `close` the window begins anew: a peer that has ended reports no pieces.
        """
        if len(self._costs) != self._count * _COST.size:
            self._count, self._latest = 0, -1
        self._told = None
        cost = round(min(max(0.0, cost_s), LONGEST_COST_S) * US_PER_S)
        self._latest = (self._latest + 1) % self.limit
        if self._count < self.limit:
            self._costs += _COST.pack(cost)
            self._count += 1
        else:
            oldest, at = self._latest_cost(), self._latest * _COST.size
            self._sum -= oldest
            self._sum_of_squares -= oldest * oldest
            self._costs = self._costs[:at] + _COST.pack(cost) + self._costs[at + _COST.size :]
        self._sum += cost
        self._sum_of_squares += cost * cost

    def latest_and_others(self) -> tuple[float, float, float]:
        """Return the latest cost, and mean and population deviation of the others, in seconds.

        All 0 with fewer than 2 costs. Computed once after each new cost: a candidate is looked at
        more often than it finishes a piece.
        """
        if self._told is None:
            told = self._compute()
            self._told = _TOLD.pack(*told)  # less than half of what a tuple of three floats takes
            return told
        last, mean, deviation = _TOLD.unpack(self._told)
        return last, mean, deviation

    def _compute(self) -> tuple[float, float, float]:
        count = self._count - 1
        if count < 1:
            return 0.0, 0.0, 0.0
        last = self._latest_cost()
        total = self._sum - last
        squares = self._sum_of_squares - last * last
        variance = (squares * count - total * total) / (count * count)
        return last / US_PER_S, total / count / US_PER_S, sqrt(max(0.0, variance)) / US_PER_S

    def _latest_cost(self) -> int:
        cost: int = _COST.unpack_from(self._costs, self._latest * _COST.size)[0]
        return cost
