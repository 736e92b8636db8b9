"""A budget of events that cost a client nothing: a token bucket that ends the connection.

Not a limit of calls: that is `odonata.call_limit`, which refuses one and lets the client stay.
"""

from __future__ import annotations

from odonata.grpc_h2.frame import Code, ConnectionFault


class Budget:
    """`burst` events at once, and `per_s` more each second."""

    __slots__ = ("_burst", "_left", "_per_s", "_since_s", "_what")

    def __init__(self, what: str, burst: int, per_s: float) -> None:
        self._what = what
        self._burst = float(burst)
        self._per_s = per_s
        self._left = float(burst)
        self._since_s: float | None = None

    def spend(self, now: float) -> None:
        """Count one event at `now` (seconds). Raises ConnectionFault once there were too many."""
        since_s = now if self._since_s is None else self._since_s
        self._left = min(self._burst, self._left + max(0.0, now - since_s) * self._per_s) - 1.0
        self._since_s = now
        if self._left < 0:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many {self._what}")
