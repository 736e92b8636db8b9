"""The hub with a real source and real cores, storage in memory, no scheduler: who shares what."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any

import pytest
from support.content import cut, make_content
from support.memory_storage import MemoryStorage
from support.origin import Manners, Origin

from odonata.errors import (
    CallerError,
    CapacityError,
    DigestMismatchError,
    DiskFullError,
    SourceError,
    UnavailableError,
)
from odonata.piece import MIB
from odonata.wire.message import ByteRange, Download, Piece, TrafficType
from peer.core.download import DownloadCore
from peer.core.limits import DownloadLimits
from peer.runtime.buffer import BufferPool
from peer.runtime.channel import ChannelPool
from peer.runtime.conversation import Conversation
from peer.runtime.host_info import HostFacts
from peer.runtime.hub import Hub, Offer
from peer.runtime.limit import Unlimited
from peer.runtime.piece_client import PieceClient
from peer.runtime.reception import Receptions
from peer.runtime.run_tools import RunTools
from peer.runtime.source import open_sources
from peer.runtime.view import View

PATIENCE_S = 30.0
CONTENT = make_content(18 * MIB)
WHOLE = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class NoSchedulers:
    def available(self, task_id: str) -> bool:
        return False

    def lost_s(self) -> float | None:
        return None

    def tells_digests(self, task_id: str) -> bool:
        del task_id
        return False

    def needs_size(self, task_id: str) -> bool:
        return False


def nobody(task_id: str, peer_id: str) -> Conversation:
    raise AssertionError(f"{peer_id} of {task_id}: there is no scheduler to talk to")


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def make_hub() -> AsyncIterator[Callable[..., Hub]]:
    storage, sources, pool = MemoryStorage(), open_sources(), ChannelPool()
    buffers = BufferPool()
    hubs: list[Hub] = []
    limits = DownloadLimits(source_backoff_s=0.01, source_attempts=2)

    def make(buffers: BufferPool = buffers, **more: Any) -> Hub:
        tools = RunTools(
            facts=HostFacts(ip="127.0.0.1", hostname="test"),
            fetcher=PieceClient(buffers),
            source=sources,
            source_limit=Unlimited(),
            buffers=buffers,
            parents=pool,
            converse=nobody,
        )

        def core(download: Download) -> DownloadCore:
            return DownloadCore(limits, download, Random(1))

        hubs.append(Hub(storage, tools, NoSchedulers(), core, **more))
        return hubs[-1]

    yield make
    for hub in hubs:
        await hub.close()
    await pool.close()
    await sources.close()


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    return make_hub()


async def within(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await work


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until what follows from the last step has happened."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  # nothing here announces it
            await asyncio.sleep(0)


async def read(view: View, wanted: ByteRange | None = None) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return b"".join(
            [os.pread(one.fd, one.length, one.offset) async for one in view.read(wanted)]
        )


async def read_into(got: bytearray, view: View) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async for part in view.read():
            got += os.pread(part.fd, part.length, part.offset)


async def test_readers_get_bytes_in_order_while_they_arrive(hub: Hub, origin: Origin) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    view = await within(hub.open(Download(url=url)))
    segments = view.read()
    first = await within(anext(segments))
    assert (first.offset, first.length) == (0, 4 * MIB)
    assert not gate.is_set()
    assert not view.was_local
    gate.set()
    rest = b"".join([os.pread(one.fd, one.length, one.offset) async for one in segments])
    assert rest == CONTENT[4 * MIB :]
    await within(view.done())
    again = await within(hub.open(Download(url=url)))
    assert again.was_local
    kinds = {piece.traffic_type async for piece in again.pieces()}
    assert kinds == {TrafficType.LOCAL_PEER}
    await again.close()
    await view.close()


@pytest.mark.parametrize("length_known", [True, False])
async def test_a_body_that_breaks_off_is_an_error_and_never_an_end(
    length_known: bool, hub: Hub, origin: Origin
) -> None:
    manners = Manners(short_by=5 * MIB, chunked=not length_known, ranges=length_known)
    view = await within(hub.open(Download(url=origin.add("/blob", CONTENT, manners))))
    with pytest.raises(SourceError):
        await read(view)
    with pytest.raises(SourceError):
        await within(view.done())
    await view.close()


async def test_a_failed_download_is_begun_again_for_the_next_caller(
    hub: Hub, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT, Manners(status=404))
    with pytest.raises(SourceError) as refused:
        await within(hub.open(Download(url=url)))
    assert refused.value.status_code == 404
    origin.add("/blob", CONTENT)
    view = await within(hub.open(Download(url=url)))
    assert await read(view) == CONTENT
    await view.close()


async def test_a_reader_may_read_more_than_the_view_was_opened_for(
    hub: Hub, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT)
    view = await within(hub.open(Download(url=url, range=ByteRange(start=0, length=1))))
    assert await read(view, ByteRange(start=17 * MIB, length=7)) == CONTENT[17 * MIB :][:7]
    assert await read(view) == CONTENT
    with pytest.raises(CallerError):
        await read(view, ByteRange(start=19 * MIB, length=1))
    await view.close()


async def test_a_digest_is_checked_before_the_end_is_clean(hub: Hub, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    right = await within(hub.open(Download(url=url, digest=WHOLE)))
    assert await read(right) == CONTENT
    await right.close()
    wrong = await within(hub.open(Download(url=url, digest=f"sha256:{'0' * 64}")))
    with pytest.raises(DigestMismatchError):
        await read(wrong)
    with pytest.raises(DigestMismatchError):
        await within(wrong.done())
    await wrong.close()


BLOB = f"/v2/library/thing/blobs/sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.mark.parametrize(
    "manners", [Manners(), Manners(chunked=True, ranges=False)], ids=["sized", "unsized"]
)
async def test_who_reads_along_never_gets_to_the_end_of_a_wrong_blob(
    hub: Hub, origin: Origin, manners: Manners
) -> None:
    url = origin.add(BLOB, CONTENT[:-1] + b"!", manners)
    views = [await within(hub.open(Download(url=url))) for _ in range(2)]
    for view in views:
        got = bytearray()
        with pytest.raises(DigestMismatchError):
            await read_into(got, view)
        # Where nobody knows which piece is the last, the missing end of the body must tell.
        assert len(got) < len(CONTENT) or manners.chunked
        await view.close()
    stored = hub.storage.get(views[0].task_id)
    assert stored is not None
    await until(lambda: not stored.held())
    origin.add(BLOB, CONTENT, manners)
    again = await within(hub.open(Download(url=url)))
    assert await read(again) == CONTENT
    await again.close()


async def test_a_right_blob_is_read_to_its_end(hub: Hub, origin: Origin) -> None:
    url = origin.add(BLOB, CONTENT)
    views = [await within(hub.open(Download(url=url))) for _ in range(3)]
    assert await asyncio.gather(*map(read, views)) == [CONTENT] * 3
    for view in views:
        await view.close()


async def test_the_last_caller_decides_whether_it_goes_on(hub: Hub, origin: Origin) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    leaving = await within(hub.open(Download(url=url), linger=True))
    await leaving.close()
    gate.set()
    task = await within(hub.find(leaving.task_id))
    landed = [piece.number async for one in hub.offers(leaving.task_id, ()) for piece in one.pieces]
    assert sorted(landed) == [0, 1, 2, 3, 4]
    assert task.finished
    assert origin.copies("/blob") == 1


class Nothing:
    """Content of which nothing has come."""

    data = memoryview(b"")
    position = 0

    def hurry(self) -> None:
        """Nobody waits."""


async def test_who_wants_to_hears_of_what_is_on_its_way(
    make_hub: Callable[..., Hub], origin: Origin
) -> None:
    gate, receptions = asyncio.Event(), Receptions()
    hub = make_hub(receptions=receptions)
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    view = await within(hub.open(Download(url=url)))
    piece = Piece(number=1, offset=4 * MIB, length=4 * MIB, digest="crc32:1")
    offers = hub.offers(view.task_id, (), with_coming=True)
    with receptions.begin(view.task_id, piece, Nothing()):
        heard = [await within(anext(offers))]
        while not heard[-1].is_coming:  # what landed before the gate comes first
            heard.append(await within(anext(offers)))
        assert heard[-1] == Offer((piece,), is_coming=True)
    gate.set()
    heard += [one async for one in offers]
    landed = [piece.number for one in heard if not one.is_coming for piece in one.pieces]
    assert sorted(landed) == [0, 1, 2, 3, 4]
    await view.close()


async def test_a_whole_task_is_fetched_behind_a_range(hub: Hub, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    wanted = ByteRange(start=0, length=1)
    view = await within(hub.open(Download(url=url, range=wanted, prefetch=True)))
    landed = [piece.number async for one in hub.offers(view.task_id, ()) for piece in one.pieces]
    assert sorted(landed) == [0, 1, 2, 3, 4]
    await view.close()


async def test_downloads_beyond_the_bound_wait_for_their_turn(
    make_hub: Callable[..., Hub], origin: Origin
) -> None:
    hub, gate = make_hub(max_downloads=1), asyncio.Event()
    first = await within(hub.open(Download(url=origin.add("/first", CONTENT, Manners(gate=gate)))))
    urls = [origin.add(f"/{number}", CONTENT[:9]) for number in range(3)]
    opening: list[asyncio.Future[View]] = []
    for url in urls:
        opening.append(asyncio.ensure_future(hub.open(Download(url=url))))
        await until(lambda: hub.turns.waiting == len(opening))
    assert hub.running == 4
    assert {seen.path for seen in origin.requests} == {"/first"}
    gate.set()
    views = await within(asyncio.gather(*opening))
    for view in views:
        await within(view.done())
    assert [seen.path for seen in origin.requests][-3:] == ["/0", "/1", "/2"]
    await until(lambda: hub.running == 0)
    for view in (first, *views):
        await view.close()


async def test_who_leaves_before_its_turn_is_not_waited_for(
    make_hub: Callable[..., Hub], origin: Origin
) -> None:
    hub, gate = make_hub(max_downloads=1), asyncio.Event()
    first = await within(hub.open(Download(url=origin.add("/first", CONTENT, Manners(gate=gate)))))
    wanted = Download(url=origin.add("/second", CONTENT))
    leaving = asyncio.ensure_future(hub.open(wanted, linger=False))
    await until(lambda: hub.turns.waiting == 1)
    leaving.cancel()
    await until(lambda: hub.turns.waiting == 0)
    await until(lambda: hub.running == 1)
    again = asyncio.ensure_future(hub.open(wanted))
    await until(lambda: hub.turns.waiting == 1)
    gate.set()
    second = await within(again)
    assert await read(second) == CONTENT
    await first.close()
    await second.close()


async def test_the_downloads_that_wait_are_bounded(
    make_hub: Callable[..., Hub], origin: Origin
) -> None:
    hub, gate = make_hub(max_downloads=1, max_waiting=1), asyncio.Event()
    first = await within(hub.open(Download(url=origin.add("/first", CONTENT, Manners(gate=gate)))))
    second = asyncio.ensure_future(hub.open(Download(url=origin.add("/second", CONTENT))))
    await until(lambda: hub.turns.waiting == 1)
    with pytest.raises(CapacityError, match="1 downloads wait"):
        await within(hub.open(Download(url=origin.add("/third", CONTENT))))
    await hub.close()  # who waits ends, too
    with pytest.raises(UnavailableError):
        await within(second)
    await first.close()


async def test_slow_sources_do_not_keep_the_memory_from_others(
    make_hub: Callable[..., Hub], origin: Origin
) -> None:
    """Memory for one piece at a time: a long download, and one that has to get by beside it."""
    hub = make_hub(buffers=BufferPool(capacity_bytes=4 * MIB))
    slow = await within(
        hub.open(Download(url=origin.add("/slow", CONTENT, Manners(rate_bytes_per_s=16 * MIB))))
    )
    await until(lambda: slow.task.held() != ())
    quick = await within(hub.open(Download(url=origin.add("/quick", CONTENT[: 8 * MIB]))))
    await within(quick.done())
    assert not slow.satisfied
    await within(slow.done())
    await slow.close()
    await quick.close()


async def test_a_full_disk_ends_the_download_with_its_own_error(hub: Hub, origin: Origin) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    view = await within(hub.open(Download(url=url)))
    task = hub.storage.get(view.task_id)
    assert task is not None
    task.fail_next_store = DiskFullError("full")  # type: ignore[attr-defined]  # the twin's own
    gate.set()
    with pytest.raises(DiskFullError):
        await within(view.done())
    await view.close()


async def test_a_task_that_is_deleted_while_it_is_read_goes_with_its_last_reader(
    hub: Hub, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT)
    view = await within(hub.open(Download(url=url)))
    await within(view.done())
    assert await hub.delete(view.task_id)
    assert await read(view) == CONTENT
    await view.close()
    await until(lambda: hub.storage.get(view.task_id) is None)


async def test_nothing_runs_after_close(hub: Hub, origin: Origin) -> None:
    before = asyncio.all_tasks()
    url = origin.add("/blob", CONTENT, Manners(gate=asyncio.Event()))
    view = await within(hub.open(Download(url=url)))
    assert hub.running == 1
    await hub.close()
    await view.close()
    names = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not [name for name in names if "hub" in name or "127.0.0.1-test" in name]


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_range_of_a_content_whose_length_nobody_says_comes_to_an_end(
    ranges: bool, hub: Hub, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT, Manners(chunked=True, ranges=ranges, hides_total=True))
    wanted = ByteRange(start=5 * MIB, length=7)
    view = await within(hub.open(Download(url=url, range=wanted)))
    assert await read(view, wanted) == CONTENT[5 * MIB :][:7]
    await within(view.done())
    await within(view.sized())
    assert 1 in [piece.number async for piece in view.pieces()]
    await until(lambda: hub.running == 0)
    await view.close()


async def test_a_range_of_a_task_that_nobody_knows_yet_does_not_read_what_is_before_it(
    hub: Hub, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT)
    wanted = ByteRange(start=17 * MIB, length=7)
    view = await within(hub.open(Download(url=url, range=wanted)))
    assert await read(view, wanted) == CONTENT[17 * MIB :][:7]
    await within(view.done())
    assert view.task.held() == (4,)
    assert [seen.range for seen in origin.requests] == [
        "bytes=0-",
        f"bytes={16 * MIB}-{len(CONTENT) - 1}",
    ]
    await view.close()


async def test_a_piece_that_rots_under_a_reader_is_fetched_anew(hub: Hub, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    first = await within(hub.open(Download(url=url)))
    await within(first.done())
    view = await within(hub.open(Download(url=url)))
    assert view.was_local
    segments = view.read()
    await within(anext(segments))
    task = hub.storage.get(view.task_id)
    assert task is not None
    task.corrupt(9 * MIB)  # type: ignore[attr-defined]  # the twin's own
    assert not await task.verify(2)
    async with asyncio.timeout(PATIENCE_S):
        rest = [os.pread(one.fd, one.length, one.offset) async for one in segments]
    assert b"".join(rest) == CONTENT[4 * MIB :]
    await within(view.done())
    await within(first.done())
    await view.close()
    await first.close()


async def test_names_of_tasks_that_are_gone_are_forgotten(hub: Hub, origin: Origin) -> None:
    for number in range(3):
        view = await within(hub.open(Download(url=origin.add(f"/{number}", CONTENT[:9]))))
        await within(view.done())
        await view.close()
        await until(lambda: hub.running == 0)
        await hub.storage.delete(view.task_id)  # as garbage collection does
    assert len(hub.known_as) <= 1


async def test_a_piece_that_lands_behind_the_one_being_taken_is_told_too(
    hub: Hub, origin: Origin
) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    view = await within(hub.open(Download(url=url)))
    last, count = cut(CONTENT, 4 * MIB)[-1], len(cut(CONTENT, 4 * MIB))
    await view.task.store(*last)
    pieces = view.pieces()
    told = {(await within(anext(pieces))).number}
    while last[0].number not in told:  # it is being taken now, and all others land
        told.add((await within(anext(pieces))).number)
    for piece, data in cut(CONTENT, 4 * MIB):
        await view.task.store(piece, data)
    await view.task.finish()
    gate.set()
    async for piece in pieces:
        told.add(piece.number)
    assert told == set(range(count))
    await view.close()


async def test_pieces_of_two_contents_are_never_given_to_one_caller(
    hub: Hub, origin: Origin
) -> None:
    old, new = CONTENT, make_content(18 * MIB, 2)
    url = origin.add("/blob", old, Manners(short_by=5 * MIB, header={"ETag": '"1"'}))
    failing = await within(hub.open(Download(url=url)))
    with pytest.raises(SourceError):
        await within(failing.done())
    await failing.close()
    origin.add("/blob", new, Manners(header={"ETag": '"2"'}))
    view = await within(hub.open(Download(url=url, need_piece_content=True)))
    pieces = view.pieces()
    old_ones = [(await within(anext(pieces))).number for _ in view.task.held()]
    assert old_ones == [0, 1, 2], "of the old content, before anybody could know"
    with pytest.raises(SourceError, match="changed"):
        await within(anext(pieces))
    await view.close()


async def test_a_piece_that_rots_while_the_rest_still_comes_is_fetched_anew(
    hub: Hub, origin: Origin
) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    view = await within(hub.open(Download(url=url)))
    segments = view.read()
    await within(anext(segments))
    task = hub.storage.get(view.task_id)
    assert task is not None
    task.corrupt(1)  # type: ignore[attr-defined]  # the twin's own
    assert not await task.verify(0)
    gate.set()
    await within(view.done())
    assert await read(view) == CONTENT
    await segments.aclose()
    await view.close()


# --- credentials ----------------------------------------------------------------------------------


def shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def half_fetched(hub: Hub, origin: Origin, *tokens: str) -> tuple[list[View], asyncio.Event]:
    """Views of one download, in that order; once the event is set, its connection breaks."""
    gate = asyncio.Event()
    cut_after = dict.fromkeys(range(1, 9), 12 * MIB)
    url = origin.add("/blob", CONTENT, Manners(gate=gate, cut=cut_after))
    wishes = [Download(url=url, request_header=shown(token)) for token in tokens]
    return [await within(hub.open(wish)) for wish in wishes], gate


def let_in(origin: Origin, token: str) -> None:
    """Nobody else from now on."""
    wanted = ("Authorization", f"Bearer {token}")
    origin.add("/blob", CONTENT, Manners(wants_header=wanted))


async def test_who_left_takes_his_credentials_along(hub: Hub, origin: Origin) -> None:
    (good, bad), gate = await half_fetched(hub, origin, "good", "bad")
    await bad.close()
    let_in(origin, "good")
    gate.set()
    assert await read(good) == CONTENT
    await good.close()


async def test_credentials_that_are_all_refused_are_tried_once_each(
    hub: Hub, origin: Origin
) -> None:
    views, gate = await half_fetched(hub, origin, "a", "b", "b", "c")
    let_in(origin, "good")
    gate.set()
    for view in views:
        with pytest.raises(SourceError) as refused:
            await read(view)
        assert refused.value.status_code == 401
        await view.close()
    refusals = [seen.header["Authorization"] for seen in origin.requests if seen.status == 401]
    assert sorted(refusals) == ["Bearer a", "Bearer b", "Bearer c"]
