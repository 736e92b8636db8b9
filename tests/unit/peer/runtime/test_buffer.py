"""The buffer pool: bounded, fair, reused, and nothing lost to cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.runtime.buffer import SMALLEST_BYTES, BufferPool

PATIENCE_S = 20.0
UNIT = SMALLEST_BYTES


class Holder:
    """A lease that is held until `let_go`."""

    def __init__(self, pool: BufferPool, n_bytes: int) -> None:
        self.has = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._hold(pool, n_bytes))

    async def _hold(self, pool: BufferPool, n_bytes: int) -> None:
        async with pool.lease(n_bytes) as buffer:
            assert len(buffer) == n_bytes
            self.has.set()
            await self.leave.wait()

    async def let_go(self) -> None:
        self.leave.set()
        await asyncio.wait_for(self.task, PATIENCE_S)

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def turn_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_buffer_has_the_size_that_was_asked_and_is_aligned() -> None:
    pool = BufferPool(4 * UNIT)
    async with pool.lease(UNIT + 3) as buffer:
        assert len(buffer) == UNIT + 3
        assert pool.leased_bytes == 2 * UNIT
        buffer[:] = b"x" * len(buffer)
        kept = buffer
    assert pool.leased_bytes == 0
    with pytest.raises(ValueError, match="released"):
        kept[0]


async def test_memory_is_used_again() -> None:
    pool = BufferPool(4 * UNIT)
    async with pool.lease(UNIT) as buffer:
        buffer[0] = 77
    async with pool.lease(UNIT - 1) as buffer:
        assert buffer[0] == 77


async def test_other_sizes_make_room() -> None:
    pool = BufferPool(4 * UNIT)
    for n_bytes in (4 * UNIT, UNIT, 2 * UNIT, 4 * UNIT, 1):
        async with pool.lease(n_bytes):
            assert pool.leased_bytes + pool.idle_bytes <= 4 * UNIT


async def test_who_comes_first_is_served_first() -> None:
    pool = BufferPool(4 * UNIT, large_at_once=1)
    first = Holder(pool, 3 * UNIT)
    await first.has.wait()
    large = Holder(pool, 4 * UNIT)
    small = Holder(pool, 1)
    await turn_the_loop()
    assert (large.has.is_set(), small.has.is_set()) == (False, False)
    assert pool.waiting == 2
    await first.let_go()
    await asyncio.wait_for(large.has.wait(), PATIENCE_S)
    assert not small.has.is_set()  # there is no room beside the large one
    await large.let_go()
    await asyncio.wait_for(small.has.wait(), PATIENCE_S)
    await small.let_go()
    assert (pool.leased_bytes, pool.waiting) == (0, 0)


async def test_more_than_the_pool_is_granted_alone() -> None:
    pool = BufferPool(2 * UNIT, large_at_once=1)
    small = Holder(pool, 1)
    await small.has.wait()
    huge = Holder(pool, 16 * UNIT)
    await turn_the_loop()
    assert not huge.has.is_set()
    await small.let_go()
    await asyncio.wait_for(huge.has.wait(), PATIENCE_S)
    await huge.let_go()
    assert (pool.leased_bytes, pool.idle_bytes) == (0, 0)


async def test_a_cancelled_waiter_makes_way() -> None:
    pool = BufferPool(4 * UNIT, large_at_once=1)
    holder = Holder(pool, 2 * UNIT)
    await holder.has.wait()
    large, small = Holder(pool, 4 * UNIT), Holder(pool, 1)
    await turn_the_loop()
    await large.cancel()
    await asyncio.wait_for(small.has.wait(), PATIENCE_S)
    await small.let_go()
    await holder.let_go()
    assert (pool.leased_bytes, pool.waiting) == (0, 0)


async def test_a_grant_and_a_cancellation_in_one_moment_lose_nothing() -> None:
    pool = BufferPool(UNIT)
    first, second, third = (Holder(pool, UNIT) for _ in range(3))
    await first.has.wait()
    await turn_the_loop()
    first.leave.set()
    await first.task
    second.task.cancel()  # its turn has come, but it has not run yet
    await asyncio.wait([second.task])
    await asyncio.wait_for(third.has.wait(), PATIENCE_S)
    await third.let_go()
    assert (pool.leased_bytes, pool.waiting) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["come", "leave", "cancel"]), st.integers(1, 9)), max_size=40
    )
)
def test_any_order_of_coming_leaving_and_cancelling_keeps_the_bound(
    steps: Sequence[tuple[str, int]],
) -> None:
    asyncio.run(_drive(steps))


async def _drive(steps: Sequence[tuple[str, int]]) -> None:
    pool = BufferPool(4 * UNIT, large_at_once=1)
    holders: list[Holder] = []
    for what, number in steps:
        if what == "come":
            holders.append(Holder(pool, number * UNIT // 2 + 1))
        elif holders:
            holder = holders.pop(number % len(holders))
            if what == "cancel" or not holder.has.is_set():
                await holder.cancel()
            else:
                await holder.let_go()
        await turn_the_loop()
        held = [holder for holder in holders if holder.has.is_set()]
        assert pool.leased_bytes <= 4 * UNIT or len(held) == 1
        assert bool(held) == bool(holders)  # somebody is always served
    for holder in holders:
        await holder.cancel()
    assert (pool.leased_bytes, pool.waiting) == (0, 0)


async def test_some_large_buffers_are_granted_at_once_although_they_exceed_the_pool() -> None:
    pool = BufferPool(4 * UNIT, large_at_once=2)
    holders = [Holder(pool, 8 * UNIT) for _ in range(3)]
    await turn_the_loop()
    assert [holder.has.is_set() for holder in holders] == [True, True, False]
    await holders[0].let_go()
    await asyncio.wait_for(holders[2].has.wait(), PATIENCE_S)
    for holder in holders[1:]:
        await holder.let_go()
    assert (pool.leased_bytes, pool.idle_bytes) == (0, 0)


async def test_what_lies_idle_is_given_back_unless_somebody_is_at_work() -> None:
    pool = BufferPool(4 * UNIT)
    async with pool.lease(UNIT), pool.lease(2 * UNIT):
        pass
    assert pool.idle_bytes == 3 * UNIT
    async with pool.lease(UNIT):
        pool.release()
        assert pool.idle_bytes == 2 * UNIT
    pool.release()
    assert pool.idle_bytes == 0
