"""The life cycles of a persistent peer and of a persistent task, as tables.

Theory of operation
===================

Persistent tasks come in two kinds. A *persistent* task is a copy of an object that is also written
to object storage, so whoever finds no peer can go there. A *persistent cache* task exists nowhere
but in the swarm: when its last copy is gone, it is gone.

A *peer* is one copy of a task on one host: it came there by an upload, or by a download.

    Pending --Upload-----------> Uploading ---------------------------+
       |                                                              v
       +-----RegisterEmpty-----> ReceivedEmpty --+                Succeeded
       +-----RegisterNormal----> ReceivedNormal -+--Download--> Running

Every state but `Succeeded` can fail, and a `Failed` peer may upload or register again. A peer that
fetches from object storage is `Running` too. Only `Running` and `Succeeded` peers serve others.

A *task* is `Uploading` while its first copy is made, then `Succeeded` until its time to live is
over; an upload that fails leaves it `Failed`, and it may be uploaded again.

The names are those of the wire and of Dragonfly 2.5, whose tables these are, and a pair that is
missing is illegal. Four things are done better than there:

- A failed upload fails the task. Dragonfly's event resolves to Succeeded, and so a task that nobody
  holds could neither be fetched nor uploaded again.
- An upload whose host or peer disappears fails the task as well. There it stays Uploading, and its
  id is blocked until the time to live is over.
- `Lost` is ours: a persistent cache task whose last copy is gone is Failed, so that it may be
  uploaded again. There it stays Succeeded and sends everybody away.
- A peer whose stream breaks off has failed, and is offered to nobody. There it stays Running.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from scheduler.core.lifecycle import IllegalTransitionError

_State = TypeVar("_State", bound=StrEnum)
_Trigger = TypeVar("_Trigger", bound=StrEnum)


class PeerState(StrEnum):
    """Where a copy is in its life; the values travel on the wire."""

    PENDING = "Pending"
    UPLOADING = "Uploading"
    RECEIVED_EMPTY = "ReceivedEmpty"
    RECEIVED_NORMAL = "ReceivedNormal"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class PeerTrigger(StrEnum):
    """What moves a peer along."""

    UPLOAD = "Upload"
    REGISTER_EMPTY = "RegisterEmpty"
    REGISTER_NORMAL = "RegisterNormal"
    DOWNLOAD = "Download"
    SUCCEED = "Succeeded"
    FAIL = "Failed"


class TaskState(StrEnum):
    """Where a task is in its life; the values travel on the wire."""

    PENDING = "Pending"
    UPLOADING = "Uploading"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class TaskTrigger(StrEnum):
    """What moves a task along."""

    UPLOAD = "Upload"
    SUCCEED = "Succeeded"
    FAIL = "Failed"
    LOSE = "Lost"


RECEIVED = (PeerState.RECEIVED_EMPTY, PeerState.RECEIVED_NORMAL)
"""Registered, and not yet downloading."""

SERVING = (PeerState.RUNNING, PeerState.SUCCEEDED)
"""States in which a peer may be named as a parent."""

UNDER_WAY = (*RECEIVED, PeerState.RUNNING)
"""A download that has neither succeeded nor failed."""


def _rows(
    *rows: tuple[_Trigger, tuple[_State, ...], _State],
) -> dict[tuple[_State, _Trigger], _State]:
    return {(source, trigger): target for trigger, sources, target in rows for source in sources}


_IDLE = (PeerState.PENDING, PeerState.FAILED)

PEER_TRANSITIONS: dict[tuple[PeerState, PeerTrigger], PeerState] = _rows(
    (PeerTrigger.UPLOAD, _IDLE, PeerState.UPLOADING),
    (PeerTrigger.REGISTER_EMPTY, _IDLE, PeerState.RECEIVED_EMPTY),
    (PeerTrigger.REGISTER_NORMAL, _IDLE, PeerState.RECEIVED_NORMAL),
    (PeerTrigger.DOWNLOAD, RECEIVED, PeerState.RUNNING),
    (PeerTrigger.SUCCEED, (PeerState.UPLOADING, PeerState.RUNNING), PeerState.SUCCEEDED),
    (
        PeerTrigger.FAIL,
        (PeerState.PENDING, PeerState.UPLOADING, *UNDER_WAY),
        PeerState.FAILED,
    ),
)

TASK_TRANSITIONS: dict[tuple[TaskState, TaskTrigger], TaskState] = _rows(
    (TaskTrigger.UPLOAD, (TaskState.PENDING, TaskState.FAILED), TaskState.UPLOADING),
    (TaskTrigger.SUCCEED, (TaskState.UPLOADING,), TaskState.SUCCEEDED),
    (TaskTrigger.FAIL, (TaskState.UPLOADING,), TaskState.FAILED),
    (TaskTrigger.LOSE, (TaskState.SUCCEEDED,), TaskState.FAILED),
)


def next_peer_state(state: PeerState, trigger: PeerTrigger, peer_id: str) -> PeerState:
    """Return where `trigger` leads from `state`; raise IllegalTransitionError naming `peer_id`."""
    target = PEER_TRANSITIONS.get((state, trigger))
    if target is None:
        raise IllegalTransitionError(
            f"persistent peer {peer_id} is in state {state}, which can't take {trigger}"
        )
    return target


def next_task_state(state: TaskState, trigger: TaskTrigger, task_id: str) -> TaskState:
    """Return where `trigger` leads from `state`; raise IllegalTransitionError naming `task_id`."""
    target = TASK_TRANSITIONS.get((state, trigger))
    if target is None:
        raise IllegalTransitionError(
            f"persistent task {task_id} is in state {state}, which can't take {trigger}"
        )
    return target
