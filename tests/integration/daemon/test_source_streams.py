"""Real daemons that ask an origin for several ranges at once, on behalf of others."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, daemon, get, scheduler, sha256
from support.origin import Manners, Origin

from peer.core.source_streams import FIRST_BYTES
from peer.runtime.daemon import Daemon

PIECE = 4 * MIB
CONTENT = make_content(48 * MIB + 7)
SLOW = 10.0 * MIB
"""A second, of each connection: far below what this machine moves, so that several bring more."""
STREAMS = 4
"""The default."""


@asynccontextmanager
async def seed_and_child(folder: Path, **more: object) -> AsyncGenerator[Daemon]:
    """The child. `more`: settings of the seed."""
    async with (
        scheduler() as app,
        daemon(folder, 2, seedPeer__enable=True, scheduler__addrs=[app.address], **more),
        daemon(folder, 3, scheduler__addrs=[app.address]) as child,
    ):
        yield child


async def fetched_through_a_seed(folder: Path, origin: Origin, manners: Manners) -> None:
    url = origin.add("/blob", CONTENT, manners)
    async with seed_and_child(folder) as child:
        await get(child, url, folder / "out")
    assert sha256(folder / "out") == hashlib.sha256(CONTENT).hexdigest()


async def test_a_seed_fetches_ranges_side_by_side_and_each_byte_once(tmp_path: Path) -> None:
    async with Origin() as origin:
        await fetched_through_a_seed(tmp_path, origin, Manners(rate_bytes_per_s=SLOW))
        assert origin.most_at_once == STREAMS
        assert origin.sent_bytes("/blob") == len(CONTENT)
        asked = sorted(seen.range or "" for seen in origin.requests)
        assert len(set(asked)) == len(asked)
        assert f"bytes=0-{FIRST_BYTES - 1}" in asked


@pytest.mark.parametrize("cut", [{1: 5 * MIB}, {2: 0, 3: 1, 4: PIECE, 5: 7}, {1: 0, 2: 2 * MIB}])
async def test_of_what_breaks_only_what_is_missing_is_asked_for_again(
    tmp_path: Path, cut: dict[int, int]
) -> None:
    async with Origin() as origin:
        await fetched_through_a_seed(tmp_path, origin, Manners(rate_bytes_per_s=SLOW, cut=cut))
        lost = sum(length % PIECE for length in cut.values())
        assert origin.sent_bytes("/blob") == len(CONTENT) + lost, "whole pieces of it were kept"


@pytest.mark.parametrize("most", [1, 2])
async def test_an_origin_that_refuses_several_gets_fewer(tmp_path: Path, most: int) -> None:
    async with Origin() as origin:
        await fetched_through_a_seed(tmp_path, origin, Manners(rate_bytes_per_s=SLOW, most=most))
        assert origin.most_at_once == most
        assert origin.sent_bytes("/blob") == len(CONTENT)
        refused = [seen for seen in origin.requests if seen.status == 503]
        assert 0 < len(refused) < 10


async def test_an_origin_without_ranges_is_asked_once(tmp_path: Path) -> None:
    async with Origin() as origin:
        await fetched_through_a_seed(tmp_path, origin, Manners(ranges=False))
        assert len(origin.requests) == 1
        assert origin.sent_bytes("/blob") == len(CONTENT)


@pytest.mark.parametrize("manners", [Manners(hides_total=True), Manners(chunked=True)])
async def test_an_origin_that_hides_how_long_it_is(tmp_path: Path, manners: Manners) -> None:
    async with Origin() as origin:
        await fetched_through_a_seed(tmp_path, origin, manners)


async def test_what_is_small_is_asked_for_once(tmp_path: Path) -> None:
    small = CONTENT[:FIRST_BYTES]
    async with Origin() as origin, seed_and_child(tmp_path) as child:
        url = origin.add("/blob", small, Manners(rate_bytes_per_s=SLOW))
        await get(child, url, tmp_path / "out")
        assert len(origin.requests) == 1


async def test_an_operator_may_want_one_at_a_time(tmp_path: Path) -> None:
    one = {"download__backToSourceConcurrentPieceCount": 1}
    async with Origin() as origin, seed_and_child(tmp_path, **one) as child:
        url = origin.add("/blob", CONTENT, Manners(rate_bytes_per_s=4 * SLOW))
        await get(child, url, tmp_path / "out")
        assert len(origin.requests) == 1


async def test_a_peer_that_the_scheduler_sends_instead_of_a_seed_does_as_a_seed(
    tmp_path: Path,
) -> None:
    async with (
        Origin() as origin,
        scheduler() as app,
        daemon(tmp_path, 2, scheduler__addrs=[app.address]) as one,
    ):
        url = origin.add("/blob", CONTENT, Manners(rate_bytes_per_s=SLOW))
        await get(one, url, tmp_path / "out")
        assert origin.most_at_once == STREAMS
        assert origin.sent_bytes("/blob") == len(CONTENT)


@pytest.mark.parametrize("no_p2p", [False, True])
async def test_who_goes_for_itself_is_no_more_to_an_origin_than_curl(
    tmp_path: Path, no_p2p: bool
) -> None:
    """There is no scheduler, or none is wanted."""
    async with Origin() as origin, daemon(tmp_path, 2) as one:
        url = origin.add("/blob", CONTENT, Manners(rate_bytes_per_s=4 * SLOW))
        await get(one, url, tmp_path / "out", no_p2p=no_p2p)
        assert [seen.range for seen in origin.requests] == ["bytes=0-"]
