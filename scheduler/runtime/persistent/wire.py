"""Persistent tasks <-> scheduler.v2 and common.v2, with the rules of Dragonfly's API.

The messages of the two kinds differ in names and little else; `Kind` says which are meant. A
request that breaks a rule is a CallerError with field, value and fix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dragonfly_api import common_pb2, scheduler_pb2

from odonata.errors import CallerError
from odonata.wire.dragonfly import (
    duration_to_wire,
    require_id,
    require_url,
    source_answer_from_wire,
    timestamp_to_wire,
)
from odonata.wire.dragonfly.check import require_piece_length
from odonata.wire.dragonfly.persistent import (
    PersistentTaskMessage,
    require_ttl_s,
    without_secrets,
)
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
    Value,
)
from scheduler.core.persistent.effect import PersistentAnswer
from scheduler.core.persistent.event import (
    PersistentMessage,
    PiecesFinished,
    Register,
    UploadStarted,
)
from scheduler.core.persistent.lifecycle import TaskState
from scheduler.core.persistent.state import Kind, Peer, Task, TaskStatus

# The wire allows 2^32; each is a bit of a number. 64 TiB in pieces of 64 MiB.
MAX_PIECE_COUNT = 1 << 20

DEFAULT_CONCURRENT_PIECE_COUNT = 8
"""Dragonfly's, for a peer that does not say."""

PersistentPeerMessage = common_pb2.PersistentPeer | common_pb2.PersistentCachePeer


class PersistentRequest(Value, frozen=True, kw_only=True):
    """One message of an announce stream: `message`, and whose it is."""

    host_id: str
    task_id: str
    peer_id: str
    message: PersistentMessage


# --- announce streams, read -----------------------------------------------------------------------


def request_from_wire(
    request: scheduler_pb2.AnnouncePersistentPeerRequest
    | scheduler_pb2.AnnouncePersistentCachePeerRequest,
) -> PersistentRequest:
    """Read and check one message of a peer."""
    host_id = require_id("host_id", request.host_id)
    task_id = require_id("task_id", request.task_id)
    peer_id = require_id("peer_id", request.peer_id)
    member = request.WhichOneof("request")
    if member is None:
        name = type(request).__name__
        raise CallerError(
            f"request of an {name} is not set, or of a kind this version does not know: set exactly"
            " one of its members, like the register request"
        )
    message = READERS[plain(member)](getattr(request, member), member)
    return PersistentRequest(host_id=host_id, task_id=task_id, peer_id=peer_id, message=message)


def plain(member: str) -> str:
    """The name that a member of either kind's oneof goes by here."""
    return member.replace("persistent_cache_peer", "peer").replace("persistent_peer", "peer")


def _register(request: Any, member: str) -> Register:
    if isinstance(request, scheduler_pb2.RegisterPersistentPeerRequest):
        require_url(f"{member}.url", request.url)
        need_back_to_source = request.need_back_to_source
    else:
        if request.piece_length:
            require_piece_length(f"{member}.piece_length", request.piece_length)
        need_back_to_source = False
    return Register(
        persistent=request.persistent,
        need_back_to_source=need_back_to_source,
        concurrent_piece_count=request.concurrent_piece_count or DEFAULT_CONCURRENT_PIECE_COUNT,
    )


def _reschedule(request: Any, member: str) -> Reschedule:
    if not request.candidate_parents:
        raise CallerError(
            f"{member}.candidate_parents is empty: name at least one parent that did not bring"
            " everything"
        )
    field = f"{member}.candidate_parents.id"
    return Reschedule(
        parent_ids=tuple(require_id(field, parent.id) for parent in request.candidate_parents),
        description=request.description,
    )


def _piece_finished(request: Any, member: str) -> PiecesFinished:
    if not request.HasField("piece"):
        raise CallerError(f"{member}.piece is not set: name the piece")
    return PiecesFinished(numbers=(request.piece.number,))


def _piece_failed(request: Any, member: str) -> PieceFailed:
    return PieceFailed(
        parent_id=require_id(f"{member}.parent_id", request.parent_id),
        number=request.piece_number if request.HasField("piece_number") else None,
        temporary=request.temporary,
    )


def _piece_back_to_source_failed(request: Any, _member: str) -> PieceBackToSourceFailed:
    answer = source_answer_from_wire(request.backend) if request.HasField("backend") else None
    return PieceBackToSourceFailed(
        number=request.piece_number if request.HasField("piece_number") else None, answer=answer
    )


# One row for each member of the oneofs, by its `plain` name; a test compares them with the API.
READERS: Final[dict[str, Callable[[Any, str], PersistentMessage]]] = {
    "register_peer_request": _register,
    "download_peer_started_request": lambda _, __: Started(),
    "download_peer_back_to_source_started_request": lambda request, _: BackToSourceStarted(
        description=request.description
    ),
    "reschedule_peer_request": _reschedule,
    "download_peer_finished_request": lambda _, __: Finished(),
    "download_peer_back_to_source_finished_request": lambda _, __: BackToSourceFinished(),
    "download_peer_failed_request": lambda request, _: Failed(description=request.description),
    "download_peer_back_to_source_failed_request": lambda request, _: BackToSourceFailed(
        description=request.description
    ),
    "download_piece_finished_request": _piece_finished,
    "download_piece_back_to_source_finished_request": _piece_finished,
    "download_piece_failed_request": _piece_failed,
    "download_piece_back_to_source_failed_request": _piece_back_to_source_failed,
}


# --- uploads, read --------------------------------------------------------------------------------


def upload_from_wire(
    request: scheduler_pb2.UploadPersistentTaskStartedRequest
    | scheduler_pb2.UploadPersistentCacheTaskStartedRequest,
) -> UploadStarted:
    """Read and check who starts an upload, and of what."""
    task_id = require_id("task_id", request.task_id)
    if request.persistent_replica_count < 1:
        raise CallerError("persistent_replica_count 0 is too small: ask for at least 1 replica")
    task = Task(
        id=task_id,
        state=TaskState.PENDING,
        persistent_replica_count=request.persistent_replica_count,
        content_length=request.content_length,
        piece_count=_piece_count(request.piece_count, request.content_length),
        ttl_s=require_ttl_s(request),
        created_at_s=0.0,
        updated_at_s=0.0,
        **_particulars(request),
    )
    return UploadStarted(
        host_id=require_id("host_id", request.host_id),
        peer_id=require_id("peer_id", request.peer_id),
        task=task,
    )


def _piece_count(value: int, content_length: int) -> int:
    if value > MAX_PIECE_COUNT:
        raise CallerError(f"piece_count {value} is too large: use longer pieces")
    if value == 0 and content_length > 0:
        raise CallerError(
            f"piece_count 0 can't hold content_length {content_length}: say how many pieces it has"
        )
    return value


def _particulars(request: Any) -> dict[str, Any]:
    if isinstance(request, scheduler_pb2.UploadPersistentTaskStartedRequest):
        return {
            "url": require_url("url", request.url),
            "storage": without_secrets(request.object_storage).SerializeToString(),
        }
    return {
        "tag": request.tag,
        "application": request.application,
        "piece_length": require_piece_length("piece_length", request.piece_length),
    }


# --- answers, written -----------------------------------------------------------------------------


def task_to_wire(kind: Kind, status: TaskStatus) -> PersistentTaskMessage:
    """A task and how many hold it."""
    task, counts = status.task, status.counts
    shared: dict[str, Any] = {
        "id": task.id,
        "persistent_replica_count": task.persistent_replica_count,
        "current_persistent_replica_count": counts.persistent,
        "current_replica_count": counts.every,
        "content_length": task.content_length,
        "piece_count": task.piece_count,
        "state": task.state.value,
        "ttl": duration_to_wire(task.ttl_s),
        "created_at": timestamp_to_wire(task.created_at_s),
        "updated_at": timestamp_to_wire(task.updated_at_s),
    }
    if kind is Kind.PERSISTENT:
        return common_pb2.PersistentTask(**shared)
    return common_pb2.PersistentCacheTask(
        **shared, tag=task.tag, application=task.application, piece_length=task.piece_length
    )


def peer_to_wire(
    kind: Kind, peer: Peer, status: TaskStatus, host: common_pb2.Host
) -> PersistentPeerMessage:
    """A peer with its task and host; all fields are set, as Dragonfly's rules ask."""
    fields: dict[str, Any] = {
        "id": peer.id,
        "persistent": peer.persistent,
        "cost": duration_to_wire(peer.cost_s),
        "state": peer.state.value,
        "task": task_to_wire(kind, status),
        "host": host,
        "created_at": timestamp_to_wire(peer.created_at_s),
        "updated_at": timestamp_to_wire(peer.updated_at_s),
        "concurrent_piece_count": peer.concurrent_piece_count,
    }
    if kind is Kind.PERSISTENT:
        return common_pb2.PersistentPeer(**fields)
    return common_pb2.PersistentCachePeer(**fields)


def answer_to_wire(
    kind: Kind,
    answer: PersistentAnswer,
    status: TaskStatus,
    hosts: Mapping[str, common_pb2.Host],
) -> (
    scheduler_pb2.AnnouncePersistentPeerResponse | scheduler_pb2.AnnouncePersistentCachePeerResponse
):
    """An answer on an announce stream. Parents whose host is not in `hosts` are left out."""
    if kind is Kind.PERSISTENT:
        return _persistent_answer(answer, status, hosts)
    wire = scheduler_pb2.AnnouncePersistentCachePeerResponse()
    if isinstance(answer, EmptyTask):
        wire.empty_persistent_cache_task_response.SetInParent()
    else:
        assert not isinstance(answer, NeedBackToSource), "a persistent cache task has no source"
        wire.normal_persistent_cache_task_response.candidate_cache_parents.extend(
            _parents(kind, answer.peers, status, hosts)
        )
    return wire


def _persistent_answer(
    answer: PersistentAnswer, status: TaskStatus, hosts: Mapping[str, common_pb2.Host]
) -> scheduler_pb2.AnnouncePersistentPeerResponse:
    wire = scheduler_pb2.AnnouncePersistentPeerResponse()
    if isinstance(answer, EmptyTask):
        wire.empty_persistent_task_response.SetInParent()
    elif isinstance(answer, NeedBackToSource):
        wire.need_back_to_source_response.description = answer.description
    else:
        wire.normal_persistent_task_response.candidate_parents.extend(
            _parents(Kind.PERSISTENT, answer.peers, status, hosts)
        )
    return wire


def _parents(
    kind: Kind,
    peers: tuple[Peer, ...],
    status: TaskStatus,
    hosts: Mapping[str, common_pb2.Host],
) -> list[Any]:
    return [
        peer_to_wire(kind, peer, status, hosts[peer.host_id])
        for peer in peers
        if peer.host_id in hosts
    ]
