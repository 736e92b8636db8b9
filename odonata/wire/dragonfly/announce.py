"""The AnnouncePeer stream: what peer and scheduler say, to and from scheduler.v2.

Requests are checked by the rules of Dragonfly's API (CallerError); an answer that the API does not
allow is a ProtocolError of the scheduler that sent it. No stream is opened or read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from dragonfly_api import common_pb2, errordetails_pb2, scheduler_pb2

from odonata.errors import CallerError, ProtocolError
from odonata.wire.dragonfly.check import require_id
from odonata.wire.dragonfly.download import (
    download_from_wire,
    download_to_wire,
    piece_from_wire,
    piece_to_wire,
)
from odonata.wire.dragonfly.extension import (
    ask_digests,
    asks_digests,
    digests_in,
    far_share_in,
    say_strong_digest,
    say_wrong_digest,
    strong_digest_in,
    tell_digests,
    tell_far_share,
    wrong_digest_in,
)
from odonata.wire.dragonfly.parent import lay_parents, parent_from_wire, parent_to_wire
from odonata.wire.dragonfly.piece_list import add_reported, added_reported
from odonata.wire.message import (
    AskDigests,
    BackToSourceFailed,
    BackToSourceFinished,
    BackToSourceStarted,
    EmptyTask,
    Failed,
    FarShare,
    Finished,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    Parent,
    PeerMessage,
    Piece,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    PieceDigests,
    PieceFailed,
    PieceFinished,
    Register,
    Reschedule,
    SchedulerAnswer,
    SourceAnswer,
    Started,
    TrafficType,
    Value,
)

_Request = scheduler_pb2.AnnouncePeerRequest
_Response = scheduler_pb2.AnnouncePeerResponse


class PeerRequest(Value, frozen=True, kw_only=True):
    """One AnnouncePeerRequest: `message`, and whose it is."""

    host_id: str
    task_id: str
    peer_id: str
    message: PeerMessage


# --- requests, read -------------------------------------------------------------------------------


def request_from_wire(request: _Request) -> PeerRequest:
    """Read and check one message of a peer. Raises CallerError."""
    host_id = require_id("host_id", request.host_id)
    task_id = require_id("task_id", request.task_id)
    peer_id = require_id("peer_id", request.peer_id)
    kind = request.WhichOneof("request")
    if kind is None:
        raise CallerError(
            "request of an AnnouncePeerRequest is not set, or of a kind this version does not "
            "know: set exactly one of its members, like register_peer_request"
        )
    message = READERS[kind](getattr(request, kind))
    return PeerRequest(host_id=host_id, task_id=task_id, peer_id=peer_id, message=message)


def finished_piece_in(request: _Request) -> PieceFinished | PieceBackToSourceFinished | None:
    """Read the finished piece that a message reports, None if it is of another kind.

    Without the ids, which `request_from_wire` reads and checks: the many reports of a stream repeat
    those of its first message. Raises CallerError.
    """
    kind = request.WhichOneof("request")
    if kind == "download_piece_finished_request":
        return _piece_finished(request.download_piece_finished_request)
    if kind == "download_piece_back_to_source_finished_request":
        return _piece_back_to_source_finished(
            request.download_piece_back_to_source_finished_request
        )
    return None


def others_finished_in(request: _Request) -> tuple[PieceFinished, ...]:
    """The pieces that a report of one names besides (see `piece_list`). Raises CallerError."""
    if request.WhichOneof("request") != "download_piece_finished_request":
        return ()
    try:
        others = added_reported(request.download_piece_finished_request)
    except ProtocolError as error:
        raise CallerError(f"download_piece_finished_request: {error.detail}") from None
    return tuple(PieceFinished(piece=piece) for piece in others)


def add_finished(wire: _Request, others: Sequence[PieceFinished]) -> None:
    """Report these in the message of one that a parent brought, too."""
    add_reported(wire.download_piece_finished_request, [other.piece for other in others])


def _register(request: scheduler_pb2.RegisterPeerRequest) -> Register:
    if not request.HasField("download"):
        raise CallerError("register_peer_request.download is not set: a peer registers with one")
    return Register(download=download_from_wire(request.download, "register_peer_request.download"))


def _reschedule(request: scheduler_pb2.ReschedulePeerRequest) -> Reschedule:
    if not request.candidate_parents:
        raise CallerError(
            "reschedule_peer_request.candidate_parents is empty: name at least one parent that did "
            "not bring everything"
        )
    field = "reschedule_peer_request.candidate_parents.id"
    return Reschedule(
        parent_ids=tuple(require_id(field, parent.id) for parent in request.candidate_parents),
        description=request.description,
    )


def _piece_finished(request: scheduler_pb2.DownloadPieceFinishedRequest) -> PieceFinished:
    if not request.HasField("piece"):
        raise CallerError("download_piece_finished_request.piece is not set: name the piece")
    piece = piece_from_wire(request.piece)
    if piece.traffic_type is TrafficType.LOCAL_PEER:
        piece = _with_strong_digest(piece, request)
    return PieceFinished(piece=piece)


def _piece_back_to_source_finished(
    request: scheduler_pb2.DownloadPieceBackToSourceFinishedRequest,
) -> PieceBackToSourceFinished:
    if not request.HasField("piece"):
        raise CallerError(
            "download_piece_back_to_source_finished_request.piece is not set: name the piece"
        )
    piece = piece_from_wire(request.piece, TrafficType.BACK_TO_SOURCE)
    return PieceBackToSourceFinished(piece=_with_strong_digest(piece, request))


def _with_strong_digest(
    piece: Piece,
    request: scheduler_pb2.DownloadPieceBackToSourceFinishedRequest
    | scheduler_pb2.DownloadPieceFinishedRequest,
) -> Piece:
    strong = strong_digest_in(request)
    return msgspec.structs.replace(piece, strong_digest=strong) if strong else piece


def _piece_failed(request: scheduler_pb2.DownloadPieceFailedRequest) -> PieceFailed:
    wrong_digest, by_list = wrong_digest_in(request)
    return PieceFailed(
        parent_id=require_id("download_piece_failed_request.parent_id", request.parent_id),
        number=request.piece_number if request.HasField("piece_number") else None,
        temporary=request.temporary,
        wrong_digest=wrong_digest,
        by_list=by_list,
    )


def _piece_back_to_source_failed(
    request: scheduler_pb2.DownloadPieceBackToSourceFailedRequest,
) -> PieceBackToSourceFailed:
    backend = request.backend if request.HasField("backend") else None
    return PieceBackToSourceFailed(
        number=request.piece_number if request.HasField("piece_number") else None,
        answer=None if backend is None else source_answer_from_wire(backend),
        description=request.unknown.message,
    )


# One row for each member of the oneof; `request_from_wire` is total over it (a test compares the
# keys with the descriptor).
READERS: Final[dict[str, Callable[[Any], PeerMessage]]] = {
    "register_peer_request": _register,
    "download_peer_started_request": lambda request: (
        AskDigests() if asks_digests(request) else Started()
    ),
    "download_peer_back_to_source_started_request": lambda request: BackToSourceStarted(
        description=request.description
    ),
    "reschedule_peer_request": _reschedule,
    "download_peer_finished_request": lambda _: Finished(),
    "download_peer_back_to_source_finished_request": lambda _: BackToSourceFinished(),
    "download_peer_failed_request": lambda request: Failed(description=request.description),
    "download_peer_back_to_source_failed_request": lambda request: BackToSourceFailed(
        description=request.description
    ),
    "download_piece_finished_request": _piece_finished,
    "download_piece_back_to_source_finished_request": _piece_back_to_source_finished,
    "download_piece_failed_request": _piece_failed,
    "download_piece_back_to_source_failed_request": _piece_back_to_source_failed,
}


def source_answer_from_wire(backend: errordetails_pb2.Backend) -> SourceAnswer:
    """What a source said, as a peer reports it."""
    return SourceAnswer(
        message=backend.message,
        status_code=backend.status_code if backend.HasField("status_code") else None,
        header=dict(backend.header),
    )


def source_answer_to_wire(answer: SourceAnswer) -> errordetails_pb2.Backend:
    """What a source said, for a scheduler."""
    return errordetails_pb2.Backend(
        message=answer.message, status_code=answer.status_code, header=answer.header
    )


# --- requests, written ----------------------------------------------------------------------------


def request_to_wire(request: PeerRequest, known: Mapping[str, Parent] | None = None) -> _Request:
    """Write one message of a peer.

    `known` are the parents the scheduler named so far, by peer id. Dragonfly's own scheduler wants
    full Peer messages in a Reschedule and refuses bare ids; ours takes both.
    """
    wire = _Request(host_id=request.host_id, task_id=request.task_id, peer_id=request.peer_id)
    message = request.message
    if isinstance(message, PieceFinished | PieceBackToSourceFinished | PieceFailed):
        _write_piece(wire, message)
    elif isinstance(message, Reschedule):
        wire.reschedule_peer_request.CopyFrom(_reschedule_to_wire(message, known or {}))
    elif isinstance(message, PieceBackToSourceFailed):
        wire.download_piece_back_to_source_failed_request.CopyFrom(_source_failure(message))
    elif isinstance(message, Register):
        wire.register_peer_request.download.CopyFrom(download_to_wire(message.download))
    elif isinstance(message, BackToSourceFinished | BackToSourceFailed | BackToSourceStarted):
        _write_back_to_source(wire, message)
    else:
        _write_state(wire, message)
    return wire


def _write_piece(
    wire: _Request, message: PieceFinished | PieceBackToSourceFinished | PieceFailed
) -> None:
    if isinstance(message, PieceFinished):
        report = wire.download_piece_finished_request
        report.piece.CopyFrom(piece_to_wire(message.piece))
        # Of what a parent brought, the scheduler knows it, or nobody does.
        if message.piece.strong_digest and message.piece.traffic_type is TrafficType.LOCAL_PEER:
            say_strong_digest(report, message.piece.strong_digest)
    elif isinstance(message, PieceBackToSourceFinished):
        finished = wire.download_piece_back_to_source_finished_request
        finished.piece.CopyFrom(piece_to_wire(message.piece))
        if message.piece.strong_digest:
            say_strong_digest(finished, message.piece.strong_digest)
    else:
        wire.download_piece_failed_request.CopyFrom(
            scheduler_pb2.DownloadPieceFailedRequest(
                piece_number=message.number,
                parent_id=message.parent_id,
                temporary=message.temporary,
            )
        )
        if message.wrong_digest:
            say_wrong_digest(wire.download_piece_failed_request, by_list=message.by_list)


def _write_back_to_source(
    wire: _Request, message: BackToSourceStarted | BackToSourceFinished | BackToSourceFailed
) -> None:
    if isinstance(message, BackToSourceStarted):
        started = wire.download_peer_back_to_source_started_request
        started.SetInParent()
        if message.description:
            started.description = message.description
    elif isinstance(message, BackToSourceFinished):
        wire.download_peer_back_to_source_finished_request.SetInParent()
    else:
        wire.download_peer_back_to_source_failed_request.SetInParent()
        if message.description:
            wire.download_peer_back_to_source_failed_request.description = message.description


def _write_state(wire: _Request, message: AskDigests | Started | Finished | Failed) -> None:
    if isinstance(message, AskDigests):
        ask_digests(wire.download_peer_started_request)
    elif isinstance(message, Started):
        wire.download_peer_started_request.SetInParent()
    elif isinstance(message, Finished):
        wire.download_peer_finished_request.SetInParent()
    else:
        wire.download_peer_failed_request.SetInParent()
        if message.description:
            wire.download_peer_failed_request.description = message.description


def _reschedule_to_wire(
    message: Reschedule, known: Mapping[str, Parent]
) -> scheduler_pb2.ReschedulePeerRequest:
    peers = [
        parent_to_wire(known[peer_id]) if peer_id in known else common_pb2.Peer(id=peer_id)
        for peer_id in message.parent_ids
    ]
    for peer in peers:
        # The scheduler knows better than we do what its peers hold; no need to send it back.
        peer.ClearField("pieces")
    return scheduler_pb2.ReschedulePeerRequest(
        candidate_parents=peers, description=message.description or None
    )


def _source_failure(
    message: PieceBackToSourceFailed,
) -> scheduler_pb2.DownloadPieceBackToSourceFailedRequest:
    wire = scheduler_pb2.DownloadPieceBackToSourceFailedRequest(piece_number=message.number)
    if message.answer is not None:
        wire.backend.CopyFrom(source_answer_to_wire(message.answer))
    else:
        wire.unknown.message = message.description
    return wire


# --- answers --------------------------------------------------------------------------------------


def answer_to_wire(answer: SchedulerAnswer) -> _Response:
    """Write one answer of a scheduler."""
    wire = _Response()
    if isinstance(answer, NormalTask):
        peers = wire.normal_task_response.candidate_parents
        lay_parents([peers.add() for _ in answer.parents], answer.parents)
    elif isinstance(answer, NeedBackToSource):
        wire.need_back_to_source_response.SetInParent()
        if answer.description:
            wire.need_back_to_source_response.description = answer.description
    elif isinstance(answer, EmptyTask):
        wire.empty_task_response.SetInParent()
    elif isinstance(answer, PieceDigests):
        tell_digests(wire, answer)
    elif isinstance(answer, FarShare):
        tell_far_share(wire, answer)
    else:
        wire.metadata_only_response.SetInParent()
    return wire


def answer_from_wire(response: _Response) -> SchedulerAnswer:
    """Read one answer of a scheduler. Raises ProtocolError for one that the API does not allow."""
    kind = response.WhichOneof("response")
    if kind == "normal_task_response":
        parents = response.normal_task_response.candidate_parents
        if not parents:
            raise ProtocolError("the scheduler answered NormalTask without a single parent")
        return NormalTask(parents=tuple(parent_from_wire(parent) for parent in parents))
    if kind == "need_back_to_source_response":
        return NeedBackToSource(description=response.need_back_to_source_response.description)
    if kind == "empty_task_response":
        return EmptyTask()
    if kind == "metadata_only_response":
        return MetadataOnly()
    told = None if kind else digests_in(response) or far_share_in(response)
    if told is not None:
        return told
    raise ProtocolError(
        "the scheduler's answer is not set, or of a kind this version does not know"
    )
