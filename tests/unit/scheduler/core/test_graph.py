"""One task's graph: acyclic whatever is asked of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import InternalError
from scheduler.core.graph import Booking, DownloadGraph

BOOKING = Booking(piece_count=1)


def graph(*peer_ids: str, search_limit: int = 100) -> DownloadGraph:
    made = DownloadGraph(search_limit)
    for peer_id in peer_ids:
        made.add(peer_id)
    return made


def add(to: DownloadGraph, child: str, *parents: str) -> tuple[str, ...]:
    return to.add_edges(child, dict.fromkeys(parents, BOOKING), 0.0)


def test_a_batch_adds_what_is_legal_and_says_so() -> None:
    g = graph("a", "b", "c", "d")
    assert add(g, "b", "a") == ("a",)
    assert add(g, "c", "b") == ("b",)
    # itself, its grandchild, a stranger, an edge there is already, and a legal one
    assert add(g, "a", "a", "c", "nobody", "d") == ("d",)
    assert add(g, "c", "b", "d") == ("d",)
    assert g.parents("c") == ("b", "d")
    assert g.children("d") == ("a", "c")


def test_removing_an_edge_returns_its_booking() -> None:
    g = graph("a", "b")
    add(g, "b", "a")
    assert g.remove_edge("a", "b") == BOOKING
    assert not g.has_parents("b")
    assert add(g, "a", "b") == ("b",)


def test_descendants_are_all_below() -> None:
    g = graph("a", "b", "c", "d")
    add(g, "b", "a")
    add(g, "c", "b")
    below = g.descendants("a")
    assert [peer for peer in "abcd" if peer in below] == ["a", "b", "c"]
    assert [peer for peer in "abcd" if peer in g.descendants("d")] == ["d"]


def test_a_search_that_meets_its_limit_is_careful() -> None:
    g = graph("a", "b", "c", "d", "e", search_limit=2)
    add(g, "b", "a")
    add(g, "c", "b")
    add(g, "e", "d")
    below = g.descendants("a")
    assert "c" in below
    assert "e" in below  # not below, but it has parents, and nobody looked far enough to know
    assert "d" not in below


def test_only_peers_without_edges_can_go() -> None:
    g = graph("a", "b")
    add(g, "b", "a")
    for peer_id in "ab":
        with pytest.raises(InternalError, match="still has edges"):
            g.remove(peer_id)
    g.remove_edge("a", "b")
    g.remove("a")
    assert "a" not in g


def test_a_peer_is_added_once() -> None:
    g = graph("a")
    with pytest.raises(InternalError, match="in the graph already"):
        g.add("a")
    with pytest.raises(InternalError, match="not in the graph"):
        add(g, "b", "a")


@given(
    edges=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=40),
    search_limit=st.integers(1, 20),
)
def test_no_edges_ever_close_a_cycle(edges: list[tuple[int, int]], search_limit: int) -> None:
    g = graph(*map(str, range(8)), search_limit=search_limit)
    for parent, child in edges:
        reachable = _reachable(g, str(child))
        added = add(g, str(child), str(parent))
        if added:
            assert str(parent) not in reachable
        elif search_limit > 8 and str(parent) not in reachable:
            assert str(parent) in g.parents(str(child))  # there already


def _reachable(g: DownloadGraph, start: str) -> set[str]:
    seen = {start}
    for _ in range(8):
        seen |= {child for parent, child, _ in g.edges() if parent in seen}
    return seen
