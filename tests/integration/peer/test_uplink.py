"""A parent whose children take nothing any more, over real sockets: it rests, and wakes up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from support.content import make_content, make_download, make_task_id
from support.eventually import eventually
from support.memory_storage import MemoryStorage

from odonata.piece import MIB
from odonata.wire import vortex
from odonata.wire.message import Piece
from peer.runtime.piece_server import PieceServer
from peer.runtime.uplink_watch import UplinkWatch

TASK, HOST, PATIENCE_S = make_task_id(), "127.0.0.1", 20.0
PIECE = 4 * MIB
CONTENT = make_content(PIECE)
LOOK_S = 0.02
NARROW_BYTES = 64 * 1024
REQUEST = vortex.encode_request(vortex.PieceRequest(task_id=TASK, number=0))


class Child:
    """Asks one parent for its piece again and again, over one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()

    async def ask(self) -> None:
        await self._loop.sock_sendall(self._connection, REQUEST)

    async def take(self) -> bytes:
        """What comes next; b"": it hung up."""
        return await self._loop.sock_recv(self._connection, PIECE)

    async def take_all(self) -> None:
        """Until the parent hangs up."""
        while await self.take():
            pass

    async def answer(self) -> vortex.Tag:
        """Ask, and read a whole answer."""
        await self.ask()
        data = b""
        while len(data) < vortex.HEADER_LENGTH:
            data += await self.take()
        header = vortex.parse_header(data[: vortex.HEADER_LENGTH])
        rest = header.length + (0 if header.tag is vortex.Tag.ERROR else PIECE)
        while len(data) < vortex.HEADER_LENGTH + rest:
            data += await self.take()
        return header.tag


class Parent:
    def __init__(self, server: PieceServer, watch: UplinkWatch) -> None:
        self.server = server
        self.watch = watch
        self.is_receiving = True
        self._children: list[socket.socket] = []

    async def child(self, name: str) -> Child:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        connection.setblocking(False)
        self._children.append(connection)
        await asyncio.get_running_loop().sock_connect(connection, (HOST, self.server.port))
        child = Child(connection)
        greeting = vortex.encode_greeting(vortex.Greeting(host_id=name))
        await asyncio.get_running_loop().sock_sendall(connection, greeting)
        return child

    def close(self) -> None:
        for connection in self._children:
            connection.close()


@asynccontextmanager
async def serving() -> AsyncGenerator[Parent]:
    storage = MemoryStorage()
    whole = await storage.create(TASK, make_download())
    await whole.learn(PIECE, PIECE, {})
    await whole.store(Piece(number=0, offset=0, length=PIECE), memoryview(CONTENT))
    watch = UplinkWatch(lambda: parent.is_receiving, look_s=LOOK_S)
    async with PieceServer(storage, uplink=watch) as server, asyncio.timeout(PATIENCE_S):
        await server.listen(HOST, 0)
        parent = Parent(server, watch)
        yield parent
        parent.close()
    storage.close()


async def give_usually(children: list[Child]) -> None:
    """Long enough for several looks."""
    until = asyncio.get_running_loop().time() + 20 * LOOK_S
    while asyncio.get_running_loop().time() < until:
        await asyncio.gather(*(child.answer() for child in children))


async def test_it_breaks_off_what_it_sends_and_refuses_until_nothing_comes_any_more() -> None:
    async with serving() as parent:
        stuck = [await parent.child(name) for name in "abc"]
        await give_usually(stuck)
        assert not parent.watch.is_resting
        for child in stuck:
            await child.ask()
        await eventually(lambda: parent.watch.is_resting)
        await eventually(lambda: parent.server.uploading == 0)
        for child in stuck:
            with pytest.raises(ConnectionResetError):  # what the kernel had taken is dropped, too
                await child.take_all()
        other = await parent.child("d")
        assert await other.answer() is vortex.Tag.ERROR
        assert parent.server.refused == 1

        parent.is_receiving = False
        await parent.watch.awake()
        assert await other.answer() is vortex.Tag.PIECE_CONTENT


async def test_who_is_sent_nothing_itself_gives_what_it_can() -> None:
    async with serving() as parent:
        parent.is_receiving = False
        stuck = [await parent.child(name) for name in "abc"]
        await give_usually(stuck)
        for child in stuck:
            await child.ask()
        await eventually(lambda: parent.server.uploading == len(stuck))
        looks = asyncio.get_running_loop().time() + 10 * LOOK_S
        await eventually(lambda: asyncio.get_running_loop().time() > looks)
        assert not parent.watch.is_resting
        assert [await child.take() != b"" for child in stuck] == [True] * len(stuck)
