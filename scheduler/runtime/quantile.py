"""Quantiles of what was measured lately, in bounded memory, for metrics of kind "summary".

`prometheus_client` has a Summary without quantiles, and Dragonfly's dashboards ask for p50 to p99
of two durations. So values are counted in buckets whose bounds grow by the same factor (a sketch
after DDSketch, Masson et al., VLDB 2019): any quantile is right to `RELATIVE_ERROR`, whatever the
values. Old ones are forgotten slot by slot, as Dragonfly's own summaries do it. The clock is the
caller's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from math import ceil, exp, log, nan
from typing import Final

RELATIVE_ERROR: Final = 0.01
"""Of a value. The buckets between `LEAST` and `MOST` are then 1,842; a slot that saw them all takes
0.2 MB, one that saw a hundred different ones 10 KB."""
LEAST: Final = 1e-6
MOST: Final = 1e10
"""Values beyond count as these: in milliseconds, a nanosecond and four months."""
SLOTS: Final = 5
SLOT_S: Final = 120.0
"""Together the last 10 minutes, as in Prometheus' Go library."""

_FACTOR: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_FACTOR: Final = log(_FACTOR)


class Quantiles:
    """Takes values with `add`; `quantiles` are of the latest ones, `count` and `total` of all."""

    __slots__ = ("_slots", "count", "total")

    def __init__(self) -> None:
        self._slots: deque[tuple[int, Counter[int]]] = deque(maxlen=SLOTS)
        self.count = 0
        self.total = 0.0

    def add(self, now: float, value: float) -> None:
        """Count `value`, measured at `now` (seconds of a clock that never goes back)."""
        slot = int(now // SLOT_S)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Counter()))
        self._slots[-1][1][_bucket(value)] += 1
        self.count += 1
        self.total += value

    def quantiles(self, now: float, wanted: tuple[float, ...]) -> Iterator[tuple[float, float]]:
        """Each of the ascending `wanted` with its value; NaN while nothing was measured lately."""
        oldest = int(now // SLOT_S) - SLOTS
        counts: Counter[int] = Counter()
        for slot, counted in self._slots:
            if slot > oldest:
                counts.update(counted)
        ranks = [(one, one * (counts.total() - 1)) for one in wanted]
        seen = 0
        for bucket, count in sorted(counts.items()):
            seen += count
            while ranks and ranks[0][1] < seen:
                yield ranks.pop(0)[0], _middle(bucket)
        for one, _ in ranks:
            yield one, nan


def _bucket(value: float) -> int:
    return ceil(log(min(max(value, LEAST), MOST)) / _LOG_FACTOR)


def _middle(bucket: int) -> float:
    """What is at most `RELATIVE_ERROR` off each value of the bucket."""
    return 2 * exp(bucket * _LOG_FACTOR) / (_FACTOR + 1)
