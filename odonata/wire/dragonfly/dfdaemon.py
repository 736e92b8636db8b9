"""What peer daemons say to each other and to their users over gRPC: dfdaemon.v2 <-> plain values.

DownloadTask's stream, SyncPieces and StatLocalTask. Piece bytes travel by Vortex TCP, except the
content a user asked for inside the stream (`need_piece_content`).
"""

from __future__ import annotations

from dragonfly_api import dfdaemon_pb2

from odonata.errors import CallerError, ProtocolError
from odonata.wire.dragonfly.check import require_id
from odonata.wire.dragonfly.download import (
    download_from_wire,
    download_to_wire,
    piece_from_wire,
    piece_to_wire,
    range_from_wire,
    range_to_wire,
)
from odonata.wire.dragonfly.held_note import held_in, say_held
from odonata.wire.dragonfly.moment import timestamp_from_wire, timestamp_to_wire
from odonata.wire.dragonfly.piece_list import add_arrived, added_arrived
from odonata.wire.message import ByteRange, Download, Piece, Value


class TaskStarted(Value, frozen=True, kw_only=True, tag=True):
    """First message of DownloadTask: the content. `pieces` are all that cut the wanted range."""

    content_length: int
    range: ByteRange | None = None
    response_header: dict[str, str] = {}
    pieces: tuple[Piece, ...] = ()
    is_finished: bool = False


class PieceArrived(Value, frozen=True, kw_only=True, tag=True):
    """A piece is held. `content` only if the user asked for it, else None.

    `others` landed by now, too: only told by ours, to who takes them together.
    """

    piece: Piece
    content: bytes | None = None
    others: tuple[Piece, ...] = ()


class DownloadProgress(Value, frozen=True, kw_only=True):
    """One DownloadTaskResponse: `step`, and whose it is."""

    host_id: str
    task_id: str
    peer_id: str
    step: TaskStarted | PieceArrived


class WantedPieces(Value, frozen=True, kw_only=True):
    """A SyncPiecesRequest: child host `host_id` wants to hear of these pieces of `task_id`."""

    host_id: str
    task_id: str
    numbers: tuple[int, ...]


class HeldPiece(Value, frozen=True, kw_only=True):
    """A SyncPiecesResponse: this parent holds a piece, to be fetched at `ip`:`tcp_port` (or QUIC).

    Offset and length in bytes. The digest is not here: it comes with the piece.
    """

    number: int
    offset: int
    length: int
    ip: str
    tcp_port: int | None = None
    quic_port: int | None = None


class LocalTask(Value, frozen=True, kw_only=True):
    """A StatLocalTaskResponse: what a daemon holds of a task. Bytes, and seconds since 1970.

    Only our daemons tell `url` (without credentials) and `held_count`, the number of whole pieces.
    """

    task_id: str
    url: str = ""
    held_count: int | None = None
    piece_length: int | None = None
    content_length: int | None = None
    response_header: dict[str, str] = {}
    uploading_count: int = 0
    uploaded_count: int = 0
    created_at_s: float = 0.0
    updated_at_s: float = 0.0
    prefetched_at_s: float | None = None
    failed_at_s: float | None = None
    finished_at_s: float | None = None


def download_request_from_wire(request: dfdaemon_pb2.DownloadTaskRequest) -> Download:
    """Read and check what a user or a scheduler asks a daemon to fetch. Raises CallerError."""
    if not request.HasField("download"):
        raise CallerError("download of a DownloadTaskRequest is not set: say what to fetch")
    return download_from_wire(request.download)


def download_request_to_wire(download: Download) -> dfdaemon_pb2.DownloadTaskRequest:
    """Ask a daemon to fetch `download`."""
    return dfdaemon_pb2.DownloadTaskRequest(download=download_to_wire(download))


def progress_to_wire(progress: DownloadProgress) -> dfdaemon_pb2.DownloadTaskResponse:
    """Write one message of DownloadTask's stream."""
    wire = dfdaemon_pb2.DownloadTaskResponse(
        host_id=progress.host_id, task_id=progress.task_id, peer_id=progress.peer_id
    )
    step = progress.step
    if isinstance(step, PieceArrived):
        piece = piece_to_wire(step.piece, step.content)
        wire.download_piece_finished_response.piece.CopyFrom(piece)
        add_arrived(wire.download_piece_finished_response, step.others)
        return wire
    wire.download_task_started_response.CopyFrom(
        dfdaemon_pb2.DownloadTaskStartedResponse(
            content_length=step.content_length,
            range=None if step.range is None else range_to_wire(step.range),
            response_header=step.response_header,
            pieces=[piece_to_wire(piece) for piece in step.pieces],
            is_finished=step.is_finished,
        )
    )
    return wire


def progress_from_wire(response: dfdaemon_pb2.DownloadTaskResponse) -> DownloadProgress:
    """Read one message of DownloadTask's stream. Raises ProtocolError if it says nothing."""
    kind = response.WhichOneof("response")
    step: TaskStarted | PieceArrived
    if kind == "download_task_started_response":
        step = _started(response.download_task_started_response)
    elif kind == "download_piece_finished_response":
        finished = response.download_piece_finished_response
        content = finished.piece.content if finished.piece.HasField("content") else None
        step = PieceArrived(
            piece=piece_from_wire(finished.piece), content=content, others=added_arrived(finished)
        )
    else:
        raise ProtocolError(
            "the daemon's answer is not set, or of a kind this version does not know"
        )
    return DownloadProgress(
        host_id=response.host_id, task_id=response.task_id, peer_id=response.peer_id, step=step
    )


def _started(wire: dfdaemon_pb2.DownloadTaskStartedResponse) -> TaskStarted:
    return TaskStarted(
        content_length=wire.content_length,
        range=range_from_wire(wire.range) if wire.HasField("range") else None,
        response_header=dict(wire.response_header),
        pieces=tuple(piece_from_wire(piece) for piece in wire.pieces),
        is_finished=wire.is_finished,
    )


def wanted_pieces_from_wire(request: dfdaemon_pb2.SyncPiecesRequest) -> WantedPieces:
    """Read and check a SyncPiecesRequest. Raises CallerError."""
    return WantedPieces(
        host_id=require_id("host_id", request.host_id),
        task_id=require_id("task_id", request.task_id),
        numbers=tuple(request.interested_piece_numbers),
    )


def wanted_pieces_to_wire(wanted: WantedPieces) -> dfdaemon_pb2.SyncPiecesRequest:
    """Write a SyncPiecesRequest."""
    return dfdaemon_pb2.SyncPiecesRequest(
        host_id=wanted.host_id, task_id=wanted.task_id, interested_piece_numbers=wanted.numbers
    )


def held_piece_from_wire(response: dfdaemon_pb2.SyncPiecesResponse) -> HeldPiece:
    """Read a SyncPiecesResponse."""
    return HeldPiece(
        number=response.number,
        offset=response.offset,
        length=response.length,
        ip=response.ip,
        tcp_port=response.tcp_port if response.HasField("tcp_port") else None,
        quic_port=response.quic_port if response.HasField("quic_port") else None,
    )


def held_piece_to_wire(held: HeldPiece) -> dfdaemon_pb2.SyncPiecesResponse:
    """Write a SyncPiecesResponse."""
    return dfdaemon_pb2.SyncPiecesResponse(
        number=held.number,
        offset=held.offset,
        length=held.length,
        ip=held.ip,
        tcp_port=held.tcp_port,
        quic_port=held.quic_port,
    )


def local_task_from_wire(response: dfdaemon_pb2.StatLocalTaskResponse) -> LocalTask:
    """Read a StatLocalTaskResponse."""
    moments = {
        f"{name}_s": timestamp_from_wire(getattr(response, name))
        for name in ("prefetched_at", "failed_at", "finished_at")
        if response.HasField(name)
    }
    url, held_count = held_in(response)
    return LocalTask(
        task_id=response.task_id,
        url=url,
        held_count=held_count,
        piece_length=response.piece_length if response.HasField("piece_length") else None,
        content_length=response.content_length if response.HasField("content_length") else None,
        response_header=dict(response.response_header),
        uploading_count=response.uploading_count,
        uploaded_count=response.uploaded_count,
        created_at_s=timestamp_from_wire(response.created_at),
        updated_at_s=timestamp_from_wire(response.updated_at),
        **moments,
    )


def local_task_to_wire(task: LocalTask) -> dfdaemon_pb2.StatLocalTaskResponse:
    """Write a StatLocalTaskResponse."""
    wire = dfdaemon_pb2.StatLocalTaskResponse(
        task_id=task.task_id,
        piece_length=task.piece_length,
        content_length=task.content_length,
        response_header=task.response_header,
        uploading_count=task.uploading_count,
        uploaded_count=task.uploaded_count,
        created_at=timestamp_to_wire(task.created_at_s),
        updated_at=timestamp_to_wire(task.updated_at_s),
    )
    if task.prefetched_at_s is not None:
        wire.prefetched_at.CopyFrom(timestamp_to_wire(task.prefetched_at_s))
    if task.failed_at_s is not None:
        wire.failed_at.CopyFrom(timestamp_to_wire(task.failed_at_s))
    if task.finished_at_s is not None:
        wire.finished_at.CopyFrom(timestamp_to_wire(task.finished_at_s))
    say_held(wire, task.url, task.held_count)
    return wire
