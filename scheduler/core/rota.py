"""Whose parents are looked at anew, how often, and how many it may have. What is done: `review`."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from scheduler.core.graph import GraphKind

if TYPE_CHECKING:
    from scheduler.core.limits import Limits
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

PAUSE_S = 0.01
"""Between two rounds of reviews, when more are due than one round takes: as long as it works."""


def is_reviewed(child: Peer) -> bool:
    """Whether this peer takes part: one of ours, in a mesh."""
    return child.is_ours and child.task.graph.kind is GraphKind.MESH


def places_of(child: Peer, limits: Limits) -> int:
    """How many parents this peer may have; of few pieces, not more than can bring some."""
    if not is_reviewed(child):
        return limits.candidate_parent_limit
    pieces = child.task.piece_count
    useful = pieces + limits.spare_parents if pieces else limits.mesh_parent_limit
    return min(limits.mesh_parent_limit, useful)


def enter(turn: Turn, child: Peer) -> None:
    """The child was given parents, or was looked at: say when its next turn is.

    With all the parents that it may have, or one for each piece, an interval from now. With fewer,
    soon, if somebody became useful since its last decision; else when somebody does.
    """
    if child.review_at_s is not None or not is_reviewed(child):
        return
    task = child.task
    enough = min(places_of(child, turn.limits), task.piece_count or turn.limits.mesh_parent_limit)
    if task.graph.parent_count(child.id) >= enough:
        _plan(turn, child, turn.limits.review_interval_s)
    elif child.arrivals_seen != task.arrival_count:
        _plan(turn, child, turn.limits.hungry_interval_s)
    else:
        task.hungry[child.id] = child


def call_hungry(turn: Turn) -> None:
    """Somebody became useful: the turn of those comes soon who have waited for that."""
    fresh = turn.state.fresh
    while fresh:
        _, task = fresh.popitem()
        hungry, task.hungry = task.hungry, {}
        for child in hungry.values():
            _plan(turn, child, turn.limits.hungry_interval_s)


def due(turn: Turn) -> Peer | None:
    """Take the peer that has been due for longest off the rota; None if nobody is."""
    reviews = turn.state.reviews
    while reviews and reviews[0][0] <= turn.now:
        at_s, _, child = heappop(reviews)
        if child.review_at_s == at_s and turn.state.peers.get(child.id) is child:
            child.review_at_s = None
            return child
    return None


def next_at_s(turn: Turn) -> float | None:
    """When the next round is due, None if no review is planned."""
    reviews = turn.state.reviews
    if not reviews:
        return None
    at_s = reviews[0][0]
    return at_s if at_s > turn.now else turn.now + PAUSE_S


def _plan(turn: Turn, child: Peer, interval_s: float) -> None:
    """At a time of its own within the second half of the interval, lest all come at once."""
    child.task.hungry.pop(child.id, None)
    child.review_at_s = turn.now + interval_s * (0.5 + 0.5 * turn.rng.random())
    heappush(turn.state.reviews, (child.review_at_s, child.serial, child))
