"""Supply lines: by which parent the bytes reach a peer, and whether any do.

Theory of operation
===================

A *source* within the swarm is a peer from which bytes come without anybody else: it holds a whole
copy, or is at the origin. Everybody else is *supplied* if a chain of parents leads to a source.
Where edges may form circles (the mesh, see `graph`), having parents proves nothing: two peers may
have each other and nobody else. So every supplied peer that is no source remembers one of its
parents, its `supplier`, such that going from supplier to supplier ends at a source. The suppliers
of a task are a forest whose roots are the sources.

The forest makes the question cheap. A new edge never changes it, except for a child that had no
supply: it takes the new parent, and with it everybody below who had none. An edge that goes
matters only if it was the child's supply: then the tree below the child has *fallen*, and each
member looks for another supplied parent outside the fallen tree, or one inside that has found one.
Whoever finds none is not supplied: it is nobody's parent until it is again. The average tree below
a peer has as many members as a chain has links, so an edge costs about the logarithm of the peers.

Nothing here adds or removes edges.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from scheduler.core.lifecycle import PeerState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.core.peer import Peer


def is_source_now(peer: Peer) -> bool:
    """Whether bytes come from `peer` without any parent.

    A seed that is neither at the origin nor finished counts too, as in Dragonfly, unless it waits
    for parents itself.
    """
    match peer.state:
        case PeerState.SUCCEEDED:
            return True
        case PeerState.BACK_TO_SOURCE:
            return not peer.source_refused
        case PeerState.RUNNING:
            return peer.host.is_seed and peer.id not in peer.task.waiting
        case _:
            return False


def is_supplied(peer: Peer) -> bool:
    """Whether bytes can reach `peer`, or are all here."""
    return peer.is_source or peer.supplier is not None


def depth(peer: Peer) -> int:
    """How many parents stand between `peer` and a source, on its supply line; 0 for a source."""
    steps = 0
    while not peer.is_source and peer.supplier is not None:
        peer = peer.supplier
        steps += 1
    return steps


def feed(peer: Peer) -> list[Peer]:
    """`peer` is supplied now and was not: so is everybody below who was not. Return those."""
    fed: list[Peer] = []
    news = deque((peer,))
    while news:
        parent = news.popleft()
        for child in _children(parent):
            if not is_supplied(child):
                child.supplier = parent
                fed.append(child)
                news.append(child)
    return fed


def connect(child: Peer, parents: Iterable[Peer]) -> list[Peer]:
    """Edges from `parents` to `child` were added; return who is supplied now and was not."""
    if is_supplied(child):
        return []
    child.supplier = next((parent for parent in parents if is_supplied(parent)), None)
    return [] if child.supplier is None else [child, *feed(child)]


def cut(top: Peer) -> list[Peer]:
    """`top` has lost what supplied it; return who is not supplied any more."""
    fallen = _fall(top)
    saved: deque[Peer] = deque()
    for peer in fallen.values():
        peer.supplier = _rescuer(peer, fallen)
        if peer.supplier is not None:
            saved.append(peer)
    while saved:
        parent = saved.popleft()
        for child in _children(parent):
            if child.id in fallen and child.supplier is None:
                child.supplier = parent
                saved.append(child)
    return [peer for peer in fallen.values() if peer.supplier is None]


def _fall(top: Peer) -> dict[str, Peer]:
    """Everybody whose supply line goes through `top`, itself included."""
    fallen = {top.id: top}
    news = deque((top,))
    while news:
        parent = news.popleft()
        for child in _children(parent):
            if child.supplier is parent:
                fallen[child.id] = child
                news.append(child)
    return fallen


def _rescuer(peer: Peer, fallen: dict[str, Peer]) -> Peer | None:
    peers = peer.task.peers
    parents = (peers[parent_id] for parent_id in peer.task.graph.parents(peer.id))
    return next((p for p in parents if p.id not in fallen and is_supplied(p)), None)


def _children(parent: Peer) -> list[Peer]:
    peers = parent.task.peers
    return [peers[child_id] for child_id in parent.task.graph.children(parent.id)]
