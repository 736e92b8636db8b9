"""The link to schedulers that fail in every way, against real gRPC servers that count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf.empty_pb2 import Empty
from support.daemon import PATIENCE_S
from support.eventually import eventually

from odonata.errors import UnavailableError
from odonata.grpc_client import open_channel
from odonata.grpc_h2 import frame
from odonata.grpc_server import GrpcServer
from odonata.ring import Address
from odonata.wire.dragonfly import finished_piece_in, others_finished_in
from odonata.wire.dragonfly.feature import FEATURES_KEY, TAKES_NEWS, WRITES_PIECES
from odonata.wire.message import (
    Download,
    Finished,
    Piece,
    PieceFinished,
    Register,
    SchedulerAnswer,
    Started,
)
from peer.runtime import scheduler_link
from peer.runtime.conversation import Conversation
from peer.runtime.scheduler_link import Scheduler, SchedulerLink

TASK = "a" * 64
WINDOW_BYTES = 65_535
"""What HTTP/2 lets a client send at first, before the server has said more."""


async def hear_nothing(answer: SchedulerAnswer) -> None:
    raise AssertionError(answer)


class CountingScheduler:
    """Notes when this host announced itself; refuses peers, or never answers them."""

    def __init__(self) -> None:
        self.announced_at_s: list[float] = []
        self.refuses_hosts = False
        self.refuses_peers = False
        self.peers = 0
        self.features: list[str] = []

    async def AnnounceHost(self, _request: Any, context: Any) -> Empty:  # noqa: N802  # the rpc's name
        self.announced_at_s.append(time.monotonic())
        if self.refuses_hosts:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return Empty()

    async def AnnouncePeer(  # noqa: N802  # the rpc's name
        self, requests: AsyncIterator[Any], context: Any
    ) -> None:
        self.peers += 1
        told = dict(context.invocation_metadata())
        self.features.append(str(told.get(FEATURES_KEY)))
        if self.refuses_peers:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not for you")
        async for _ in requests:
            pass

    async def DeleteTask(self, _request: Any, _context: Any) -> Empty:  # noqa: N802  # the rpc's name
        self.peers += 1
        await asyncio.Event().wait()
        return Empty()


@pytest.fixture
async def counting() -> AsyncIterator[tuple[CountingScheduler, Address]]:
    service, server = CountingScheduler(), GrpcServer()
    server.add_service(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"], service)
    port = server.bind_tcp("127.0.0.1", 0, "test")
    await server.start()
    yield service, Address(ip="127.0.0.1", port=port)
    await server.stop(0)


class Book:
    """What the settings name, as the test changes it."""

    def __init__(self, *addresses: Address) -> None:
        self.addresses = addresses
        self.failures = 0
        self.slow: asyncio.Event | None = None

    async def find(self) -> tuple[Address, ...]:
        if self.slow is not None:
            await self.slow.wait()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("no address is known")
        return self.addresses


@pytest.fixture
async def make_link() -> AsyncIterator[Callable[..., SchedulerLink]]:
    links: list[SchedulerLink] = []

    def make(
        book: Book,
        refresh_interval_s: float = 3600.0,
        announce_interval_s: float = 3600.0,
        features: tuple[str, ...] = (),
    ) -> SchedulerLink:
        link = SchedulerLink(
            find_addresses=book.find,
            host=lambda: common_pb2.Host(id="host"),
            announce_interval_s=announce_interval_s,
            refresh_interval_s=refresh_interval_s,
            features=features,
        )
        links.append(link)
        return link

    yield make
    for link in links:
        await link.close()


async def test_a_scheduler_that_refuses_is_asked_again_after_a_pause(
    counting: tuple[CountingScheduler, Address], make_link: Callable[..., SchedulerLink]
) -> None:
    service, address = counting
    service.refuses_hosts = True
    await make_link(Book(address)).start()
    await eventually(lambda: len(service.announced_at_s) >= 2)
    first, second = service.announced_at_s[:2]
    assert second - first >= 0.5, "never without a pause, however often it refuses"


async def test_a_peer_says_what_it_can_on_its_stream(
    counting: tuple[CountingScheduler, Address], make_link: Callable[..., SchedulerLink]
) -> None:
    service, address = counting
    service.refuses_peers = True

    async def hear(answer: SchedulerAnswer) -> None:
        raise AssertionError(f"it refuses, and does not say {answer}")

    for features in ((), (TAKES_NEWS, WRITES_PIECES)):
        link = make_link(Book(address), features=features)
        await link.start()
        conversation = link.converse("host", TASK, "peer")
        conversation.say(Register(download=Download(url="http://origin.test/")))
        with pytest.raises(UnavailableError):
            await conversation.listen(hear)
    assert service.features == ["", "takes-news,writes-pieces"]


async def test_a_scheduler_that_comes_back_is_told_anew_what_is_held(
    counting: tuple[CountingScheduler, Address], make_link: Callable[..., SchedulerLink]
) -> None:
    service, address = counting
    found: list[Scheduler] = []
    link = make_link(Book(address), announce_interval_s=0.05)
    link.on_found = found.append
    await link.start()
    assert len(found) == 1
    service.refuses_hosts = True
    await eventually(lambda: not link.available(TASK))
    service.refuses_hosts = False
    await eventually(lambda: link.available(TASK))
    await eventually(lambda: len(found) == 2)


async def test_suspicion_after_suspicion_does_not_hammer_the_scheduler(
    counting: tuple[CountingScheduler, Address], make_link: Callable[..., SchedulerLink]
) -> None:
    service, address = counting
    link = make_link(Book(address))
    link.on_found = lambda scheduler: scheduler.suspect("it refuses every peer")
    await link.start()
    await eventually(lambda: len(service.announced_at_s) >= 4)
    announced = service.announced_at_s[:4]
    assert announced[3] - announced[0] >= 1.0


async def test_a_download_hears_that_its_scheduler_was_taken_off_the_list(
    counting: tuple[CountingScheduler, Address], make_link: Callable[..., SchedulerLink]
) -> None:
    service, address = counting
    book = Book(address)
    link = make_link(book, refresh_interval_s=0.05)
    await link.start()
    conversation = link.converse("host", TASK, "peer")
    conversation.say(Register(download=Download(url="http://origin.test/blob")))
    listening = asyncio.ensure_future(conversation.listen(hear_nothing))
    await eventually(lambda: service.peers == 1)
    book.addresses = ()
    with pytest.raises(UnavailableError, match="closed"):
        async with asyncio.timeout(PATIENCE_S):
            await listening


async def test_a_call_to_a_scheduler_that_is_taken_off_the_list_fails_and_cancels_nobody(
    counting: tuple[CountingScheduler, Address], make_link: Callable[..., SchedulerLink]
) -> None:
    service, address = counting
    book = Book(address)
    link = make_link(book, refresh_interval_s=0.05)
    await link.start()
    one = link.of_task(TASK)
    assert one is not None
    forgetting = asyncio.ensure_future(one.forget_task("host", TASK))
    await eventually(lambda: service.peers == 1)
    book.addresses = ()
    with pytest.raises(UnavailableError, match="closed"):
        async with asyncio.timeout(PATIENCE_S):
            await forgetting


async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that dies while its client is still writing: there is more than it has room for."""
    writer.write(frame.settings_frame({}))
    await reader.readexactly(WINDOW_BYTES)
    writer.transport.abort()


class LoneScheduler:
    """What a conversation needs of a scheduler of which there is but a channel."""

    features: tuple[str, ...] = ()
    takes_pieces_together = False

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.suspected: list[str] = []

    async def announce(self) -> None:
        raise AssertionError("nobody said that this host is not known")

    def suspect(self, reason: str) -> None:
        self.suspected.append(reason)


async def test_a_scheduler_that_dies_while_it_is_told_something_has_refused_nothing() -> None:
    server = await asyncio.start_server(cut_off, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(PATIENCE_S):
        scheduler = LoneScheduler(channel)
        conversation = Conversation(scheduler, "host", TASK, "peer")
        header = {"X-Long": "x" * 2 * WINDOW_BYTES}
        conversation.say(Register(download=Download(url="http://origin", request_header=header)))
        with pytest.raises(UnavailableError):
            await conversation.listen(hear_nothing)
    assert not conversation.refused
    assert scheduler.suspected


async def test_names_that_are_unknown_at_first_are_soon_looked_up_again(
    counting: tuple[CountingScheduler, Address], make_link: Callable[..., SchedulerLink]
) -> None:
    _, address = counting
    book = Book(address)
    book.failures = 1
    link = make_link(book)
    await link.start()
    await eventually(lambda: link.available(TASK))


async def test_a_name_server_that_does_not_answer_does_not_hold_up_the_start(
    counting: tuple[CountingScheduler, Address],
    make_link: Callable[..., SchedulerLink],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler_link, "FIRST_ROUND_S", 0.05)
    _, address = counting
    book = Book(address)
    book.slow = asyncio.Event()
    link = make_link(book)
    async with asyncio.timeout(PATIENCE_S):
        await link.start()
    assert not link.available(TASK)
    book.slow.set()
    await eventually(lambda: link.available(TASK))


class ListeningScheduler:
    """Answers who registers, and notes which pieces each report names."""

    def __init__(self) -> None:
        self.reports: list[list[int]] = []
        self.kinds: list[str] = []

    async def AnnouncePeer(  # noqa: N802  # the rpc's name
        self, requests: AsyncIterator[Any], context: Any
    ) -> None:
        async for request in requests:
            self.kinds.append(request.WhichOneof("request"))
            piece = finished_piece_in(request)
            if piece is None:
                await context.write(scheduler_pb2.AnnouncePeerResponse(empty_task_response={}))
            else:
                others = others_finished_in(request)
                self.reports.append([one.piece.number for one in (piece, *others)])


@pytest.mark.parametrize("is_able", [True, False])
async def test_pieces_are_told_together_to_who_takes_that(is_able: bool) -> None:
    service, server = ListeningScheduler(), GrpcServer()
    server.add_service(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"], service)
    port = server.bind_tcp("127.0.0.1", 0, "test")
    await server.start()
    answered = asyncio.Event()

    async def hear(_answer: SchedulerAnswer) -> None:
        answered.set()

    async with open_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(PATIENCE_S):
        scheduler = LoneScheduler(channel)
        scheduler.takes_pieces_together = is_able
        conversation = Conversation(scheduler, "host", TASK, "peer")
        conversation.say(Register(download=Download(url="http://origin")))
        async with asyncio.TaskGroup() as group:
            group.create_task(conversation.listen(hear))
            await answered.wait()
            for number in range(5):
                conversation.say(brought(number))
            conversation.say(Started())
            for number in range(5, 9):
                conversation.say(brought(number))
            conversation.say(Finished())
            conversation.finish()
    await server.stop(0)
    together = [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    assert service.reports == (together if is_able else [[number] for number in range(9)])
    begun, finished = "download_peer_started_request", "download_peer_finished_request"
    kinds = [kind for kind in service.kinds if "piece" not in kind]
    assert kinds == ["register_peer_request", begun, finished]
    assert service.kinds[-1] == finished


def brought(number: int) -> PieceFinished:
    """A parent brought it."""
    piece = Piece(number=number, offset=number, length=1, parent_id="parent")
    return PieceFinished(piece=piece)
