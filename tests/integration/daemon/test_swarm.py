"""Daemons, a scheduler and an origin, all real: what arrives is right, the origin sends it once."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, get, scheduler, sha256, watch
from support.origin import Manners, Origin

from odonata.wire.message import PieceFailed
from peer.runtime.daemon import Daemon
from scheduler.core.effect import SchedulerEffect
from scheduler.core.event import PeerSpoke, SchedulerEvent

COPIES_MAX = 1.02


async def swarm(stack: AsyncExitStack, folder: Path, peers: int) -> tuple[Daemon, list[Daemon]]:
    """A scheduler, a seed and `peers` daemons, until the stack ends."""
    app = await stack.enter_async_context(scheduler())
    addrs = [app.address]
    seed = await stack.enter_async_context(
        daemon(folder, 2, seedPeer__enable=True, scheduler__addrs=addrs)
    )
    others = [
        await stack.enter_async_context(daemon(folder, 3 + n, scheduler__addrs=addrs))
        for n in range(peers)
    ]
    return seed, others


async def everyone_gets(peers: list[Daemon], url: str, content: bytes, folder: Path) -> None:
    outputs = await asyncio.gather(
        *(get(peer, url, folder / f"out{n}") for n, peer in enumerate(peers))
    )
    expected = hashlib.sha256(content).hexdigest()
    assert [sha256(path) for path in outputs] == [expected] * len(peers)


@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 4 * MIB + 1, 30 * MIB + 7])
async def test_all_peers_at_once_get_it_and_the_origin_sends_one_copy(
    size: int, tmp_path: Path
) -> None:
    content = make_content(size)
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", content)
        _, peers = await swarm(stack, tmp_path, 3)
        await everyone_gets(peers, url, content, tmp_path)
        assert origin.copies("/blob") <= COPIES_MAX
        before = len(origin.requests)
        await get(peers[0], url, tmp_path / "again")
        assert len(origin.requests) == before, "what is here is not fetched again"


@pytest.mark.parametrize(
    "manners",
    [Manners(chunked=True, ranges=False), Manners(ranges=False)],
    ids=["unknown length", "no ranges"],
)
async def test_an_origin_with_other_manners_sends_one_copy_too(
    manners: Manners, tmp_path: Path
) -> None:
    content = make_content(9 * MIB + 5)
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", content, manners)
        _, peers = await swarm(stack, tmp_path, 3)
        await everyone_gets(peers, url, content, tmp_path)
        assert origin.copies("/blob") <= COPIES_MAX


async def test_a_cluster_of_our_own_may_cut_finer(tmp_path: Path) -> None:
    """Who has another setting goes by what others have."""
    content = make_content(5 * MIB + 1)
    async with AsyncExitStack() as stack, Origin() as origin:
        app = await stack.enter_async_context(scheduler())
        settings = {"scheduler__addrs": [app.address]}
        fine = {"download__leastPieceLength": "1MiB", **settings}
        await stack.enter_async_context(daemon(tmp_path, 2, seedPeer__enable=True, **fine))
        peers = [
            await stack.enter_async_context(daemon(tmp_path, 3, **fine)),
            await stack.enter_async_context(daemon(tmp_path, 4, **settings)),
        ]
        url = origin.add("/blob", content)
        for number, peer in enumerate(peers):
            pieces = [piece async for piece in watch(peer, url, tmp_path / f"out{number}")]
            assert sorted(piece.offset for piece in pieces) == [n * MIB for n in range(6)]
            assert sha256(tmp_path / f"out{number}") == hashlib.sha256(content).hexdigest()
        assert origin.copies("/blob") <= COPIES_MAX


async def test_without_any_scheduler_it_comes_from_the_source(tmp_path: Path) -> None:
    content = make_content(5 * MIB)
    async with Origin() as origin, daemon(tmp_path, 2) as alone:
        url = origin.add("/blob", content)
        await everyone_gets([alone], url, content, tmp_path)
        assert origin.copies("/blob") == 1


async def test_a_scheduler_that_is_not_there_is_no_reason_to_fail(tmp_path: Path) -> None:
    content = make_content(5 * MIB)
    async with Origin() as origin, scheduler() as gone:
        addrs = [gone.address]
        await gone.stop()
        async with daemon(tmp_path, 2, scheduler__addrs=addrs) as alone:
            await everyone_gets([alone], origin.add("/blob", content), content, tmp_path)


async def test_two_callers_share_one_download(tmp_path: Path) -> None:
    content = make_content(12 * MIB)
    async with Origin() as origin, daemon(tmp_path, 2) as alone:
        url = origin.add("/blob", content)
        await everyone_gets([alone] * 4, url, content, tmp_path)
        assert origin.copies("/blob") == 1
        assert len(origin.requests) == 1


async def test_a_piece_that_is_wrong_on_a_parents_disk_never_arrives(tmp_path: Path) -> None:
    content = make_content(20 * MIB)
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", content)
        _, peers = await swarm(stack, tmp_path, 2)
        await get(peers[0], url, tmp_path / "first")
        for one in (2, 3):  # the seed's copy, and the first peer's
            (stored,) = (path for path in _contents(tmp_path / f"data{one}"))
            # A hard link of the output would change with it; what was given out is checked first.
            with stored.open("r+b") as file:
                file.seek(9 * MIB)
                file.write(b"rotten")
        asked = len(origin.requests)
        await get(peers[1], url, tmp_path / "second")
        assert (tmp_path / "second").read_bytes() == content
        rests = origin.requests[asked:]  # more than one if another piece was still under way
        assert rests, "both parents were blamed, the source brought the rest"
        assert {one.status for one in rests} <= {200, 206}
        assert sum(one.sent_bytes for one in rests) < len(content)


async def test_a_parent_whose_disk_rots_is_reported_and_others_bring_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_content(20 * MIB)
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", content)
        app = await stack.enter_async_context(scheduler())
        addrs = [app.address]
        await stack.enter_async_context(
            daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=addrs)
        )
        rotten, child = [
            await stack.enter_async_context(daemon(tmp_path, number, scheduler__addrs=addrs))
            for number in (3, 4)
        ]
        await get(rotten, url, tmp_path / "first")
        (stored,) = _contents(tmp_path / "data3")
        with stored.open("r+b") as file:
            for number in range(5):
                file.seek(number * 4 * MIB + 7)
                file.write(b"rotten")
        asked, said, handle = len(origin.requests), list[SchedulerEvent](), app.core.handle

        def heard(event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
            said.append(event)
            return handle(event, now)

        monkeypatch.setattr(app.core, "handle", heard)
        pieces = [piece async for piece in watch(child, url, tmp_path / "second")]
        assert (tmp_path / "second").read_bytes() == content
        failures = [
            event.message
            for event in said
            if isinstance(event, PeerSpoke) and isinstance(event.message, PieceFailed)
        ]
        assert {one.parent_id[:15] for one in failures} == {"127.0.0.3-host3"}
        assert all(one.number in range(5) for one in failures)
        # Its bytes are not those of its digest: the scheduler sends nobody there any more.
        assert failures[0].wrong_digest
        (task,) = app.core.state.tasks.values()
        assert set(task.liars) == {"127.0.0.3-host3"}
        assert {piece.parent_id[:15] for piece in pieces} == {"127.0.0.2-host2"}
        assert len(origin.requests) == asked


def _contents(folder: Path) -> list[Path]:
    return [path for path in (folder / "content").rglob("*") if path.is_file()]


async def test_what_was_fetched_before_a_restart_is_not_fetched_again(tmp_path: Path) -> None:
    content = make_content(6 * MIB)
    async with Origin() as origin:
        url = origin.add("/blob", content)
        async with daemon(tmp_path, 2) as before:
            await get(before, url, tmp_path / "before")
        asked = len(origin.requests)
        async with daemon(tmp_path, 2) as after:
            await get(after, url, tmp_path / "after")
        assert (tmp_path / "after").read_bytes() == content
        assert len(origin.requests) == asked


async def test_an_origin_that_dies_half_way_leaves_a_partial_that_is_resumed(
    tmp_path: Path,
) -> None:
    content = make_content(32 * MIB)
    async with Origin() as origin, daemon(tmp_path, 2) as alone:
        url = origin.add("/blob", content, Manners(short_by=16 * MIB))
        with pytest.raises(Exception, match="source failed"):
            await get(alone, url, tmp_path / "out")
        assert not (tmp_path / "out").exists(), "never a short file"
        asked = origin.sent_bytes("/blob")
        origin.add("/blob", content)
        await get(alone, url, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content
        rest = origin.sent_bytes("/blob") - asked
        assert rest <= 20 * MIB, "only what was missing, cut at a piece"


async def test_other_content_at_the_source_begins_anew(tmp_path: Path) -> None:
    old, new = make_content(32 * MIB, 1), make_content(24 * MIB, 2)
    async with Origin() as origin, daemon(tmp_path, 2) as alone:
        url = origin.add("/blob", old, Manners(short_by=16 * MIB))
        with pytest.raises(Exception, match="source failed"):
            await get(alone, url, tmp_path / "out")
        origin.add("/blob", new)
        await get(alone, url, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == new


async def test_a_caller_who_leaves_ends_the_download(tmp_path: Path) -> None:
    content = make_content(32 * MIB)
    gate = asyncio.Event()
    async with Origin() as origin, daemon(tmp_path, 2) as alone:
        url = origin.add("/blob", content, Manners(gate=gate))
        going = asyncio.ensure_future(get(alone, url, tmp_path / "out"))
        async with asyncio.timeout(PATIENCE_S):
            while origin.sent_bytes("/blob") < 16 * MIB:  # noqa: ASYNC110  # the log is all there is
                await asyncio.sleep(0.01)
        going.cancel()
        await asyncio.wait([going])
        gate.set()
        assert not (tmp_path / "out").exists()
        await get(alone, url, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content
