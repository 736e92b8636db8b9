"""How much was moved, in all and in the last second: counting on a given clock, bytes only."""

from __future__ import annotations

from collections import deque

WINDOW_S = 1.0
"""Parents tell their load about once a second (SyncHost), so that is what "now" means."""

BUCKET_S = 0.1  # the rate lags by at most a tenth of the window, and the deque holds 11 entries


class RateMeter:
    """Counts bytes; `rate_bytes_per_s` is what the last second brought."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._buckets: deque[tuple[int, int]] = deque()  # (number of the tenth, bytes in it)

    def add(self, n_bytes: int, now: float) -> None:
        """`n_bytes` were moved at `now` (seconds of any steady clock, always the same one)."""
        self.total_bytes += n_bytes
        tenth = int(now / BUCKET_S)
        if self._buckets and self._buckets[-1][0] == tenth:
            self._buckets[-1] = (tenth, self._buckets[-1][1] + n_bytes)
        else:
            self._buckets.append((tenth, n_bytes))
            self._expire(now)

    def rate_bytes_per_s(self, now: float) -> float:
        """Bytes per second over the last second."""
        self._expire(now)
        return sum(n_bytes for _, n_bytes in self._buckets) / WINDOW_S

    def _expire(self, now: float) -> None:
        oldest = int((now - WINDOW_S) / BUCKET_S)
        while self._buckets and self._buckets[0][0] <= oldest:
            self._buckets.popleft()
