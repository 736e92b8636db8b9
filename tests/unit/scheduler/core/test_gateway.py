"""Across data centres only gateways fetch."""

from __future__ import annotations

from support.scheduler_world import PIECE_LENGTH, World, download, host

from scheduler.core.candidate import Drop, survey
from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits

WHAT = download(size=9 * PIECE_LENGTH)


def two_sites(count: int = 5, **limits: int | GraphKind) -> World:
    """A holder at "here"; c1, c2, ... at "There" (case does not matter) ask for the task."""
    world = World(Limits(exploration=0.0, admission=False, **limits))  # type: ignore[arg-type]
    world.announce(host("k", idc="here"))
    world.holder("q", "k")
    for number in range(1, count + 1):
        name = f"c{number}"
        world.ours.add(name)
        idc = "There" if number % 2 else "there"
        world.announce(host(f"h{number}", idc=idc))
        world.register(name, f"h{number}", WHAT)
        world.started(name)
    return world


def far_children(world: World) -> list[str]:
    return [c for c in ("c1", "c2", "c3", "c4", "c5") if "q" in parents_of(world, c)]


def parents_of(world: World, peer_id: str) -> tuple[str, ...]:
    peer = world.core.state.peers.get(peer_id)
    return () if peer is None else world.task().graph.parents(peer.id)


def test_only_gateways_fetch_from_elsewhere() -> None:
    world = two_sites(gateway_count=2)
    world.advance(2.0)
    assert far_children(world) == ["c1", "c2"]
    assert survey(world.peer("c5")).dropped["q"] is Drop.FAR
    assert set(parents_of(world, "c5")) == {"c1", "c2", "c3", "c4"}


def test_gateways_get_parents_at_home_as_well() -> None:
    world = two_sites(gateway_count=2)
    world.advance(2.0)
    assert set(parents_of(world, "c1")) > {"q", "c2"}


def test_another_takes_the_place_of_a_gateway_that_dies() -> None:
    world = two_sites(gateway_count=1)
    assert far_children(world) == ["c1"]
    world.closed("c1")
    world.advance(2.0)
    assert len(far_children(world)) == 1
    assert "c1" not in far_children(world)


def test_hosts_without_a_label_are_near_to_everybody() -> None:
    world = two_sites(gateway_count=1)
    world.announce(host("h9"))
    world.ours.add("c9")
    world.register("c9", "h9", WHAT)
    assert "q" in parents_of(world, "c9")


def test_neither_stock_peers_nor_dags_have_gateways() -> None:
    world = two_sites(gateway_count=1)
    world.announce(host("h9", idc="there"))
    world.register("c9", "h9", WHAT)
    assert survey(world.peer("c9")).dropped.get("q") is not Drop.FAR
    world = two_sites(gateway_count=1, graph=GraphKind.DAG)
    assert Drop.FAR not in survey(world.peer("c5")).dropped.values()
