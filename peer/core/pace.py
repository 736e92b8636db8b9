"""How fast content comes over one connection, and whether a thread may wait for more of it.

A thread that waits takes the rest of a piece off the kernel for less than the loop, which would be
woken, look, and be woken again; but there are few threads, and they are there to check and write.
So a thread begins when a good part has come, and waits only where it will probably not be long: to
begin at once saved as much, but then pieces that were all there waited for one that was not. Pure
arithmetic on what was measured.
"""

from __future__ import annotations

from typing import Final

QUICK_S: Final = 0.025
"""A piece that comes within so long is waited for: one of 4 MiB, at 160 MB/s. What comes slower
wakes the loop so seldom that there is nothing to be saved."""

PATIENCE_S: Final = 2 * QUICK_S
"""How long a thread waits at most, once for each piece: twice what it should take. A parent that
stalls costs a thread this much and no more, and so long may a cancellation have to wait."""


class Pace:
    """Of one connection. Nothing is known of a new one."""

    __slots__ = ("_bytes_per_s",)

    def __init__(self) -> None:
        self._bytes_per_s = 0.0

    def came(self, n_bytes: int, took_s: float) -> None:
        """The latest content, of `n_bytes`, came within `took_s`, its first byte to its last."""
        self._bytes_per_s = n_bytes / max(took_s, 1e-6)

    def patience_s(self, n_bytes: int) -> float:
        """How long a thread may wait for `n_bytes`; 0.0: not at all."""
        return PATIENCE_S if n_bytes <= self._bytes_per_s * QUICK_S else 0.0
