"""What peers report of their downloads: started, pieces, finished, failed. None of it is answered.

After a terminal report the stream ends with OK at once: stock clients wait for just that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.wire.message import TrafficType
from scheduler.core import accusation, contact, judgement, seed_team, waiting
from scheduler.core.lifecycle import PeerState, PeerTrigger, TaskState, TaskTrigger
from scheduler.core.reschedule import block

if TYPE_CHECKING:
    from odonata.wire.message import Piece, PieceBackToSourceFailed, PieceFailed
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

SOURCE_FAILURES_BELIEVED = 2
"""Peers in a row that failed at the source without an answer of it: then it is the source."""


def started(turn: Turn, peer: Peer) -> None:
    """The peer downloads from its parents. Said after each answer, and by holders of everything."""
    if peer.state not in (PeerState.RUNNING, PeerState.SUCCEEDED):
        turn.state.move_peer(peer, PeerTrigger.DOWNLOAD, turn.now)


def back_to_source_started(turn: Turn, peer: Peer) -> None:
    """The peer downloads from the source, and is a parent for all the others from now on."""
    if peer.state is not PeerState.BACK_TO_SOURCE:
        turn.state.move_peer(peer, PeerTrigger.DOWNLOAD_BACK_TO_SOURCE, turn.now)
        seed_team.introduce(turn, peer)


def piece_finished(turn: Turn, peer: Peer, piece: Piece) -> None:
    """A piece arrived: remember it, its cost, and that peer, parent and its host are alive."""
    now, limits = turn.now, turn.limits
    if not 0 <= piece.number < limits.piece_number_limit:
        return
    is_local = piece.traffic_type is TrafficType.LOCAL_PEER
    cost_s = None if is_local else piece.cost_s
    peer.got_piece(piece.number, piece.offset + piece.length, cost_s, now)
    host, task = peer.host, peer.task
    host.updated_at_s = task.updated_at_s = now
    if task.piece_length is None or not task.content_length or not task.piece_count:
        task.learn_from_piece(piece)
    if piece.traffic_type is TrafficType.BACK_TO_SOURCE:
        task.source_failure_count = 0
        accusation.piece_told(turn, peer, None, piece)
    elif is_local and piece.strong_digest:
        accusation.source_told(turn, peer, piece)
    parent = task.peers.get(piece.parent_id)
    if parent is not None:
        parent.updated_at_s = parent.host.updated_at_s = parent.host.served_at_s = now
        if parent.host.is_lost:
            contact.heard(turn, parent.host)
        edge = task.graph.edge(parent.id, peer.id)
        if edge is not None:
            edge.piece_at_s = now
            edge.piece_count += 1
        if parent.host is not host and not is_local:
            accusation.piece_told(turn, peer, parent, piece)
            judgement.piece_served(turn, peer, parent, piece)


def piece_failed(turn: Turn, peer: Peer, message: PieceFailed) -> None:
    """A parent could not give a piece. Temporary failures are its fault; others are nobody's."""
    peer.updated_at_s = turn.now
    if not message.temporary:
        return
    parent = block(turn, peer, message.parent_id)
    if parent is not None and parent is not peer:
        if message.wrong_digest:
            accusation.accuse(turn, peer, parent, message)
        parent.host.upload_failed_count += 1
        turn.state.disturb(peer.task)
        if parent.host is not peer.host:
            judgement.piece_failed(turn, peer, parent)
            contact.suspect(turn, peer, parent)
        if peer.is_ours:
            turn.state.bereave(peer, parent)


def piece_back_to_source_failed(turn: Turn, peer: Peer, message: PieceBackToSourceFailed) -> None:
    """The source failed on a piece. If it answered, it is a reason not to count on this peer."""
    peer.updated_at_s = turn.now
    if message.answer is not None:
        peer.source_refused = True
        turn.state.refresh(peer)
        peer.task.to_source.pop(peer.id, None)
        waiting.settle(turn, peer.task, source_answered=True)


def finished(turn: Turn, peer: Peer) -> None:
    """Terminal: everything arrived."""
    if peer.state is not PeerState.SUCCEEDED:
        turn.state.move_peer(peer, PeerTrigger.DOWNLOAD_SUCCEEDED, turn.now)
    turn.close(peer)


def back_to_source_finished(turn: Turn, peer: Peer) -> None:
    """Terminal: everything arrived, and a whole copy from the source makes the task succeed.

    It also gives the content's length, if the peer did not know it when it registered: such a peer
    held nothing before, so that pieces without a gap from the first on are all there are. No piece
    at all proves nothing: a peer may have found everything on its disk, or be careless. That a
    content is empty is believed only of a Register that says so.
    """
    finished(turn, peer)
    task = peer.task
    if peer.range is not None:
        return
    if peer.download.actual_content_length is None and peer.pieces.has_no_gap:
        task.learn_whole(peer.content_end, len(peer.pieces))
    if task.state is not TaskState.SUCCEEDED:
        task.move(TaskTrigger.DOWNLOAD_SUCCEEDED, turn.now)


def failed(turn: Turn, peer: Peer) -> None:
    """Terminal: the peer gave up, without blaming the source."""
    turn.fail(peer)


def back_to_source_failed(turn: Turn, peer: Peer) -> None:
    """Terminal: the peer failed at the source.

    If the source had answered it, whoever waits must hear that from the source itself. If not, it
    may be the peer's own fault (a full disk), and one other is sent in its stead; but two in a row
    mean that the source is down, and nobody shall wait until all the others have found that out.
    If nobody is left who could bring the content, the task has failed.
    """
    failed(turn, peer)
    task = peer.task
    task.source_failure_count += 1
    is_source = peer.source_refused or task.source_failure_count >= SOURCE_FAILURES_BELIEVED
    if not task.useful and (is_source or not task.waiting):
        task.forget_content()
        if task.state is TaskState.RUNNING:
            task.move(TaskTrigger.DOWNLOAD_FAILED, turn.now)
    if is_source:
        waiting.settle(turn, task, source_answered=True)
