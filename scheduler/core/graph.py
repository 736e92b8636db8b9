"""Who downloads from whom within one task: a directed graph of peers.

An edge runs from parent to child; it carries what it books on the parent's host, and what came over
it. Which peers are worth an edge, and the hosts' counters, are not its business.

There are two kinds, chosen per task. In a *DAG* nobody is its own ancestor, as in Dragonfly. In a
*mesh* that holds for stock peers only: two peers of ours may feed each other, for what must never
go in a circle is each single piece, and that can't: whoever asks for a piece has not got it, and
whoever is asked has. (The swarm study: at 1,000 peers the best DAG ends at a p99 of 1.4 to 1.6
times the bound, such a mesh at 1.1.) Whether bytes reach a peer at all is `supply`'s question.

In a DAG a new edge parent -> child closes a cycle exactly when the parent is reachable from the
child. All edges of one answer share one child, so one search of the child's descendants serves the
whole batch, and a child that has no children needs none. In a mesh a stock peer that still fetches
is a parent of stock peers only (`candidate`), so that everybody below a stock child is a stock
peer, no circle can lead through one, and the search stays among them. A child of ours needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from odonata.errors import InternalError
from odonata.wire.message import Value


class GraphKind(StrEnum):
    """What must not go in a circle: peers, or only pieces. The values are those of the setting."""

    DAG = "dag"
    MESH = "mesh"


class Booking(Value, frozen=True, kw_only=True, gc=False):
    """What one child takes of its parent's host: uplink, pieces in flight, bytes still to send.

    Kept on the edge, so that taking it back subtracts exactly what was added, whatever the
    scheduler has learned of the task meanwhile.
    """

    tx_bits_per_s: int = 0
    piece_count: int = 0
    content_length: int = 0


class Edge(Struct, eq=False, gc=False):
    """One parent of one child, since `since_s`.

    `piece_count` pieces came over it, the latest at `piece_at_s`; at first: when it was added.
    """

    parent_id: str
    booking: Booking
    since_s: float
    piece_at_s: float
    piece_count: int = 0


class _Node(Struct, eq=False, gc=False):
    """A peer in the graph: the edges into it and out of it, in the order they were added.

    A peer has few parents, and a handful is looked through as fast as a dict, in a third of its
    memory; it may have hundreds of children, and most peers have none. `depth` is of when edges
    came last. `is_free`: it may be its own ancestor.
    """

    parents: tuple[Edge, ...] = ()
    children: dict[str, Edge] | None = None
    depth: int = 0
    is_free: bool = False


class Descendants:
    """The peers below one child: those that can't become its parents.

    `members` is None when the search met its limit; then every peer that has parents counts.
    """

    def __init__(self, graph: DownloadGraph, members: frozenset[str] | None) -> None:
        self._graph = graph
        self._members = members

    def __contains__(self, peer_id: str) -> bool:
        if self._members is None:
            return self._graph.has_parents(peer_id)
        return peer_id in self._members


class DownloadGraph:
    """Peers of one task and the edges between them, in the order they came."""

    def __init__(self, search_limit: int, kind: GraphKind = GraphKind.DAG) -> None:
        self.kind = kind
        self._search_limit = search_limit
        self._nodes: dict[str, _Node] = {}

    def add(self, peer_id: str, *, is_ours: bool = False) -> None:
        """Add a peer without edges. In a mesh one of ours may be its own ancestor."""
        if peer_id in self._nodes:
            raise InternalError(f"peer {peer_id} is in the graph already")
        self._nodes[peer_id] = _Node(is_free=is_ours and self.kind is GraphKind.MESH)

    def remove(self, peer_id: str) -> None:
        """Remove a peer that has no edges left."""
        node = self._nodes[peer_id]
        if node.parents or node.children:
            raise InternalError(f"peer {peer_id} still has edges")
        del self._nodes[peer_id]

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._nodes

    def is_free(self, peer_id: str) -> bool:
        """Whether this peer may be its own ancestor."""
        return self._nodes[peer_id].is_free

    def has_parents(self, peer_id: str) -> bool:
        """Whether somebody was named as a parent of this peer, and still is."""
        return bool(self._nodes[peer_id].parents)

    def edge(self, parent_id: str, child_id: str) -> Edge | None:
        """Return the edge between these two, None if there is none."""
        for edge in self._nodes[child_id].parents:
            if edge.parent_id == parent_id:
                return edge
        return None

    def edges_into(self, child_id: str) -> tuple[Edge, ...]:
        """Return the edges into this peer, in the order they were added."""
        return self._nodes[child_id].parents

    def parent_count(self, peer_id: str) -> int:
        """Return how many parents this peer has."""
        return len(self._nodes[peer_id].parents)

    def child_count(self, peer_id: str) -> int:
        """Return how many children this peer has."""
        return len(self._nodes[peer_id].children or ())

    def depth(self, peer_id: str) -> int:
        """Return how many hops it was from here to who has no parents, when edges came last.

        0 for who has none. What changed above since then is not followed: it is a hint for choosing
        among many, and following it would cost a walk over all below with every edge.
        """
        node = self._nodes[peer_id]
        return node.depth if node.parents else 0

    def parents(self, peer_id: str) -> tuple[str, ...]:
        """Return the parents, in the order they were added (best first)."""
        return tuple([edge.parent_id for edge in self._nodes[peer_id].parents])

    def children(self, peer_id: str) -> tuple[str, ...]:
        """Return the children, oldest edge first."""
        return tuple(self._nodes[peer_id].children or ())

    def edges(self) -> Iterable[tuple[str, str, Booking]]:
        """Yield (parent, child, booking) of every edge."""
        for parent, node in self._nodes.items():
            for child, edge in (node.children or {}).items():
                yield parent, child, edge.booking

    def below(self, child_id: str) -> Descendants:
        """Return who can't be a parent of `child_id`: itself, and whoever would close a circle."""
        if self._nodes[child_id].is_free:
            return Descendants(self, frozenset((child_id,)))
        return self.descendants(child_id)

    def descendants(self, child_id: str) -> Descendants:
        """Return `child_id` and everybody below it; costs one visit per edge below the child."""
        if not self._nodes[child_id].children:
            return Descendants(self, frozenset((child_id,)))
        seen = {child_id: None}
        stack = [child_id]
        while stack:
            for below in self._nodes[stack.pop()].children or ():
                if below not in seen:
                    seen[below] = None
                    stack.append(below)
            if len(seen) > self._search_limit:
                return Descendants(self, None)
        return Descendants(self, frozenset(seen))

    def add_edges(
        self, child_id: str, bookings: Mapping[str, Booking], now: float
    ) -> tuple[str, ...]:
        """Add edges from each parent to the child; return the parents whose edge was added.

        Left out are parents that are unknown, have that edge already, or would close a circle.
        """
        child = self._nodes.get(child_id)
        if child is None:
            raise InternalError(f"peer {child_id} is not in the graph")
        below = self.below(child_id)
        known = self.parents(child_id)
        added: list[Edge] = []
        for parent_id, booking in bookings.items():
            parent = self._nodes.get(parent_id)
            if parent is None or parent_id in known or parent is child or parent_id in below:
                continue
            edge = Edge(parent_id, booking, since_s=now, piece_at_s=now)
            if parent.children is None:
                parent.children = {}
            parent.children[child_id] = edge
            added.append(edge)
        if added:
            child.parents += tuple(added)
            depths = [self.depth(edge.parent_id) for edge in child.parents]
            # In a mesh the longest way has no end: the shortest counts.
            child.depth = 1 + (max if self.kind is GraphKind.DAG else min)(depths)
        return tuple([edge.parent_id for edge in added])

    def remove_edge(self, parent_id: str, child_id: str) -> Booking:
        """Remove one edge and return what it had booked."""
        parent, child = self._nodes[parent_id], self._nodes[child_id]
        children = parent.children or {}
        gone = children.pop(child_id)
        if not children:
            parent.children = None  # an empty dict keeps the room of its fullest hour
        child.parents = tuple([edge for edge in child.parents if edge is not gone])
        return gone.booking
