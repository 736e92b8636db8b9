"""What can happen to a persistent task. Past tense; each goes to `PersistentCore.handle`."""

from __future__ import annotations

from enum import Enum, auto

from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    Failed,
    Finished,
    PieceBackToSourceFailed,
    PieceFailed,
    Reschedule,
    Started,
    Value,
)
from scheduler.core.persistent.state import Task


class UploadStarted(Value, frozen=True, kw_only=True, tag=True):
    """A host is about to make the first copy. State and times of `task` are not its to say."""

    host_id: str
    peer_id: str
    task: Task


class UploadFinished(Value, frozen=True, kw_only=True, tag=True):
    """The first copy is whole, and for a persistent task also in object storage."""

    host_id: str
    peer_id: str


class UploadFailed(Value, frozen=True, kw_only=True, tag=True):
    """The first copy was not made."""

    host_id: str
    peer_id: str
    description: str = ""


class Register(Value, frozen=True, kw_only=True, tag=True):
    """First message of a stream. `persistent`: the copy is to be a replica."""

    persistent: bool = False
    need_back_to_source: bool = False
    concurrent_piece_count: int = 0


class PiecesFinished(Value, frozen=True, kw_only=True, tag=True):
    """These pieces arrived since the last time."""

    numbers: tuple[int, ...]


PersistentMessage = (
    Register
    | Started
    | BackToSourceStarted
    | Reschedule
    | PiecesFinished
    | PieceFailed
    | PieceBackToSourceFailed
    | Finished
    | BackToSourceFinished
    | Failed
    | BackToSourceFailed
)


class PeerSpoke(Value, frozen=True, kw_only=True, tag=True):
    """A message arrived on the announce stream of `peer_id`."""

    host_id: str
    peer_id: str
    message: PersistentMessage


class StreamClosed(Value, frozen=True, kw_only=True, tag=True):
    """The announce stream of `peer_id` ended from the peer's side, whatever the reason."""

    host_id: str
    peer_id: str


class PeerDeleted(Value, frozen=True, kw_only=True, tag=True):
    """Host `host_id` no longer holds the copy `peer_id`."""

    host_id: str
    peer_id: str


class TaskDeleted(Value, frozen=True, kw_only=True, tag=True):
    """A user no longer wants the task."""


class HostLeft(Value, frozen=True, kw_only=True, tag=True):
    """Host `host_id` took its leave, or has been silent for too long."""

    host_id: str


class ReplicaKept(Value, frozen=True, kw_only=True, tag=True):
    """The host of `peer_id` has promised to keep its copy: the answer to a Promote."""

    peer_id: str


class ReplicasWanted(Value, frozen=True, kw_only=True, tag=True):
    """It is time to count the replicas. `avoid`: hosts that have just failed to become one."""

    avoid: frozenset[str] = frozenset()


PersistentEvent = (
    UploadStarted
    | UploadFinished
    | UploadFailed
    | PeerSpoke
    | StreamClosed
    | PeerDeleted
    | TaskDeleted
    | HostLeft
    | ReplicaKept
    | ReplicasWanted
)


class Scope(Enum):
    """How much of a task an event's decision looks at and changes."""

    PEER = auto()
    """The sender's peer alone: what the others do makes no difference."""
    PARENTS = auto()
    """It looks at all peers, as they are or were a moment ago, and changes the sender's alone."""
    TASK = auto()
    """All of it, as it is."""


def scope_of(event: PersistentEvent) -> Scope:
    """The least that must be loaded and held for `event`. Most messages need one peer of many."""
    match event:
        case PeerSpoke(message=Register() | Reschedule()):
            return Scope.PARENTS
        case PeerSpoke() | StreamClosed() | ReplicaKept():
            return Scope.PEER
        case _:
            return Scope.TASK
