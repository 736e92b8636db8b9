"""What an error of a fetch says about the parent, with a real link to a parent that offers."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2
from support.daemon import PATIENCE_S
from support.memory_storage import MemoryStorage

from odonata.digest import piece_digest
from odonata.errors import (
    DigestMismatchError,
    NotFoundError,
    OdonataError,
    PeerRefusedError,
    PieceGivenError,
    ProtocolError,
    UnavailableError,
)
from odonata.grpc_client import target_of
from odonata.grpc_server import GrpcServer
from odonata.telemetry.record import ListRecorder, PieceRecord
from odonata.wire.dragonfly.feature import ANSWERS_AHEAD
from odonata.wire.message import (
    Download,
    Host,
    HostType,
    Parent,
    Piece,
    TaskFacts,
    TrafficType,
)
from peer.core.effect import AskAhead, CancelPiece, CancelReason, ConnectParent, FetchPiece
from peer.core.event import DownloadEvent, FailureReason, ParentHolds, PieceNotFetched
from peer.core.run_record import Fetcher, RunRecord
from peer.runtime.buffer import BufferPool
from peer.runtime.channel import ChannelPool
from peer.runtime.conversation import Conversation
from peer.runtime.host_info import HostFacts
from peer.runtime.known_address import KnownAddresses, ServedAt
from peer.runtime.limit import Unlimited
from peer.runtime.parent_set import NO_DESCRIPTOR, ParentSet
from peer.runtime.port import AheadAsker, AheadPiece, Early, PieceFetcher, Source, StoredTask
from peer.runtime.run_tools import RunPlace, RunTools
from peer.runtime.source import open_sources

TASK = "a" * 64


class Offering:
    """A parent that offers one piece."""

    async def StatLocalTask(self, _request: Any, _context: Any) -> Any:  # noqa: N802  # the rpc's name
        return dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK)

    async def SyncPieces(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802  # the rpc's name
        yield dfdaemon_pb2.SyncPiecesResponse(
            number=0, offset=0, length=1, ip="127.0.0.1", tcp_port=1
        )

    async def SyncHost(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802  # the rpc's name
        yield common_pb2.Host()


class Failing:
    """A fetcher that fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def fetch(self, *_: Any, **_more: Any) -> Piece:
        raise self._error


def nobody(task_id: str, peer_id: str) -> Conversation:
    raise AssertionError(f"{peer_id} of {task_id} has no scheduler")


class Persisting:
    """A fetcher whose piece is being written by the time it is stopped: then it is stored."""

    def __init__(self) -> None:
        self.is_writing = asyncio.Event()

    async def fetch(
        self,
        ip: str,
        port: int,
        task: StoredTask,
        number: int,
        *,
        parent_id: str,
        **_more: Any,
    ) -> Piece:
        data = b"written"
        piece = Piece(
            number=number,
            offset=0,
            length=len(data),
            digest=piece_digest(data),
            parent_id=parent_id,
            traffic_type=TrafficType.REMOTE_PEER,
        )
        self.is_writing.set()
        try:
            await asyncio.Event().wait()
        finally:
            await task.store(piece, memoryview(data))
        return piece


def tools_of(fetcher: PieceFetcher, sources: Source, pool: ChannelPool) -> RunTools:
    return RunTools(
        facts=HostFacts(ip="127.0.0.1", hostname="test"),
        fetcher=fetcher,
        source=sources,
        source_limit=Unlimited(),
        buffers=BufferPool(),
        parents=pool,
        converse=nobody,
    )


def parent_at(port: int) -> Parent:
    host = Host(id="h", type=HostType.NORMAL, hostname="h", ip="127.0.0.1", port=port)
    return Parent(peer_id="p", host=host, state="Running", task=TaskFacts(id=TASK))


class Asked:
    """A download of one piece, whose only parent offers it; `told` is what its core would hear."""

    def __init__(
        self,
        parents: ParentSet,
        told: asyncio.Queue[DownloadEvent],
        recorder: ListRecorder,
        known: KnownAddresses,
        target: str,
    ) -> None:
        self.parents = parents
        self.known = known
        self.target = target
        self.recorder = recorder
        self._told = told

    async def not_fetched(self) -> PieceNotFetched:
        """The next event of that kind."""
        while not isinstance(event := await self._told.get(), PieceNotFetched):
            pass
        return event


@asynccontextmanager
async def asked(
    fetcher: PieceFetcher,
    *,
    is_early: bool = False,
    known_at: ServedAt | None = None,
    asker: AheadAsker | None = None,
    seed: str = "h",
) -> AsyncGenerator[Asked]:
    """Asks for piece 0; leaving waits for the end of all that was begun.

    `is_early`: before the parent has offered it. `known_at`: where its host served other pieces.
    `asker`: the seed on host `seed` is asked ahead, by this one.
    """
    server, pool, sources = GrpcServer(), ChannelPool(), open_sources()
    server.add_service(dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"], Offering())
    port = server.bind_tcp("127.0.0.1", 0, "test")
    await server.start()
    known, target = KnownAddresses(), target_of("127.0.0.1", port)
    if known_at is not None:
        known.learn(target, known_at)
    if asker is not None:
        able = ServedAt("127.0.0.1", 9, frozenset({ANSWERS_AHEAD}))
        known.learn(target, able, Host(id=seed, type=HostType.SUPER, hostname=seed, ip="", port=0))
    told: asyncio.Queue[DownloadEvent] = asyncio.Queue()
    tools = replace(tools_of(fetcher, sources, pool), known=known, asker=asker)
    begun: list[asyncio.Task[None]] = []
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:

        def start(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            begun.append(group.create_task(work, name=name))
            return begun[-1]

        task = await MemoryStorage().create(TASK, Download(url="http://origin.test/"))
        await task.learn(7, 7, {})
        learned = asyncio.Event()
        learned.set()
        recorder = ListRecorder()
        whose = Fetcher(task_id=TASK, peer_id="child", host_id=tools.facts.id, is_seed=False)
        place = RunPlace(
            task=task,
            peer_id="child",
            tools=tools,
            record=RunRecord(recorder, whose, time.monotonic),
            tell=told.put,
            put=told.put_nowait,
            start=start,
            learned=learned,
            changed=lambda _: None,
        )
        one = Asked(ParentSet(place), told, recorder, known, target)
        one.parents.perform(AskAhead(host_id=seed))
        one.parents.perform(ConnectParent(parent=parent_at(port)))
        while not is_early and not isinstance(await told.get(), ParentHolds):
            pass
        one.parents.perform(
            FetchPiece(
                peer_id="p", number=0, length=7, decision=3, concurrency=2, is_early=is_early
            )
        )
        yield one
        for work in begun if asker is not None else ():  # as at the end of a download
            work.cancel()
    await pool.close()
    await sources.close()
    await server.stop(0)


@pytest.mark.parametrize(
    ("error", "reason", "recorded"),
    [
        (
            OSError(errno.EMFILE, "too many open files"),
            FailureReason.REFUSED,
            ("cancelled", NO_DESCRIPTOR),
        ),
        (TimeoutError("late"), FailureReason.TIMEOUT, ("failed", "timeout")),
        (UnavailableError("gone"), FailureReason.UNREACHABLE, ("failed", "unreachable")),
        (PeerRefusedError("full"), FailureReason.REFUSED, ("failed", "refused")),
        (PieceGivenError("to x", given=(0, 7)), FailureReason.GIVEN, ("cancelled", "given")),
        (NotFoundError("no"), FailureReason.NOT_FOUND, ("failed", "not_found")),
        (DigestMismatchError("wrong"), FailureReason.DIGEST, ("failed", "digest")),
        (OdonataError("what?"), FailureReason.PROTOCOL, ("failed", "protocol")),
    ],
)
async def test_an_error_of_a_fetch_says_what_it_says_about_the_parent(
    error: Exception, reason: FailureReason, recorded: tuple[str, str]
) -> None:
    async with asked(Failing(error)) as one:
        event = await one.not_fetched()
        assert (event.peer_id, event.number, event.reason) == ("p", 0, reason)
    (record,) = one.recorder.records
    assert isinstance(record, PieceRecord)
    assert (record.result, record.reason) == recorded
    assert (record.parent_id, record.parent_host_id, record.traffic) == ("p", "h", "remote_peer")
    assert (record.number, record.length, record.concurrency) == (0, 7, 2)
    assert record.decision_id == "child#3"


async def test_what_was_being_written_when_it_was_stopped_is_recorded_as_brought() -> None:
    fetcher = Persisting()
    async with asked(fetcher) as one:
        await fetcher.is_writing.wait()
        one.parents.perform(CancelPiece(peer_id="p", number=0, reason=CancelReason.LATE))
        assert (await one.not_fetched()).reason is FailureReason.CANCELLED
    (record,) = one.recorder.records
    assert isinstance(record, PieceRecord)
    assert (record.result, record.length) == ("ok", 7)


async def test_a_fetch_that_was_stopped_before_it_began_is_recorded() -> None:
    async with asked(Persisting()) as one:
        one.parents.perform(CancelPiece(peer_id="p", number=0, reason=CancelReason.LATE))
    (record,) = one.recorder.records
    assert isinstance(record, PieceRecord)
    assert (record.result, record.reason) == ("cancelled", CancelReason.LATE)


class Where:
    """A fetcher that notes where it was sent, and whether early; the first time it fails so."""

    def __init__(self, error: OdonataError) -> None:
        self._error = error
        self.places: list[tuple[int, bool]] = []
        self.ahead: list[AheadPiece | None] = []

    async def fetch(
        self,
        ip: str,
        port: int,
        *_: Any,
        early: Early | None = None,
        ahead: AheadPiece | None = None,
        **_more: Any,
    ) -> Piece:
        self.places.append((port, early is not None))
        self.ahead.append(ahead)
        raise self._error


async def test_an_early_piece_is_asked_where_the_host_served_others() -> None:
    fetcher = Where(PieceGivenError("to x"))
    async with asked(fetcher, is_early=True, known_at=ServedAt("127.0.0.1", 9, frozenset())) as one:
        assert (await one.not_fetched()).reason is FailureReason.GIVEN
    assert fetcher.places == [(9, True)]


async def test_an_early_piece_of_a_host_never_met_waits_for_the_parents_list() -> None:
    fetcher = Where(PieceGivenError("to x"))
    async with asked(fetcher, is_early=True) as one:
        assert (await one.not_fetched()).reason is FailureReason.GIVEN
    assert fetcher.places == [(1, True)], "where `Offering` says"


@pytest.mark.parametrize("error", [UnavailableError("nobody"), ProtocolError("not a daemon")])
async def test_a_host_that_has_moved_is_not_to_blame_for_an_early_piece(
    error: OdonataError,
) -> None:
    old = ServedAt("127.0.0.1", 9, frozenset())
    async with asked(Where(error), is_early=True, known_at=old) as one:
        event = await one.not_fetched()
        assert event.reason is FailureReason.REFUSED
        assert "moved" in event.detail
        assert one.known.of(one.target) != old


# --- asked ahead ----------------------------------------------------------------------------------


class Lying:
    """A piece that lies in the socket, and an asker that has it, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked_at_s = time.monotonic() - 5.0
        self.closed = 0
        self.asked: list[tuple[int, str]] = []
        self._error = error

    def close(self) -> None:
        self.closed += 1

    async def ask_ahead(
        self, ip: str, port: int, task_id: str, *, features: Collection[str], timeout_s: float
    ) -> AheadPiece | None:
        self.asked.append((port, task_id))
        if self._error is not None:
            raise self._error
        return self


async def test_a_piece_that_was_asked_ahead_is_taken_from_who_was_asked() -> None:
    fetcher, asker = Where(PeerRefusedError("full")), Lying()
    async with asked(fetcher, is_early=True, asker=asker) as one:
        await one.not_fetched()
        assert one.known.seed is not None
    assert asker.asked == [(9, TASK)]
    assert fetcher.ahead == [asker]
    assert not asker.closed, "it belongs to the fetcher"
    (record,) = one.recorder.records
    assert isinstance(record, PieceRecord)
    assert record.total_s > 5.0, "since it was asked for"


async def test_it_is_of_no_use_if_somebody_else_is_the_parent_and_ends_with_the_download() -> None:
    fetcher, asker = Where(PeerRefusedError("full")), Lying()
    async with asked(
        fetcher, is_early=True, asker=asker, seed="other", known_at=ServedAt("", 8, frozenset())
    ) as one:
        await one.not_fetched()
    assert fetcher.ahead == [None]
    assert asker.closed == 1


@pytest.mark.parametrize("error", [UnavailableError("gone"), TimeoutError(), OSError("no more")])
async def test_who_did_not_answer_ahead_is_asked_as_ever_but_not_ahead_again(
    error: Exception,
) -> None:
    fetcher, asker = Where(PeerRefusedError("full")), Lying(error)
    async with asked(fetcher, is_early=True, asker=asker) as one:
        await one.not_fetched()
        assert one.known.seed is None
    assert fetcher.ahead == [None]
    assert not asker.closed
