"""Which peers bytes can reach, and through whom, as edges come and go."""

from __future__ import annotations

from random import Random

from support.scheduler_world import World, download, host

from scheduler.core.limits import Limits
from scheduler.core.supply import depth, is_supplied

LIMITS = Limits(mesh_parent_limit=3, exploration=0.0, admission=False)


def chain(*, ours: bool = True) -> World:
    """p1 is at the source; p2 downloads from it, p3 from p2 alone, p4 from p3 alone."""
    world = World(LIMITS)
    world.announce(*(host(f"h{number}") for number in range(1, 6)))
    world.origin_fetcher("p1", "h1")
    for number in (2, 3, 4):
        name = f"p{number}"
        if ours:
            world.ours.add(name)
        world.register(name, f"h{number}")
        world.started(name)
        child = world.peer(name)
        world.core.state.unlink_parents(child)
        world.core.state.link(child, [world.peer(f"p{number - 1}")], world.now)
    world.core.state.bereft.clear()
    return world


def supplied(world: World) -> set[str]:
    return {peer.id for peer in world.core.state.peers.values() if is_supplied(peer)}


def test_depth_counts_the_parents_up_to_a_source() -> None:
    world = chain()
    assert [depth(world.peer(f"p{number}")) for number in (1, 2, 3, 4)] == [0, 1, 2, 3]


def test_a_circle_without_a_source_is_not_supplied() -> None:
    world = chain()
    state = world.core.state
    state.link(world.peer("p2"), [world.peer("p4")], world.now)
    assert supplied(world) == {"p1", "p2", "p3", "p4"}
    state.unlink(world.peer("p1"), world.peer("p2"))
    assert supplied(world) == {"p1"}, "p2, p3 and p4 have each other and nobody else"
    assert set(world.task().useful) == {"p1"}


def test_who_falls_is_caught_by_another_parent_of_anybody_below() -> None:
    world = chain()
    state = world.core.state
    state.link(world.peer("p2"), [world.peer("p4")], world.now)
    state.link(world.peer("p4"), [world.peer("p1")], world.now)
    state.unlink(world.peer("p1"), world.peer("p2"))
    assert supplied(world) == {"p1", "p2", "p3", "p4"}
    assert world.peer("p4").supplier is world.peer("p1")
    assert world.peer("p2").supplier is world.peer("p4")


def test_everybody_below_is_fed_when_one_finds_a_parent_again() -> None:
    world = chain(ours=False)
    state = world.core.state
    state.unlink(world.peer("p1"), world.peer("p2"))
    assert supplied(world) == {"p1"}
    state.link(world.peer("p2"), [world.peer("p1")], world.now)
    assert supplied(world) == {"p1", "p2", "p3", "p4"}


def test_who_finishes_is_a_source() -> None:
    world = chain()
    world.finished("p3")
    world.closed("p1")
    assert supplied(world) >= {"p3", "p4"}


def test_random_edges_agree_with_what_reaches_whom() -> None:
    """`World` checks the forest against reachability after every event; here edge by edge."""
    from scheduler.core.invariant import check  # noqa: PLC0415  # what is tested, said once more

    dice = Random(5)
    world = World(LIMITS)
    names = [f"p{number}" for number in range(12)]
    world.announce(*(host(f"h{number}") for number in range(12)))
    world.origin_fetcher("p0", "h0")
    for number, name in enumerate(names[1:], 1):
        world.ours.add(name)
        world.register(name, f"h{number}", download())
        world.started(name)
    state = world.core.state
    for _ in range(400):
        parent, child = (world.peer(name) for name in dice.sample(names, 2))
        if world.task().graph.edge(parent.id, child.id) is not None:
            state.unlink(parent, child)
        elif child.id != "p0" and is_supplied(parent):
            state.link(child, [parent], world.now)
        state.bereft.clear()
        state.restless.clear()
        state.fresh.clear()
        check(world.core)
