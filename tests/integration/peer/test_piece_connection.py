"""Connections that stay for the next piece, and TLS on them, between real servers and clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.certificates import make_authority, make_signed
from support.content import MIB, cut, make_content, make_download, make_task_id
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.errors import (
    NotFoundError,
    PeerRefusedError,
    PieceGivenError,
    SettingsError,
    UnavailableError,
)
from odonata.wire import vortex
from odonata.wire.dragonfly.feature import GIVES_ONCE, SPEAKS_TLS, TAKES_GREETINGS
from odonata.wire.message import Piece
from peer.core.upload import TaskPiece, UploadQueue
from peer.runtime.buffer import BufferPool
from peer.runtime.piece_client import PieceClient
from peer.runtime.piece_connection import IDLE_S, ParentAddress, PieceConnections
from peer.runtime.piece_server import PieceServer
from peer.runtime.piece_tls import PieceTls, piece_tls
from peer.runtime.port import StoredTask
from peer.settings import PieceTlsSettings

HOST = "127.0.0.1"
TASK = make_task_id()
PIECE = 4 * MIB
CONTENT = make_content(3 * PIECE + 5)
PATIENCE_S = 20.0
OURS = (TAKES_GREETINGS,)
SECURE = (TAKES_GREETINGS, SPEAKS_TLS)


async def fill(storage: MemoryStorage) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(len(CONTENT), PIECE, {})
    for piece, data in cut(CONTENT, PIECE):
        await task.store(piece, data)
    await task.finish()


@pytest.fixture
async def parent() -> AsyncIterator[MemoryStorage]:
    storage = MemoryStorage()
    await fill(storage)
    yield storage
    storage.close()


@pytest.fixture
async def copy() -> AsyncIterator[MemoryTask]:
    storage = MemoryStorage()
    task = await storage.create(TASK, make_download())
    await task.learn(len(CONTENT), PIECE, {})
    yield task
    storage.close()


def connections(host_id: str = "child") -> PieceConnections:
    return PieceConnections(vortex.Greeting(host_id=host_id))


async def fetch(
    client: PieceClient, port: int, task: StoredTask, number: int, features: tuple[str, ...] = OURS
) -> None:
    await client.fetch(
        HOST, port, task, number, parent_id="p", timeout_s=PATIENCE_S, features=features
    )


def is_whole(task: MemoryTask) -> bool:
    return task.path.read_bytes() == CONTENT


async def test_one_connection_serves_for_piece_after_piece(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    kept = connections("host-1")
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        client = PieceClient(BufferPool(), connections=kept)
        for number in range(4):
            await fetch(client, server.port, copy, number)
            assert (server.connections, kept.idle) == (1, 1)
        assert is_whole(copy)
        (account,) = [one for one in server.children if one.pieces]
        assert (account.child, account.ip, account.pieces) == ("host-1", HOST, 4)
        assert account.sent_bytes == len(CONTENT)
        kept.close()


async def test_fetches_side_by_side_have_a_connection_each(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    kept = connections()
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        client = PieceClient(BufferPool(), connections=kept)
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(fetch(client, server.port, copy, number))
        assert is_whole(copy)
        assert kept.idle == 4
        kept.close()


async def test_a_refusal_leaves_the_connection_in_step(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    kept = connections()
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        client = PieceClient(BufferPool(), connections=kept)
        task = parent.get(TASK)
        assert task is not None
        await task.reset()
        with pytest.raises(NotFoundError):
            await fetch(client, server.port, copy, 0)
        await fill(parent)
        await fetch(client, server.port, copy, 0)
        assert (server.connections, kept.idle) == (1, 1)
        kept.close()


async def test_who_would_rather_not_wait_is_refused_at_once(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    queue = UploadQueue(1)
    assert queue.ask("another", 0.0) is not None  # the only slot is taken, for good
    kept = connections()
    async with PieceServer(parent, queue=queue) as server:
        await server.listen(HOST, 0)
        client = PieceClient(BufferPool(), connections=kept)
        with pytest.raises(PeerRefusedError):
            await client.fetch(
                HOST,
                server.port,
                copy,
                0,
                parent_id="p",
                timeout_s=PATIENCE_S,
                features=OURS,
                is_patient=False,
            )
        assert [one.refused for one in server.children if one.child == "child"] == [1]
        kept.close()


async def test_who_asks_exclusively_is_told_what_others_are_given(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    queue, now_s = UploadQueue(5), asyncio.get_running_loop().time()
    for task_id, number in ((TASK, 0), (TASK, 2), ("b" * 64, 1)):
        queue.ask(TaskPiece(task_id, number), now_s, child="somebody")

    async def exclusively(number: int, features: tuple[str, ...]) -> None:
        await client.fetch(
            HOST,
            server.port,
            copy,
            number,
            parent_id="p",
            timeout_s=PATIENCE_S,
            features=features,
            is_exclusive=True,
        )

    kept = connections()
    async with PieceServer(parent, queue=queue) as server:
        await server.listen(HOST, 0)
        client = PieceClient(BufferPool(), connections=kept)
        with pytest.raises(PieceGivenError) as told:
            await exclusively(2, (*OURS, GIVES_ONCE))
        assert told.value.given == (0, 2)
        await exclusively(1, (*OURS, GIVES_ONCE))
        await exclusively(2, OURS)  # a parent that knows nothing of it is asked as ever
        assert server.refused == 0
        assert kept.idle == 1
        kept.close()


async def test_a_parent_that_was_restarted_meanwhile_is_asked_on_a_new_connection(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    kept = connections()
    client = PieceClient(BufferPool(), connections=kept)
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        port = server.port
        await fetch(client, port, copy, 0)
    async with PieceServer(parent) as server:
        await server.listen(HOST, port)
        await fetch(client, port, copy, 1)
        assert kept.idle == 1
    kept.close()


async def test_a_connection_that_dies_before_it_answers_is_replaced(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    """The parent hangs up on the second request of each connection, after having read it."""
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        asked = 0

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            to_reader, to_writer = await asyncio.open_connection(HOST, server.port)
            greeting = vortex.encode_greeting(vortex.Greeting(host_id="child"))
            request_length = vortex.HEADER_LENGTH + vortex.REQUEST_VALUE_LENGTH
            to_writer.write(await reader.readexactly(len(greeting) + request_length))
            asked += 1
            head = await to_reader.readexactly(vortex.HEADER_LENGTH)
            rest = int.from_bytes(head[2:], "big")
            writer.write(head + await to_reader.readexactly(rest + PIECE))
            to_writer.close()
            await reader.readexactly(request_length)
            asked += 1
            writer.close()

        strange = await asyncio.start_server(relay, HOST, 0)
        port = strange.sockets[0].getsockname()[1]
        kept = connections()
        client = PieceClient(BufferPool(), connections=kept)
        await fetch(client, port, copy, 0)
        await fetch(client, port, copy, 1)
        assert asked == 3
        kept.close()
        strange.close()


async def test_a_stock_parent_is_neither_greeted_nor_kept(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    kept = connections()
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        await fetch(PieceClient(BufferPool(), connections=kept), server.port, copy, 0, ())
        assert kept.idle == 0
        assert [one.child for one in server.children] == [HOST]


async def test_what_lies_idle_is_closed(parent: MemoryStorage, copy: MemoryTask) -> None:
    now_s = 0.0
    kept = PieceConnections(vortex.Greeting(host_id="child"), clock=lambda: now_s)
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        client = PieceClient(BufferPool(), connections=kept)
        await fetch(client, server.port, copy, 0)
        now_s = IDLE_S - 1.0
        kept.expire()
        assert kept.idle == 1
        now_s = IDLE_S
        kept.expire()
        assert kept.idle == 0
        kept.close()


async def test_a_full_server_closes_what_was_kept_the_longest(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    first, second = connections("first"), connections("second")
    async with PieceServer(parent, connections_max=1) as server:
        await server.listen(HOST, 0)
        await fetch(PieceClient(BufferPool(), connections=first), server.port, copy, 0)
        await fetch(PieceClient(BufferPool(), connections=second), server.port, copy, 1)
        assert server.kept <= 1
        await fetch(PieceClient(BufferPool(), connections=first), server.port, copy, 2)
        assert copy.held() == (0, 1, 2)
    first.close()
    second.close()


# --- TLS ---


def tls_of(folder: Path, *, required: bool = False, authority: str = "site") -> PieceTls:
    signer = make_authority(folder, authority)
    mine = make_signed(folder, signer, f"{authority}-peer")
    settings = PieceTlsSettings(
        ca_cert=signer.cert, cert=mine.cert, key=mine.key, required=required
    )
    made = piece_tls(settings)
    assert made is not None
    return made


def secured(tls: PieceTls) -> PieceConnections:
    return PieceConnections(
        vortex.Greeting(host_id="child"), tls=tls.client, tls_only=tls.is_required
    )


async def test_pieces_go_over_tls_with_both_sides_known(
    parent: MemoryStorage, copy: MemoryTask, tmp_path: Path
) -> None:
    tls = tls_of(tmp_path)
    kept = secured(tls)
    async with PieceServer(parent, tls=tls.server) as server:
        await server.listen(HOST, 0)
        client = PieceClient(BufferPool(), connections=kept)
        for number in range(4):
            await fetch(client, server.port, copy, number, SECURE)
            assert (server.connections, kept.idle) == (1, 1)
        assert is_whole(copy)
        kept.close()


async def test_a_stock_child_is_served_beside_them(
    parent: MemoryStorage, copy: MemoryTask, tmp_path: Path
) -> None:
    tls = tls_of(tmp_path)
    async with PieceServer(parent, tls=tls.server) as server:
        await server.listen(HOST, 0)
        for number in range(4):
            await fetch(PieceClient(BufferPool()), server.port, copy, number, ())
        assert is_whole(copy)


async def test_where_tls_is_required_nothing_goes_without_it(
    parent: MemoryStorage, copy: MemoryTask, tmp_path: Path
) -> None:
    tls = tls_of(tmp_path, required=True)
    kept = secured(tls)
    async with PieceServer(parent, tls=tls.server, tls_only=True) as server:
        await server.listen(HOST, 0)
        with pytest.raises(UnavailableError):
            await fetch(PieceClient(BufferPool()), server.port, copy, 0, ())
        with pytest.raises(UnavailableError, match="offers no TLS"):
            await fetch(PieceClient(BufferPool(), connections=kept), server.port, copy, 0, OURS)
        await fetch(PieceClient(BufferPool(), connections=kept), server.port, copy, 0, SECURE)
        assert copy.held() == (0,)
        kept.close()


@pytest.mark.parametrize("stranger", ["child", "parent"])
async def test_a_certificate_of_another_authority_is_refused(
    parent: MemoryStorage, copy: MemoryTask, tmp_path: Path, stranger: str
) -> None:
    site, other = tls_of(tmp_path), tls_of(tmp_path, authority="other")
    kept = secured(other if stranger == "child" else site)
    async with PieceServer(parent, tls=(other if stranger == "parent" else site).server) as server:
        await server.listen(HOST, 0)
        with pytest.raises(UnavailableError):
            await fetch(PieceClient(BufferPool(), connections=kept), server.port, copy, 0, SECURE)
        assert copy.held() == ()
        kept.close()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    signer = make_authority(tmp_path)
    settings = PieceTlsSettings(ca_cert=tmp_path / "none", cert=signer.cert, key=signer.key)
    with pytest.raises(SettingsError, match=r"storage\.server\.tls\.caCert .*No such file"):
        piece_tls(settings)
    settings = PieceTlsSettings(ca_cert=signer.cert, cert=signer.cert, key=signer.cert)
    with pytest.raises(SettingsError, match=r"storage\.server\.tls\.cert "):
        piece_tls(settings)


class Watched:
    """A task; `handed_back` is set when the rest of a piece was waited for in vain."""

    def __init__(self, task: MemoryTask) -> None:
        self._task = task
        self.handed_back = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    async def receive(
        self, piece: Piece, data: memoryview, rest: Callable[[], Piece | None]
    ) -> Piece | None:
        stored = await self._task.receive(piece, data, rest)
        if stored is None:
            self.handed_back.set()
        return stored


async def test_a_quick_parent_that_stalls_is_left_to_the_loop(
    parent: MemoryStorage, copy: MemoryTask
) -> None:
    """Of its second piece a thread waits for the rest, but not for long."""
    async with PieceServer(parent) as server:
        await server.listen(HOST, 0)
        watched: Any = Watched(copy)

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to_reader, to_writer = await asyncio.open_connection(HOST, server.port)
            request = vortex.HEADER_LENGTH + vortex.REQUEST_VALUE_LENGTH
            asked = len(vortex.encode_greeting(vortex.Greeting(host_id="child"))) + request
            for number in range(2):
                to_writer.write(await reader.readexactly(asked))
                head = await to_reader.readexactly(vortex.HEADER_LENGTH)
                head += await to_reader.readexactly(int.from_bytes(head[2:], "big"))
                content, asked = await to_reader.readexactly(PIECE), request
                writer.write(head + content[: PIECE // 8 * 5])
                if number:
                    await watched.handed_back.wait()
                writer.write(content[PIECE // 8 * 5 :])
            to_writer.close()
            await reader.read()
            writer.close()

        strange = await asyncio.start_server(relay, HOST, 0)
        port = strange.sockets[0].getsockname()[1]
        kept = connections()
        client = PieceClient(BufferPool(), connections=kept)
        await fetch(client, port, watched, 0)
        watched.handed_back.clear()
        address = ParentAddress(ip=HOST, port=port, takes_greetings=True)
        wire = kept.take(address)
        assert wire is not None
        wire.pace.came(PIECE, 0.0)  # however busy this machine is
        kept.keep(wire, address)
        await fetch(client, port, watched, 1)
        assert watched.handed_back.is_set()
        assert kept.idle == 1
        assert copy.held() == (0, 1)
        kept.close()
        strange.close()
