"""Channels to other hosts are shared while in use, and few are kept when not."""

from __future__ import annotations

import asyncio

from peer.runtime.channel import ChannelPool


async def test_one_channel_for_all_users_of_an_address() -> None:
    pool = ChannelPool()
    async with pool.use("127.0.0.1:1") as one, pool.use("127.0.0.1:1") as other:
        assert one is other
    assert len(pool) == 1
    await pool.close()
    assert len(pool) == 0


async def test_the_longest_idle_ones_go_when_too_many_are() -> None:
    pool = ChannelPool(max_idle=2)
    for port in (1, 2, 3):
        async with pool.use(f"127.0.0.1:{port}") as channel:
            first = channel if port == 1 else None
    assert len(pool) == 2
    async with pool.use("127.0.0.1:1") as again:
        assert again is not first
    await pool.close()


async def test_an_idle_one_closes_after_a_while_and_a_used_one_does_not() -> None:
    pool = ChannelPool(idle_s=0.01)
    async with pool.use("127.0.0.1:1"):
        async with pool.use("127.0.0.1:2"):
            pass
        async with asyncio.timeout(20):
            while len(pool) > 1:  # noqa: ASYNC110  # a timer of the pool's own
                await asyncio.sleep(0.01)
    await pool.close()
