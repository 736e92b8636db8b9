"""Plain HTTP on the piece port, for tools: `/download/TASK` with Range, `/children`.

    curl -r 0-1023 http://HOST:4005/download/TASK

Also as Dragonfly's older peers had it, `/download/FIRST-THREE/TASK`. A task that is still being
downloaded is sent as it comes; a body that can't be finished breaks off, it never ends short. Each
piece takes a slot, as a child's does. `/children` (what each child was given) is for this host
only. Nothing is downloaded on behalf of who asks here: that is the proxy's business.
"""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final, cast

import h11
import msgspec

from odonata.errors import CapacityError, ForbiddenError, NotFoundError, OdonataError
from odonata.wire.message import ByteRange
from peer.core.proxy_range import content_range, content_range_unsatisfied, parse_range
from peer.runtime.piece_sender import Child, PieceSender, coming_piece
from peer.runtime.piece_wire import PieceWire, while_there
from peer.runtime.port import Storage, StoredTask

HTTP_BEGINNINGS: Final = (b"GET ", b"HEAD ")
"""As Vortex these would be packets of kinds that do not exist."""

HEAD_MAX_BYTES: Final = 16 * 1024  # of a request; tools send a few hundred
_READ_BYTES: Final = 4096

_Headers = list[tuple[str, str]]


class PieceHttp:
    """Answers on one connection after the other; see `serve`."""

    def __init__(
        self,
        storage: Storage,
        sender: PieceSender,
        *,
        piece_wait_s: float,
        request_timeout_s: float,
    ) -> None:
        """`request_timeout_s`: from one answer to the end of the next request."""
        self._storage = storage
        self._sender = sender
        self._piece_wait_s = piece_wait_s
        self._request_timeout_s = request_timeout_s

    async def serve(self, wire: PieceWire, data: bytes, ip: str, child: Child) -> None:
        """Answer requests until the client closes; `data` is what it has sent so far."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
        connection.receive_data(data)
        while True:
            async with asyncio.timeout(self._request_timeout_s):
                request = await _request(wire, connection)
            if request is None:
                return
            try:
                whole = await self._answer(wire, connection, request, ip, child)
            except OdonataError as error:
                status, header = HTTPStatus(error.http_status), _retry(error)
                await _say(wire, connection, request, status, header, f"{error.detail}\n".encode())
                whole = True
            if not whole or connection.our_state is not h11.DONE:
                return
            if connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _answer(
        self,
        wire: PieceWire,
        connection: h11.Connection,
        request: h11.Request,
        ip: str,
        child: Child,
    ) -> bool:
        """False: the body broke off."""
        path = request.target.decode("ascii", "replace").partition("?")[0]
        if path == "/children":
            await self._say_children(wire, connection, request, ip)
            return True
        task = self._task(path)
        length = await self._length(wire, task)
        wish = parse_range(_header(request, b"range"))
        part = ByteRange(start=0, length=length) if wish is None else wish.within(length)
        if part is None:
            header: _Headers = [("content-range", content_range_unsatisfied(length))]
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            await _say(wire, connection, request, status, header, b"")
            return True
        return await self._send(wire, connection, request, task, part, wish is None, child)

    def _task(self, path: str) -> StoredTask:
        match path.split("/"):
            case ["", "download", task_id]:
                pass
            case ["", "download", first, task_id] if task_id.startswith(first):
                pass
            case _:
                raise NotFoundError("nothing is here: ask for /download/TASK or /children")
        task = self._storage.get(task_id)
        if task is None:
            raise NotFoundError(f"task {task_id[:128]} is not here")
        return task

    async def _length(self, wire: PieceWire, task: StoredTask) -> int:
        if task.content_length is None:
            async with while_there(wire):
                await coming_piece(task, 0, self._piece_wait_s)
        if task.content_length is None:
            raise CapacityError(f"the length of task {task.task_id} is not known yet: ask again")
        return task.content_length

    async def _send(
        self,
        wire: PieceWire,
        connection: h11.Connection,
        request: h11.Request,
        task: StoredTask,
        part: ByteRange,
        whole: bool,
        child: Child,
    ) -> bool:
        assert task.content_length is not None, "asked for before"
        header: _Headers = [
            ("content-type", "application/octet-stream"),
            ("accept-ranges", "bytes"),
            ("content-length", str(part.length)),
        ]
        if not whole:
            header.append(("content-range", content_range(part, task.content_length)))
        status = HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT
        if request.method == b"HEAD" or part.length == 0:
            await _say(wire, connection, request, status, header, b"")
            return True
        return await self._send_body(wire, connection, (status, header), task, part, child)

    async def _send_body(
        self,
        wire: PieceWire,
        connection: h11.Connection,
        head: tuple[HTTPStatus, _Headers],
        task: StoredTask,
        part: ByteRange,
        child: Child,
    ) -> bool:
        """Piece by piece; the head goes out with the first, so that its lack can be told."""
        fd = task.open_fd()
        try:
            position, end = part.start, part.start + part.length
            while position < end:
                number = position // (task.piece_length or end)
                async with while_there(wire):
                    piece = await coming_piece(task, number, self._piece_wait_s)
                begun = position > part.start
                if piece is None:
                    if begun:
                        return False
                    raise NotFoundError(f"piece {number} of task {task.task_id} is not here")
                stop = min(end, piece.offset + piece.length)
                async with self._sender.slot(wire, task, number, child, insists=begun) as granted:
                    if not granted:
                        raise CapacityError("no free upload slot: ask again")
                    await self._sender.first_slice(fd, position, stop - position)
                    if not begun:
                        await wire.send(_head_bytes(connection, *head), more=True)
                    connection.send_with_data_passthrough(h11.Data(_sized(stop - position)))
                    if not await self._sender.send_content(
                        wire, fd, position, stop - position, child
                    ):
                        return False
                position = stop
            connection.send(h11.EndOfMessage())
            return True
        finally:
            os.close(fd)

    async def _say_children(
        self, wire: PieceWire, connection: h11.Connection, request: h11.Request, ip: str
    ) -> None:
        if not ip_address(ip.partition("%")[0]).is_loopback:
            raise ForbiddenError("/children is answered on this host's loopback address only")
        children = self._sender.accounts.all()
        body = msgspec.json.encode({"children": children}) + b"\n"
        header: _Headers = [("content-type", "application/json")]
        await _say(wire, connection, request, HTTPStatus.OK, header, body)


class _Sized:
    """Stands for content that the kernel sends: h11 only counts it."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


def _sized(length: int) -> bytes:
    return cast("bytes", _Sized(length))


async def _request(wire: PieceWire, connection: h11.Connection) -> h11.Request | None:
    """The next request, read to its end; None: there is none, or it is malformed."""
    request: h11.Request | None = None
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA:
            connection.receive_data(await wire.receive_some(_READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif not isinstance(event, h11.Data):
            return None


async def _say(
    wire: PieceWire,
    connection: h11.Connection,
    request: h11.Request,
    status: HTTPStatus,
    header: _Headers,
    body: bytes,
) -> None:
    """A whole answer with a short body."""
    if not any(name == "content-length" for name, _ in header):
        header = [*header, ("content-length", str(len(body)))]
    data = _head_bytes(connection, status, header)
    if body and request.method != b"HEAD":
        data += connection.send(h11.Data(body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await wire.send(data)


def _head_bytes(connection: h11.Connection, status: HTTPStatus, header: _Headers) -> bytes:
    response = h11.Response(status_code=status, reason=status.phrase, headers=header)
    return connection.send(response) or b""


def _header(request: h11.Request, name: bytes) -> str | None:
    for key, value in request.headers:
        if key == name:
            return value.decode("latin-1")
    return None


def _retry(error: OdonataError) -> _Headers:
    return [("retry-after", "1")] if isinstance(error, CapacityError) else []
