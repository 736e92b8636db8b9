"""How many calls a second a server takes: a token bucket that refuses at once instead of queueing.

Not a limit of bytes, and nothing waits here: a caller over the limit is told so and comes back
later.
"""

from __future__ import annotations

from odonata.errors import CapacityError


class CallLimit:
    """A bucket of `rate_per_s` tokens, refilled at that rate: one second's worth at most."""

    def __init__(self, rate_per_s: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._tokens = rate_per_s
        self._refilled_at_s = now
        self.refused_count = 0
        """Calls that were refused so far."""

    def take(self, now: float) -> None:
        """Count one call at `now` (seconds, any clock that never goes back).

        Raises CapacityError if the last second has used up what this one may.
        """
        waited_s = max(0.0, now - self._refilled_at_s)
        self._tokens = min(self._rate_per_s, self._tokens + waited_s * self._rate_per_s)
        self._refilled_at_s = now
        if self._tokens < 1:
            self.refused_count += 1
            raise CapacityError(
                f"more than {self._rate_per_s:g} calls a second: try again in a second, or raise "
                "server.requestRateLimit"
            )
        self._tokens -= 1
