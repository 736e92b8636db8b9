"""A parent that drops to a trickle in mid-download: evicted in seconds, later readmitted.

Everything is real: a scheduler, daemons, sockets, seconds of the wall clock.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, get, scheduler, watch
from support.eventually import eventually
from support.origin import Origin

from peer.runtime.daemon import Daemon
from peer.runtime.limit import BucketLimit
from scheduler.core import standing
from scheduler.core.standing import HostState
from scheduler.runtime.app import SchedulerApp

UPLINK = 5_000_000
"""Bytes per second of each parent: a piece takes about 2.5 s then, if three children share two."""
DROPS_TO = 0.02
EVICTED_WITHIN_S = 10.0
TERM_S = 5.0
CHILDREN = (5, 6, 7)
SLOW, OTHER, LATE_CHILD = 3, 4, 8


async def holder(stack: AsyncExitStack, folder: Path, number: int, addrs: list[str]) -> Daemon:
    """A peer with a narrow uplink."""
    narrow = daemon(folder, number, scheduler__addrs=addrs, upload__bandwidthLimit=UPLINK)
    return await stack.enter_async_context(narrow)


async def child(stack: AsyncExitStack, folder: Path, number: int, addrs: list[str]) -> Daemon:
    """A peer that gives nothing, so that all there is comes by the two narrow uplinks."""
    only_takes = daemon(
        folder,
        number,
        scheduler__addrs=addrs,
        upload__disableShared=True,
        download__concurrentPieceCount=2,
    )
    return await stack.enter_async_context(only_takes)


def limit_of(one: Daemon) -> BucketLimit:
    limit = one.upload_limit
    assert isinstance(limit, BucketLimit)
    return limit


def state_of(app: SchedulerApp, one: Daemon) -> HostState:
    return app.core.state.hosts[one.facts.id].standing.state


async def test_a_parent_that_drops_to_a_trickle_is_evicted_and_readmitted_when_it_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rest of the term is only waited for.
    monkeypatch.setattr(standing, "FIRST_TERM_S", TERM_S)
    content = make_content(128 * MIB)
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", content)
        app = await stack.enter_async_context(scheduler())
        addrs = [app.address]
        slow = await holder(stack, tmp_path, SLOW, addrs)
        other = await holder(stack, tmp_path, OTHER, addrs)
        async with daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=addrs):
            await asyncio.gather(
                get(slow, url, tmp_path / "slow"), get(other, url, tmp_path / "other")
            )
        brought: Counter[tuple[int, str]] = Counter()

        async def pull(number: int) -> None:
            one = await child(stack, tmp_path, number, addrs)
            async for piece in watch(one, url, tmp_path / f"out{number}"):
                brought[number, piece.parent_id.split("-", 2)[1]] += 1

        async with asyncio.TaskGroup() as group:
            pulls = [group.create_task(pull(number)) for number in CHILDREN]
            await eventually(
                lambda: all(
                    brought[number, f"host{SLOW}"] >= 2 and brought[number, f"host{OTHER}"] >= 2
                    for number in CHILDREN
                ),
                PATIENCE_S,
            )
            assert state_of(app, slow) is HostState.GOOD
            limit_of(slow).set_rate(DROPS_TO * UPLINK)
            await eventually(lambda: state_of(app, slow) is HostState.EVICTED, EVICTED_WITHIN_S)
            assert state_of(app, other) is HostState.GOOD

            limit_of(slow).set_rate(UPLINK)
            await eventually(lambda: state_of(app, slow) is not HostState.EVICTED, PATIENCE_S)
            # Those who had blamed it are not sent to it again: somebody new must try it.
            pulls.append(group.create_task(pull(LATE_CHILD)))
            await eventually(lambda: state_of(app, slow) is HostState.GOOD, PATIENCE_S)
            assert app.core.standing_counts().readmissions == 1
            for one in pulls:
                one.cancel()
        assert state_of(app, other) is HostState.GOOD, "never anything else"
