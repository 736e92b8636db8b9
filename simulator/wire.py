"""How messages get from one place to another: here always, in order, after one delay.

Places go by name: hosts by theirs, and the two below. What stands in the way of messages in a world
with faults is the business of `simulator.fault.wire`. Bulk data is the network's (`network`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulator.world import World

SCHEDULER: Final = "scheduler"
SOURCE: Final = "source"


class Wire:
    """Perfect lines between all places of a world."""

    def __init__(self, world: World, delay_s: float) -> None:
        """`delay_s`: one way, between any two."""
        self.world = world
        self.delay_s = delay_s

    def carry(
        self, giver: str, taker: str, action: Callable[[], None], *, stream: str = ""
    ) -> None:
        """Do `action` when what `giver` says has reached `taker`.

        What is said on one `stream` arrives in the order in which it was said.
        """
        del giver, taker, stream  # all lines are alike
        self.world.after(self.delay_s, action)

    def joins(self, one: str, other: str) -> bool:
        """Whether the two can talk just now; a new connection needs both directions."""
        del one, other
        return True
