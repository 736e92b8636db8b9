"""The piece client: one piece from one parent over Vortex TCP, checked, into the task's file.

    buffer -> connection -> request -> head -> content into the buffer -> let go -> check, write

The buffer comes first: waiting for memory must not hold a slot of the parent. The connection is let
go (closed, or kept for the next piece: `piece_connection`) before the disk works, for the same
reason. Bytes are received whole, since a piece that fails its check must never touch the file.

It does not choose parents, retry or blame; errors say what happened (see `PieceFetcher`). But a
kept connection that broke before the parent said a word is replaced by a new one: it was closed
while it lay idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import msgspec
import structlog

from odonata.errors import ProtocolError, UnavailableError
from odonata.piece import PIECE_LENGTH_MAX, piece_at
from odonata.wire import vortex
from odonata.wire.dragonfly.feature import SPEAKS_TLS, TAKES_GREETINGS
from odonata.wire.message import Piece, TrafficType
from peer.runtime.buffer import BufferPool
from peer.runtime.limit import Unlimited, slice_bytes
from peer.runtime.piece_connection import ParentAddress, PieceConnections, reason_of
from peer.runtime.piece_wire import PieceWire
from peer.runtime.port import FetchTimes, RateLimit, StoredTask

WARNED_MAX = 1024  # parents remembered as having been warned about

_log = structlog.get_logger(__name__)


class _StaleError(UnavailableError):
    """The connection ended before a byte of the answer came."""


class PieceClient:
    """A `PieceFetcher`. One for the whole daemon: buffers, connections and the limit are shared."""

    def __init__(
        self,
        buffers: BufferPool,
        *,
        limit: RateLimit | None = None,
        connections: PieceConnections | None = None,
    ) -> None:
        """`connections` None: plain ones, of which none is kept."""
        self._buffers = buffers
        self._limit = limit or Unlimited()
        self._slice_bytes = slice_bytes(self._limit)
        narrow = not isinstance(self._limit, Unlimited)
        self._connections = connections or PieceConnections(None, narrow=narrow)
        self._warned: set[str] = set()

    async def fetch(
        self,
        ip: str,
        port: int,
        task: StoredTask,
        number: int,
        *,
        parent_id: str,
        timeout_s: float,
        times: FetchTimes | None = None,
        features: Collection[str] = (),
        is_patient: bool = True,
    ) -> Piece:
        """See `PieceFetcher.fetch`."""
        times = times or FetchTimes()
        tag = vortex.TAGS[task.kind]
        address = ParentAddress(
            ip=ip,
            port=port,
            takes_greetings=TAKES_GREETINGS in features,
            speaks_tls=SPEAKS_TLS in features,
        )
        request = vortex.PieceRequest(
            task_id=task.task_id,
            number=number,
            tag=tag,
            is_patient=is_patient or not address.takes_greetings,
        )
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._buffers.lease(_room_for(task, number)) as buffer,
            ):
                began_s = time.monotonic()
                said, data = await self._receive_piece(address, request, task, buffer, times)
                piece = msgspec.structs.replace(
                    said,
                    parent_id=parent_id,
                    traffic_type=TrafficType.REMOTE_PEER,
                    cost_s=time.monotonic() - began_s,
                    created_at_s=time.time(),
                )
                if not piece.digest:
                    self._warn_no_digest(parent_id)
                return await task.store(piece, data)
        except TimeoutError:
            raise TimeoutError(
                f"piece {number} from {ip}:{port} took more than {timeout_s:g} s"
            ) from None

    async def _receive_piece(
        self,
        address: ParentAddress,
        request: vortex.PieceRequest,
        task: StoredTask,
        buffer: memoryview,
        times: FetchTimes,
    ) -> tuple[Piece, memoryview]:
        """What the parent says of the piece, and its bytes, unchecked."""
        kept = self._connections.take(address)
        if kept is not None:
            try:
                return await self._exchange(kept, address, request, task, buffer, times)
            except _StaleError:
                pass  # it was closed while it lay idle
        wire = await self._connections.open(address)
        return await self._exchange(wire, address, request, task, buffer, times)

    async def _exchange(
        self,
        wire: PieceWire,
        address: ParentAddress,
        request: vortex.PieceRequest,
        task: StoredTask,
        buffer: memoryview,
        times: FetchTimes,
    ) -> tuple[Piece, memoryview]:
        """One question and its answer. The connection is kept only if all of it came."""
        keeps = False
        before = wire.received_bytes()
        try:
            try:
                await _ask(wire, request)
                times.requested_at_s = time.monotonic()
                answer = await _read_head(wire, request)
                keeps = isinstance(answer, vortex.Refusal)
                said = _piece_in(answer)
                times.first_byte_at_s = time.monotonic()
                _check_place(said, task, len(buffer))
                data = buffer[: said.length]
                # Asked rarely, so it is the kernel that counts, where it can.
                times.received = _counter(wire, before)
                await self._read_content(wire, data, times)
                keeps = True
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
                raise UnavailableError(
                    f"the connection to parent {address.ip}:{address.port} broke: "
                    f"{reason_of(error)}"
                ) from error
        finally:
            if keeps:
                self._connections.keep(wire, address)
            else:
                wire.close()
        return said, data

    async def _read_content(self, wire: PieceWire, data: memoryview, times: FetchTimes) -> None:
        position = 0
        if wire.received_bytes() is None:
            times.received = lambda: position
        while position < len(data):
            part = data[position : position + self._slice_bytes]
            await self._limit.acquire(len(part))
            count = await wire.fill(part)
            position += count
            if count < len(part):
                raise UnavailableError(
                    f"the parent closed the connection after {position} of {len(data)} bytes"
                )
        times.received = lambda: len(data)

    def _warn_no_digest(self, parent_id: str) -> None:
        """Say it once: Dragonfly makes such pieces by hard link, so they are taken unchecked."""
        if parent_id in self._warned:
            return
        if len(self._warned) >= WARNED_MAX:
            self._warned.clear()
        self._warned.add(parent_id)
        _log.warning("piece_without_digest", parent_id=parent_id)


def _counter(wire: PieceWire, before: int | None) -> Callable[[], int]:
    """What has come of the content, and its head, when `before` was all that had come."""
    if before is None:
        return lambda: 0
    return lambda: max(0, (wire.received_bytes() or 0) - before)


async def _ask(wire: PieceWire, request: vortex.PieceRequest) -> None:
    try:
        await wire.send(vortex.encode_request(request))
    except ConnectionError as error:
        raise _StaleError(f"the connection broke at once: {reason_of(error)}") from error


async def _read_head(wire: PieceWire, request: vortex.PieceRequest) -> Piece | vortex.Refusal:
    """The facts of the piece, or why there is none. Reads not one byte of the content."""
    parser = vortex.AnswerParser(request)
    began = False
    while parser.need:
        data = await _some(wire, parser.need, began)
        began = True
        if len(data) < parser.need:
            raise UnavailableError("the parent closed the connection without an answer")
        parser.feed(data)
    return parser.answer


async def _some(wire: PieceWire, length: int, began: bool) -> bytes:
    """What comes of `length` bytes. _StaleError: not one, and nothing came before."""
    try:
        data = await wire.receive_up_to(b"", length)
    except ConnectionError as error:
        if began:
            raise
        raise _StaleError(f"the connection broke without an answer: {reason_of(error)}") from error
    if not data and not began:
        raise _StaleError("the parent closed the connection without an answer")
    return data


def _piece_in(answer: Piece | vortex.Refusal) -> Piece:
    if isinstance(answer, vortex.Refusal):
        raise answer.to_error()
    return answer


def _room_for(task: StoredTask, number: int) -> int:
    """How large a buffer the piece needs at most."""
    if task.piece_length is None:
        return PIECE_LENGTH_MAX
    if task.content_length is None:
        return task.piece_length
    return piece_at(number, task.content_length, task.piece_length)[1]


def _check_place(said: Piece, task: StoredTask, room: int) -> None:
    """ProtocolError before a byte of content is read, unless the piece is the one of our grid."""
    fits = 0 < said.length <= room
    if task.piece_length is not None:
        fits = fits and said.offset == said.number * task.piece_length
        if task.content_length is not None:
            fits = fits and said.length == room
    if not fits:
        raise ProtocolError(
            f"the parent says that piece {said.number} is {said.length} bytes at {said.offset}; "
            f"here it has {room} bytes (pieces of {task.piece_length})"
        )
