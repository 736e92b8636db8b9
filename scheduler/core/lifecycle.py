"""The life cycles of a peer and of a task, as tables. Nothing else decides what may follow what.

Theory of operation
===================

A *peer* is one download of one task on one host. It is born `Pending`. Registering tells the
scheduler how big the task is, and the peer becomes `ReceivedEmpty`, `ReceivedTiny`, `ReceivedSmall`
or `ReceivedNormal`: it has been heard, and is owed an answer (Tiny and Small are kept for the
wire's sake; they get no special treatment). From there it either starts to download from the
parents it was given (`Running`), or goes back to the source (`BackToSource`), which a running peer
may do as well.

    Pending --Register*--> Received* --Download--> Running --DownloadSucceeded--> Succeeded
                              |                       |                              ^
                              +--DownloadBackToSource-+-----> BackToSource ----------+

A peer that registers with all the bytes already in its store ("metadata only") goes from
`ReceivedNormal` to `Succeeded` at once. Every state but `Leave` can fail or leave; `Leave` is the
end: the next sweep forgets the peer. Only `Running`, `BackToSource` and `Succeeded` peers serve
others.

A *task* is what the peers of one id share. It is `Running` while somebody downloads, `Succeeded`
once one peer brought the whole content from the source, `Failed` when the source refused and
nobody is left who could help, and `Leave` when its last peer has gone. It can start again from all
of them.

The names of the states are those of the wire (Dragonfly 2.5), and a pair that is missing from a
table is illegal. Illegal means that a client broke the conversation: the error names the pair and
tells the peer's story, and only that peer's stream ends.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from odonata.errors import PreconditionError

_State = TypeVar("_State", bound=StrEnum)
_Trigger = TypeVar("_Trigger", bound=StrEnum)


class PeerState(StrEnum):
    """Where a peer is in its life; the values travel on the wire."""

    PENDING = "Pending"
    RECEIVED_EMPTY = "ReceivedEmpty"
    RECEIVED_TINY = "ReceivedTiny"
    RECEIVED_SMALL = "ReceivedSmall"
    RECEIVED_NORMAL = "ReceivedNormal"
    RUNNING = "Running"
    BACK_TO_SOURCE = "BackToSource"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LEAVE = "Leave"


class PeerTrigger(StrEnum):
    """What moves a peer along."""

    REGISTER_EMPTY = "RegisterEmpty"
    REGISTER_TINY = "RegisterTiny"
    REGISTER_SMALL = "RegisterSmall"
    REGISTER_NORMAL = "RegisterNormal"
    DOWNLOAD = "Download"
    DOWNLOAD_BACK_TO_SOURCE = "DownloadBackToSource"
    DOWNLOAD_SUCCEEDED = "DownloadSucceeded"
    DOWNLOAD_FAILED = "DownloadFailed"
    LEAVE = "Leave"


class TaskState(StrEnum):
    """Where a task is in its life; the values travel on the wire."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LEAVE = "Leave"


class TaskTrigger(StrEnum):
    """What moves a task along."""

    DOWNLOAD = "Download"
    DOWNLOAD_SUCCEEDED = "DownloadSucceeded"
    DOWNLOAD_FAILED = "DownloadFailed"
    LEAVE = "Leave"


RECEIVED = (
    PeerState.RECEIVED_EMPTY,
    PeerState.RECEIVED_TINY,
    PeerState.RECEIVED_SMALL,
    PeerState.RECEIVED_NORMAL,
)
"""Registered, and not yet downloading."""

SERVING = (PeerState.RUNNING, PeerState.BACK_TO_SOURCE, PeerState.SUCCEEDED)
"""States in which a peer may be named as a parent."""

ENDED = (PeerState.SUCCEEDED, PeerState.FAILED, PeerState.LEAVE)
"""States in which a peer is owed nothing any more."""


def _rows(
    *rows: tuple[_Trigger, tuple[_State, ...], _State],
) -> dict[tuple[_State, _Trigger], _State]:
    return {(source, trigger): target for trigger, sources, target in rows for source in sources}


PEER_TRANSITIONS: dict[tuple[PeerState, PeerTrigger], PeerState] = _rows(
    (PeerTrigger.REGISTER_EMPTY, (PeerState.PENDING,), PeerState.RECEIVED_EMPTY),
    (PeerTrigger.REGISTER_TINY, (PeerState.PENDING,), PeerState.RECEIVED_TINY),
    (PeerTrigger.REGISTER_SMALL, (PeerState.PENDING,), PeerState.RECEIVED_SMALL),
    (PeerTrigger.REGISTER_NORMAL, (PeerState.PENDING,), PeerState.RECEIVED_NORMAL),
    (PeerTrigger.DOWNLOAD, RECEIVED, PeerState.RUNNING),
    (
        PeerTrigger.DOWNLOAD_BACK_TO_SOURCE,
        (*RECEIVED, PeerState.RUNNING),
        PeerState.BACK_TO_SOURCE,
    ),
    (
        PeerTrigger.DOWNLOAD_SUCCEEDED,
        (*RECEIVED, PeerState.RUNNING, PeerState.BACK_TO_SOURCE),
        PeerState.SUCCEEDED,
    ),
    (
        PeerTrigger.DOWNLOAD_FAILED,
        (PeerState.PENDING, *RECEIVED, *SERVING),
        PeerState.FAILED,
    ),
    (
        PeerTrigger.LEAVE,
        (PeerState.PENDING, *RECEIVED, *SERVING, PeerState.FAILED),
        PeerState.LEAVE,
    ),
)

TASK_TRANSITIONS: dict[tuple[TaskState, TaskTrigger], TaskState] = _rows(
    (
        TaskTrigger.DOWNLOAD,
        (TaskState.PENDING, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.LEAVE),
        TaskState.RUNNING,
    ),
    (
        TaskTrigger.DOWNLOAD_SUCCEEDED,
        (TaskState.LEAVE, TaskState.RUNNING, TaskState.FAILED),
        TaskState.SUCCEEDED,
    ),
    (TaskTrigger.DOWNLOAD_FAILED, (TaskState.RUNNING,), TaskState.FAILED),
    (
        TaskTrigger.LEAVE,
        (TaskState.PENDING, TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED),
        TaskState.LEAVE,
    ),
)


class IllegalTransitionError(PreconditionError):
    """The conversation allows no such step from here. `detail` tells how it came here."""

    code = "illegal_transition"


def next_peer_state(state: PeerState, trigger: PeerTrigger, story: str = "") -> PeerState:
    """Return where `trigger` leads from `state`; raise IllegalTransitionError with the `story`."""
    target = PEER_TRANSITIONS.get((state, trigger))
    if target is None:
        raise _illegal("peer", state, trigger, story)
    return target


def next_task_state(state: TaskState, trigger: TaskTrigger, story: str = "") -> TaskState:
    """Return where `trigger` leads from `state`; raise IllegalTransitionError with the `story`."""
    target = TASK_TRANSITIONS.get((state, trigger))
    if target is None:
        raise _illegal("task", state, trigger, story)
    return target


def _illegal(what: str, state: StrEnum, trigger: StrEnum, story: str) -> IllegalTransitionError:
    told = f"; its story: {story}" if story else ""
    return IllegalTransitionError(f"a {what} in state {state} can't take {trigger}{told}")
