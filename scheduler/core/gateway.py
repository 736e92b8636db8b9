"""Across data centres a piece shall go once: few peers of each fetch from outside, the others near.

In a mesh every peer would take whom it is given, wherever they are, and a content would cross a
thin link between two data centres dozens of times (the swarm study: 24 to 28 copies of a mesh that
does not look, 1.0 to 2.3 with gateways). So of a task's peers of ours in one data centre at most
`gateway_count` are given parents elsewhere: its *gateways*. A gateway's own client asks far parents
only for what no near one holds.

That alone does not keep two of them from asking for the same: of what is on its way to the other
one nobody knows yet (of 128 pieces 26 crossed twice). So they divide the content: whenever
the gateways of a data centre change, each is told its part (`FarShare`), in the order in which they
became gateways, if its client takes that. It begins with its part, and helps the others when that
is done (`peer.core.selection`). One gateway alone would need no telling, but then a whole site
lives on what one uplink passes on.

A site waits for what its gateways bring, so `gateway_far_count` of a gateway's parents are
elsewhere until it has its part (`review`). Left to chance it had between two and six of them.

Where somebody fetches from the source, as a rule a seed, nothing needs to come from elsewhere: a
far parent is no candidate there unless it holds what no such *origin* at home does, or nobody else
is one. (The peers there used to fetch one piece in ten back over the link.)

Nobody is stuck for it: the rule holds only as long as a gateway is on its way or at work. It is for
hosts that name their data centre; who does not is near to everybody. Seeds go where they are sent.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from odonata.wire.message import MAX_FAR_SHARE_COUNT, FarShare
from scheduler.core.effect import Answer
from scheduler.core.graph import GraphKind
from scheduler.core.lifecycle import PeerState
from scheduler.core.standing import HostState
from scheduler.core.supply import is_supplied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

ORIGINS_LOOKED_AT = 16
"""Usually it is a seed; where many went to the source, the first have most."""
_OF_ITSELF = (PeerState.BACK_TO_SOURCE, PeerState.SUCCEEDED)
_FETCHING = (PeerState.RECEIVED_NORMAL, PeerState.RUNNING)


def is_far(child: Peer, parent: Peer) -> bool:
    """Whether both name their data centre, and name different ones."""
    ours, theirs = child.host.announced.idc, parent.host.announced.idc
    return bool(ours and theirs) and ours.casefold() != theirs.casefold()


def stays_near(child: Peer) -> bool:
    """Whether the child must not be given parents in other data centres."""
    if not _is_bound(child):
        return False
    task = child.task
    at_work = [peer for peer in _gateways(child).values() if _is_at_work(peer)]
    return child not in at_work and len(at_work) >= task.gateway_count


def lacks_far(child: Peer, parents: Iterable[Peer], wanted: int) -> int:
    """How many more parents elsewhere it should have: a gateway that has not got its part."""
    if not is_gateway(child) or _has_its_part(child) or origins_at_home(child):
        return 0
    return max(0, wanted - sum(is_far(child, parent) for parent in parents))


def origins_at_home(child: Peer) -> list[Peer]:
    """Those of its data centre who have the content, or what there is of it, from the source.

    And who serve. Of very many, the first; none where no rule for data centres applies, or this one
    is switched off (`Limits.home_suffices`).
    """
    if not (child.task.origins and child.task.home_suffices and _is_bound(child)):
        return []
    origins = islice(child.task.origins.values(), ORIGINS_LOOKED_AT)
    return [one for one in origins if _is_origin(one) and not is_far(child, one)]


def is_needless(parent: Peer, origins: list[Peer]) -> bool:
    """Whether one of these holds all that this one does, who is far from them."""
    if any(one.state is PeerState.SUCCEEDED for one in origins):
        return True
    if parent.state is PeerState.SUCCEEDED:  # with all pieces, whether it told of them or not
        return False
    return any(not parent.pieces.has_beyond(one.pieces) for one in origins)


def is_gateway(child: Peer) -> bool:
    """Whether it was given parents elsewhere, and has its place."""
    return child.id in _gateways(child)


def note_parents(child: Peer, parents: Iterable[Peer]) -> bool:
    """The child was given these: if one is far, it is a gateway from now on.

    Returns whether the gateways are others than before.
    """
    if not _is_bound(child) or not any(is_far(child, parent) for parent in parents):
        return False
    before = _gateways(child)
    # One that is a gateway already keeps its place, and its part, though it waited until now.
    now = {p.id: p for p in before.values() if p is child or _is_at_work(p)}
    now[child.id] = child
    child.task.gateways[child.host.announced.idc.casefold()] = now
    return list(now.values()) != list(before.values())


def forget(peer: Peer) -> bool:
    """The peer is gone. Returns whether it was a gateway."""
    return _gateways(peer).pop(peer.id, None) is not None


def divide(turn: Turn) -> None:
    """Tell the gateways their parts, where the gateways have changed."""
    tasks, turn.state.divided_anew = turn.state.divided_anew, {}
    for task in tasks.values():
        for gateways in task.gateways.values():
            count = min(len(gateways), MAX_FAR_SHARE_COUNT)
            for place, peer in enumerate(gateways.values()):
                _tell(turn, peer, FarShare(index=place % count, count=count))


def _tell(turn: Turn, peer: Peer, share: FarShare) -> None:
    """Unless it knows, or has no use for it."""
    takes_it = peer.shares_far and peer.stream_is_open and peer.state in _FETCHING
    if takes_it and peer.far_share != share:
        peer.far_share = share
        # Not the turn's own `answer`: the peer may be waiting for parents.
        turn.effects.append(Answer(peer_id=peer.id, answer=share))


def _is_bound(child: Peer) -> bool:
    """Whether the rule is for this child: a peer of ours in a mesh that says where it is."""
    task = child.task
    if not child.host.announced.idc or not child.is_ours or child.host.is_seed:
        return False
    return task.graph.kind is GraphKind.MESH and task.gateway_count > 0


def _is_origin(peer: Peer) -> bool:
    is_good = peer.host.standing.state is HostState.GOOD
    return is_good and peer.state in _OF_ITSELF and peer.id in peer.task.useful


def _has_its_part(child: Peer) -> bool:
    share, of = child.far_share, child.task.piece_count
    if share is None or not of:
        return False
    return child.pieces.has_part(share.index, share.count, of)


def _gateways(child: Peer) -> dict[str, Peer]:
    return child.task.gateways.get(child.host.announced.idc.casefold(), {})


def _is_at_work(peer: Peer) -> bool:
    """It fetches, or has fetched everything and is still there."""
    if peer.task.peers.get(peer.id) is not peer:
        return False
    if peer.state is PeerState.SUCCEEDED:
        return True
    return peer.state in _FETCHING and is_supplied(peer) and peer.id not in peer.task.waiting
