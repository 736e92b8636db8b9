"""Across data centres a piece shall go once: few peers of each fetch from outside, the others near.

In a mesh every peer would take whom it is given, wherever they are, and a content would cross a
thin link between two data centres dozens of times (the swarm study: 24 to 28 copies of a mesh that
does not look, 1.0 to 2.3 with gateways). So of a task's peers of ours in one data centre at most
`gateway_count` are given parents elsewhere: its *gateways*. A gateway's own client asks far parents
only for what no near one holds, so several of them divide the pieces among themselves.

Nobody is stuck for it: the rule holds only as long as a gateway is on its way or at work. It is for
hosts that name their data centre; who does not is near to everybody. Seeds go where they are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core.graph import GraphKind
from scheduler.core.lifecycle import PeerState
from scheduler.core.supply import is_supplied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.core.peer import Peer

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


def note_parents(child: Peer, parents: Iterable[Peer]) -> None:
    """The child was given these: if one is far, it is a gateway from now on."""
    if not _is_bound(child) or not any(is_far(child, parent) for parent in parents):
        return
    at_work = {peer.id: peer for peer in _gateways(child).values() if _is_at_work(peer)}
    at_work[child.id] = child
    child.task.gateways[child.host.announced.idc.casefold()] = at_work


def forget(peer: Peer) -> None:
    """The peer is gone."""
    _gateways(peer).pop(peer.id, None)


def _is_bound(child: Peer) -> bool:
    """Whether the rule is for this child: a peer of ours in a mesh that says where it is."""
    task = child.task
    if not child.host.announced.idc or not child.is_ours or child.host.is_seed:
        return False
    return task.graph.kind is GraphKind.MESH and task.gateway_count > 0


def _gateways(child: Peer) -> dict[str, Peer]:
    return child.task.gateways.get(child.host.announced.idc.casefold(), {})


def _is_at_work(peer: Peer) -> bool:
    """It fetches, or has fetched everything and is still there."""
    if peer.task.peers.get(peer.id) is not peer:
        return False
    if peer.state is PeerState.SUCCEEDED:
        return True
    return peer.state in _FETCHING and is_supplied(peer) and peer.id not in peer.task.waiting
