"""Peers that lost a parent are given another one, without having asked.

Theory of operation
===================

A peer is *bereft* when an edge into it goes that it did not give back itself: its parent failed,
left, or broke its stream; its host was evicted; or the peer blamed it for a piece. A stock client
finds out by itself, after its own time-outs, and asks; it takes one answer for each question. A
peer of ours takes answers at any time, so it is looked after at once, if it still downloads:

- It has other parents, and bytes reach it: it gets as many more as it may have, if anybody is
  eligible.
- It has none, or none that anything reaches (`supply`): its case is decided like that of one who
  asks (`waiting`). It gets parents, or waits for those it can hope for, or is sent to the source.
  What it is not told is that nothing can help: it has asked nothing, and may well be fetching its
  last piece.

Whoever holds all the pieces needs nobody, and whoever waits or was sent to the source has been
looked after.

A host on probation is tried out: if nobody is sent to it in the ordinary way, because the ranker
remembers too well, a peer of ours that downloads from others gets it as one more parent. Else it
might stay on probation for ever, with nothing to show.

A host with many children, or a bad switch, must not stop everything else: of the bereft at most
`REPLACED_PER_EVENT` are looked after with an event, the rest a moment later. Who gets whom is
ranked as always, with the edges of those before counted, so they do not all meet at one parent.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from scheduler.core import rota, waiting
from scheduler.core.candidate import why_out_of_order, why_unsuited
from scheduler.core.gateway import is_far, stays_near
from scheduler.core.reschedule import RESCHEDULABLE
from scheduler.core.supply import is_supplied

if TYPE_CHECKING:
    from scheduler.core.host import KnownHost
    from scheduler.core.limits import Limits
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

REPLACED_PER_EVENT = 64
"""A decision takes about half a millisecond; 30 ms is what others may have to wait."""
TRIALS_PER_TICK = 8
"""Hosts on probation that are given a child with one tick; the others with a later one."""
TRIAL_SEARCH_LIMIT = 256
"""Peers looked at to find a child for such a host: about a millisecond."""
PAUSE_S = 0.05
"""Before the next ones: as long again is left for everything else."""


def tend(turn: Turn) -> None:
    """Look after the bereft, the first ones first."""
    bereft = turn.state.bereft
    decided = 0
    while bereft and decided < REPLACED_PER_EVENT:
        child = bereft.pop(next(iter(bereft)))
        if needs_parents(child):
            decided += 1
            _replace(turn, child)


def try_out(turn: Turn) -> None:
    """Send somebody to hosts on probation that have no child."""
    idle = [host for host in turn.state.trials.values() if not host.concurrent_upload_count]
    for host in idle[:TRIALS_PER_TICK]:
        found = _find_child(host, turn.limits)
        if found is not None:
            waiting.give(turn, *found)


def needs_parents(child: Peer) -> bool:
    """Whether the child takes unasked answers, still downloads, and is owed no other answer."""
    task = child.task
    if not (child.is_ours and child.stream_is_open and child.state in RESCHEDULABLE):
        return False
    if child.id in task.waiting or child.id in task.to_source:
        return False
    return not task.piece_count or len(child.pieces) < task.piece_count


def _find_child(host: KnownHost, limits: Limits) -> tuple[Peer, Peer] | None:
    """A child that could take one more parent, and the peer of `host` that could be it."""
    useful = (peer for peer in host.peers.values() if peer.id in peer.task.useful)
    pairs = ((child, peer) for peer in useful for child in peer.task.peers.values())
    for child, peer in islice(pairs, TRIAL_SEARCH_LIMIT):
        graph = child.task.graph
        parents = graph.parents(child.id)
        if not parents or peer.id in parents or not needs_parents(child):
            continue
        if len(parents) > rota.places_of(child, limits):
            continue  # it tries out somebody already
        if why_unsuited(child, peer) is not None:
            continue
        if is_far(child, peer) and stays_near(child):
            continue
        if why_out_of_order(child, peer, graph.below(child.id)) is None:
            return child, peer
    return None


def _replace(turn: Turn, child: Peer) -> None:
    if child.task.graph.has_parents(child.id) and is_supplied(child):
        waiting.top_up(turn, child)
    else:
        waiting.ask(turn, child, is_asking=False)
