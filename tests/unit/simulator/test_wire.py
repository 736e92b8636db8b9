"""Perfect lines: everything arrives after one delay, in order."""

from __future__ import annotations

from simulator.wire import SCHEDULER, Wire
from simulator.world import World


def test_messages_arrive_after_the_delay_in_their_order() -> None:
    world = World(1)
    wire = Wire(world, 0.25)
    heard: list[tuple[int, float]] = []
    for number in range(3):
        wire.carry("a", "b", lambda n=number: heard.append((n, world.now)))  # type: ignore[misc]
    world.run(until_s=1.0, is_over=lambda: False)
    assert heard == [(0, 0.25), (1, 0.25), (2, 0.25)]
    assert wire.joins("a", SCHEDULER)
