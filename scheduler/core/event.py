"""What can happen to a scheduler. Past tense; each goes to `SchedulerCore.handle` with `now`."""

from __future__ import annotations

from odonata.wire.message import (
    HeldTask,
    Host,
    PeerMessage,
    PieceBackToSourceFinished,
    PieceFinished,
    SourceAnswer,
    Value,
)
from scheduler.core.cluster import ClusterConfig


class HostAnnounced(Value, frozen=True, kw_only=True, tag=True):
    """A host said hello, maybe again. `interval_s` is how often it will (0: it did not say).

    `shares_source`: a seed that said that it can fetch a part of a content
    (`odonata.wire.dragonfly.feature`). `returns`: it had found this scheduler before, and lost it.
    """

    host: Host
    interval_s: float = 0.0
    shares_source: bool = False
    returns: bool = False


class HostDeleted(Value, frozen=True, kw_only=True, tag=True):
    """A host takes its leave (graceful shutdown)."""

    host_id: str


class HostContacted(Value, frozen=True, kw_only=True, tag=True):
    """Host `host_id` holds contact from now on (`contact`), until HostLost."""

    host_id: str


class HostLost(Value, frozen=True, kw_only=True, tag=True):
    """Host `host_id` holds contact no more: it has died, or the way to it."""

    host_id: str


class HostUnreachable(Value, frozen=True, kw_only=True, tag=True):
    """Nobody answered at host `host_id` when it was probed."""

    host_id: str


class TasksHeld(Value, frozen=True, kw_only=True, tag=True):
    """Host `host_id` holds these tasks whole."""

    host_id: str
    held: tuple[HeldTask, ...]


class PeerSpoke(Value, frozen=True, kw_only=True, tag=True):
    """A message arrived on the AnnouncePeer stream of `peer_id`.

    `is_ours`: the peer said that it is one of ours (`odonata.wire.dragonfly.feature`): it takes
    answers it did not ask for, and leaves parents that an answer does not name. `writes_pieces`: it
    writes piece records itself. `checks_pieces`: it takes strong digests (`proof`), `shares_far`:
    its part as a gateway. `resumes`: it had a scheduler for this download, and lost it.
    """

    host_id: str
    task_id: str
    peer_id: str
    message: PeerMessage
    is_ours: bool = False
    writes_pieces: bool = False
    checks_pieces: bool = False
    shares_far: bool = False
    resumes: bool = False


class PiecesFinished(Value, frozen=True, kw_only=True, tag=True):
    """Reports of finished pieces that arrived together on the stream of `peer_id`, in order.

    The same as one PeerSpoke for each, at a fraction of the cost: they have one moment, and what
    follows from them is decided once.
    """

    host_id: str
    task_id: str
    peer_id: str
    messages: tuple[PieceFinished | PieceBackToSourceFinished, ...]


class StreamClosed(Value, frozen=True, kw_only=True, tag=True):
    """The AnnouncePeer stream of `peer_id` ended from the peer's side, whatever the reason."""

    peer_id: str


class SeedFinished(Value, frozen=True, kw_only=True, tag=True):
    """The DownloadTask stream that triggered seed `host_id` ended well."""

    task_id: str
    host_id: str


class SeedFailed(Value, frozen=True, kw_only=True, tag=True):
    """The trigger of seed `host_id` failed.

    `unreachable`: nobody answered, it may be dead. `answer`: the seed is well, and this is what the
    source told it. Neither: something of the seed's own, like a full disk.
    """

    task_id: str
    host_id: str
    reason: str
    unreachable: bool = False
    answer: SourceAnswer | None = None


class TaskDeleted(Value, frozen=True, kw_only=True, tag=True):
    """Host `host_id` no longer holds `task_id` (its GC, or a user)."""

    host_id: str
    task_id: str


class PeerDeleted(Value, frozen=True, kw_only=True, tag=True):
    host_id: str
    task_id: str
    peer_id: str


class ClusterConfigured(Value, frozen=True, kw_only=True, tag=True):
    """The operator's configuration was read, at the start or because it has changed."""

    config: ClusterConfig


class Ticked(Value, frozen=True, kw_only=True, tag=True):
    """Time passed: the answer to a WakeAt effect (never earlier than it asked for)."""


SchedulerEvent = (
    HostAnnounced
    | HostDeleted
    | HostContacted
    | HostLost
    | HostUnreachable
    | TasksHeld
    | PeerSpoke
    | PiecesFinished
    | StreamClosed
    | SeedFinished
    | SeedFailed
    | TaskDeleted
    | PeerDeleted
    | ClusterConfigured
    | Ticked
)
