"""The search for a scheduler, in a download that has lost its own: how soon, how long, how often.

A scheduler that restarts is back within seconds, and the next one on the ring is there at once. So
a download that lost its scheduler looks for one, goes on with the parents it has, and goes to the
source only if they bring nothing and its patience is at an end. All downloads of a burst lose their
scheduler in the same moment: each draws its own pauses and its own patience, so that neither the
scheduler that comes back nor the source is asked by all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from peer.core.limits import DownloadLimits


class Search:
    """Begin it with `lose`; it ends when a scheduler has answered."""

    def __init__(self, limits: DownloadLimits, rng: Random) -> None:
        self._limits = limits
        self._rng = rng
        self._losses = 0  # since the last answer
        self._total = 0
        self._until: float | None = None

    def lose(self, now: float, lost_s: float = 0.0) -> float | None:
        """The scheduler was lost `lost_s` ago. Return the pause before the next is looked for.

        None: it was lost too often, and is not looked for any more.
        """
        limits = self._limits
        if self._until is None:
            longest = limits.scheduler_patience_s - lost_s
            self._until = now + max(0.0, longest) * self._rng.uniform(0.5, 1.0)
        self._losses += 1
        self._total += 1
        if self._total > limits.max_registrations:
            return None
        doublings = min(self._losses - 1, limits.max_registrations)
        longest = min(limits.search_pause_s * 2.0**doublings, limits.search_pause_max_s)
        return longest * self._rng.random()

    def succeed(self) -> None:
        """A scheduler answered."""
        self._losses = 0
        self._until = None

    def is_patient(self, now: float) -> bool:
        """Whether it is too early to go to the source for the want of a scheduler."""
        return self._until is not None and now < self._until

    def next_wake(self, now: float) -> float | None:
        """When patience ends."""
        return self._until if self.is_patient(now) else None
