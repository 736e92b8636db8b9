"""The conversation between a peer and its scheduler, and the nouns it speaks of.

These types carry no protobuf and do no I/O: both cores (`scheduler.core`, `peer.core`) exchange
them, the simulator passes them as they are, and `odonata.wire.dragonfly` maps them to Dragonfly's
API v2.
Names follow the wire; units stand last in a name. `None` means that the sender did not say.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class HostType(IntEnum):
    """`Host.type` on the wire: a bare number; anything but SUPER counts as a normal peer."""

    NORMAL = 0
    SUPER = 1


class TrafficType(IntEnum):
    """Where the bytes of a piece came from."""

    BACK_TO_SOURCE = 0
    REMOTE_PEER = 1
    LOCAL_PEER = 2


class TaskType(IntEnum):
    """Kinds of task; CACHE is in the API and served by nobody."""

    STANDARD = 0
    PERSISTENT = 1
    PERSISTENT_CACHE = 2
    CACHE = 3


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every message: immutable, compared by value, built by keyword.

    `frozen` and `kw_only` are said again on each subclass: the type checkers ask for it. `gc=False`
    is for those that come by the thousand and hold nothing but plain values or others of them: they
    can't be part of a cycle, and the collector need not look at them.
    """


class ByteRange(Value, frozen=True, kw_only=True, gc=False):
    """`length` bytes from `start`, both in bytes."""

    start: int
    length: int


class Host(Value, frozen=True, kw_only=True):
    """A machine that runs a peer daemon. `port` is its upload gRPC port; `ip` is an IP literal.

    `announcement` keeps the serialised message the host sent (CPU, memory, disk, build, ...), so
    that answers repeat what a host said of itself without the cores knowing every field.
    """

    id: str
    type: HostType = HostType.NORMAL
    hostname: str
    ip: str
    port: int
    download_port: int = 0
    idc: str = ""
    location: str = ""
    max_tx_bandwidth_bits_per_s: int = 0
    tx_bandwidth_bits_per_s: int = 0
    disable_shared: bool = False
    scheduler_cluster_id: int = 0
    announcement: bytes = b""

    @property
    def is_seed(self) -> bool:
        """Whether this host is a seed peer (type "super")."""
        return self.type is HostType.SUPER


class Piece(Value, frozen=True, kw_only=True, gc=False):
    """One piece: `length` bytes at `offset`; `digest` is `crc32:<decimal>`, empty if unknown.

    `strong_digest`: the BLAKE3 (`odonata.digest`) that its bytes were found to have; empty if they
    were not looked at so closely. A parent's word of it would be worth nothing: no wire carries it
    but that to the scheduler, for what came from the source.
    """

    number: int
    offset: int
    length: int
    digest: str = ""
    parent_id: str = ""
    traffic_type: TrafficType = TrafficType.REMOTE_PEER
    cost_s: float = 0.0
    created_at_s: float = 0.0
    strong_digest: bytes = b""


class SourceShare(Value, frozen=True, kw_only=True):
    """Which of `count` seeds, that fetch one content together, a seed is: number `index`, from 0.

    The first one begins before the others, and finds out how long the content is.
    """

    index: int
    count: int


class Tenure(Value, frozen=True, kw_only=True):
    """How a copy of a persistent or persistent cache task is to be kept.

    `persistent`: it is a replica, which no disk pressure drops. It is over `ttl_s` seconds after
    `created_at_s` (Unix time, the scheduler's), which also tells an upload from a later one of the
    same id.
    """

    persistent: bool = False
    ttl_s: float
    created_at_s: float

    @property
    def expires_at_s(self) -> float:
        """When it is over, Unix time."""
        return self.created_at_s + self.ttl_s


class Download(Value, frozen=True, kw_only=True):
    """What a user asked for. `actual_*` is what the peer learned of the content before registering.

    `revision` is the model hub's (hugging_face, model_scope, open_csg); it counts in the task id.
    `extra` keeps the rest of the original, serialised, so that fields which no core looks at
    (object storage credentials, certificate chains, ...) survive on their way to a seed peer. It is
    never logged.
    `source_share` and `no_p2p` are no part of the message: they are told in metadata (`feature`),
    the one to a seed of ours, the other by a user of this host. Nor is `tenure`, which only
    persistent and persistent cache tasks have.
    `metadata_only`: what is here already is only told to the scheduler.
    """

    url: str
    digest: str | None = None
    range: ByteRange | None = None
    type: TaskType = TaskType.STANDARD
    tag: str | None = None
    application: str | None = None
    revision: str | None = None
    priority: int = 0
    filtered_query_params: tuple[str, ...] = ()
    request_header: dict[str, str] = {}
    piece_length: int | None = None
    output_path: str | None = None
    timeout_s: float | None = None
    disable_back_to_source: bool = False
    need_back_to_source: bool = False
    metadata_only: bool = False
    prefetch: bool = False
    is_prefetch: bool = False
    need_piece_content: bool = False
    force_hard_link: bool = False
    overwrite: bool = False
    content_for_calculating_task_id: str | None = None
    enable_task_id_based_blob_digest: bool = False
    always_schedule: bool = False
    concurrent_piece_count: int | None = None
    actual_piece_length: int | None = None
    actual_content_length: int | None = None
    actual_piece_count: int | None = None
    source_share: SourceShare | None = None
    no_p2p: bool = False
    tenure: Tenure | None = None
    extra: bytes = b""


class TaskFacts(Value, frozen=True, kw_only=True):
    """What the scheduler knows of a task's content; travels inside a Parent."""

    id: str
    url: str = ""
    content_length: int | None = None
    piece_count: int = 0


class Parent(Value, frozen=True, kw_only=True):
    """A candidate parent as the scheduler names it: who, where, and in what state."""

    peer_id: str
    host: Host
    state: str
    task: TaskFacts
    finished_pieces: tuple[int, ...] = ()


class SourceAnswer(Value, frozen=True, kw_only=True):
    """What the source said when it refused (errordetails.v2.Backend). `status_code` is HTTP's."""

    message: str
    status_code: int | None = None
    header: dict[str, str] = {}


# --- peer -> scheduler, inside AnnouncePeer -------------------------------------------------------


class HeldTask(Value, frozen=True, kw_only=True):
    """A task that a host holds whole, and the peer id it is to be known by. Lengths in bytes."""

    task_id: str
    peer_id: str
    url: str
    content_length: int
    piece_length: int


class Register(Value, frozen=True, kw_only=True, tag=True):
    """First message of every stream.

    `resumes`: the download had a scheduler that was lost, and comes to this one. It is no
    field of Dragonfly's message; see `odonata.wire.dragonfly.feature`.
    """

    download: Download
    resumes: bool = False


class Started(Value, frozen=True, kw_only=True, tag=True):
    """The peer accepted its parents and downloads."""


class BackToSourceStarted(Value, frozen=True, kw_only=True, tag=True):
    description: str = ""


class Reschedule(Value, frozen=True, kw_only=True, tag=True):
    """These parents did not bring everything: others, please."""

    parent_ids: tuple[str, ...]
    description: str = ""


class PieceFinished(Value, frozen=True, kw_only=True, tag=True, gc=False):
    piece: Piece


class PieceBackToSourceFinished(Value, frozen=True, kw_only=True, tag=True, gc=False):
    piece: Piece


class PieceFailed(Value, frozen=True, kw_only=True, tag=True):
    """No parent could give this piece; `parent_id` is the last one tried. Temporary = blame it.

    `wrong_digest`: its bytes had another digest than it named; `by_list`: than the scheduler told.
    Only our own peers say so.
    """

    parent_id: str
    number: int | None = None
    temporary: bool = True
    wrong_digest: bool = False
    by_list: bool = False


class PieceBackToSourceFailed(Value, frozen=True, kw_only=True, tag=True):
    number: int | None = None
    answer: SourceAnswer | None = None
    description: str = ""


class AskDigests(Value, frozen=True, kw_only=True, tag=True):
    """What are the pieces, by those that had them from the source? The answer is `PieceDigests`.

    Only our own peers ask, and only a scheduler that takes that (`odonata.wire.dragonfly.feature`).
    """


class Finished(Value, frozen=True, kw_only=True, tag=True):
    """Terminal: everything arrived from peers."""


class BackToSourceFinished(Value, frozen=True, kw_only=True, tag=True):
    """Terminal: everything arrived, at least partly from the source."""


class Failed(Value, frozen=True, kw_only=True, tag=True):
    """Terminal: the peer gave up."""

    description: str = ""


class BackToSourceFailed(Value, frozen=True, kw_only=True, tag=True):
    """Terminal: the source failed too."""

    description: str = ""


PeerMessage = (
    Register
    | Started
    | BackToSourceStarted
    | Reschedule
    | PieceFinished
    | PieceBackToSourceFinished
    | PieceFailed
    | PieceBackToSourceFailed
    | AskDigests
    | Finished
    | BackToSourceFinished
    | Failed
    | BackToSourceFailed
)

# --- scheduler -> peer, inside AnnouncePeer -------------------------------------------------------


class EmptyTask(Value, frozen=True, kw_only=True, tag=True):
    """The task has no bytes."""


class NormalTask(Value, frozen=True, kw_only=True, tag=True):
    """Download from these, best first; never empty."""

    parents: tuple[Parent, ...]


class NeedBackToSource(Value, frozen=True, kw_only=True, tag=True):
    description: str = ""


class MetadataOnly(Value, frozen=True, kw_only=True, tag=True):
    """Answer to a metadata_only register."""


class PieceDigests(Value, frozen=True, kw_only=True, tag=True):
    """Strong digests of pieces, as told by whoever had them from the source.

    `packed`: as in `odonata.wire.digest_list`. What the peer was told before is not told again,
    and may be taken back. It comes with parents, or when it was asked for, then even if there is
    nothing to tell. `is_last`: no more follow at once.
    """

    packed: bytes = b""
    is_last: bool = True


MAX_FAR_SHARE_COUNT = 64
"""Gateways that divide a content between them. Two are the rule, and a few may be more; a number
that comes from elsewhere must have a bound."""


class FarShare(Value, frozen=True, kw_only=True, tag=True):
    """Which part of a content this gateway fetches from other data centres: one of `count` parts.

    The pieces whose number leaves `index` when divided by `count`; `count` 1: all of them. It holds
    until it is told anew. Nobody asks for it.
    """

    index: int
    count: int


SchedulerAnswer = EmptyTask | NormalTask | NeedBackToSource | MetadataOnly | PieceDigests | FarShare
