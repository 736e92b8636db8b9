"""Peers of ours in a mesh have their parents looked at anew, about once a second each.

Theory of operation
===================

A first answer names whoever is there. Then others join, parents turn out to be slow, and places
stay empty. So every peer of ours that downloads in a mesh has a *review* now and then, each at a
time of its own (`rota`):

- It has fewer parents than it may have: it is given more, ranked as always. Its turn comes when
  somebody became useful since it was last looked at; as long as there is nobody new, nothing is
  computed.
- It has all it may have, and one of them is *idle*: then that one is exchanged for somebody else.
  Idle is a parent that has given nothing for `idle_edge_s`, and should by now have given
  `IDLE_PIECES` pieces if all gave alike. Chance does that to one in 150 (e^-5); a host ten times
  slower than the others is found when it has missed its fifth turn. It is not blamed for it: whom
  the child has already overtaken has nothing to give, and that is nobody's fault.

- It has all it may have, and somebody who came lately has fewer children than one of its parents:
  then that parent is exchanged. Else whoever comes last in a burst finds that all others have their
  parents already, is nobody's parent, and its uplink idles to the end. (16 peers that come within
  1.1 s, a seed as thin as they are, simulated: the p99 falls from 1.52 to 1.23 times the bound.)
  Only for who came lately: later it may be slow hosts that have few children, and rightly so.

- It is a gateway (`gateway`) with few parents elsewhere: some of the others are exchanged.

What is found is told in one answer that nobody asked for and that names all parents (`waiting`).
Reviews have a bound, `reviews_per_tick`, and then a pause: when peers are very many each one's turn
comes less often, and everything else goes on. Nobody is compared with anybody, so the cost grows
with the number of peers that download, never with its square.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from scheduler.core import rota, waiting
from scheduler.core.gateway import is_far, is_gateway, lacks_far
from scheduler.core.replacement import needs_parents

if TYPE_CHECKING:
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

IDLE_PIECES = 5.0
FEWER = 2
"""Children fewer: after the exchange the newcomer has no more of them than the other one."""
LATELY_S = 10.0
"""Within this a newcomer should have its children: time for ten reviews of each of them."""
NEWCOMERS_LOOKED_AT = 16
"""Of very many, the latest: a review is a matter of microseconds as long as it finds nothing."""


def look_again(turn: Turn) -> None:
    """Do the reviews that are due, those that have been due for longest first."""
    for _ in range(turn.limits.reviews_per_tick):
        child = rota.due(turn)
        if child is None:
            return
        if needs_parents(child) and child.task.graph.has_parents(child.id):
            _review(turn, child)
            rota.enter(turn, child)


def _review(turn: Turn, child: Peer) -> None:
    task = child.task
    if task.graph.parent_count(child.id) < rota.places_of(child, turn.limits):
        child.arrivals_seen = task.arrival_count
        waiting.top_up(turn, child)
        return
    parents = [task.peers[parent_id] for parent_id in task.graph.parents(child.id)]
    if lacking := lacks_far(child, parents, turn.limits.gateway_far_count):
        _send_abroad(turn, child, parents, lacking)
    elif idle := _idlest(turn, child):
        waiting.exchange(turn, child, [idle])
    elif not is_gateway(child):
        _take_newcomer(turn, child, parents)


def _send_abroad(turn: Turn, child: Peer, parents: list[Peer], count: int) -> None:
    """Exchange so many of its peers at home, the worst, for whoever is elsewhere."""
    at_home = [p for p in parents if not (is_far(child, p) or p.host.is_seed or is_gateway(p))]
    if at_home:
        waiting.exchange(turn, child, at_home[-count:], suits=partial(is_far, child))


def _idlest(turn: Turn, child: Peer) -> Peer | None:
    """The parent that has given nothing for longest, if that is more than chance."""
    edges = child.task.graph.edges_into(child.id)
    edge = min(edges, key=lambda one: one.piece_at_s)
    idle_s = turn.now - edge.piece_at_s
    if idle_s < turn.limits.idle_edge_s:
        return None
    rate_per_s = len(child.pieces) / max(turn.now - child.created_at_s, idle_s)
    is_idle = rate_per_s * idle_s / len(edges) >= IDLE_PIECES
    return child.task.peers[edge.parent_id] if is_idle else None


def _take_newcomer(turn: Turn, child: Peer, parents: list[Peer]) -> None:
    """In the place of the parent with the most children, if one who came lately has fewer."""
    task, graph = child.task, child.task.graph
    peers = [parent for parent in parents if not parent.host.is_seed]
    if not peers:
        return
    busiest = max(peers, key=lambda one: graph.child_count(one.id))
    few = graph.child_count(busiest.id) - FEWER
    for one in islice(reversed(task.useful.values()), NEWCOMERS_LOOKED_AT):
        if turn.now - one.created_at_s > LATELY_S:
            return
        is_other = one is not child and one not in parents and not one.host.is_seed
        is_lonely = is_other and graph.child_count(one.id) <= few
        if is_lonely and one.pieces.has_beyond(child.pieces):
            waiting.exchange(turn, child, [busiest], one)
            return
