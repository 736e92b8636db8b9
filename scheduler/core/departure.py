"""Everybody leaves some day: streams that break, peers, tasks and hosts that are deleted.

A peer whose stream ends before its terminal message has crashed or been killed: it is not offered
any more from that moment. Its children are not told (they notice, and reschedule); children that
waited for it have their case decided anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.errors import NotFoundError, OdonataError
from scheduler.core import account, seed, waiting
from scheduler.core.lifecycle import ENDED, PeerTrigger

if TYPE_CHECKING:
    from scheduler.core.event import (
        HostDeleted,
        PeerDeleted,
        SeedFailed,
        SeedFinished,
        StreamClosed,
        TaskDeleted,
    )
    from scheduler.core.host import KnownHost
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn


def close_stream(turn: Turn, event: StreamClosed) -> None:
    """Fail a peer whose stream ended too early; one that had ended its story keeps its state."""
    peer = turn.state.peers.get(event.peer_id)
    if peer is None or not peer.stream_is_open:
        return
    peer.stream_is_open = False
    account.ended(turn, peer, "failed", "stream closed")
    if peer.state not in ENDED:
        turn.state.move_peer(peer, PeerTrigger.DOWNLOAD_FAILED, turn.now)
        seed.peer_failed(turn, peer)


def delete_host(turn: Turn, event: HostDeleted) -> None:
    """Forget a host and all its peers."""
    host = turn.state.hosts.get(event.host_id)
    if host is None:
        turn.refuse(NotFoundError(f"host {event.host_id} not found: it was never announced here"))
        return
    forget_host(turn, host, NotFoundError(f"host {host.id} has left"))


def forget_host(turn: Turn, host: KnownHost, error: OdonataError) -> None:
    """Dismiss the peers of a host, telling them `error`, and forget it."""
    for peer in tuple(host.peers.values()):
        dismiss(turn, peer, error)
    turn.state.remove_host(host)
    seed.host_left(turn, host.id)


def delete_task(turn: Turn, event: TaskDeleted) -> None:
    """Forget the peers of one host on one task: the host no longer holds it."""
    host = turn.state.hosts.get(event.host_id)
    if host is None:
        turn.refuse(NotFoundError(f"host {event.host_id} not found: it was never announced here"))
        return
    error = NotFoundError(f"task {event.task_id} was deleted on host {host.id}")
    for peer in tuple(host.peers.values()):
        if peer.task.id == event.task_id:
            dismiss(turn, peer, error)


def delete_peer(turn: Turn, event: PeerDeleted) -> None:
    """Forget one peer; an unknown one is forgotten already."""
    peer = turn.state.peers.get(event.peer_id)
    if peer is None or peer.task.id != event.task_id or peer.host.id != event.host_id:
        return
    dismiss(turn, peer, NotFoundError(f"peer {peer.id} was deleted"))


def dismiss(turn: Turn, peer: Peer, error: OdonataError) -> None:
    """Forget a peer; if it was a triggered seed's, the trigger has come to nothing."""
    had_ended = peer.state in ENDED
    turn.dismiss(peer, error)
    if not had_ended:
        seed.peer_failed(turn, peer)


def seed_finished(turn: Turn, event: SeedFinished) -> None:
    """A trigger ended well. A seed that has no peer to show for it could not help."""
    task = turn.state.tasks.get(event.task_id)
    if task is not None:
        is_fruitless = not seed.serves(task, event.host_id)
        seed.land(turn, task, event.host_id, has_failed=is_fruitless)


def seed_failed(turn: Turn, event: SeedFailed) -> None:
    """A trigger failed. Only what the source itself said concerns everybody who waits.

    Whatever else it was, a dead seed or a full disk, is made up for by the next seed or by one
    child, once the case of those who wait is decided anew.
    """
    host = turn.state.hosts.get(event.host_id)
    if host is not None and event.unreachable:
        host.is_unreachable = True
    task = turn.state.tasks.get(event.task_id)
    if task is None:
        return
    seed.land(turn, task, event.host_id, has_failed=True)
    if event.answer is not None:
        waiting.settle(turn, task, source_answered=True)
