"""Rate limits: turns are fair, cancellations give back, no limit costs nothing."""

from __future__ import annotations

import asyncio

import pytest

from peer.core.quota import TokenBucket
from peer.runtime.limit import (
    LIMITED_SLICE_BYTES,
    UNLIMITED_SLICE_BYTES,
    BucketLimit,
    Unlimited,
    rate_limit,
    slice_bytes,
)

PATIENCE_S = 20.0


def slow_limit() -> tuple[BucketLimit, TokenBucket]:
    """A bucket without a burst that needs an hour for 3,600 bytes."""
    bucket = TokenBucket(1.0, burst_bytes=0, now=asyncio.get_running_loop().time())
    return BucketLimit(bucket), bucket


async def test_waiters_are_served_in_the_order_they_came() -> None:
    limit = BucketLimit(TokenBucket(1_000_000, burst_bytes=0))
    served: list[int] = []

    async def take(number: int, n_bytes: int) -> None:
        await limit.acquire(n_bytes)
        served.append(number)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        # The first wants much more than the others, who must not overtake it.
        for number, n_bytes in enumerate([30_000, 1, 1, 20_000, 1]):
            group.create_task(take(number, n_bytes))
    assert served == [0, 1, 2, 3, 4]


async def test_it_waits_as_long_as_the_bucket_says() -> None:
    loop = asyncio.get_running_loop()
    limit = BucketLimit(TokenBucket(1_000_000, burst_bytes=0, now=loop.time()))
    before = loop.time()
    for _ in range(5):
        await limit.acquire(10_000)
    assert loop.time() - before >= 0.045  # 50,000 bytes at 1 MB/s, less the clock's grain


async def test_a_cancelled_wait_gives_its_bytes_back() -> None:
    limit, bucket = slow_limit()
    waiting = asyncio.ensure_future(limit.acquire(3600))
    await asyncio.sleep(0)
    behind = asyncio.ensure_future(limit.acquire(3600))
    await asyncio.sleep(0)
    for task in (behind, waiting):
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert bucket.reserve(0, asyncio.get_running_loop().time()) < 1


async def test_a_cancelled_turn_passes_to_the_next() -> None:
    limit = BucketLimit(TokenBucket(1_000_000, burst_bytes=0))
    first = asyncio.ensure_future(limit.acquire(1_000_000_000))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(limit.acquire(1))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, PATIENCE_S)


async def test_who_waits_goes_on_at_the_new_rate() -> None:
    limit, _ = slow_limit()
    waiting = [asyncio.ensure_future(limit.acquire(3600)) for _ in range(3)]
    await asyncio.sleep(0)
    limit.set_rate(1e9)
    assert limit.rate_bytes_per_s == 1e9
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*waiting)


async def test_a_rate_that_drops_holds_back_who_waits() -> None:
    limit = BucketLimit(
        TokenBucket(1_000_000, burst_bytes=0, now=asyncio.get_running_loop().time())
    )
    waiting = asyncio.ensure_future(limit.acquire(20_000))
    await asyncio.sleep(0)
    limit.set_rate(1.0)  # now it takes hours
    await asyncio.sleep(0.1)  # five times what it would have taken
    assert not waiting.done()
    limit.set_rate(1e9)
    await asyncio.wait_for(waiting, PATIENCE_S)


async def test_no_limit_never_waits() -> None:
    work = Unlimited().acquire(10**15)
    with pytest.raises(StopIteration):
        work.send(None)


@pytest.mark.parametrize(
    ("rate", "slice_length"),
    [(None, UNLIMITED_SLICE_BYTES), (50e9, UNLIMITED_SLICE_BYTES), (1e6, LIMITED_SLICE_BYTES)],
)
async def test_a_setting_becomes_a_limit(rate: float | None, slice_length: int) -> None:
    limit = rate_limit(rate)
    assert isinstance(limit, Unlimited) == (slice_length == UNLIMITED_SLICE_BYTES)
    assert slice_bytes(limit) == slice_length
