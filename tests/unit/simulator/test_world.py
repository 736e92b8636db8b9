"""Virtual time: order, cancellation, bounds, and chance by name."""

from __future__ import annotations

import pytest

from odonata.errors import InternalError
from simulator import world as world_module
from simulator.world import World


def never() -> bool:
    return False


def test_events_happen_in_order_of_time_then_of_asking() -> None:
    world = World(1)
    seen: list[tuple[str, float]] = []
    for name, at_s in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        world.at(at_s, lambda name=name: seen.append((name, world.now)))  # type: ignore[misc]  # bound
    world.run(until_s=10.0, is_over=never)
    assert seen == [("first", 1.0), ("second", 1.0), ("late", 2.0)]


def test_cancelled_timers_do_nothing() -> None:
    world = World(1)
    world.at(1.0, lambda: world.note("x", "happened")).cancel()
    world.run(until_s=10.0, is_over=never)
    assert world.log == []


def test_the_past_is_now() -> None:
    world = World(1)

    def at_five() -> None:
        world.at(1.0, lambda: world.note("x", "late"))

    world.at(5.0, at_five)
    world.run(until_s=10.0, is_over=never)
    assert world.log == ["5.000000 x late"]


def test_it_stops_at_the_end_or_when_it_is_over() -> None:
    world = World(1)
    world.at(1.0, lambda: world.note("x", "1"))
    world.at(3.0, lambda: world.note("x", "3"))
    world.run(until_s=2.0, is_over=never)
    assert (world.now, len(world.log)) == (2.0, 1)
    world.run(until_s=9.0, is_over=lambda: bool(world.log))
    assert len(world.log) == 1


def test_circles_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_module, "MAX_EVENTS", 100)
    world = World(7)

    def again() -> None:
        world.after(0.0, again)

    again()
    with pytest.raises(InternalError, match="seed 7"):
        world.run(until_s=1.0, is_over=never)


def test_chance_is_by_name_and_seed() -> None:
    assert World(1).rng("a").random() == World(1).rng("a").random()
    assert World(1).rng("a").random() != World(1).rng("b").random()
    assert World(1).rng("a").random() != World(2).rng("a").random()
