"""A piece that goes on while it comes: by real sockets, from a parent that sends as it is told.

upstream -> middle (its piece client and its piece server) -> child
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs
from support.certificates import make_authority, make_signed
from support.content import MIB, cut, make_content, make_download, make_task_id
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.errors import (
    DigestMismatchError,
    NotFoundError,
    PeerRefusedError,
    UnavailableError,
)
from odonata.wire import vortex
from odonata.wire.dragonfly.feature import PASSES_ON, SPEAKS_TLS, TAKES_GREETINGS
from odonata.wire.message import Piece
from peer.core.upload import PASSED_ON_CHILDREN
from peer.runtime.buffer import BufferPool
from peer.runtime.piece_client import PieceClient
from peer.runtime.piece_connection import PieceConnections
from peer.runtime.piece_server import PieceServer
from peer.runtime.piece_tls import PieceTls, piece_tls
from peer.runtime.port import FetchTimes, Storage, StoredTask
from peer.runtime.reception import (
    HELD_BACK_BYTES,
    STEP_MAX_BYTES,
    STEP_MIN_BYTES,
    Receptions,
    step_bytes,
)
from peer.runtime.storage.store import DiskStorage
from peer.settings import PieceTlsSettings

HOST: Final = "127.0.0.1"
TASK: Final = make_task_id()
PIECE: Final = 4 * MIB
CONTENT: Final = make_content(PIECE)
HALF: Final = PIECE // 2
PATIENCE_S: Final = 20.0
OURS: Final = (TAKES_GREETINGS, PASSES_ON)


class Upstream:
    """Sends the head of the piece at once, and of its content what it is told."""

    def __init__(self, content: bytes) -> None:
        ((self.piece, _),) = cut(CONTENT, PIECE)
        self._content = content
        self._position = 0
        self._asked = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._answer, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(vortex.HEADER_LENGTH + vortex.REQUEST_VALUE_LENGTH)
        request = vortex.PieceRequest(task_id=TASK, number=0)
        writer.write(vortex.encode_content_head(request, self.piece))
        self._writer = writer
        self._asked.set()

    async def send(self, n_bytes: int) -> None:
        await self._asked.wait()
        assert self._writer is not None
        self._writer.write(self._content[self._position : self._position + n_bytes])
        self._position += n_bytes
        await self._writer.drain()

    def hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def close(self) -> None:
        self.hang_up()
        if self._server is not None:
            self._server.close()


class Chain:
    """Upstream and the host in the middle; children are made by `child`."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.upstream = Upstream(content)
        self.told = asyncio.Event()
        self.tls: PieceTls | None = None
        self._receptions = Receptions()
        self._receptions.on_told = lambda _: self.told.set()
        self._storages: list[MemoryStorage] = []
        self.receiver: StoredTask | None = None
        self._connections: list[PieceConnections] = []
        self._port = 0
        self._work: set[asyncio.Task[Piece]] = set()

    async def begin(self, server: PieceServer) -> asyncio.Task[Piece]:
        """The middle is being sent the piece, and children have been told."""
        port = await self.upstream.listen()
        await server.listen(HOST, 0)
        self._port = server.port
        client = PieceClient(BufferPool(), receptions=self._receptions)
        assert self.receiver is not None, "it has a storage first"
        fetch = client.fetch(HOST, port, self.receiver, 0, parent_id="u", timeout_s=PATIENCE_S)
        coming = self._start(fetch)
        await asyncio.wait_for(self.told.wait(), PATIENCE_S)
        return coming

    def server(self, storage: Storage) -> PieceServer:
        tls = None if self.tls is None else self.tls.server
        return PieceServer(storage, tls=tls, receptions=self._receptions, piece_wait_s=PATIENCE_S)

    async def child(
        self, times: FetchTimes | None = None, name: str = "child", *, is_passed_on: bool = True
    ) -> tuple[MemoryTask, asyncio.Task[Piece]]:
        """A child that asks the middle for the piece."""
        task = await self.storage_of_task()
        tls = None if self.tls is None else self.tls.client
        kept = PieceConnections(vortex.Greeting(host_id=name), tls=tls)
        self._connections.append(kept)
        fetch = PieceClient(BufferPool(), connections=kept).fetch(
            HOST,
            self._port,
            task,
            0,
            parent_id="m",
            timeout_s=PATIENCE_S,
            times=times,
            features=OURS if tls is None else (*OURS, SPEAKS_TLS),
            is_passed_on=is_passed_on,
        )
        return task, self._start(fetch)

    async def storage_of_task(self) -> MemoryTask:
        storage = MemoryStorage()
        self._storages.append(storage)
        task = await storage.create(TASK, make_download())
        await task.learn(PIECE, PIECE, {})
        return task

    async def middle(self) -> MemoryStorage:
        self.receiver = await self.storage_of_task()
        return self._storages[-1]

    def _start(self, fetch: Coroutine[Any, Any, Piece]) -> asyncio.Task[Piece]:
        task = asyncio.ensure_future(fetch)
        self._work.add(task)
        return task

    async def close(self) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self.upstream.close()
        for kept in self._connections:
            kept.close()
        for storage in self._storages:
            storage.close()


@pytest.fixture
async def make_chain() -> AsyncIterator[Callable[..., Chain]]:
    chains: list[Chain] = []

    def make(content: bytes = CONTENT) -> Chain:
        chains.append(Chain(content))
        return chains[-1]

    yield make
    for chain in chains:
        await chain.close()


@pytest.fixture
async def chain(make_chain: Callable[..., Chain]) -> Chain:
    return make_chain()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  # the kernel counts, and tells no one
            await asyncio.sleep(0.002)


async def within(task: asyncio.Task[Piece]) -> Piece:
    return await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)


async def test_what_has_come_goes_on_before_the_rest_is_there(chain: Chain) -> None:
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        await chain.upstream.send(HALF)
        times = FetchTimes()
        copy, fetch = await chain.child(times)
        await until(lambda: times.received() >= HALF)
        assert not coming.done()
        await chain.upstream.send(PIECE - HALF)
        await within(coming)
        await within(fetch)
        assert copy.path.read_bytes() == CONTENT


async def test_it_comes_in_steps_and_not_when_much_is_there(chain: Chain) -> None:
    """Less than the middle would wait for if nobody wanted it."""
    async with chain.server(await chain.middle()) as server:
        await chain.begin(server)
        times = FetchTimes()
        await chain.child(times)
        await until(lambda: times.first_byte_at_s is not None)
        for step in range(1, 5):
            await chain.upstream.send(STEP_MAX_BYTES)
            await until(lambda step=step: times.received() >= step * STEP_MAX_BYTES)  # type: ignore[misc]  # a default


async def test_over_tls_as_well(chain: Chain, tmp_path: Path) -> None:
    signer = make_authority(tmp_path)
    mine = make_signed(tmp_path, signer, "middle")
    chain.tls = piece_tls(PieceTlsSettings(ca_cert=signer.cert, cert=mine.cert, key=mine.key))
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        copy, fetch = await chain.child()
        await chain.upstream.send(HALF)
        await chain.upstream.send(PIECE - HALF)
        await within(coming)
        await within(fetch)
        assert copy.path.read_bytes() == CONTENT


async def test_nobody_has_the_end_before_the_whole_is_proved(
    make_chain: Callable[..., Chain],
) -> None:
    chain = make_chain(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        times = FetchTimes()
        copy, fetch = await chain.child(times)
        await chain.upstream.send(PIECE)
        with pytest.raises(DigestMismatchError):
            await within(coming)
        with pytest.raises(UnavailableError, match="closed the connection after"):
            await within(fetch)
        assert copy.piece(0) is None
        assert server.uploaded_bytes <= PIECE - HELD_BACK_BYTES


async def test_what_breaks_off_above_breaks_off_below(chain: Chain) -> None:
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        times = FetchTimes()
        copy, fetch = await chain.child(times)
        await chain.upstream.send(HALF)
        await until(lambda: times.received() > 0)
        chain.upstream.hang_up()
        for task in (coming, fetch):
            with pytest.raises(UnavailableError):
                await within(task)
        assert copy.piece(0) is None


async def test_an_end_that_can_not_be_read_breaks_off_and_is_told(
    chain: Chain, tmp_path: Path
) -> None:
    async with await DiskStorage.open(tmp_path / "data") as storage:
        task = await storage.create(TASK, make_download())
        await task.learn(PIECE, PIECE, {})
        chain.receiver = task
        task.subscribe(lambda: task.path.unlink(missing_ok=True) if task.piece(0) else None)
        with capture_logs() as logs:
            async with chain.server(storage) as server:
                coming = await chain.begin(server)
                times = FetchTimes()
                _, fetch = await chain.child(times)
                await chain.upstream.send(HALF)
                await until(lambda: times.received() >= HALF)
                await chain.upstream.send(PIECE - HALF)
                await within(coming)
                with pytest.raises(UnavailableError, match="closed the connection after"):
                    await within(fetch)
    assert [one["event"] for one in logs if one["log_level"] in {"warning", "error"}] == [
        "piece_not_readable"
    ]


async def test_a_child_that_leaves_takes_nothing_along(chain: Chain) -> None:
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        times = FetchTimes()
        _, leaving = await chain.child(times)
        await chain.upstream.send(HALF)
        await until(lambda: times.received() >= HALF)
        leaving.cancel()
        _, staying = await chain.child(name="another")
        await chain.upstream.send(PIECE - HALF)
        assert (await within(coming)).length == (await within(staying)).length == PIECE


async def test_so_many_children_and_no_more(chain: Chain) -> None:
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        times = [FetchTimes() for _ in range(PASSED_ON_CHILDREN)]
        fetches = [(await chain.child(one, f"child-{n}"))[1] for n, one in enumerate(times)]
        await chain.upstream.send(HALF)
        await until(lambda: all(one.received() > 0 for one in times))
        _, refused = await chain.child(name="late")
        with pytest.raises(PeerRefusedError):
            await within(refused)
        assert server.uploading == 0, "they take no slots"
        await chain.upstream.send(PIECE - HALF)
        for task in (coming, *fetches):
            assert (await within(task)).length == PIECE


async def test_one_that_is_not_coming_is_not_waited_for(chain: Chain) -> None:
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        chain.upstream.hang_up()
        with pytest.raises(UnavailableError):
            await within(coming)
        _, fetch = await chain.child()
        with pytest.raises(NotFoundError):
            await asyncio.wait_for(fetch, PATIENCE_S / 2)


async def test_who_does_not_ask_for_that_gets_it_when_it_is_whole(chain: Chain) -> None:
    async with chain.server(await chain.middle()) as server:
        await chain.begin(server)
        copy, fetch = await chain.child(is_passed_on=False)
        await chain.upstream.send(PIECE)
        await within(fetch)
        assert copy.path.read_bytes() == CONTENT


async def test_one_that_is_here_by_now_is_sent_as_ever(chain: Chain) -> None:
    async with chain.server(await chain.middle()) as server:
        coming = await chain.begin(server)
        await chain.upstream.send(PIECE)
        await within(coming)
        copy, fetch = await chain.child()
        await within(fetch)
        assert copy.path.read_bytes() == CONTENT


# --- what children are told -----------------------------------------------------------------------


class Nothing:
    """Content of which nothing has come."""

    data = memoryview(b"")
    position = 0

    def hurry(self) -> None:
        """Nobody waits."""


def piece(number: int, digest: str = "crc32:1") -> Piece:
    return Piece(number=number, offset=number * PIECE, length=PIECE, digest=digest)


async def told(receptions: Receptions) -> None:
    event = asyncio.Event()
    receptions.on_told = lambda _: event.set()
    await asyncio.wait_for(event.wait(), PATIENCE_S)


async def test_each_child_is_told_once_of_what_it_wants() -> None:
    receptions = Receptions()
    with receptions.begin(TASK, piece(3), Nothing()):
        await told(receptions)
        first: set[int] = set()
        assert receptions.news(TASK, (), first) == (piece(3),)
        assert receptions.news(TASK, (), first) == ()
        assert receptions.news(TASK, (1, 2), set()) == ()
        assert receptions.news("other", (), set()) == ()
    assert receptions.of(TASK, 3) is None
    with receptions.begin(TASK, piece(3), Nothing()):
        await told(receptions)
        assert receptions.news(TASK, (), first) == (piece(3),), "it comes anew"


async def test_what_is_quick_is_not_told_of() -> None:
    receptions = Receptions()
    with receptions.begin(TASK, piece(0), Nothing()):
        assert receptions.of(TASK, 0) is None
        assert receptions.news(TASK, (), set()) == ()


async def test_nor_what_can_not_be_proved_or_is_of_no_use_to_children() -> None:
    receptions = Receptions()
    with (
        receptions.begin(TASK, piece(0, digest=""), Nothing()),
        receptions.begin(TASK, piece(2), Nothing(), is_told=False),
        receptions.begin(TASK, piece(1), Nothing()),
    ):
        await told(receptions)
        assert receptions.news(TASK, (), set()) == (piece(1),)


@pytest.mark.parametrize(
    ("position", "took_s", "step"),
    [(0, 0.0, STEP_MIN_BYTES), (10 * MIB, 0.1, STEP_MAX_BYTES), (MIB, 1.0, MIB // 20)],
)
def test_steps_follow_the_rate(position: int, took_s: float, step: int) -> None:
    assert step_bytes(position, took_s) == step
