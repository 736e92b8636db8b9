"""Several seeds fetch one task together: it leaves the source once and enters by several uplinks.

The first one is triggered like any seed, and is told how many they will be at most. When it
registers it knows how long the content is; if that is worth it, the next seeds on the ring are
triggered, each with its number. Once they are at the source they are named to each other as
parents, without an edge in the graph: both can go on without the other, so nobody waits for
himself, and what they give each other is no load that anybody chose. Who takes which pieces is
their own business (`peer.core.source_share`); nothing here has to be right for the bytes to be.

Seeds that did not say that they can do this are triggered alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.wire.message import NormalTask, SourceShare
from scheduler.core import seed, waiting
from scheduler.core.candidate import Survey, why_unsuited
from scheduler.core.choice import choose
from scheduler.core.decision import note_choice
from scheduler.core.lifecycle import PeerState
from scheduler.core.pick import SEED_BITS
from scheduler.core.standing import HostState

if TYPE_CHECKING:
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

TOLD_CHILDREN_MAX = 64
"""Children of the others that are given a new seed as one more parent. Each is a decision of half a
millisecond; a seed bears fewer anyway (`seed_share`)."""


def call_others(turn: Turn, first: Peer) -> None:
    """The first seed has registered: trigger those who shall fetch the task with it."""
    task = first.task
    flight = task.seed_flights.get(first.host.id)
    if flight is None or flight.share is None or flight.share.index or flight.has_called:
        return
    flight.has_called = True
    count = flight.share.count
    if task.piece_count < count * turn.limits.seed_share_pieces_min or first.range is not None:
        return  # too small, or nobody knows how large it is
    able = [
        host
        for host in turn.state.seeds.values()
        if host.shares_source
        and host.standing.state is HostState.GOOD
        and seed.can_be_asked(turn, task, host)
    ]
    others = seed.in_ring_order(able, task.id, count - 1)
    for number, host in enumerate(others, 1):
        share = SourceShare(index=number, count=count)
        seed.launch(turn, task, host, first.wanted(), share)


def introduce(turn: Turn, newcomer: Peer) -> None:
    """A seed has reached the source: name it to its fellows, and them to it, and to children.

    One that has finished already is named to it, too.
    """
    if not _is_in_team(newcomer) or not _listens(newcomer):
        return
    seeds = [
        peer
        for peer in newcomer.task.useful.values()
        if peer.host.is_seed
        and peer.host is not newcomer.host
        and why_unsuited(newcomer, peer) is None
    ]
    fellows = [peer for peer in seeds if _is_in_team(peer) and peer.id in peer.task.at_source]
    for fellow in filter(_listens, fellows):
        _name(turn, fellow, [newcomer])
    if seeds:
        _name(turn, newcomer, seeds[: turn.limits.candidate_parent_limit])
    _tell_children(turn, newcomer, seeds)


def _tell_children(turn: Turn, newcomer: Peer, seeds: list[Peer]) -> None:
    """Children of other seeds, that take what they did not ask for, may have one more parent."""
    task = newcomer.task
    children = {child_id: None for peer in seeds for child_id in task.graph.children(peer.id)}
    for child_id in tuple(children)[:TOLD_CHILDREN_MAX]:
        child = task.peers[child_id]
        if _listens(child) and child.state is PeerState.RUNNING:
            waiting.top_up(turn, child)


def _is_in_team(peer: Peer) -> bool:
    flight = peer.task.seed_flights.get(peer.host.id)
    return flight is not None and flight.share is not None


def _listens(peer: Peer) -> bool:
    """Whether the peer takes answers that it did not ask for."""
    return peer.is_ours and peer.stream_is_open


def _name(turn: Turn, child: Peer, parents: list[Peer]) -> None:
    """Name `parents` to `child`, and say so as of any decision; there is no edge between them."""
    seen = Survey(eligible=parents, draw_seed=turn.rng.getrandbits(SEED_BITS))
    choice = choose(turn, child, seen, len(parents))
    known = child.task.facts()
    named = (waiting.parent_of(child, parent, known) for parent in choice.parents)
    turn.answer(child, NormalTask(parents=tuple(named)))
    note_choice(turn, child, choice, seen)
