"""Piece server and client over loopback: whole pieces, bad peers, full slots, cancellations."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.content import MIB, cut, make_content, make_download, make_task_id
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.errors import (
    CallerError,
    DigestMismatchError,
    NotFoundError,
    OdonataError,
    PeerRefusedError,
    ProtocolError,
    UnavailableError,
)
from odonata.wire import vortex
from odonata.wire.message import Download, Piece, TaskType, TrafficType
from peer.core.quota import TokenBucket
from peer.core.upload import UploadQueue
from peer.runtime.buffer import BufferPool
from peer.runtime.limit import LIMITED_SLICE_BYTES, BucketLimit
from peer.runtime.piece_client import PieceClient
from peer.runtime.piece_server import PieceServer
from peer.runtime.port import FetchTimes, StoredTask
from peer.runtime.storage.store import DiskStorage

PIECE = 4 * MIB
SMALL = 64 * 1024
TASK = make_task_id()
HOST = "127.0.0.1"
PATIENCE_S = 20.0


async def until(true: Callable[[], bool]) -> None:
    """Return once `true` holds; a bound, not a measurement."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  # a counter tells no one when it changes
            await asyncio.sleep(0.005)


async def fill(task: StoredTask, content: bytes, piece_length: int = PIECE) -> None:
    await task.learn(len(content), piece_length, {})
    for piece, data in cut(content, piece_length):
        await task.store(piece, data)
    await task.finish()


@pytest.fixture
async def parent() -> AsyncIterator[MemoryStorage]:
    storage = MemoryStorage()
    yield storage
    storage.close()


@pytest.fixture
async def child() -> AsyncIterator[MemoryStorage]:
    storage = MemoryStorage()
    yield storage
    storage.close()


async def empty_copy(
    child: MemoryStorage, length: int | None, piece_length: int = PIECE
) -> MemoryTask:
    task = await child.create(TASK, make_download())
    await task.learn(length, piece_length, {})
    return task


@asynccontextmanager
async def serving(storage: MemoryStorage, **options: object) -> AsyncGenerator[PieceServer]:
    async with PieceServer(storage, **options) as server:  # type: ignore[arg-type]  # test options
        await server.listen(HOST, 0)
        yield server


Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def strange_parent(reply: Reply) -> AsyncGenerator[int]:
    """A parent that does what `reply` does; yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(vortex.HEADER_LENGTH + vortex.REQUEST_VALUE_LENGTH)
        try:
            await reply(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def content_of(task: StoredTask) -> bytes:
    fd = task.open_fd()
    try:
        return os.pread(fd, task.content_length or 0, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("length", [1, PIECE - 1, PIECE, PIECE + 1])
async def test_a_content_arrives_whole_on_disk(tmp_path: Path, length: int) -> None:
    content = make_content(length)
    async with (
        await DiskStorage.open(tmp_path / "parent") as above,
        await DiskStorage.open(tmp_path / "child") as below,
        PieceServer(above) as server,
    ):
        await fill(await above.create(TASK, make_download()), content)
        await server.listen(HOST, 0)
        task = await below.create(TASK, make_download())
        await task.learn(length, PIECE, {})
        client = PieceClient(BufferPool())
        for piece, _ in cut(content, PIECE):
            got = await client.fetch(
                HOST, server.port, task, piece.number, parent_id="p1", timeout_s=PATIENCE_S
            )
            assert got == task.piece(piece.number)
            assert (got.parent_id, got.traffic_type) == ("p1", TrafficType.REMOTE_PEER)
            assert got.digest == piece.digest
            assert got.cost_s > 0
        await task.finish()
        assert task.path.read_bytes() == content
        await until(lambda: server.uploading == 0)
        assert server.uploaded_bytes == length


async def test_an_empty_content_has_no_piece_to_ask_for(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    await fill(await parent.create(TASK, make_download()), b"")
    async with serving(parent) as server:
        client = PieceClient(BufferPool())
        task = await empty_copy(child, 0)
        with pytest.raises(CallerError, match="does not exist"):
            await client.fetch(HOST, server.port, task, 0, parent_id="p", timeout_s=PATIENCE_S)
        unsure = await child.create(make_task_id("other"), make_download())
        with pytest.raises(NotFoundError):
            await client.fetch(HOST, server.port, unsure, 0, parent_id="p", timeout_s=PATIENCE_S)
        await task.finish()
        assert task.finished


async def test_a_piece_comes_before_anything_is_known(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(SMALL + 5)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    async with serving(parent) as server:
        client = PieceClient(BufferPool())
        task = await child.create(TASK, make_download())
        for number in (1, 0):
            await client.fetch(HOST, server.port, task, number, parent_id="p", timeout_s=PATIENCE_S)
        await task.learn(len(content), SMALL, {})
        assert task.held() == (0, 1)


async def test_many_children_at_once_each_get_every_byte(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(64 * SMALL)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    buffers = BufferPool(8 * SMALL)
    async with serving(parent) as server, asyncio.TaskGroup() as group:
        client = PieceClient(buffers)
        task = await empty_copy(child, len(content), SMALL)
        for number in range(64):
            group.create_task(
                client.fetch(HOST, server.port, task, number, parent_id="p", timeout_s=PATIENCE_S)
            )
    await task.finish()
    assert buffers.leased_bytes == 0
    fd = task.open_fd()
    assert os.pread(fd, len(content), 0) == content
    os.close(fd)


async def test_one_rotten_byte_is_found_and_nothing_stored(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    task = await parent.create(TASK, make_download())
    await fill(task, make_content(2 * SMALL), SMALL)
    task.corrupt(SMALL + 77)
    buffers = BufferPool()
    async with serving(parent) as server:
        client = PieceClient(buffers)
        copy = await empty_copy(child, 2 * SMALL, SMALL)
        await client.fetch(HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S)
        with pytest.raises(DigestMismatchError):
            await client.fetch(HOST, server.port, copy, 1, parent_id="p", timeout_s=PATIENCE_S)
    assert copy.held() == (0,)
    fd = copy.open_fd()
    assert os.pread(fd, SMALL, SMALL) == bytes(SMALL)
    os.close(fd)
    assert buffers.leased_bytes == 0


async def test_unknown_tasks_and_pieces_are_not_found(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    async with serving(parent) as server:
        client = PieceClient(BufferPool())
        copy = await empty_copy(child, 3 * SMALL, SMALL)
        with pytest.raises(NotFoundError, match="not here"):
            await client.fetch(HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S)
        task = await parent.create(TASK, make_download())
        await fill(task, make_content(SMALL), SMALL)
        with pytest.raises(NotFoundError):
            await client.fetch(HOST, server.port, copy, 1, parent_id="p", timeout_s=PATIENCE_S)


async def test_persistent_pieces_are_not_here(parent: MemoryStorage) -> None:
    await fill(await parent.create(TASK, make_download()), make_content(SMALL), SMALL)
    async with serving(parent) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        request = vortex.PieceRequest(
            task_id=TASK, number=0, tag=vortex.RequestTag.PERSISTENT_CACHE
        )
        writer.write(vortex.encode_request(request))
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
    assert vortex.parse_refusal(answer[6:]).code is vortex.RefusalCode.NOT_FOUND


@pytest.mark.parametrize("kind", [TaskType.PERSISTENT, TaskType.PERSISTENT_CACHE])
async def test_each_kind_is_asked_for_and_answered_by_its_own_tags(
    kind: TaskType, parent: MemoryStorage, child: MemoryStorage
) -> None:
    content, download = make_content(SMALL), Download(type=kind, url="")
    await fill(await parent.create(TASK, download), content, SMALL)
    async with serving(parent) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        request = vortex.PieceRequest(task_id=TASK, number=0, tag=vortex.TAGS[kind])
        writer.write(vortex.encode_request(request))
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        assert (vortex.encode_request(request)[1], answer[1]) == (2 * kind, 2 * kind + 1)
        assert answer.endswith(content)
        copy = await child.create(TASK, download)
        await copy.learn(SMALL, SMALL, {})
        client = PieceClient(BufferPool())
        await client.fetch(HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S)
        assert copy.held() == (0,)


async def test_a_stock_child_reads_until_the_end(parent: MemoryStorage) -> None:
    """One request, then read to the close: head, metadata, content and nothing behind them."""
    content = make_content(SMALL)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    async with serving(parent) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(vortex.encode_request(vortex.PieceRequest(task_id=TASK, number=0)))
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
    tag, length, metadata_length = struct.unpack(">xBII", answer[:10])
    assert (tag, length) == (1, 4 + metadata_length)
    piece = vortex.parse_metadata(answer[10 : 10 + metadata_length])
    assert (piece.number, piece.offset, piece.length) == (0, 0, SMALL)
    assert answer[10 + metadata_length :] == content


async def test_a_request_in_single_bytes_is_understood(parent: MemoryStorage) -> None:
    await fill(await parent.create(TASK, make_download()), make_content(10), SMALL)
    async with serving(parent) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        for byte in vortex.encode_request(vortex.PieceRequest(task_id=TASK, number=0)):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await asyncio.wait_for(reader.read(), PATIENCE_S)).endswith(make_content(10))
        writer.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / nonsense\r\n\r\n",
        bytes([0, 0]) + (2**32 - 1).to_bytes(4, "big") + b"x" * 68,
        bytes([0, 1]) + (68).to_bytes(4, "big") + b"x" * 68,
        bytes([0, 201]) + (68).to_bytes(4, "big") + b"x" * 68,
        bytes([0, 200]) + (4096).to_bytes(4, "big") + b"x" * 4096,
        bytes([0, 0]) + (68).to_bytes(4, "big") + b"../../../etc/passwd".ljust(64) + bytes(4),
    ],
    ids=["http", "no http", "huge", "an answer", "reserved tag", "long greeting", "a path"],
)
async def test_malformed_requests_are_closed_without_a_reply(
    parent: MemoryStorage, garbage: bytes
) -> None:
    async with serving(parent) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(garbage)
        try:
            answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        except ConnectionResetError:
            answer = b""
        assert answer == b""
        writer.close()
        await until(lambda: server.connections == 0)


async def test_a_silent_connection_is_closed(parent: MemoryStorage) -> None:
    async with serving(parent, request_timeout_s=0.05) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(b"\0")
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


async def test_a_child_that_stops_reading_loses_its_slot(parent: MemoryStorage) -> None:
    task = await parent.create(TASK, make_download())
    await fill(task, make_content(16 * MIB), 16 * MIB)
    async with serving(parent, stall_timeout_s=0.1) as server:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.setblocking(False)
            await asyncio.get_running_loop().sock_connect(lazy, (HOST, server.port))
            lazy.send(vortex.encode_request(vortex.PieceRequest(task_id=TASK, number=0)))
            await until(lambda: server.uploading == 1)
            assert task.pinned
            await until(lambda: server.uploading == 0)
            assert not task.pinned


async def test_without_a_free_slot_a_child_waits_for_one(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(2 * SMALL)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    gate = Gate()
    async with serving(parent, slots=1, limit=gate) as server, asyncio.TaskGroup() as group:
        client = PieceClient(BufferPool())
        copy = await empty_copy(child, len(content), SMALL)
        for number in (0, 1):
            group.create_task(
                client.fetch(HOST, server.port, copy, number, parent_id="p", timeout_s=PATIENCE_S)
            )
        await until(lambda: server.waiting == 1)
        assert server.uploading == 1
        gate.opened.set()
    assert copy.held() == (0, 1)
    assert server.refused == 0


async def ask(server: PieceServer, number: int) -> socket.socket:
    """A child that has asked for a piece and reads nothing."""
    child = socket.socket()
    child.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(child, (HOST, server.port))
    request = vortex.encode_request(vortex.PieceRequest(task_id=TASK, number=number))
    await loop.sock_sendall(child, request)
    return child


@pytest.mark.parametrize("reset", [False, True])
async def test_a_child_that_leaves_the_queue_makes_room_at_once(
    parent: MemoryStorage, *, reset: bool
) -> None:
    task = await parent.create(TASK, make_download())
    await fill(task, make_content(2 * SMALL), SMALL)
    gate = Gate()
    async with serving(parent, slots=1, limit=gate) as server:
        with await ask(server, 0):
            await until(lambda: server.uploading == 1)
            with await ask(server, 1) as waiting:
                await until(lambda: server.waiting == 1)
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await until(lambda: server.waiting == 0)
            assert server.uploading == 1
            await until(lambda: server.connections == 1)


async def test_a_child_that_leaves_is_not_kept_until_its_piece_comes(
    parent: MemoryStorage,
) -> None:
    task = await parent.create(TASK, make_download())
    await task.learn(2 * SMALL, SMALL, {})
    async with serving(parent, piece_wait_s=3600.0) as server:
        with await ask(server, 1):
            await until(lambda: server.connections == 1)
        await until(lambda: server.connections == 0)


async def test_a_child_that_says_more_than_it_should_is_still_served(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(2 * SMALL)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    gate = Gate()
    async with serving(parent, slots=1, limit=gate) as server:
        with await ask(server, 0), await ask(server, 1) as waiting:
            await until(lambda: server.waiting == 1)
            waiting.send(b"more")
            gate.opened.set()
            async with asyncio.timeout(PATIENCE_S):
                answer = await asyncio.get_running_loop().sock_recv(waiting, SMALL)
            assert answer[1] == vortex.Tag.PIECE_CONTENT


@pytest.mark.parametrize("again", [False, True])
async def test_what_changed_while_a_child_waited_is_not_sent_as_what_it_was(
    parent: MemoryStorage, child: MemoryStorage, *, again: bool
) -> None:
    """A parent would be blamed for bytes that do not match their digest."""
    task = await parent.create(TASK, make_download())
    await fill(task, make_content(2 * SMALL, seed=1), SMALL)
    gate = Gate()
    async with serving(parent, slots=1, limit=gate) as server, asyncio.TaskGroup() as group:
        copy = await empty_copy(child, 2 * SMALL, SMALL)
        client = PieceClient(BufferPool())
        with await ask(server, 0):
            await until(lambda: server.uploading == 1)
            fetching = group.create_task(
                error_of(
                    client.fetch(HOST, server.port, copy, 1, parent_id="p", timeout_s=PATIENCE_S)
                )
            )
            await until(lambda: server.waiting == 1)
            await task.reset()
            if again:
                await fill(task, make_content(2 * SMALL, seed=2), SMALL)
            gate.opened.set()
            error = await fetching
    assert isinstance(error, type(None) if again else NotFoundError)


async def test_with_a_full_queue_a_child_is_refused_at_once(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(2 * SMALL)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    gate = Gate()
    queue = UploadQueue(1, waiting_max=0)
    async with serving(parent, queue=queue, limit=gate) as server, asyncio.TaskGroup() as group:
        client = PieceClient(BufferPool())
        copy = await empty_copy(child, len(content), SMALL)
        first = group.create_task(
            client.fetch(HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S)
        )
        await until(lambda: server.uploading == 1)
        with pytest.raises(PeerRefusedError, match="no free upload slot"):
            await client.fetch(HOST, server.port, copy, 1, parent_id="p", timeout_s=PATIENCE_S)
        assert server.refused == 1
        gate.opened.set()
        await first
        await until(lambda: server.uploading == 0)
        await client.fetch(HOST, server.port, copy, 1, parent_id="p", timeout_s=PATIENCE_S)
    assert copy.held() == (0, 1)


class Gate:
    """A limit that lets nothing pass until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def acquire(self, n_bytes: int) -> None:
        await self.opened.wait()


async def test_a_piece_that_is_still_coming_is_waited_for(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(SMALL)
    [(piece, data)] = cut(content, SMALL)
    source = await parent.create(TASK, make_download())
    await source.learn(SMALL, SMALL, {})
    async with serving(parent, slots=1) as server, asyncio.TaskGroup() as group:
        copy = await empty_copy(child, SMALL, SMALL)
        fetching = group.create_task(
            PieceClient(BufferPool()).fetch(
                HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )
        )
        await until(lambda: server.connections == 1)
        assert server.uploading == 0  # waiting takes no slot
        await source.store(piece, data)
        assert (await fetching).digest == piece.digest


async def test_waiting_ends_when_the_download_fails_or_takes_too_long(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    source = await parent.create(TASK, make_download())
    await source.learn(SMALL, SMALL, {})
    copy = await empty_copy(child, SMALL, SMALL)
    client = PieceClient(BufferPool())
    async with serving(parent, piece_wait_s=0.05) as server:
        with pytest.raises(NotFoundError):
            await client.fetch(HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S)
    async with serving(parent, piece_wait_s=1000) as server, asyncio.TaskGroup() as group:
        fetching = group.create_task(
            error_of(client.fetch(HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S))
        )
        await until(lambda: server.connections == 1)
        await source.fail()
        assert isinstance(await fetching, NotFoundError)


async def error_of(work: Awaitable[Piece]) -> BaseException | None:
    try:
        await work
    except (OdonataError, TimeoutError) as error:
        return error
    return None


async def test_it_can_be_seen_at_any_time_how_far_a_fetch_is(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(16 * MIB)
    await fill(await parent.create(TASK, make_download()), content, 16 * MIB)
    gate = CountingGate(passes=2)
    times = FetchTimes()
    assert (times.requested_at_s, times.first_byte_at_s, times.received()) == (None, None, 0)
    async with serving(parent, limit=gate) as server, asyncio.TaskGroup() as group:
        copy = await empty_copy(child, len(content), 16 * MIB)
        fetching = group.create_task(
            PieceClient(BufferPool()).fetch(
                HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S, times=times
            )
        )
        await gate.stuck.wait()
        # The parent may send no more than two slices; what came is less than wakes the client.
        await until(lambda: times.received() >= 2 * LIMITED_SLICE_BYTES)
        assert times.received() < 2 * LIMITED_SLICE_BYTES + 1000, "head included"
        assert times.requested_at_s is not None
        assert times.first_byte_at_s is not None
        assert times.requested_at_s <= times.first_byte_at_s
        fetching.cancel()
        await asyncio.wait([fetching])
    assert times.received() == 0, "the connection is gone"


async def test_a_fetch_that_ended_has_received_all(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(SMALL)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    times = FetchTimes()
    async with serving(parent) as server:
        copy = await empty_copy(child, len(content), SMALL)
        await PieceClient(BufferPool()).fetch(
            HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S, times=times
        )
    assert times.received() == SMALL


async def test_cancelled_in_mid_piece_nothing_is_left_taken(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    """The limit of the client lets the first slices through and then no more."""
    content = make_content(16 * MIB)
    source = await parent.create(TASK, make_download())
    await fill(source, content, 16 * MIB)
    buffers = BufferPool()
    gate = CountingGate(passes=2)
    async with serving(parent) as server, asyncio.TaskGroup() as group:
        copy = await empty_copy(child, len(content), 16 * MIB)
        fetching = group.create_task(
            PieceClient(buffers, limit=gate).fetch(
                HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )
        )
        await gate.stuck.wait()
        assert server.uploading == 1
        assert buffers.leased_bytes == 16 * MIB
        fetching.cancel()
        await asyncio.wait([fetching])
        assert fetching.cancelled()
        assert buffers.leased_bytes == 0
        await until(lambda: server.uploading == 0 and server.connections == 0)
        assert not source.pinned
        assert copy.held() == ()


class CountingGate:
    """A limit that lets `passes` slices through; `stuck` is set when somebody waits for more."""

    def __init__(self, passes: int) -> None:
        self.passes = passes
        self.stuck = asyncio.Event()

    async def acquire(self, n_bytes: int) -> None:
        if self.passes == 0:
            self.stuck.set()
            await asyncio.get_running_loop().create_future()
        self.passes -= 1


async def test_the_timeout_covers_everything_and_names_the_parent(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    await fill(await parent.create(TASK, make_download()), make_content(SMALL), SMALL)
    buffers = BufferPool()
    async with serving(parent, limit=Gate()) as server:
        copy = await empty_copy(child, SMALL, SMALL)
        with pytest.raises(TimeoutError, match=rf"piece 0 from 127.0.0.1:{server.port}"):
            await PieceClient(buffers).fetch(
                HOST, server.port, copy, 0, parent_id="p", timeout_s=0.05
            )
    assert buffers.leased_bytes == 0


async def test_nobody_listens(child: MemoryStorage) -> None:
    with socket.socket() as placeholder:
        placeholder.bind((HOST, 0))
        port = placeholder.getsockname()[1]
        copy = await empty_copy(child, SMALL, SMALL)
        client = PieceClient(BufferPool())
        with pytest.raises(UnavailableError, match=f"{HOST}:{port}: Connection refused"):
            await client.fetch(HOST, port, copy, 0, parent_id="p", timeout_s=PATIENCE_S)
        with pytest.raises(ProtocolError, match="IP literal"):
            await client.fetch("localhost", port, copy, 0, parent_id="p", timeout_s=PATIENCE_S)


def head(number: int = 0, offset: int = 0, length: int = SMALL, digest: str = "") -> bytes:
    piece = Piece(number=number, offset=offset, length=length, digest=digest)
    return vortex.encode_content_head(vortex.PieceRequest(task_id=TASK, number=0), piece)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", UnavailableError),
        (head()[:20], UnavailableError),
        (head() + b"x" * (SMALL - 1), UnavailableError),
        (head(number=1, offset=SMALL), ProtocolError),
        (head(offset=1), ProtocolError),
        (head(length=SMALL - 1), ProtocolError),
        (head(length=2 * SMALL), ProtocolError),
        (head(length=0), ProtocolError),
        (head(length=256 * MIB), ProtocolError),
        (head(digest="sha1:beef") + bytes(SMALL), ProtocolError),
        (head(digest="crc32:12345") + bytes(SMALL), DigestMismatchError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ProtocolError),
        (bytes([0, 1]) + (2**32 - 1).to_bytes(4, "big") * 2, ProtocolError),
        (bytes([0, 255]) + (2**31).to_bytes(4, "big"), ProtocolError),
        (bytes([0, 255]) + (4).to_bytes(4, "big") + b"\x02gon", NotFoundError),
        (bytes([0, 255]) + (4).to_bytes(4, "big") + b"\x03ill", PeerRefusedError),
        (bytes([0, 254]) + bytes(4), ProtocolError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else f"{len(value)}b",
)
async def test_a_hostile_or_broken_parent_stores_nothing(
    child: MemoryStorage, answer: bytes, error: type[OdonataError]
) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    buffers = BufferPool()
    copy = await empty_copy(child, SMALL, SMALL)
    async with strange_parent(reply) as port:
        with pytest.raises(error):
            await PieceClient(buffers).fetch(
                HOST, port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )
    assert copy.held() == ()
    assert buffers.leased_bytes == 0


async def test_a_reset_in_mid_piece_is_unavailable(child: MemoryStorage) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head() + b"x" * 100)
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    copy = await empty_copy(child, SMALL, SMALL)
    async with strange_parent(reply) as port:
        with pytest.raises(UnavailableError):
            await PieceClient(BufferPool()).fetch(
                HOST, port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )


async def test_an_answer_in_single_bytes_is_understood(child: MemoryStorage) -> None:
    content = make_content(SMALL)
    first = 300  # of the head and some content

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = head() + content
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(first):
            writer.write(answer[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)  # so that the child reads in between, now and then
        writer.write(answer[first:])

    copy = await empty_copy(child, SMALL, SMALL)
    async with strange_parent(reply) as port:
        await PieceClient(BufferPool()).fetch(
            HOST, port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
        )
    assert content_of(copy) == content


async def test_a_piece_that_comes_with_its_head_ends_with_it(child: MemoryStorage) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(length=10) + bytes(11))

    copy = await empty_copy(child, 10, SMALL)
    async with strange_parent(reply) as port:
        with pytest.raises(ProtocolError, match="more than the 10 bytes of piece 0"):
            await PieceClient(BufferPool()).fetch(
                HOST, port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )


async def test_a_piece_without_a_digest_is_taken(child: MemoryStorage) -> None:
    content = make_content(SMALL)

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head() + content)
        await writer.drain()

    copy = await empty_copy(child, SMALL, SMALL)
    async with strange_parent(reply) as port:
        got = await PieceClient(BufferPool()).fetch(
            HOST, port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
        )
    assert got.digest == cut(content, SMALL)[0][0].digest


async def test_limits_on_both_sides_let_every_byte_through(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    content = make_content(SMALL * 8 + 3)
    await fill(await parent.create(TASK, make_download()), content, SMALL)
    up, down = (BucketLimit(TokenBucket(rate)) for rate in (8 * MIB, 16 * MIB))
    async with serving(parent, limit=up) as server, asyncio.TaskGroup() as group:
        client = PieceClient(BufferPool(), limit=down)
        copy = await empty_copy(child, len(content), SMALL)
        for piece, _ in cut(content, SMALL):
            group.create_task(
                client.fetch(
                    HOST, server.port, copy, piece.number, parent_id="p", timeout_s=PATIENCE_S
                )
            )
    await copy.finish()


async def test_a_content_file_cut_short_ends_the_answer_early(
    tmp_path: Path, child: MemoryStorage
) -> None:
    async with await DiskStorage.open(tmp_path / "data") as above, PieceServer(above) as server:
        task = await above.create(TASK, make_download())
        await fill(task, make_content(SMALL), SMALL)
        await server.listen(HOST, 0)
        os.truncate(task.path, 1000)
        copy = await empty_copy(child, SMALL, SMALL)
        with pytest.raises(UnavailableError, match="after 1000 of 65536"):
            await PieceClient(BufferPool()).fetch(
                HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )
        task.path.unlink()
        with pytest.raises(PeerRefusedError, match="not readable"):
            await PieceClient(BufferPool()).fetch(
                HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )


async def test_a_taken_port_is_named(parent: MemoryStorage) -> None:
    async with serving(parent) as server, PieceServer(parent) as second:
        with pytest.raises(OdonataError, match=str(server.port)):
            await second.listen(HOST, server.port)


async def test_a_store_that_fails_frees_the_buffer(
    parent: MemoryStorage, child: MemoryStorage
) -> None:
    await fill(await parent.create(TASK, make_download()), make_content(SMALL), SMALL)
    buffers = BufferPool()
    async with serving(parent) as server:
        copy = await empty_copy(child, SMALL, SMALL)
        copy.fail_next_store = UnavailableError("as if the volume were full")
        with pytest.raises(UnavailableError, match="as if"):
            await PieceClient(buffers).fetch(
                HOST, server.port, copy, 0, parent_id="p", timeout_s=PATIENCE_S
            )
    assert buffers.leased_bytes == 0
