"""What the brain of persistent tasks wants done. Imperative; the driver carries them out in order.

The first four are writes: they become true together or not at all.
"""

from __future__ import annotations

from odonata.errors import OdonataError
from odonata.wire.message import EmptyTask, NeedBackToSource, Value
from scheduler.core.persistent.state import Peer, PeerHost, Task, TaskStatus


class PutTask(Value, frozen=True, kw_only=True, tag=True):
    """Write `task`; it and all that belongs to it expire at `task.expires_at_s`."""

    task: Task


class PutPeer(Value, frozen=True, kw_only=True, tag=True):
    """Write `peer`, which expires with its task at `expires_at_s`."""

    peer: Peer
    expires_at_s: float


class DropPeer(Value, frozen=True, kw_only=True, tag=True):
    """Forget `peer`."""

    peer: Peer


class DropTask(Value, frozen=True, kw_only=True, tag=True):
    """Forget task `task_id`; its peers have been dropped before."""

    task_id: str


class Parents(Value, frozen=True, kw_only=True, tag=True):
    """Download from these, best first; never empty."""

    peers: tuple[Peer, ...]


PersistentAnswer = EmptyTask | Parents | NeedBackToSource


class Answer(Value, frozen=True, kw_only=True, tag=True):
    """Send `answer` on the stream the event came from. `task`: what the parents hold."""

    answer: PersistentAnswer
    task: TaskStatus


class AnswerTask(Value, frozen=True, kw_only=True, tag=True):
    """The event's caller gets the task as it is now."""

    status: TaskStatus


class CloseStream(Value, frozen=True, kw_only=True, tag=True):
    """End the stream the event came from: OK, or with `error`."""

    error: OdonataError | None = None


class Refuse(Value, frozen=True, kw_only=True, tag=True):
    """The event can't be granted: its caller gets `error`."""

    error: OdonataError


class CountReplicas(Value, frozen=True, kw_only=True, tag=True):
    """Hand in ReplicasWanted for this task soon: it may lack some."""


class Promote(Value, frozen=True, kw_only=True, tag=True):
    """Ask `host` to keep the copy `peer_id` it already has; ReplicaKept follows if it agrees."""

    peer_id: str
    host: PeerHost


class Demote(Value, frozen=True, kw_only=True, tag=True):
    """Tell `host` that it need not keep its copy any longer."""

    host: PeerHost


class DownloadReplica(Value, frozen=True, kw_only=True, tag=True):
    """Ask `host` to fetch `task` and keep it; it registers by itself."""

    task: Task
    host: PeerHost


PersistentWrite = PutTask | PutPeer | DropPeer | DropTask

PersistentEffect = (
    PersistentWrite
    | Answer
    | AnswerTask
    | CloseStream
    | Refuse
    | CountReplicas
    | Promote
    | Demote
    | DownloadReplica
)
