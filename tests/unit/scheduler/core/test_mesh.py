"""The two kinds of graph, and stock peers and ours in one task."""

from __future__ import annotations

import pytest
from support.scheduler_world import PIECE_LENGTH, World, download, host, parents, sent_to_source

from scheduler.core.candidate import Drop, survey
from scheduler.core.graph import Booking, DownloadGraph, GraphKind
from scheduler.core.limits import Limits


def add(to: DownloadGraph, child: str, *parents: str) -> tuple[str, ...]:
    return to.add_edges(child, dict.fromkeys(parents, Booking()), 0.0)


def test_peers_of_ours_may_feed_each_other() -> None:
    graph = DownloadGraph(100, GraphKind.MESH)
    graph.add("a", is_ours=True)
    graph.add("b", is_ours=True)
    assert add(graph, "b", "a") == ("a",)
    assert add(graph, "a", "b", "a") == ("b",), "itself is never a parent"


def test_stock_peers_may_not() -> None:
    graph = DownloadGraph(100, GraphKind.MESH)
    for peer_id in ("a", "b"):
        graph.add(peer_id)
    assert add(graph, "b", "a") == ("a",)
    assert add(graph, "a", "b") == ()


def test_in_a_dag_nobody_may() -> None:
    graph = DownloadGraph(100, GraphKind.DAG)
    for peer_id in ("a", "b"):
        graph.add(peer_id, is_ours=True)
    assert add(graph, "b", "a") == ("a",)
    assert add(graph, "a", "b") == ()


def mixed() -> World:
    """A holder, a stock peer and a peer of ours that download from it."""
    world = World(Limits(exploration=0.0, admission=False))
    world.announce(*(host(f"h{number}") for number in range(6)))
    world.holder("q", "h0")
    world.register("stock", "h1", download(size=9 * PIECE_LENGTH))
    world.started("stock")
    world.ours |= {"ours", "other"}
    world.register("ours", "h2", download(size=9 * PIECE_LENGTH))
    world.started("ours")
    return world


def test_a_stock_peer_that_still_fetches_serves_stock_peers_only() -> None:
    world = mixed()
    seen = survey(world.peer("ours"))
    assert seen.dropped["stock"] is Drop.STOCK
    world.register("late", "h3", download(size=9 * PIECE_LENGTH))
    assert set(world.core.stat_peer("late").parent_ids) == {"q", "stock", "ours"}


def test_a_stock_peer_that_has_finished_serves_everybody() -> None:
    world = mixed()
    world.finished("stock")
    world.advance(1.0)
    assert set(world.core.stat_peer("ours").parent_ids) == {"q", "stock"}


def test_a_stock_peer_on_its_way_to_the_source_is_a_hope_for_ours() -> None:
    world = World(Limits(exploration=0.0))
    world.announce(host("h1"), host("h2"))
    assert sent_to_source(world.register("stock", "h1")) == ["stock"]
    world.ours.add("ours")
    assert not world.register("ours", "h2"), "one flight to the source is enough"
    assert parents(world.at_source("stock")) == {"ours": ["stock"]}


@pytest.mark.parametrize(("pieces", "places"), [(1, 3), (3, 5), (6, 8), (90, 8)])
def test_everybody_of_a_burst_ends_with_all_the_parents_it_may_have(
    pieces: int, places: int
) -> None:
    """Of a few pieces, with as many as there are, and two."""
    count = 20
    limits = Limits(exploration=0.0, seed_share=0.0)
    world = World(limits)
    world.announce(*(host(f"h{number}") for number in range(count)), host("s", seed=True))
    size = pieces * PIECE_LENGTH
    world.register("sp", "s", download(metadata=True, size=size))
    world.started("sp")
    world.finished("sp")
    names = [f"c{number}" for number in range(count)]
    world.ours |= set(names)
    to_start: list[str] = []
    for number, name in enumerate(names):
        to_start += parents(world.register(name, f"h{number}", download(size=size)))
    while to_start:
        to_start += parents(world.started(to_start.pop(0)))
    world.advance(2.0)
    for name in names:
        assert len(world.core.stat_peer(name).parent_ids) == places
