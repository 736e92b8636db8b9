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
from dataclasses import dataclass
from enum import StrEnum

from odonata.errors import InternalError
from odonata.wire.message import Value


class GraphKind(StrEnum):
    """What must not go in a circle: peers, or only pieces. The values are those of the setting."""

    DAG = "dag"
    MESH = "mesh"


class Booking(Value, frozen=True, kw_only=True):
    """What one child takes of its parent's host: uplink, pieces in flight, bytes still to send.

    Kept on the edge, so that taking it back subtracts exactly what was added, whatever the
    scheduler has learned of the task meanwhile.
    """

    tx_bits_per_s: int = 0
    piece_count: int = 0
    content_length: int = 0


@dataclass(slots=True, eq=False)
class Edge:
    """One parent of one child, since `since_s`.

    `piece_count` pieces came over it, the latest at `piece_at_s`; at first: when it was added.
    """

    booking: Booking
    since_s: float
    piece_at_s: float
    piece_count: int = 0


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
        self._parents: dict[str, dict[str, Edge]] = {}
        self._children: dict[str, dict[str, Edge]] = {}
        self._free: set[str] = set()  # who may be its own ancestor
        self._depths: dict[str, int] = {}  # of those who have parents, or had

    def add(self, peer_id: str, *, is_ours: bool = False) -> None:
        """Add a peer without edges. In a mesh one of ours may be its own ancestor."""
        if peer_id in self._parents:
            raise InternalError(f"peer {peer_id} is in the graph already")
        self._parents[peer_id] = {}
        self._children[peer_id] = {}
        if is_ours and self.kind is GraphKind.MESH:
            self._free.add(peer_id)

    def remove(self, peer_id: str) -> None:
        """Remove a peer that has no edges left."""
        if self._parents[peer_id] or self._children[peer_id]:
            raise InternalError(f"peer {peer_id} still has edges")
        del self._parents[peer_id]
        del self._children[peer_id]
        self._free.discard(peer_id)
        self._depths.pop(peer_id, None)

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._parents

    def is_free(self, peer_id: str) -> bool:
        """Whether this peer may be its own ancestor."""
        return peer_id in self._free

    def has_parents(self, peer_id: str) -> bool:
        """Whether somebody was named as a parent of this peer, and still is."""
        return bool(self._parents[peer_id])

    def edge(self, parent_id: str, child_id: str) -> Edge | None:
        """Return the edge between these two, None if there is none."""
        return self._parents[child_id].get(parent_id)

    def edges_into(self, child_id: str) -> Mapping[str, Edge]:
        """Return the edges into this peer by parent, in the order they were added."""
        return self._parents[child_id]

    def parent_count(self, peer_id: str) -> int:
        """Return how many parents this peer has."""
        return len(self._parents[peer_id])

    def depth(self, peer_id: str) -> int:
        """Return how many hops it was from here to who has no parents, when edges came last.

        0 for who has none. What changed above since then is not followed: it is a hint for choosing
        among many, and following it would cost a walk over all below with every edge.
        """
        return self._depths.get(peer_id, 0) if self._parents[peer_id] else 0

    def parents(self, peer_id: str) -> tuple[str, ...]:
        """Return the parents, in the order they were added (best first)."""
        return tuple(self._parents[peer_id])

    def children(self, peer_id: str) -> tuple[str, ...]:
        """Return the children, oldest edge first."""
        return tuple(self._children[peer_id])

    def edges(self) -> Iterable[tuple[str, str, Booking]]:
        """Yield (parent, child, booking) of every edge."""
        for parent, children in self._children.items():
            for child, edge in children.items():
                yield parent, child, edge.booking

    def below(self, child_id: str) -> Descendants:
        """Return who can't be a parent of `child_id`: itself, and whoever would close a circle."""
        if child_id in self._free:
            return Descendants(self, frozenset((child_id,)))
        return self.descendants(child_id)

    def descendants(self, child_id: str) -> Descendants:
        """Return `child_id` and everybody below it; costs one visit per edge below the child."""
        if not self._children[child_id]:
            return Descendants(self, frozenset((child_id,)))
        seen = {child_id: None}
        stack = [child_id]
        while stack:
            for below in self._children[stack.pop()]:
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
        if child_id not in self._parents:
            raise InternalError(f"peer {child_id} is not in the graph")
        below = self.below(child_id)
        known = self._parents[child_id]
        added: list[str] = []
        for parent_id, booking in bookings.items():
            if parent_id not in self._parents or parent_id in known:
                continue
            if parent_id == child_id or parent_id in below:
                continue
            edge = Edge(booking, since_s=now, piece_at_s=now)
            known[parent_id] = edge
            self._children[parent_id][child_id] = edge
            added.append(parent_id)
        if added:
            depths = (self.depth(parent_id) for parent_id in known)
            # In a mesh the longest way has no end: the shortest counts.
            self._depths[child_id] = 1 + (max if self.kind is GraphKind.DAG else min)(depths)
        return tuple(added)

    def remove_edge(self, parent_id: str, child_id: str) -> Booking:
        """Remove one edge and return what it had booked."""
        del self._children[parent_id][child_id]
        return self._parents[child_id].pop(parent_id).booking
