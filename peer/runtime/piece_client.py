"""The piece client: one piece from one parent over Vortex TCP, checked, into the task's file.

    buffer -> connect -> request -> head -> content into the buffer -> close -> check, write, index

The buffer comes first: waiting for memory must not hold a slot of the parent. The connection is
closed before the disk works, for the same reason. Bytes are received whole, since a piece that
fails its check must never touch the file.

It does not choose parents, retry or blame; errors say what happened (see `PieceFetcher`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

import msgspec
import structlog

from odonata.errors import ProtocolError, UnavailableError
from odonata.piece import PIECE_LENGTH_MAX, piece_at
from odonata.wire import vortex
from odonata.wire.message import Piece, TrafficType
from peer.runtime.buffer import BufferPool
from peer.runtime.limit import Unlimited, slice_bytes
from peer.runtime.port import FetchTimes, RateLimit, StoredTask

CONNECT_TIMEOUT_S = 2.0  # Dragonfly's

LIMITED_RECEIVE_BUFFER_BYTES = 256 * 1024
"""Under a rate limit the kernel must not take in what we are not allowed to read yet: its buffer
grows to 6 MiB, more than a piece, and the parent would believe the piece delivered."""

RECEIVE_WAKE_BYTES = 2 * 1024 * 1024
"""Read when so much has arrived (the kernel caps it at half of the largest receive buffer: 3 MiB
by default). Measured over loopback, CPU-s/GB of receiving alone: 0.84 reading whatever is there (90
KiB at a time), 0.54 with 512 KiB, 0.41 with 1 MiB; of a whole fetch: 1.06 with 1 MiB, 0.92 with
2 MiB."""

# tcpi_bytes_received in struct tcp_info of <linux/tcp.h>: there since Linux 4.1, never moved.
_TCP_BYTES_RECEIVED = 128
_TCP_INFO_BYTES = _TCP_BYTES_RECEIVED + 8

WARNED_MAX = 1024  # parents remembered as having been warned about

_log = structlog.get_logger(__name__)


class PieceClient:
    """A `PieceFetcher`. One for the whole daemon: buffers and the rate limit are shared."""

    def __init__(
        self,
        buffers: BufferPool,
        *,
        limit: RateLimit | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._buffers = buffers
        self._limit = limit or Unlimited()
        self._slice_bytes = slice_bytes(self._limit)
        self._connect_timeout_s = connect_timeout_s
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
    ) -> Piece:
        """See `PieceFetcher.fetch`."""
        times = times or FetchTimes()
        tag = vortex.TAGS[task.kind]
        request = vortex.PieceRequest(task_id=task.task_id, number=number, tag=tag)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._buffers.lease(_room_for(task, number)) as buffer,
            ):
                began_s = time.monotonic()
                said, data = await self._receive_piece(ip, port, request, task, buffer, times)
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
        ip: str,
        port: int,
        request: vortex.PieceRequest,
        task: StoredTask,
        buffer: memoryview,
        times: FetchTimes,
    ) -> tuple[Piece, memoryview]:
        """What the parent says of the piece, and its bytes, unchecked."""
        loop = asyncio.get_running_loop()
        with _new_socket(ip) as connection:
            if not isinstance(self._limit, Unlimited):
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, LIMITED_RECEIVE_BUFFER_BYTES
                )
            await self._connect(connection, ip, port)
            try:
                await loop.sock_sendall(connection, vortex.encode_request(request))
                times.requested_at_s = time.monotonic()
                said = await _read_head(connection, request)
                times.first_byte_at_s = time.monotonic()
                _check_place(said, task, len(buffer))
                data = buffer[: said.length]
                await self._read_content(connection, data, times)
            except OSError as error:
                raise UnavailableError(
                    f"the connection to parent {ip}:{port} broke: {_reason(error)}"
                ) from error
        return said, data

    async def _connect(self, connection: socket.socket, ip: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await loop.sock_connect(connection, (ip, port))
        except TimeoutError:
            reason = f"no answer within {self._connect_timeout_s:g} s"
        except OSError as error:
            reason = _reason(error)
        else:
            return
        raise UnavailableError(f"can't connect to parent {ip}:{port}: {reason}")

    async def _read_content(
        self, connection: socket.socket, data: memoryview, times: FetchTimes
    ) -> None:
        position = 0
        # Asked rarely, so it is the kernel that counts: it wakes us only for large parts.
        times.received = lambda: _received_bytes(connection)
        while position < len(data):
            part = data[position : position + self._slice_bytes]
            await self._limit.acquire(len(part))
            count = await _receive(connection, part)
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


def _reason(error: OSError) -> str:
    """The system's word (asyncio replaces it by a text of its own)."""
    return os.strerror(error.errno) if error.errno else str(error)


def _new_socket(ip: str) -> socket.socket:
    """A non-blocking socket for an IP literal; names are refused, they would be looked up."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        socket.inet_pton(family, ip)
    except OSError:
        raise ProtocolError(f"parent address {ip[:80]!r} is not an IP literal") from None
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


async def _read_head(connection: socket.socket, request: vortex.PieceRequest) -> Piece:
    """The facts of the piece. Reads not one byte of the content; a refusal is raised."""
    loop = asyncio.get_running_loop()
    parser = vortex.AnswerParser(request)
    while parser.need:
        data = b""
        while len(data) < parser.need:
            more = await loop.sock_recv(connection, parser.need - len(data))
            if not more:
                raise UnavailableError("the parent closed the connection without an answer")
            data += more
        parser.feed(data)
    answer = parser.answer
    if isinstance(answer, vortex.Refusal):
        raise answer.to_error()
    return answer


async def _receive(connection: socket.socket, data: memoryview) -> int:
    """Fill `data` and return how much came: less than its length only at the end.

    The kernel wakes us when RECEIVE_WAKE_BYTES are there, not for each segment. Then all there is
    must be taken: of a reset, uvloop tells once, and what came before it must be read to see it.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[int] = loop.create_future()
    position = 0

    def set_wake() -> None:
        wake = min(RECEIVE_WAKE_BYTES, len(data) - position)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wake)

    def take() -> None:
        nonlocal position
        if arrived.done():
            return
        try:
            while True:
                count = connection.recv_into(data[position:])
                position += count
                if count == 0 or position == len(data):
                    arrived.set_result(position)
                    return
        except BlockingIOError:
            if len(data) - position < RECEIVE_WAKE_BYTES:
                set_wake()
        except OSError as error:
            arrived.set_exception(error)

    set_wake()
    loop.add_reader(connection.fileno(), take)
    try:
        return await arrived
    finally:
        loop.remove_reader(connection.fileno())


def _received_bytes(connection: socket.socket) -> int:
    """What the other side has sent so far (Linux' tcp_info), head included; 0 if that is over."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    if len(info) < _TCP_INFO_BYTES:
        return 0
    return int.from_bytes(info[_TCP_BYTES_RECEIVED:_TCP_INFO_BYTES], sys.byteorder)


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
