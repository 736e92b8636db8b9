"""Asking for other parents."""

from support.scheduler_world import World, closes, host, parents, sent_to_source

from scheduler.core.limits import Limits


def world_with_holders(count: int) -> World:
    world = World(Limits(candidate_parent_limit=1))
    for number in range(count):
        world.announce(host(f"h{number}"))
        world.holder(f"p{number}", f"h{number}")
    world.announce(host("hx"))
    return world


def test_named_parents_are_never_named_again() -> None:
    world = world_with_holders(3)
    given = parents(world.register("x", "hx"))["x"]
    world.started("x")
    for _ in range(2):
        (last,) = given[-1:]
        given += parents(world.reschedule("x", last))["x"]
    assert sorted(given) == ["p0", "p1", "p2"]
    assert sent_to_source(world.reschedule("x", given[-1])) == ["x"]


def test_edges_and_load_are_given_back() -> None:
    world = world_with_holders(2)
    (first,) = parents(world.register("x", "hx"))["x"]
    world.started("x")
    world.reschedule("x", first)
    assert world.peer(first).host.concurrent_upload_count == 0


def test_strangers_and_itself_can_be_named() -> None:
    world = world_with_holders(2)
    world.register("x", "hx")
    world.started("x")
    assert parents(world.reschedule("x", "x", "nobody"))
    assert not world.peer("x").blocked


def test_before_it_started_a_child_may_reschedule_too() -> None:
    world = world_with_holders(2)
    (first,) = parents(world.register("x", "hx"))["x"]
    (second,) = parents(world.reschedule("x", first))["x"]
    assert second != first


def test_a_child_at_the_source_is_not_rescheduled() -> None:
    world = world_with_holders(1)
    world.origin_fetcher("x", "hx")
    assert closes(world.reschedule("x", "p0")) == {"x": "failed_precondition"}
    assert world.peer("x").state == "Failed"
