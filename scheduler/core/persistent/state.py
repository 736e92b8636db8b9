"""What is known of one persistent task: the task, its peers, their hosts. Values, and no life.

They are loaded from a store that all schedulers of a cluster share, and written back by effects.
"""

from __future__ import annotations

from enum import StrEnum

from odonata.wire.message import Value
from scheduler.core.persistent.lifecycle import PeerState, TaskState


class Kind(StrEnum):
    """Which kind of persistent task; the values are parts of Dragonfly's Redis keys."""

    PERSISTENT = "persistent"
    PERSISTENT_CACHE = "persistent-cache"

    @property
    def has_source(self) -> bool:
        """Whether a peer without parents can go to a source: object storage."""
        return self is Kind.PERSISTENT


class Task(Value, frozen=True, kw_only=True):
    """One persistent task. Times are seconds since 1970, lengths bytes.

    `storage` is the ObjectStorage message a replica needs, serialised and without secrets; it and
    `url` are empty for persistent cache tasks.
    """

    id: str
    state: TaskState
    persistent_replica_count: int
    content_length: int
    piece_count: int
    piece_length: int = 0
    tag: str = ""
    application: str = ""
    ttl_s: float
    created_at_s: float
    updated_at_s: float
    url: str = ""
    storage: bytes = b""

    @property
    def expires_at_s(self) -> float:
        """When its time to live is over."""
        return self.created_at_s + self.ttl_s


class Peer(Value, frozen=True, kw_only=True):
    """One copy of a task on a host. `finished_pieces`: bit n is set once piece n is there.

    `persistent`: the copy is a replica, which no disk pressure drops.
    """

    id: str
    task_id: str
    host_id: str
    state: PeerState
    persistent: bool = False
    finished_pieces: int = 0
    block_parents: tuple[str, ...] = ()
    cost_s: float = 0.0
    created_at_s: float
    updated_at_s: float
    concurrent_piece_count: int = 0

    @property
    def is_replica(self) -> bool:
        """Whether it counts among the replicas, or will once it is whole."""
        return self.persistent and self.state is not PeerState.FAILED


class PeerHost(Value, frozen=True, kw_only=True):
    """What a decision asks of a host. All else it said of itself stays in the store."""

    id: str
    ip: str
    port: int
    download_port: int = 0
    idc: str = ""
    location: str = ""
    disable_shared: bool = False
    disk_free_bytes: int = 0
    announce_interval_s: float = 0.0
    updated_at_s: float = 0.0

    @property
    def call_port(self) -> int:
        """Where it takes calls about replicas: Dragonfly calls the download port for them."""
        return self.download_port or self.port

    def is_silent(self, now: float, ttl_s: float) -> bool:
        """Whether it missed two announcements, or said nothing for `ttl_s` if it set no pace."""
        patience_s = 2 * self.announce_interval_s or ttl_s
        return now - self.updated_at_s > patience_s


class Snapshot(Value, frozen=True, kw_only=True):
    """One task as it was when it was loaded. `hosts`: those of its peers, and any asked for.

    `taken_by`: the other task, if any, that the peer of the event at hand belongs to.
    """

    kind: Kind
    task_id: str
    task: Task | None = None
    peers: dict[str, Peer] = {}
    hosts: dict[str, PeerHost] = {}
    taken_by: str = ""


class ReplicaCounts(Value, frozen=True, kw_only=True):
    """Hosts that hold the whole content: all of them, and those that keep it as a replica."""

    every: int
    persistent: int


class TaskStatus(Value, frozen=True, kw_only=True):
    """A task and how many hold it."""

    task: Task
    counts: ReplicaCounts


class PeerStatus(Value, frozen=True, kw_only=True):
    """A peer and the task it is a copy of."""

    peer: Peer
    task: TaskStatus
