"""A token bucket of bytes: how long must the next `n` bytes wait? Pure arithmetic on a given clock.

It decides how long; who sleeps, and on which clock, is the driver's business. It does not know what
the bytes are, and it keeps no queue: each reservation is booked against the bucket at once, so a
later one waits behind all earlier ones (first come, first served, no starvation).
"""

from __future__ import annotations

from odonata.errors import CallerError

BURST_S = 0.25
"""A bucket that nobody drew from may pass a quarter of a second at once.

Long enough that a timer's lateness (milliseconds) costs no rate, short enough that a switch with
a few MiB of buffer per port does not overflow. Dragonfly's buckets hold a whole second, which shows
as a burst at every start.
"""


class TokenBucket:
    """`rate_bytes_per_s` on average, at most `burst_bytes` at once; rate None: unlimited.

    `burst_bytes` None: what the rate gives in BURST_S. A reservation larger than the burst is
    granted, only later: the bucket goes into debt, and the debt is the delay.
    """

    def __init__(
        self, rate_bytes_per_s: float | None, *, burst_bytes: float | None = None, now: float = 0.0
    ) -> None:
        if rate_bytes_per_s is not None:
            _check_rate(rate_bytes_per_s)
        if burst_bytes is not None and burst_bytes < 0:
            raise CallerError(f"burst must not be negative: {burst_bytes} bytes")
        self._rate = rate_bytes_per_s
        default_burst = (rate_bytes_per_s or 0.0) * BURST_S
        self._burst = default_burst if burst_bytes is None else burst_bytes
        self._burst_follows_rate = burst_bytes is None
        self._tokens = self._burst
        self._counted_at = now

    @property
    def rate_bytes_per_s(self) -> float | None:
        return self._rate

    def set_rate(self, rate_bytes_per_s: float, now: float) -> None:
        """From `now` on at this rate, above 0. What is owed stays owed; the burst changes with it.

        A burst that was given when the bucket was made stays as it is.
        """
        _check_rate(rate_bytes_per_s)
        self._refill(now)
        self._rate = rate_bytes_per_s
        if self._burst_follows_rate:
            self._burst = rate_bytes_per_s * BURST_S
            self._tokens = min(self._tokens, self._burst)

    def owed_s(self, now: float) -> float:
        """In how many seconds all that was booked may have passed (0: now)."""
        if self._rate is None:
            return 0.0
        self._refill(now)
        return max(0.0, -self._tokens / self._rate)

    def reserve(self, n_bytes: int, now: float) -> float:
        """Book `n_bytes` at `now`; return for how many seconds they must wait (0: go)."""
        if n_bytes < 0:
            raise CallerError(f"can't reserve {n_bytes} bytes: the count must not be negative")
        if self._rate is None:
            return 0.0
        self._refill(now)
        self._tokens -= n_bytes
        return self.owed_s(now)

    def give_back(self, n_bytes: int, now: float) -> None:
        """`n_bytes` that were booked will not pass after all (the transfer was cancelled)."""
        if self._rate is None:
            return
        self._refill(now)
        self._tokens = min(self._burst, self._tokens + n_bytes)

    def _refill(self, now: float) -> None:
        # A clock that jumps back adds nothing and takes nothing: the next step forward counts anew.
        elapsed_s = max(0.0, now - self._counted_at)
        self._counted_at = now
        if self._rate is not None:
            self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate)


def _check_rate(rate_bytes_per_s: float) -> None:
    if rate_bytes_per_s <= 0:
        raise CallerError(
            f"rate limit must be above 0 bytes/s, not {rate_bytes_per_s}; leave it out for no limit"
        )
