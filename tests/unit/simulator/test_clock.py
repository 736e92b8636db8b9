"""A clock runs with the world; when it jumps, what is overdue happens at once."""

from __future__ import annotations

import pytest

from simulator.clock import Clock
from simulator.world import World


def run(world: World) -> None:
    world.run(until_s=1000.0, is_over=lambda: False)


def test_it_shows_the_time_of_the_world_until_it_jumps() -> None:
    world = World(1)
    clock = Clock(world)
    world.after(5.0, lambda: None)
    run(world)
    assert clock.now == world.now == 5.0
    clock.jump(100.0)
    assert (clock.now, world.now) == (105.0, 5.0)


def test_a_jump_makes_alarms_ring_earlier_and_those_overdue_at_once() -> None:
    world = World(1)
    clock = Clock(world)
    rung: list[tuple[str, float]] = []
    clock.at(10.0, lambda: rung.append(("overdue", world.now)))
    clock.after(60.0, lambda: rung.append(("later", world.now)))
    world.at(4.0, lambda: clock.jump(30.0))
    run(world)
    assert rung == [("overdue", 4.0), ("later", 30.0)]


def test_a_cancelled_alarm_does_not_ring_after_a_jump_either() -> None:
    world = World(1)
    clock = Clock(world)
    rung: list[str] = []
    clock.after(1.0, lambda: rung.append("no")).cancel()
    clock.jump(50.0)
    run(world)
    assert rung == []


def test_a_monotonic_clock_does_not_run_back() -> None:
    with pytest.raises(AssertionError, match="does not run back"):
        Clock(World(1)).jump(-1.0)
