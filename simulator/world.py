"""Virtual time: a clock, a heap of what is to happen, and randomness by name. One seed, one story.

Nothing waits here: `run` jumps from event to event. Events of one moment happen in the order in
which they were asked for, so the same seed gives the same log, line by line.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

from odonata.errors import InternalError

MAX_EVENTS = 20_000_000
"""More than any study here needs (1,000 peers with 256 pieces take about 3 million); a world that
gets there runs in circles."""


class Timer:
    """Something that is to happen; `cancel` before, and it does not."""

    __slots__ = ("_action", "at_s")

    def __init__(self, at_s: float, action: Callable[[], None]) -> None:
        self.at_s = at_s
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self._action = None

    def fire(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


class World:
    """The clock (`now`, seconds from 0) and everything that is to come."""

    def __init__(self, seed: int, *, keep_log: bool = True) -> None:
        self.now = 0.0
        self.seed = seed
        self.log: list[str] = []
        self._keep_log = keep_log
        self._heap: list[tuple[float, int, Timer]] = []
        self._asked = 0

    def rng(self, name: str) -> Random:
        """A generator of its own for `name`: who else draws does not change what it draws."""
        return Random(f"{self.seed}/{name}")  # noqa: S311  # chance, not secrecy

    def note(self, who: str, what: str) -> None:
        """Write a line into the log of this world."""
        if self._keep_log:
            self.log.append(f"{self.now:.6f} {who} {what}")

    def at(self, at_s: float, action: Callable[[], None]) -> Timer:
        """Do `action` at `at_s`, or now if that has passed."""
        timer = Timer(max(at_s, self.now), action)
        self._asked += 1
        heapq.heappush(self._heap, (timer.at_s, self._asked, timer))
        return timer

    def after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Do `action` in `delay_s` seconds."""
        return self.at(self.now + delay_s, action)

    def run(self, *, until_s: float, is_over: Callable[[], bool]) -> None:
        """Let things happen until `is_over`, nothing is left, or the clock passes `until_s`."""
        for _ in range(MAX_EVENTS):
            if not self._heap or is_over():
                return
            if self._heap[0][0] > until_s:
                self.now = until_s
                return
            self.now, _, timer = heapq.heappop(self._heap)
            timer.fire()
        raise InternalError(
            f"{MAX_EVENTS} events and no end at {self.now:.3f} s of virtual time: "
            f"the world with seed {self.seed} runs in circles"
        )
