"""Several seeds on one task: who is called, when, and who hears of whom."""

from __future__ import annotations

from support.scheduler_world import PIECE_LENGTH, World, download, host, parents, triggers
from unit.scheduler.core.test_seed import ring_order, seeds

from odonata.wire.message import Download, SourceShare
from scheduler.core.effect import SchedulerEffect
from scheduler.core.limits import Limits

BIG = download(source=True, size=32 * PIECE_LENGTH)


def world_of(count: int, *, per_task: int = 2, sharing: bool = True) -> tuple[World, list[str]]:
    """A world with a child that has asked, and its seeds in the order of the ring."""
    world = World(Limits(seeds_per_task=per_task, exploration=0.0))
    world.announce(host("h1"), host("h2"))
    world.announce(*seeds(count), shares_source=sharing)
    world.ours |= {f"sp{number}" for number in range(count)} | {"p1", "p2"}
    return world, ring_order(seeds(count), "t")


def arrive(world: World, number: int, host_id: str, what: Download = BIG) -> list[SchedulerEffect]:
    """The seed registers and reaches the source."""
    effects = world.register(f"sp{number}", host_id, what)
    return [*effects, *world.at_source(f"sp{number}")]


def shares(effects: list[SchedulerEffect]) -> dict[str, SourceShare | None]:
    return {one.host.id: one.download.source_share for one in triggers(effects)}


def test_the_first_seed_is_told_how_many_they_may_be_and_calls_the_next_on_the_ring() -> None:
    world, order = world_of(3)
    assert shares(world.register("p1", "h1")) == {order[0]: SourceShare(index=0, count=2)}
    effects = world.register("sp0", order[0], BIG)
    assert shares(effects) == {order[1]: SourceShare(index=1, count=2)}
    (called,) = triggers(effects)
    assert called.download.need_back_to_source
    assert called.download.actual_content_length == 32 * PIECE_LENGTH


def test_they_are_named_to_each_other_once_both_are_at_the_source() -> None:
    world, order = world_of(2)
    world.register("p1", "h1")
    assert "sp0" not in parents(arrive(world, 0, order[0]))
    world.started("p1")
    world.register("sp1", order[1], BIG)
    named = parents(world.at_source("sp1"))
    assert named["sp0"] == ["sp1"]
    assert named["sp1"] == ["sp0"]
    # Its children are given the new one, too.
    assert named["p1"] == ["sp1", "sp0"], "the new one, and the one that it has"
    graph = world.task().graph
    assert not graph.parents("sp0")
    assert not graph.parents("sp1")
    assert {decision.child_id for decision in world.core.explain(task_id="t")} >= {"sp0", "sp1"}


def test_the_first_calls_once() -> None:
    world, order = world_of(3)
    world.register("p1", "h1")
    world.register("sp0", order[0], BIG)
    assert not triggers(world.register("sp0", order[0], BIG))
    assert not triggers(world.at_source("sp0"))


def test_small_or_unknown_contents_are_fetched_by_one() -> None:
    for what in (download(source=True), download(source=True, size=7 * PIECE_LENGTH)):
        world, order = world_of(2)
        world.register("p1", "h1")
        assert not triggers(arrive(world, 0, order[0], what))


def test_seeds_that_do_not_share_are_asked_alone() -> None:
    world, order = world_of(2, sharing=False)
    assert shares(world.register("p1", "h1")) == {order[0]: None}
    assert not triggers(arrive(world, 0, order[0]))


def test_one_for_each_task_if_the_settings_say_so() -> None:
    world, order = world_of(2, per_task=1)
    assert shares(world.register("p1", "h1")) == {order[0]: None}
    assert not triggers(arrive(world, 0, order[0]))


def test_when_the_second_fails_the_first_goes_on_and_nobody_is_sent_anywhere() -> None:
    world, order = world_of(2)
    world.register("p1", "h1")
    arrive(world, 0, order[0])
    world.started("p1")
    effects = world.seed_failed(order[1], unreachable=True)
    assert not triggers(effects)
    assert not parents(effects)
    assert list(world.task().seed_flights) == [order[0]]


def test_when_the_first_fails_the_second_serves_and_no_other_is_called() -> None:
    world, order = world_of(3)
    world.register("p1", "h1")
    arrive(world, 0, order[0])
    world.started("p1")
    arrive(world, 1, order[1])
    effects = [*world.closed("sp0"), *world.register("p2", "h2")]
    assert not triggers(effects)
    assert "sp1" in parents(effects)["p2"]


def test_when_all_are_gone_another_is_called() -> None:
    world, order = world_of(3)
    world.register("p1", "h1")
    arrive(world, 0, order[0])
    arrive(world, 1, order[1])
    effects = [*world.closed("sp0"), *world.closed("sp1"), *world.register("p2", "h2")]
    assert list(shares(effects)) == [order[2]]


def test_a_seed_that_was_not_called_is_named_to_nobody() -> None:
    world, order = world_of(2)
    world.register("p1", "h1")
    arrive(world, 0, order[0])
    world.seed_failed(order[1])
    assert not parents(arrive(world, 1, order[1]))
