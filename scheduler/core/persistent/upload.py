"""How a persistent task comes to be: its first copy is started, finished or given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from odonata.errors import AlreadyExistsError, NotFoundError, PreconditionError
from scheduler.core.lifecycle import IllegalTransitionError
from scheduler.core.persistent.effect import AnswerTask, CountReplicas
from scheduler.core.persistent.lifecycle import (
    TASK_TRANSITIONS,
    PeerState,
    PeerTrigger,
    TaskState,
    TaskTrigger,
)
from scheduler.core.persistent.query import status_of
from scheduler.core.persistent.state import Peer

if TYPE_CHECKING:
    from scheduler.core.persistent.event import UploadFailed, UploadFinished, UploadStarted
    from scheduler.core.persistent.turn import Turn


def started(turn: Turn, event: UploadStarted) -> None:
    """Open the task for one uploader; everybody else is told that it exists.

    Copies that are left of an earlier upload are forgotten: for object storage the id follows from
    the URL, so they may hold other bytes than the new ones.
    """
    turn.need_host(event.host_id)
    task = turn.task
    if task is not None and (task.state, TaskTrigger.UPLOAD) not in TASK_TRANSITIONS:
        raise AlreadyExistsError(
            f"{turn.kind} task {task.id} is {task.state}: wait until it has expired, or delete it"
        )
    if event.peer_id in turn.peers or turn.taken_by:
        raise AlreadyExistsError(
            f"{turn.kind} peer {event.peer_id} exists already: use a new peer id for each upload"
        )
    for peer in tuple(turn.peers.values()):
        turn.drop_peer(peer)
    turn.task = replace(
        event.task, state=TaskState.PENDING, created_at_s=turn.now, updated_at_s=turn.now
    )
    turn.move_task(TaskTrigger.UPLOAD)
    uploader = Peer(
        id=event.peer_id,
        task_id=turn.task_id,
        host_id=event.host_id,
        state=PeerState.PENDING,
        persistent=True,
        created_at_s=turn.now,
        updated_at_s=turn.now,
    )
    turn.move_peer(uploader, PeerTrigger.UPLOAD)


def finished(turn: Turn, event: UploadFinished) -> None:
    """The first copy is there: answer with the task, and see to its replicas.

    Said twice (the first answer may have been lost) it is answered twice. Who went to the object
    storage meanwhile may have found the object of before: such copies are forgotten.
    """
    peer = _uploader(turn, event.host_id, event.peer_id)
    task = turn.need_task()
    told = (task.state, peer.state) == (TaskState.SUCCEEDED, PeerState.SUCCEEDED)
    if not told:
        _check_uploads(turn, peer)
        for other in tuple(turn.peers.values()):
            if other is not peer:
                turn.drop_peer(other)
        pieces = (1 << task.piece_count) - 1
        peer = turn.move_peer(replace(peer, finished_pieces=pieces), PeerTrigger.SUCCEED)
        turn.move_task(TaskTrigger.SUCCEED)
    turn.effects += [
        AnswerTask(status=status_of(turn.need_task(), turn.peers)),
        CountReplicas(),
    ]


def failed(turn: Turn, event: UploadFailed) -> None:
    """The first copy was not made: the task may be uploaded again. Said twice, it is the same."""
    peer = _uploader(turn, event.host_id, event.peer_id)
    if (turn.need_task().state, peer.state) == (TaskState.FAILED, PeerState.FAILED):
        return
    _check_uploads(turn, peer)
    turn.move_peer(peer, PeerTrigger.FAIL)
    turn.move_task(TaskTrigger.FAIL)


def _uploader(turn: Turn, host_id: str, peer_id: str) -> Peer:
    turn.need_task()
    peer = turn.peers.get(peer_id)
    if peer is None:
        raise NotFoundError(f"{turn.kind} peer {peer_id} not found: start the upload first")
    if peer.host_id != host_id:
        raise PreconditionError(
            f"{turn.kind} peer {peer_id} is one of host {peer.host_id}, not of {host_id}"
        )
    return peer


def _check_uploads(turn: Turn, peer: Peer) -> None:
    """Of how the upload went only the uploader can tell, not one that downloads meanwhile."""
    if peer.state is not PeerState.UPLOADING:
        raise IllegalTransitionError(
            f"{turn.kind} peer {peer.id} is {peer.state}: it has no upload to end"
        )
