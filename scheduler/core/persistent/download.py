"""What a peer says on its announce stream while it downloads a persistent task.

Answers follow Register and Reschedule only, and nobody waits: who has no parent now is told so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from odonata.errors import NotFoundError, PreconditionError
from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    EmptyTask,
    Failed,
    Finished,
    NeedBackToSource,
    PieceBackToSourceFailed,
    PieceFailed,
    Reschedule,
    Started,
)
from scheduler.core.lifecycle import IllegalTransitionError
from scheduler.core.persistent.effect import Answer, Parents, PersistentAnswer
from scheduler.core.persistent.event import PeerSpoke, PiecesFinished, Register, StreamClosed
from scheduler.core.persistent.lifecycle import (
    PEER_TRANSITIONS,
    UNDER_WAY,
    PeerState,
    PeerTrigger,
    TaskState,
)
from scheduler.core.persistent.parent import parents_of
from scheduler.core.persistent.query import status_of
from scheduler.core.persistent.state import Peer

if TYPE_CHECKING:
    from scheduler.core.persistent.turn import Turn

# A stock client leaves after five answers of at most 20 parents each; the newest count.
MAX_BLOCK_PARENTS = 256

NO_PARENTS = "no candidate parents found"
"""Dragonfly's words; clients show them."""


def listen(turn: Turn, event: PeerSpoke) -> None:
    """Take one message. A broken conversation fails the peer and ends its stream."""
    if isinstance(event.message, Register):
        _register(turn, event, event.message)
        return
    peer = turn.peers.get(event.peer_id)
    if peer is None:
        detail = f"{turn.kind} peer {event.peer_id} not found: a stream begins with a register"
        turn.close(NotFoundError(detail))
    elif peer.host_id != event.host_id:
        turn.close(_somebody_elses(turn, peer))
    else:
        turn.need_task()
        try:
            _take(turn, peer, event)
        except IllegalTransitionError as error:
            _fail(turn, turn.peers[peer.id])
            turn.close(error)


def stream_closed(turn: Turn, event: StreamClosed) -> None:
    """The peer went in the middle of its download: it is a parent no more."""
    peer = turn.peers.get(event.peer_id)
    if turn.task is None or peer is None or peer.host_id != event.host_id:
        return
    _fail(turn, peer)


def _take(turn: Turn, peer: Peer, event: PeerSpoke) -> None:
    if peer.state is PeerState.UPLOADING:
        raise IllegalTransitionError(
            f"{turn.kind} peer {peer.id} is {peer.state}: it makes the first copy, and downloads"
            " nothing"
        )
    match event.message:
        case Started() | BackToSourceStarted():
            if peer.state is not PeerState.RUNNING:
                turn.move_peer(peer, PeerTrigger.DOWNLOAD)
        case Reschedule(parent_ids=parent_ids):
            _reschedule(turn, peer, parent_ids)
        case PiecesFinished() | PieceFailed() | PieceBackToSourceFailed():
            _take_pieces(turn, peer, event.message)
        case Finished() | BackToSourceFinished():
            turn.move_peer(peer, PeerTrigger.SUCCEED)
            turn.close()
        case Failed() | BackToSourceFailed():
            turn.move_peer(peer, PeerTrigger.FAIL)
            turn.close()
        case Register():
            raise AssertionError("a register has no peer yet")
        case _:
            assert_never(event.message)


# --- register -------------------------------------------------------------------------------------


def _register(turn: Turn, event: PeerSpoke, message: Register) -> None:
    turn.need_host(event.host_id)
    turn.need_task()
    if turn.taken_by:
        raise PreconditionError(
            f"{turn.kind} peer {event.peer_id} is taken by task {turn.taken_by}: use a new peer id"
            " for each download"
        )
    peer = _newcomer(turn, event, message)
    trigger, answer = _first_answer(turn, peer, message)
    if answer is None:
        if peer.id in turn.peers:
            turn.put_peer(peer)
        turn.close(PreconditionError(NO_PARENTS))
        return
    turn.move_peer(peer, trigger)
    _answer(turn, answer)


def _newcomer(turn: Turn, event: PeerSpoke, message: Register) -> Peer:
    """The peer as it may register: new, or in a new life after its stream broke."""
    known = turn.peers.get(event.peer_id)
    if known is None:
        state = PeerState.PENDING
    elif known.host_id != event.host_id:
        raise _somebody_elses(turn, known)
    elif known.state in UNDER_WAY:
        state = PeerState.FAILED
    else:
        state = known.state
    if (state, PeerTrigger.REGISTER_NORMAL) not in PEER_TRANSITIONS:
        raise PreconditionError(
            f"{turn.kind} peer {event.peer_id} is {state}: use a new peer id for each download"
        )
    return Peer(
        id=event.peer_id,
        task_id=turn.task_id,
        host_id=event.host_id,
        state=state,
        persistent=message.persistent,
        created_at_s=turn.now,
        updated_at_s=turn.now,
        concurrent_piece_count=message.concurrent_piece_count,
    )


def _first_answer(
    turn: Turn, peer: Peer, message: Register
) -> tuple[PeerTrigger, PersistentAnswer | None]:
    """What the newcomer is due; None: nothing can help it."""
    task = turn.need_task()
    if turn.kind.has_source and message.need_back_to_source:
        return PeerTrigger.REGISTER_NORMAL, NeedBackToSource(description="the peer asked for it")
    if turn.kind.has_source and task.state in (TaskState.PENDING, TaskState.FAILED):
        reason = f"the task is {task.state}"
        return PeerTrigger.REGISTER_NORMAL, NeedBackToSource(description=reason)
    if task.content_length == 0:
        return PeerTrigger.REGISTER_EMPTY, EmptyTask()
    return PeerTrigger.REGISTER_NORMAL, _parents_or_source(turn, peer)


def _parents_or_source(turn: Turn, peer: Peer) -> Parents | NeedBackToSource | None:
    """Parents; else the object storage; None while there is nothing, or nothing any more.

    Dragonfly sends a peer to the storage only if the task has no peers whatever. Where all of them
    have failed, or are blocked by this one, the storage is a better answer than an error.
    """
    if turn.need_task().state is not TaskState.SUCCEEDED:
        return None
    parents = parents_of(turn, peer)
    if parents:
        return Parents(peers=parents)
    return NeedBackToSource(description="no peer can help") if turn.kind.has_source else None


# --- later messages -------------------------------------------------------------------------------


def _reschedule(turn: Turn, peer: Peer, parent_ids: tuple[str, ...]) -> None:
    if peer.state not in (PeerState.RECEIVED_NORMAL, PeerState.RUNNING):
        raise IllegalTransitionError(
            f"{turn.kind} peer {peer.id} is {peer.state}, which can't be rescheduled"
        )
    peer = _blocking(peer, parent_ids)
    turn.put_peer(peer)
    answer = _parents_or_source(turn, peer)
    if answer is None:
        _fail(turn, turn.peers[peer.id])
        turn.close(PreconditionError(NO_PARENTS))
    else:
        _answer(turn, answer)


def _take_pieces(
    turn: Turn, peer: Peer, message: PiecesFinished | PieceFailed | PieceBackToSourceFailed
) -> None:
    match message:
        case PiecesFinished(numbers=numbers):
            _pieces_finished(turn, peer, numbers)
        case PieceFailed(parent_id=parent_id, temporary=True):
            turn.put_peer(_blocking(peer, (parent_id,)))
        case PieceFailed() | PieceBackToSourceFailed():
            pass  # nobody is to blame; the peer tries again, or says that it failed


def _pieces_finished(turn: Turn, peer: Peer, numbers: tuple[int, ...]) -> None:
    """Numbers beyond the task's pieces are a client's mistake and count for nothing."""
    piece_count = turn.need_task().piece_count
    finished = peer.finished_pieces
    for number in numbers:
        if number < piece_count:
            finished |= 1 << number
    turn.put_peer(replace(peer, finished_pieces=finished))


def _answer(turn: Turn, answer: PersistentAnswer) -> None:
    turn.effects.append(Answer(answer=answer, task=status_of(turn.need_task(), turn.peers)))


def _blocking(peer: Peer, parent_ids: tuple[str, ...]) -> Peer:
    blocked = dict.fromkeys((*peer.block_parents, *parent_ids))
    return replace(peer, block_parents=tuple(blocked)[-MAX_BLOCK_PARENTS:])


def _fail(turn: Turn, peer: Peer) -> None:
    if peer.state in UNDER_WAY:
        turn.move_peer(peer, PeerTrigger.FAIL)


def _somebody_elses(turn: Turn, peer: Peer) -> PreconditionError:
    return PreconditionError(
        f"{turn.kind} peer {peer.id} is one of host {peer.host_id}: use a new peer id for each"
        " download"
    )
