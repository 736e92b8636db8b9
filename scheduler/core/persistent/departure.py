"""What becomes of a persistent task when a copy, a host, or the wish for it goes away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core.persistent.effect import CountReplicas, Demote
from scheduler.core.persistent.lifecycle import PeerState, TaskState, TaskTrigger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.core.persistent.event import HostLeft, PeerDeleted
    from scheduler.core.persistent.state import Peer
    from scheduler.core.persistent.turn import Turn


def delete_peer(turn: Turn, event: PeerDeleted) -> None:
    """Forget one copy. One that is unknown, or another host's, is none of the caller's: silence."""
    peer = turn.peers.get(event.peer_id)
    if peer is not None and peer.host_id == event.host_id:
        _drop(turn, (peer,))


def leave_host(turn: Turn, event: HostLeft) -> None:
    """Forget every copy of the host."""
    _drop(turn, [peer for peer in turn.peers.values() if peer.host_id == event.host_id])


def delete_task(turn: Turn) -> None:
    """Forget the task. Its bytes stay with their holders, as in Dragonfly, until a disk wants room.

    So each host that promised to keep a replica is let off: else they would lie there until the
    time to live is over.
    """
    keepers = {
        peer.host_id
        for peer in turn.peers.values()
        if peer.persistent and peer.state is PeerState.SUCCEEDED
    }
    turn.drop_all()
    turn.effects += [
        Demote(host=turn.hosts[host_id]) for host_id in sorted(keepers) if host_id in turn.hosts
    ]


def _drop(turn: Turn, gone: Iterable[Peer]) -> None:
    gone = tuple(gone)
    for peer in gone:
        turn.drop_peer(peer)
    if not gone or turn.task is None:
        return
    if any(peer.state is PeerState.UPLOADING for peer in gone):
        turn.move_task(TaskTrigger.FAIL)
    elif turn.task.state is TaskState.SUCCEEDED:
        _after_loss(turn, gone)


def _after_loss(turn: Turn, gone: tuple[Peer, ...]) -> None:
    held = any(peer.state is PeerState.SUCCEEDED for peer in turn.peers.values())
    if not held and not turn.kind.has_source:
        turn.move_task(TaskTrigger.LOSE)
    elif any(peer.persistent for peer in gone):
        turn.effects.append(CountReplicas())
