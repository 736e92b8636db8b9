"""Real seeds: several share an origin, one that is back serves, a burst costs a copy."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, daemon, daemon_arguments, get, process, scheduler, sha256
from support.eventually import eventually
from support.origin import Manners, Origin

from peer.runtime.daemon import Daemon
from scheduler.runtime.app import SchedulerApp

ONE_COPY = 1.02
BURST = 50
FIRST_PEER = 10
"""Peers have numbers from here on, seeds below: each is an address."""


@asynccontextmanager
async def seeds(folder: Path, app: SchedulerApp, count: int) -> AsyncGenerator[list[Daemon]]:
    """Seeds in this process."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                daemon(folder, 2 + n, seedPeer__enable=True, scheduler__addrs=[app.address])
            )
            for n in range(count)
        ]


@asynccontextmanager
async def peers(folder: Path, app: SchedulerApp, count: int) -> AsyncGenerator[list[Daemon]]:
    """Peers in this process."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                daemon(folder, FIRST_PEER + n, scheduler__addrs=[app.address])
            )
            for n in range(count)
        ]


async def all_get(some: list[Daemon], url: str, content: bytes, folder: Path) -> None:
    outputs = await asyncio.gather(
        *(get(one, url, folder / f"out{n}") for n, one in enumerate(some))
    )
    expected = hashlib.sha256(content).hexdigest()
    assert [sha256(path) for path in outputs] == [expected] * len(some)


async def all_hold(seeds: list[Daemon], url: str, content: bytes, folder: Path) -> None:
    """Each seed ends its own download with everything: whoever asks it now joins that."""
    held = folder / "held"
    held.mkdir()
    await all_get(seeds, url, content, held)


def seed_process(folder: Path, number: int, app: SchedulerApp, **more: str) -> list[str]:
    return daemon_arguments(
        folder, number, seedPeer__enable="true", scheduler__addrs=app.address, **more
    )


def first_bytes(origin: Origin) -> list[int]:
    """Where each request to the origin began."""
    spans = [seen.range or "bytes=0-" for seen in origin.requests]
    return sorted(int(span.removeprefix("bytes=").split("-")[0]) for span in spans)


# --- several on one task --------------------------------------------------------------------------


async def test_two_seeds_share_a_content_and_the_origin_sends_it_once(tmp_path: Path) -> None:
    content = make_content(64 * MIB + 7)
    slow = Manners(rate_bytes_per_s=24.0 * MIB)
    async with Origin() as origin, scheduler() as app, seeds(tmp_path, app, 2) as both:
        url = origin.add("/blob", content, slow)
        async with peers(tmp_path, app, 2) as children:
            await all_get(children, url, content, tmp_path)
            # Each had a half of it from the origin, and the rest from the other.
            await all_hold(both, url, content, tmp_path)
        assert {0, 32 * MIB} <= set(first_bytes(origin))
        assert origin.copies("/blob") <= ONE_COPY


async def test_when_one_of_two_seeds_is_killed_the_other_fetches_its_half(tmp_path: Path) -> None:
    content = make_content(64 * MIB)
    slow = Manners(rate_bytes_per_s=16.0 * MIB)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/blob", content, slow)
        async with (
            seeds(tmp_path, app, 1) as (survivor,),
            process(*seed_process(tmp_path, 3, app)) as victim,
            peers(tmp_path, app, 1) as (child,),
        ):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(get(child, url, tmp_path / "out"))
                await eventually(lambda: 32 * MIB in first_bytes(origin))
                await eventually(lambda: origin.sent_bytes("/blob") > 24 * MIB)
                await victim.kill()
            await all_hold([survivor], url, content, tmp_path)
        assert sha256(tmp_path / "out") == hashlib.sha256(content).hexdigest()
        assert origin.copies("/blob") < 1.5, "what the dead one had not passed on, and no more"


async def test_of_an_origin_without_ranges_one_fetches_and_the_other_is_a_peer(
    tmp_path: Path,
) -> None:
    content = make_content(40 * MIB)
    async with Origin() as origin, scheduler() as app, seeds(tmp_path, app, 2) as both:
        url = origin.add("/blob", content, Manners(ranges=False, rate_bytes_per_s=24.0 * MIB))
        async with peers(tmp_path, app, 1) as children:
            await all_get(children, url, content, tmp_path)
            await all_hold(both, url, content, tmp_path)
        whole = [seen for seen in origin.requests if seen.sent_bytes == len(content)]
        assert len(whole) == 1


# --- a restart ------------------------------------------------------------------------------------


async def test_a_seed_that_is_killed_and_comes_back_serves_what_it_held(tmp_path: Path) -> None:
    """Nothing is fetched again: neither by the seed, nor by the child that comes next."""
    content = make_content(20 * MIB + 3)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/blob", content)
        arguments = seed_process(tmp_path, 2, app)
        async with process(*arguments) as seed:
            async with peers(tmp_path, app, 1) as (first,):
                await all_get([first], url, content, tmp_path)
            await seed.kill()
        before = len(origin.requests)
        async with (
            process(*arguments),
            daemon(tmp_path, 40, scheduler__addrs=[app.address]) as second,
        ):
            await get(second, url, tmp_path / "again")
            assert sha256(tmp_path / "again") == hashlib.sha256(content).hexdigest()
        assert len(origin.requests) == before
        assert origin.copies("/blob") <= ONE_COPY


# --- bursts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, pytest.param(1, marks=pytest.mark.long), 2])
async def test_a_burst_of_fifty_costs_the_origin_one_copy(count: int, tmp_path: Path) -> None:
    """With two seeds, with one, and with none: then one child goes to the source."""
    content = make_content(33 * MIB if count == 2 else 9 * MIB)
    slow = Manners(rate_bytes_per_s=12.0 * MIB)
    async with (
        Origin() as origin,
        scheduler() as app,
        seeds(tmp_path, app, count),
        peers(tmp_path, app, BURST) as children,
    ):
        url = origin.add("/blob", content, slow)
        await all_get(children, url, content, tmp_path)
        assert origin.copies("/blob") <= ONE_COPY


async def test_a_dead_seed_on_the_ring_costs_the_origin_nothing(tmp_path: Path) -> None:
    """It was killed, and nobody has noticed: the first call does, and one child goes instead."""
    content = make_content(9 * MIB)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/blob", content)
        async with process(*seed_process(tmp_path, 2, app)) as seed:
            await seed.kill()
        async with peers(tmp_path, app, 20) as children:
            await all_get(children, url, content, tmp_path)
        assert origin.copies("/blob") <= ONE_COPY


async def test_a_seed_that_dies_amid_a_burst_costs_what_it_had_not_passed_on(
    tmp_path: Path,
) -> None:
    content = make_content(24 * MIB)
    slow = Manners(rate_bytes_per_s=12.0 * MIB)
    async with Origin() as origin, scheduler() as app:
        url = origin.add("/blob", content, slow)
        async with (
            process(*seed_process(tmp_path, 2, app)) as seed,
            peers(tmp_path, app, 20) as children,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(all_get(children, url, content, tmp_path))
            await eventually(lambda: any(s.sent_bytes > 10 * MIB for s in origin.requests))
            await seed.kill()
        # One child went on from what the swarm held.
        assert origin.copies("/blob") < 2.0
        assert len(origin.requests) <= 6, "a few blocks each"
