"""The piece server: children ask for a piece over Vortex TCP, the kernel sends it from the file.

    accept -> (TLS) -> request (bounded time) -> held, or wait a little -> slot -> head -> content

A stock child's connection carries one request and one answer, then the server closes: such children
read until the end. A child of ours introduces itself first (`vortex.Greeting`), and its connection
stays open for the next request. On the same port tools are answered plain HTTP (`piece_http`), and
whoever begins with TLS is spoken to in TLS, if this host has a certificate: the first bytes of the
three can't be mistaken for each other.

Who is served when is for `peer.core.upload` to decide; a child is refused only when its queue is
full, or when it would rather not wait. What is malformed is closed without a reply. The content
never enters this process (but for TLS); slices under the rate limit pace each connection. No digest
is read here: the child checks.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import OrderedDict
from typing import Final, Self

import structlog

from odonata.errors import OdonataError, ProtocolError
from odonata.listen import check_tcp
from odonata.wire import vortex
from peer.core.upload import SLOTS, UploadQueue
from peer.runtime.child_account import ChildAccount
from peer.runtime.limit import Unlimited
from peer.runtime.piece_http import HTTP_BEGINNINGS, PieceHttp
from peer.runtime.piece_sender import PIECE_WAIT_S, Child, PieceSender, coming_piece, may_come
from peer.runtime.piece_wire import PieceWire, PlainWire, TlsWire, while_there
from peer.runtime.port import RateLimit, Storage, StoredTask
from peer.runtime.reception import Reception, Receptions
from peer.runtime.supervise import Supervised
from peer.runtime.uplink_watch import UplinkWatch

CONNECTIONS_MAX: Final = 1024
"""With those that still ask or wait, and those kept for the next request; each costs a descriptor
and a few KiB. Beyond it the one that was kept the longest is closed, or else the new one."""
BACKLOG: Final = 1024  # Dragonfly's
REQUEST_TIMEOUT_S: Final = 10.0  # 74 bytes, sent right after connecting
KEEP_S: Final = 30.0
"""How long a child of ours may leave its connection idle. It closes it sooner by itself."""

STALL_TIMEOUT_S: Final = 30.0  # a child that takes no byte for so long is gone; its slot is not
ACCEPT_PAUSE_S: Final = 0.1  # out of descriptors: accepting again at once would spin

# Dragonfly's: a dead child is noticed after 5 + 3 * 3 seconds.
KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

_TLS_BEGINNING: Final = b"\x16\x03"  # a handshake record; as Vortex it would be an answer's tag

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
        tls: ssl.SSLContext | None = None,
        tls_only: bool = False,
        piece_wait_s: float = PIECE_WAIT_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
        receptions: Receptions | None = None,
        uplink: UplinkWatch | None = None,
    ) -> None:
        """`tls`: for whoever begins with it; `tls_only`: the others are closed without a word.

        `receptions`: pieces on their way here, to be passed on; None: there are none. `uplink`: it
        is watched while this serves; None: nobody looks at it.
        """
        self._storage = storage
        self._uplink = uplink
        self._sender = PieceSender(limit or Unlimited(), queue or UploadQueue(slots), uplink)
        self._http = PieceHttp(
            storage,
            self._sender,
            piece_wait_s=piece_wait_s,
            request_timeout_s=request_timeout_s,
        )
        self._receptions = receptions or Receptions()
        self._tls = tls
        self._tls_only = tls_only
        self._piece_wait_s = piece_wait_s
        self._request_timeout_s = request_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._connections_max = connections_max
        self._listener: socket.socket | None = None
        self._work = Supervised("piece server")
        self._own_work = Supervised("piece server")
        self._kept: OrderedDict[asyncio.Task[None], None] = OrderedDict()

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
        if self._uplink is not None:
            self._own_work.start("uplink", self._uplink.watch())

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None, "listen first"
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def uploading(self) -> int:
        """Pieces being sent now."""
        return self._sender.queue.sending

    @property
    def waiting(self) -> int:
        """Children that wait for a slot."""
        return self._sender.queue.waiting

    @property
    def refused(self) -> int:
        """Requests turned away for want of a slot."""
        return self._sender.refused

    @property
    def connections(self) -> int:
        """Open connections, with those that still ask or wait, and those that are kept."""
        return max(0, len(self._work) - 1)

    @property
    def kept(self) -> int:
        """Connections that wait for their child's next request."""
        return len(self._kept)

    @property
    def uploaded_bytes(self) -> int:
        """Content sent since the start."""
        return self._sender.meter.total_bytes

    @property
    def children(self) -> tuple[ChildAccount, ...]:
        """What each child was given, the busiest first."""
        return self._sender.accounts.all()

    def rate_bytes_per_s(self) -> float:
        """Content sent in the last second: what SyncHost reports as the load."""
        return self._sender.meter.rate_bytes_per_s(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Stop at once: children find another parent."""
        await self._own_work.close()
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
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    _log.warning("piece_server_cannot_accept", error=error.strerror)
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                continue  # anything else concerns that one connection only
            if self.connections >= self._connections_max and not self._drop_kept():
                connection.close()
                continue
            self._work.start("connection", self._serve(connection, address[0]))

    def _drop_kept(self) -> bool:
        """Make room: close the connection that was kept the longest. False: none is."""
        if not self._kept:
            return False
        self._kept.popitem(last=False)[0].cancel()
        return True

    async def _serve(self, connection: socket.socket, ip: str) -> None:
        with connection:
            try:
                for level, option, value in KEEPALIVE:
                    connection.setsockopt(level, option, value)
                async with asyncio.timeout(self._request_timeout_s) as patience:
                    wire = await self._wire(connection)
                    if wire is None:
                        return
                    with wire:
                        begun = await wire.receive_up_to(b"", vortex.HEADER_LENGTH)
                        patience.reschedule(None)
                        await self._converse(wire, begun, ip)
            except ProtocolError as error:
                _log.debug("piece_request_malformed", error=error.detail)
            except (OSError, TimeoutError) as error:
                _log.debug("piece_connection_broke", error=str(error))

    async def _wire(self, connection: socket.socket) -> PieceWire | None:
        """TLS for who begins with it; None for who must and does not."""
        plain = PlainWire(connection, self._stall_timeout_s)
        if self._tls is None:
            return plain
        if await plain.peek(len(_TLS_BEGINNING)) == _TLS_BEGINNING:
            wrapped = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
            wire = TlsWire(wrapped, self._stall_timeout_s)
            try:
                await wire.shake_hands()
            except BaseException:
                wire.close()
                raise
            return wire
        return None if self._tls_only else plain

    async def _converse(self, wire: PieceWire, data: bytes, ip: str) -> None:
        """One request and its answer; any number of them for who greets."""
        child = Child(self._sender.accounts.of(ip, ip))
        if data.startswith(HTTP_BEGINNINGS):
            await self._http.serve(wire, data, ip, child)
            return
        while data:
            header = vortex.parse_header(data)
            async with asyncio.timeout(self._request_timeout_s):
                if header.tag is vortex.Tag.GREETING:
                    child = await self._greeted(wire, header, ip)
                    data = await wire.receive_up_to(b"", vortex.HEADER_LENGTH)
                    continue
                value = await wire.receive_up_to(b"", vortex.request_value_length(header))
            wishes = header.id if child.is_greeted else 0
            request = vortex.parse_request(header, value)
            in_step = await self._answer(wire, request, child, wishes)
            data = await self._next(wire) if child.is_greeted and in_step else b""

    async def _greeted(self, wire: PieceWire, header: vortex.PacketHeader, ip: str) -> Child:
        value = await wire.receive_up_to(b"", vortex.greeting_value_length(header))
        greeting = vortex.parse_greeting(value)
        account = self._sender.accounts.of(greeting.host_id or ip, ip)
        return Child(account, is_greeted=True)

    async def _next(self, wire: PieceWire) -> bytes:
        """The header of the child's next packet; b"" if it hangs up, or says nothing for long."""
        task = asyncio.current_task()
        assert task is not None, "a connection is a task"
        self._kept[task] = None
        try:
            async with asyncio.timeout(KEEP_S):
                return await wire.receive_up_to(b"", vortex.HEADER_LENGTH)
        except TimeoutError:
            return b""
        finally:
            self._kept.pop(task, None)

    # --- one request ---

    async def _answer(
        self, wire: PieceWire, request: vortex.PieceRequest, child: Child, wishes: int
    ) -> bool:
        """`wishes`: the bits of its packet id. False: what was promised was not sent to its end."""
        task = self._storage.get(request.task_id)
        piece = None
        if task is not None and request.tag is not vortex.TAGS[task.kind]:
            task = None  # an id names tasks of one kind only
        if wishes & vortex.AHEAD and not _is_short(task):
            task = None  # who is not named a parent yet is given no more
        if task is not None:
            piece = task.piece(request.number)
            if piece is None and wishes & vortex.PASSED_ON:
                return await self._pass_on(wire, request, task, child)
            if piece is None and may_come(task, request.number):
                async with while_there(wire):
                    piece = await coming_piece(task, request.number, self._piece_wait_s)
        if task is None or piece is None:
            await _refuse_missing(wire, request)
            return True
        given = self._sender.given(task, piece.number, child) if wishes & vortex.EXCLUSIVE else ()
        if given:
            await wire.send(vortex.encode_refusal(vortex.given_to_others(given)))
            return True
        is_patient = not wishes & vortex.IMPATIENT
        async with self._sender.slot(
            wire, task, piece.number, child, is_patient=is_patient
        ) as granted:
            if granted:
                return await self._send_piece(wire, request, task, child)
        await _refuse(wire, vortex.RefusalCode.UNKNOWN, "no free upload slot")
        return True

    async def _pass_on(
        self, wire: PieceWire, request: vortex.PieceRequest, task: StoredTask, child: Child
    ) -> bool:
        """What comes of a piece, as it comes; its end once it is stored here."""
        reception = self._receptions.of(task.task_id, request.number)
        if reception is None:
            await _refuse_missing(wire, request)
            return True
        with self._sender.passing_on(wire, task, request.number, child) as granted:
            if granted:
                return await self._send_coming(wire, request, task, child, reception)
        await _refuse(wire, vortex.RefusalCode.UNKNOWN, "it is passed on to others")
        return True

    async def _send_coming(
        self,
        wire: PieceWire,
        request: vortex.PieceRequest,
        task: StoredTask,
        child: Child,
        reception: Reception,
    ) -> bool:
        await wire.send(vortex.encode_content_head(request, reception.piece))
        sent = await self._sender.send_coming(wire, reception, child)
        piece = task.piece(request.number)
        if piece is None or piece.digest != reception.piece.digest:
            return False  # it broke off, and so does this
        fd = _opened(task)
        if fd is None:
            return False
        try:
            offset, left = piece.offset + sent, piece.length - sent
            await self._sender.first_slice(fd, offset, left)
            return await self._sender.send_content(wire, fd, offset, left, child)
        finally:
            os.close(fd)

    async def _send_piece(
        self, wire: PieceWire, request: vortex.PieceRequest, task: StoredTask, child: Child
    ) -> bool:
        # Looked up anew: while the child waited, the content may have become another one. Not read
        # anew: the child checks, and a host that sends what has rotted is found out and left.
        piece = task.piece(request.number)
        if piece is None:
            await _refuse_missing(wire, request)
            return True
        fd = _opened(task)
        if fd is None:
            await _refuse(wire, vortex.RefusalCode.INTERNAL, "content is not readable")
            return True
        try:
            await self._sender.first_slice(fd, piece.offset, piece.length)
            await wire.send(vortex.encode_content_head(request, piece), more=True)
            return await self._sender.send_content(wire, fd, piece.offset, piece.length, child)
        finally:
            os.close(fd)


def _is_short(task: StoredTask | None) -> bool:
    """It is known to be one piece that a child's socket holds."""
    length = None if task is None else task.content_length
    if task is None or length is None or task.piece_length is None:
        return False
    return length <= min(task.piece_length, vortex.AHEAD_BYTES_MAX)


def _opened(task: StoredTask) -> int | None:
    """A descriptor of the content, for the caller to close; None: it can't be read."""
    try:
        return task.open_fd()
    except OdonataError as error:
        _log.warning("piece_not_readable", task_id=task.task_id, error=error.detail)
        return None


async def _refuse_missing(wire: PieceWire, request: vortex.PieceRequest) -> None:
    detail = f"piece {request.number} of task {request.task_id} is not here"
    await _refuse(wire, vortex.RefusalCode.NOT_FOUND, detail)


async def _refuse(wire: PieceWire, code: vortex.RefusalCode, message: str) -> None:
    await wire.send(vortex.encode_refusal(vortex.Refusal(code=code, message=message)))
