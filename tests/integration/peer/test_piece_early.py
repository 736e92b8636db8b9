"""A piece that is asked for before its content is known: it waits on the wire, and is checked.

And one that is asked for before anybody said that its host has it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
from support.content import make_content, make_download, make_task_id
from support.eventually import eventually
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.errors import ProtocolError
from odonata.piece import MIB
from odonata.wire import vortex
from odonata.wire.dragonfly.feature import ANSWERS_AHEAD, TAKES_GREETINGS
from odonata.wire.message import Piece
from odonata.wire.vortex import Greeting
from peer.runtime.buffer import BufferPool
from peer.runtime.piece_client import PieceClient
from peer.runtime.piece_connection import PieceConnections
from peer.runtime.piece_server import PieceServer
from peer.runtime.port import AheadPiece, Early, FetchTimes

TASK, LENGTH, PIECE = make_task_id(), 300_000, 4 * MIB
HOST, PATIENCE_S = "127.0.0.1", 20.0
ABLE = frozenset({TAKES_GREETINGS, ANSWERS_AHEAD})


class Asking:
    """A child that knows nothing asks a parent for the only piece; `known` says how long it is."""

    def __init__(self, task: MemoryTask, port: int) -> None:
        self.task = task
        self.learned = asyncio.Event()
        self.times = FetchTimes()
        self._port = port

    async def fetch(self, length: int) -> Piece:
        """`length`: as the scheduler says."""
        return await PieceClient(BufferPool()).fetch(
            HOST,
            self._port,
            self.task,
            0,
            parent_id="p",
            timeout_s=PATIENCE_S,
            times=self.times,
            early=Early(length, self.learned),
        )

    async def known(self, length: int) -> None:
        await self.task.learn(length, PIECE, {})
        self.learned.set()


@pytest.fixture
async def asking() -> object:
    parent, child = MemoryStorage(), MemoryStorage()
    whole = await parent.create(TASK, make_download())
    content = make_content(LENGTH)
    await whole.learn(LENGTH, PIECE, {})
    await whole.store(Piece(number=0, offset=0, length=LENGTH), memoryview(content))
    await whole.finish()
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        yield Asking(await child.create(TASK, make_download()), server.port)
    parent.close()
    child.close()


async def test_nothing_is_stored_before_the_content_is_known(asking: Asking) -> None:
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        piece = group.create_task(asking.fetch(LENGTH))
        while asking.times.first_byte_at_s is None:  # noqa: ASYNC110  # a value tells no one
            await asyncio.sleep(0.005)
        assert asking.task.piece(0) is None
        assert not piece.done()
        await asking.known(LENGTH)
    assert piece.result().length == LENGTH
    assert asking.task.piece(0) is not None


async def test_a_piece_that_is_not_the_one_of_the_content_is_refused(asking: Asking) -> None:
    await asking.known(LENGTH + 1)
    with pytest.raises(ProtocolError, match=f"{LENGTH} bytes at 0"):
        await asking.fetch(LENGTH)
    assert asking.task.piece(0) is None


async def test_a_piece_longer_than_the_scheduler_said_is_refused_before_it_is_read(
    asking: Asking,
) -> None:
    with pytest.raises(ProtocolError, match="here it has 10 bytes"):
        await asking.fetch(10)


# --- ahead of the scheduler -----------------------------------------------------------------------

SHORT = 50_000


class Ahead:
    """A parent with a content of so many bytes, and a child that has met it."""

    def __init__(self, server: PieceServer, content: bytes, child: MemoryTask) -> None:
        self.server = server
        self.content = content
        self.task = child
        self.kept = PieceConnections(Greeting(host_id="child"))
        self.client = PieceClient(BufferPool(), connections=self.kept)
        self._where = (HOST, server.port)

    async def ask(self, task_id: str = TASK) -> AheadPiece | None:
        return await self.client.ask_ahead(
            *self._where, task_id, features=ABLE, timeout_s=PATIENCE_S
        )

    async def fetch(self, ahead: AheadPiece, length: int = SHORT) -> Piece:
        """As soon as the scheduler has named that parent."""
        learned = asyncio.Event()
        learned.set()
        return await self.client.fetch(
            *self._where,
            self.task,
            0,
            parent_id="p",
            timeout_s=PATIENCE_S,
            features=ABLE,
            early=Early(length, learned),
            ahead=ahead,
        )


@asynccontextmanager
async def met(length: int = SHORT, piece_length: int = PIECE) -> AsyncGenerator[Ahead]:
    parent, child = MemoryStorage(), MemoryStorage()
    whole = await parent.create(TASK, make_download())
    content = make_content(length)
    await whole.learn(length, piece_length, {})
    first = min(length, piece_length)
    await whole.store(Piece(number=0, offset=0, length=first), memoryview(content)[:first])
    async with PieceServer(parent) as server, asyncio.timeout(PATIENCE_S):
        await server.listen(HOST, 0)
        one = Ahead(server, content, await child.create(TASK, make_download()))
        yield one
        one.kept.close()
    parent.close()
    child.close()


async def test_what_was_asked_ahead_is_taken_when_the_parent_is_named() -> None:
    async with met() as one:
        ahead = await one.ask()
        assert ahead is not None
        assert one.task.piece(0) is None
        await one.task.learn(SHORT, PIECE, {})
        piece = await one.fetch(ahead)
        with os.fdopen(one.task.open_fd(), "rb") as stored:
            assert stored.read() == one.content
        assert (piece.length, piece.parent_id) == (SHORT, "p")
        assert piece.cost_s > 0
        assert one.kept.idle == 1, "the connection is good for the next one"
        assert one.server.uploaded_bytes == SHORT, "once"


@pytest.mark.parametrize(
    ("length", "piece_length"), [(vortex.AHEAD_BYTES_MAX + 1, PIECE), (SHORT, SHORT // 2)]
)
async def test_who_is_no_parent_yet_is_given_no_more_than_a_short_content(
    length: int, piece_length: int
) -> None:
    async with met(length, piece_length) as one:
        assert await one.ask() is None
        assert await one.ask("f" * 64) is None
        assert one.server.uploaded_bytes == 0
        assert one.kept.idle == 1, "one connection for both questions"


@pytest.mark.parametrize("features", [ABLE, frozenset({ANSWERS_AHEAD})], ids=["liar", "stock"])
async def test_what_a_parent_sends_beyond_that_is_not_held(features: frozenset[str]) -> None:
    """It says that it answers ahead, but sends whatever it is asked for."""
    piece = Piece(number=0, offset=0, length=vortex.AHEAD_BYTES_MAX + 1, digest="crc32:1")
    request = vortex.PieceRequest(task_id=TASK, number=0)
    asked, left = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.write(vortex.encode_content_head(request, piece))
        with suppress(ConnectionError):
            await reader.read()  # until the child hangs up
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        left.set()

    kept = PieceConnections(Greeting(host_id="child"))
    client = PieceClient(BufferPool(), connections=kept)
    async with await asyncio.start_server(answer, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        asking = client.ask_ahead(HOST, port, TASK, features=features, timeout_s=PATIENCE_S)
        if features is ABLE:
            with pytest.raises(ProtocolError, match="asked ahead"):
                await asking
            await asyncio.wait_for(left.wait(), PATIENCE_S)
        else:
            assert await asking is None
        assert asked.is_set() == (features is ABLE), "who takes no greeting is not asked at all"
    assert kept.idle == 0


async def test_what_is_not_taken_is_closed() -> None:
    async with met() as one:
        ahead = await one.ask()
        assert ahead is not None
        ahead.close()
        assert one.kept.idle == 0
        await eventually(lambda: one.server.connections == 0)


async def test_another_piece_than_the_scheduler_said_is_refused_all_the_same() -> None:
    async with met() as one:
        ahead = await one.ask()
        assert ahead is not None
        await one.task.learn(SHORT + 1, PIECE, {})
        with pytest.raises(ProtocolError, match=f"{SHORT} bytes at 0"):
            await one.fetch(ahead)
        assert one.task.piece(0) is None
        assert one.kept.idle == 0
