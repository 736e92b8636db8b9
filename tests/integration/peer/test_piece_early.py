"""A piece that is asked for before its content is known: it waits on the wire, and is checked."""

from __future__ import annotations

import asyncio

import pytest
from support.content import make_content, make_download, make_task_id
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.errors import ProtocolError
from odonata.piece import MIB
from odonata.wire.message import Piece
from peer.runtime.buffer import BufferPool
from peer.runtime.piece_client import PieceClient
from peer.runtime.piece_server import PieceServer
from peer.runtime.port import Early, FetchTimes

TASK, LENGTH, PIECE = make_task_id(), 300_000, 4 * MIB
HOST, PATIENCE_S = "127.0.0.1", 20.0


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
