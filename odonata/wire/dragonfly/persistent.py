"""Persistent and persistent cache tasks, as a peer speaks of them: scheduler.v2 and dfdaemon.v2.

The messages of the two kinds differ in names and little else, so the kind (`TaskType`) chooses the
names and one set of functions writes both. The scheduler's side of these streams is the
scheduler's; what both kinds of stream share with AnnouncePeer is in `announce`. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2

from odonata.errors import CallerError, ProtocolError
from odonata.wire.dragonfly.announce import PeerRequest, source_answer_to_wire
from odonata.wire.dragonfly.dfdaemon import DownloadProgress, HeldPiece, PieceArrived, WantedPieces
from odonata.wire.dragonfly.download import piece_from_wire, piece_to_wire
from odonata.wire.dragonfly.host import host_from_wire
from odonata.wire.dragonfly.moment import (
    duration_from_wire,
    duration_to_wire,
    timestamp_from_wire,
    timestamp_to_wire,
)
from odonata.wire.message import (
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    Download,
    EmptyTask,
    Failed,
    Finished,
    NeedBackToSource,
    NormalTask,
    Parent,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    PieceFailed,
    PieceFinished,
    Register,
    Reschedule,
    SchedulerAnswer,
    Started,
    TaskFacts,
    TaskType,
    Value,
)

WORDS: Final = {
    TaskType.PERSISTENT: ("Persistent", "persistent"),
    TaskType.PERSISTENT_CACHE: ("PersistentCache", "persistent_cache"),
}
"""Kind -> how names of messages and rpcs, and of fields, call it."""

# Dragonfly's rules for the time to live (scheduler.v2).
MIN_TTL_S: Final = 60.0
MAX_TTL_S: Final = 7 * 24 * 3600.0

# Of an object storage: what tells where it is, and no secret.
_STORAGE_FIELDS: Final = ("region", "endpoint", "credential_path", "insecure_skip_verify")

PersistentTaskMessage: TypeAlias = common_pb2.PersistentTask | common_pb2.PersistentCacheTask


class PersistentFacts(Value, frozen=True, kw_only=True):
    """What the scheduler knows of a persistent task: bytes, seconds, Unix time.

    `piece_length` None: it does not say, and the rule applies.
    """

    id: str
    state: str
    persistent_replica_count: int
    current_persistent_replica_count: int
    current_replica_count: int
    content_length: int
    piece_count: int
    piece_length: int | None = None
    tag: str = ""
    application: str = ""
    ttl_s: float
    created_at_s: float


def named(kind: TaskType, pattern: str) -> str:
    """The name of a message or an rpc of this kind, for {} in `pattern`."""
    return pattern.format(WORDS[kind][0])


def field_of(kind: TaskType, pattern: str) -> str:
    """The name of a field of this kind, for {} in `pattern`."""
    return pattern.format(WORDS[kind][1])


def rpcs_named(kind: TaskType, rpcs: Mapping[str, Callable[[Any, Any], Any]]) -> object:
    """A part of a service (`odonata.grpc_service`) that serves these rpcs, by `named` patterns."""
    return SimpleNamespace(**{named(kind, pattern): rpc for pattern, rpc in rpcs.items()})


def scheduler_message(kind: TaskType, pattern: str, **fields: Any) -> Any:
    """A message of scheduler.v2."""
    return getattr(scheduler_pb2, named(kind, pattern))(**fields)


def dfdaemon_message(kind: TaskType, pattern: str, **fields: Any) -> Any:
    """A message of dfdaemon.v2."""
    return getattr(dfdaemon_pb2, named(kind, pattern))(**fields)


# --- announce streams, written --------------------------------------------------------------------


def persistent_request_to_wire(
    kind: TaskType, request: PeerRequest, named_peers: Mapping[str, Any]
) -> Any:
    """Write one message of a peer. `named_peers`: those that the scheduler named, as it did."""
    wire = scheduler_message(
        kind,
        "Announce{}PeerRequest",
        host_id=request.host_id,
        task_id=request.task_id,
        peer_id=request.peer_id,
    )
    message = request.message
    if isinstance(message, Register):
        _write_register(kind, wire, message.download)
    elif isinstance(message, Reschedule):
        part = getattr(wire, field_of(kind, "reschedule_{}_peer_request"))
        if message.description:
            part.description = message.description
        for peer_id in message.parent_ids:
            peer = part.candidate_parents.add()
            if peer_id in named_peers:
                peer.CopyFrom(named_peers[peer_id])
            peer.id = peer_id
    elif isinstance(message, PieceFinished | PieceBackToSourceFinished | PieceFailed):
        _write_piece(wire, message)
    elif isinstance(message, PieceBackToSourceFailed):
        _write_source_failure(wire, message)
    else:
        _write_state(kind, wire, message)
    return wire


def _write_register(kind: TaskType, wire: Any, download: Download) -> None:
    register = getattr(wire, field_of(kind, "register_{}_peer_request"))
    register.SetInParent()
    register.persistent = download.tenure is not None and download.tenure.persistent
    register.piece_count = download.actual_piece_count or 0
    for name in ("output_path", "concurrent_piece_count"):
        value = getattr(download, name)
        if value is not None:
            setattr(register, name, value)
    if kind is TaskType.PERSISTENT:
        register.url = download.url
        register.need_back_to_source = download.need_back_to_source
        message = common_pb2.Download()
        message.ParseFromString(download.extra)  # where what no core looks at lives on
        register.object_storage.CopyFrom(without_secrets(message.object_storage))
        return
    register.piece_length = download.actual_piece_length or 0
    for name in ("tag", "application"):
        if getattr(download, name):
            setattr(register, name, getattr(download, name))


def without_secrets(storage: common_pb2.ObjectStorage) -> common_pb2.ObjectStorage:
    """What a scheduler may know: where the object is. Keys and tokens stay on this host."""
    kept = common_pb2.ObjectStorage()
    for name in _STORAGE_FIELDS:
        if storage.HasField(name):
            setattr(kept, name, getattr(storage, name))
    return kept


def _write_piece(
    wire: Any, message: PieceFinished | PieceBackToSourceFinished | PieceFailed
) -> None:
    if isinstance(message, PieceFinished):
        wire.download_piece_finished_request.piece.CopyFrom(piece_to_wire(message.piece))
    elif isinstance(message, PieceBackToSourceFinished):
        part = wire.download_piece_back_to_source_finished_request
        part.piece.CopyFrom(piece_to_wire(message.piece))
    else:
        part = wire.download_piece_failed_request
        part.parent_id, part.temporary = message.parent_id, message.temporary
        if message.number is not None:
            part.piece_number = message.number


def _write_source_failure(wire: Any, message: PieceBackToSourceFailed) -> None:
    part = wire.download_piece_back_to_source_failed_request
    if message.number is not None:
        part.piece_number = message.number
    if message.answer is not None:
        part.backend.CopyFrom(source_answer_to_wire(message.answer))
    else:
        part.unknown.message = message.description


_STATES: Final[Mapping[type[Value], str]] = {
    Started: "download_{}_peer_started_request",
    BackToSourceStarted: "download_{}_peer_back_to_source_started_request",
    Finished: "download_{}_peer_finished_request",
    BackToSourceFinished: "download_{}_peer_back_to_source_finished_request",
    Failed: "download_{}_peer_failed_request",
    BackToSourceFailed: "download_{}_peer_back_to_source_failed_request",
}


def _write_state(kind: TaskType, wire: Any, message: Value) -> None:
    """A persistent cache task has no source, so its core never says the words about one."""
    part = getattr(wire, field_of(kind, _STATES[type(message)]))
    part.SetInParent()
    description = getattr(message, "description", "")
    if description:
        part.description = description


# --- announce streams, read -----------------------------------------------------------------------


def persistent_answer_from_wire(kind: TaskType, response: Any) -> tuple[SchedulerAnswer, list[Any]]:
    """Read an answer; also the peers that it names, as it names them. Raises ProtocolError."""
    member = response.WhichOneof("response")
    if member == field_of(kind, "empty_{}_task_response"):
        return EmptyTask(), []
    if member == "need_back_to_source_response":
        return NeedBackToSource(description=response.need_back_to_source_response.description), []
    if member != field_of(kind, "normal_{}_task_response"):
        raise ProtocolError(
            "the scheduler's answer is not set, or of a kind this version does not know"
        )
    part = getattr(response, member)
    peers = list(
        part.candidate_parents if kind is TaskType.PERSISTENT else part.candidate_cache_parents
    )
    if not peers:
        raise ProtocolError("the scheduler answered without a single parent")
    return NormalTask(parents=tuple(_parent(peer) for peer in peers)), peers


def _parent(peer: Any) -> Parent:
    task = peer.task
    known = peer.HasField("task") and (task.content_length > 0 or task.piece_count == 0)
    return Parent(
        peer_id=peer.id,
        host=host_from_wire(peer.host),
        state=peer.state,
        task=TaskFacts(
            id=task.id,
            content_length=task.content_length if known else None,
            piece_count=task.piece_count,
        ),
    )


# --- tasks ----------------------------------------------------------------------------------------


def facts_from_wire(message: PersistentTaskMessage) -> PersistentFacts:
    """Read what a scheduler knows of a task."""
    more: dict[str, Any] = {}
    if isinstance(message, common_pb2.PersistentCacheTask):
        more = {
            "piece_length": message.piece_length or None,
            "tag": message.tag,
            "application": message.application,
        }
    return PersistentFacts(
        id=message.id,
        state=message.state,
        persistent_replica_count=message.persistent_replica_count,
        current_persistent_replica_count=message.current_persistent_replica_count,
        current_replica_count=message.current_replica_count,
        content_length=message.content_length,
        piece_count=message.piece_count,
        ttl_s=duration_from_wire(message.ttl),
        created_at_s=timestamp_from_wire(message.created_at),
        **more,
    )


class LocalCopy(Value, frozen=True, kw_only=True):
    """What a daemon holds of a task (StatLocalPersistent…TaskResponse). Bytes and Unix seconds."""

    task_id: str
    persistent: bool
    ttl_s: float
    piece_length: int | None = None
    content_length: int | None = None
    created_at_s: float = 0.0
    updated_at_s: float = 0.0
    finished_at_s: float | None = None


def local_copy_to_wire(kind: TaskType, copy: LocalCopy) -> Any:
    """Write what is held."""
    wire = dfdaemon_message(
        kind,
        "StatLocal{}TaskResponse",
        task_id=copy.task_id,
        persistent=copy.persistent,
        ttl=duration_to_wire(copy.ttl_s),
        piece_length=copy.piece_length,
        content_length=copy.content_length,
        created_at=timestamp_to_wire(copy.created_at_s),
        updated_at=timestamp_to_wire(copy.updated_at_s),
    )
    if copy.finished_at_s is not None:
        wire.finished_at.CopyFrom(timestamp_to_wire(copy.finished_at_s))
    return wire


def local_copy_from_wire(wire: Any) -> LocalCopy:
    """Read what a daemon holds."""
    return LocalCopy(
        task_id=wire.task_id,
        persistent=wire.persistent,
        ttl_s=duration_from_wire(wire.ttl),
        piece_length=wire.piece_length if wire.HasField("piece_length") else None,
        content_length=wire.content_length if wire.HasField("content_length") else None,
        created_at_s=timestamp_from_wire(wire.created_at),
        updated_at_s=timestamp_from_wire(wire.updated_at),
        finished_at_s=(
            timestamp_from_wire(wire.finished_at) if wire.HasField("finished_at") else None
        ),
    )


# --- between peers, and to users ------------------------------------------------------------------


def persistent_wanted_to_wire(kind: TaskType, wanted: WantedPieces) -> Any:
    """Write a SyncPersistent…PiecesRequest."""
    return dfdaemon_message(
        kind,
        "Sync{}PiecesRequest",
        host_id=wanted.host_id,
        task_id=wanted.task_id,
        interested_piece_numbers=wanted.numbers,
    )


def persistent_held_to_wire(kind: TaskType, held: HeldPiece) -> Any:
    """Write a SyncPersistent…PiecesResponse."""
    return dfdaemon_message(
        kind,
        "Sync{}PiecesResponse",
        number=held.number,
        offset=held.offset,
        length=held.length,
        ip=held.ip,
        tcp_port=held.tcp_port,
        quic_port=held.quic_port,
    )


def persistent_progress_to_wire(kind: TaskType, progress: DownloadProgress) -> Any:
    """Write one message of DownloadPersistent…Task's stream."""
    wire = dfdaemon_message(
        kind,
        "Download{}TaskResponse",
        host_id=progress.host_id,
        task_id=progress.task_id,
        peer_id=progress.peer_id,
    )
    step = progress.step
    if isinstance(step, PieceArrived):
        piece = piece_to_wire(step.piece, step.content)
        wire.download_piece_finished_response.piece.CopyFrom(piece)
    else:
        started = getattr(wire, field_of(kind, "download_{}_task_started_response"))
        started.SetInParent()
        started.content_length = step.content_length
    return wire


def persistent_step_from_wire(kind: TaskType, response: Any) -> int | PieceArrived:
    """Read one such message: the content's length, or a piece. Raises ProtocolError."""
    member = response.WhichOneof("response")
    if member == field_of(kind, "download_{}_task_started_response"):
        return int(getattr(response, member).content_length)
    if member == "download_piece_finished_response":
        piece = response.download_piece_finished_response.piece
        content = piece.content if piece.HasField("content") else None
        return PieceArrived(piece=piece_from_wire(piece), content=content)
    raise ProtocolError("the daemon's answer is not set, or of a kind this version does not know")


# --- checks ---------------------------------------------------------------------------------------


def require_ttl_s(request: Any) -> float:
    """The time to live that an upload asks for. Raises CallerError."""
    if not request.HasField("ttl"):
        raise CallerError("ttl is not set: say how long the task is to live, 1 minute to 7 days")
    ttl_s = duration_from_wire(request.ttl)
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise CallerError(f"ttl {ttl_s:g} s is out of bounds: use 1 minute to 7 days")
    return ttl_s


def require_replicas(value: int) -> int:
    """How many replicas an upload asks for. Raises CallerError."""
    if value < 1:
        raise CallerError(f"persistent_replica_count {value} is too small: ask for at least 1")
    return value
