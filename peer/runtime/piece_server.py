"""The piece server: children ask for one piece over Vortex TCP, the kernel sends it from the file.

A connection carries one request and one answer, then the server closes: so do stock peers, which
read until the end. (Keeping it open would save a handshake of a fraction of a millisecond for each
4 MiB, and leave a stock child that waits for the end hanging.)

    accept -> request (bounded time) -> held, or wait a little -> slot -> head -> sendfile -> close

Who is served when is for `peer.core.upload` to decide; a child is refused only when its queue is
full. What is malformed is closed without a reply. The content never enters this process; slices
under the rate limit pace each connection. No digest is read here: the child checks.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

import structlog

from odonata.errors import OdonataError, ProtocolError
from odonata.listen import check_tcp
from odonata.piece import piece_count
from odonata.wire import vortex
from odonata.wire.message import Piece
from peer.core.upload import SLOTS, UploadQueue
from peer.runtime.limit import Unlimited, slice_bytes
from peer.runtime.meter import RateMeter
from peer.runtime.port import RateLimit, Storage, StoredTask
from peer.runtime.supervise import Supervised

CONNECTIONS_MAX = 1024  # with those that still ask or wait; each costs a descriptor and a few KiB
BACKLOG = 1024  # Dragonfly's
REQUEST_TIMEOUT_S = 10.0  # 74 bytes, sent right after connecting
PIECE_WAIT_S = 5.0
"""How long a child waits here for a piece that is still coming; then it is told to go elsewhere."""

STALL_TIMEOUT_S = 30.0  # a child that takes no byte for so long is gone; its slot is not
ACCEPT_PAUSE_S = 0.1  # out of descriptors: accepting again at once would spin

# Dragonfly's: a dead child is noticed after 5 + 3 * 3 seconds.
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

_log = structlog.get_logger(__name__)


class PieceServer:
    """Serves pieces of `storage`. Use `async with`, then `listen`."""

    def __init__(
        self,
        storage: Storage,
        *,
        limit: RateLimit | None = None,
        slots: int = SLOTS,
        queue: UploadQueue | None = None,
        piece_wait_s: float = PIECE_WAIT_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._storage = storage
        self._limit = limit or Unlimited()
        self._slice_bytes = slice_bytes(self._limit)
        self._queue = UploadQueue(slots) if queue is None else queue
        self._turns: dict[int, asyncio.Event] = {}
        self._piece_wait_s = piece_wait_s
        self._request_timeout_s = request_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._listener: socket.socket | None = None
        self._work = Supervised("piece server")
        self._meter = RateMeter()
        self.refused = 0
        """Requests turned away for want of a slot."""

    async def listen(self, ip: str, port: int) -> None:
        """Bind and serve. Port 0: any; see `port`. UnavailableError if the port is in use."""
        if port:
            check_tcp(ip, port, "storage.server.tcpPort")
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ip, port))
        listener.listen(BACKLOG)
        self._listener = listener
        self._work.start("accept", self._accept(listener))

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None, "listen first"
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def uploading(self) -> int:
        """Pieces being sent now."""
        return self._queue.sending

    @property
    def waiting(self) -> int:
        """Children that wait for a slot."""
        return self._queue.waiting

    @property
    def connections(self) -> int:
        """Open connections, with those that still ask or wait."""
        return max(0, len(self._work) - 1)

    @property
    def uploaded_bytes(self) -> int:
        """Content sent since the start."""
        return self._meter.total_bytes

    def rate_bytes_per_s(self) -> float:
        """Content sent in the last second: what SyncHost reports as the load."""
        return self._meter.rate_bytes_per_s(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Stop at once: children find another parent."""
        await self._work.close()
        if self._listener is not None:
            self._listener.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- connections ---

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    _log.warning("piece_server_cannot_accept", error=error.strerror)
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                continue  # anything else concerns that one connection only
            if self.connections >= CONNECTIONS_MAX:
                connection.close()
                continue
            self._work.start("connection", self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                for level, option, value in KEEPALIVE:
                    connection.setsockopt(level, option, value)
                async with asyncio.timeout(self._request_timeout_s):
                    request = await _read_request(connection)
                if request is not None:
                    await self._answer(connection, request)
            except ProtocolError as error:
                _log.debug("piece_request_malformed", error=error.detail)
            except (OSError, TimeoutError) as error:
                _log.debug("piece_connection_broke", error=str(error))

    async def _answer(self, connection: socket.socket, request: vortex.PieceRequest) -> None:
        task = self._storage.get(request.task_id)
        piece = None
        if task is not None and request.tag is not vortex.TAGS[task.kind]:
            task = None  # an id names tasks of one kind only
        if task is not None:
            piece = task.piece(request.number)
            if piece is None and _may_come(task, request.number):
                async with _while_there(connection):
                    piece = await self._coming(task, request.number)
        if task is None or piece is None:
            await self._refuse_missing(connection, request)
            return
        async with self._slot(connection, task, piece) as granted:
            if granted:
                await self._send_piece(connection, request, task)
            else:
                self.refused += 1
                detail = "no free upload slot"
                await self._refuse(connection, vortex.RefusalCode.UNKNOWN, detail)

    async def _coming(self, task: StoredTask, number: int) -> Piece | None:
        """A piece that is still being downloaded, waited for (bounded). None: it did not come."""
        piece = None
        changed = asyncio.Event()
        unsubscribe = task.subscribe(changed.set)
        try:
            async with asyncio.timeout(self._piece_wait_s):
                while piece is None and _may_come(task, number):
                    await changed.wait()
                    changed.clear()
                    piece = task.piece(number)
        except TimeoutError:
            return None
        finally:
            unsubscribe()
        return piece

    @asynccontextmanager
    async def _slot(
        self, connection: socket.socket, task: StoredTask, piece: Piece
    ) -> AsyncGenerator[bool]:
        """Wait for a slot, and keep the task from being collected. False: the queue is full."""
        clock = asyncio.get_running_loop().time
        ticket = self._queue.ask((task.task_id, piece.number), clock())
        if ticket is None:
            yield False
            return
        task.pin()
        try:
            if not self._queue.goes(ticket):
                self._turns[ticket] = turn = asyncio.Event()
                async with _while_there(connection):
                    await turn.wait()
            yield True
        finally:
            task.unpin()
            self._turns.pop(ticket, None)
            following = self._queue.leave(ticket, clock())
            if following is not None:
                self._turns[following].set()

    async def _refuse_missing(
        self, connection: socket.socket, request: vortex.PieceRequest
    ) -> None:
        detail = f"piece {request.number} of task {request.task_id} is not here"
        await self._refuse(connection, vortex.RefusalCode.NOT_FOUND, detail)

    async def _refuse(
        self, connection: socket.socket, code: vortex.RefusalCode, message: str
    ) -> None:
        packet = vortex.encode_refusal(vortex.Refusal(code=code, message=message))
        await self._send(connection, packet)

    # --- bytes ---

    async def _send_piece(
        self,
        connection: socket.socket,
        request: vortex.PieceRequest,
        task: StoredTask,
    ) -> None:
        # Looked up anew: while the child waited, the content may have become another one.
        piece = task.piece(request.number)
        if piece is None:
            await self._refuse_missing(connection, request)
            return
        try:
            fd = task.open_fd()
        except OdonataError as error:
            _log.warning("piece_not_readable", task_id=task.task_id, error=error.detail)
            await self._refuse(connection, vortex.RefusalCode.INTERNAL, "content is not readable")
            return
        try:
            # The disk starts reading ahead; sendfile would block the loop for what is not cached.
            os.posix_fadvise(fd, piece.offset, piece.length, os.POSIX_FADV_WILLNEED)
            await self._limit.acquire(min(self._slice_bytes, piece.length))
            head = vortex.encode_content_head(request, piece)
            await self._send(connection, head, socket.MSG_MORE)
            await self._send_content(connection, fd, piece)
        finally:
            os.close(fd)

    async def _send_content(self, connection: socket.socket, fd: int, piece: Piece) -> None:
        """The first slice has been acquired already."""
        position, end = piece.offset, piece.offset + piece.length
        allowed = min(position + self._slice_bytes, end)
        clock = asyncio.get_running_loop().time
        while position < end:
            if position == allowed:
                allowed = min(position + self._slice_bytes, end)
                await self._limit.acquire(allowed - position)
            try:
                count = os.sendfile(connection.fileno(), fd, position, allowed - position)
            except BlockingIOError:
                await self._writable(connection)
                continue
            if count == 0:  # somebody cut the file: an early end tells the child
                _log.warning("content_file_short", piece=piece.number, offset=position)
                return
            position += count
            self._meter.add(count, clock())

    async def _send(self, connection: socket.socket, data: bytes, flags: int = 0) -> None:
        while data:
            try:
                data = data[connection.send(data, flags) :]
            except BlockingIOError:
                await self._writable(connection)

    async def _writable(self, connection: socket.socket) -> None:
        """Return when the socket takes bytes again; TimeoutError if the child does not read."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(connection.fileno(), _set_ready, ready)
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                await ready
        finally:
            loop.remove_writer(connection.fileno())


@asynccontextmanager
async def _while_there(connection: socket.socket) -> AsyncGenerator[None]:
    """While we have nothing to send: TimeoutError as soon as the child closes its side.

    A stock child keeps its side open until it has read the head of the answer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as patience:

        def look() -> None:
            loop.remove_reader(connection.fileno())
            try:
                here = connection.recv(1, socket.MSG_PEEK)
            except OSError:
                here = b""
            if not here:  # else it says more than it should, and that alone is no reason
                patience.reschedule(loop.time())

        loop.add_reader(connection.fileno(), look)
        try:
            yield
        finally:
            loop.remove_reader(connection.fileno())


def _set_ready(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _may_come(task: StoredTask, number: int) -> bool:
    """Whether a piece that is not held is worth waiting for."""
    if not task.active:
        return False
    if task.content_length is None or task.piece_length is None:
        return True
    return number < piece_count(task.content_length, task.piece_length)


async def _read_request(connection: socket.socket) -> vortex.PieceRequest | None:
    """The request; None if the other side left without a word (a probe)."""
    data = await _read_up_to(connection, b"", vortex.HEADER_LENGTH)
    if not data:
        return None
    header = vortex.parse_header(data[: vortex.HEADER_LENGTH])
    length = vortex.HEADER_LENGTH + vortex.request_value_length(header)
    data = await _read_up_to(connection, data, length)
    return vortex.parse_request(header, data[vortex.HEADER_LENGTH :])


async def _read_up_to(connection: socket.socket, data: bytes, length: int) -> bytes:
    """Read on until `data` has `length` bytes; fewer only at the end. Never a byte more."""
    loop = asyncio.get_running_loop()
    while len(data) < length:
        more = await loop.sock_recv(connection, length - len(data))
        if not more:
            break
        data += more
    return data
