"""Work once begun runs to its end; locks by key leave nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from peer.runtime.storage.worker import KeyedLocks, Workers, to_the_end

PATIENCE_S = 20.0


async def test_a_cancelled_caller_waits_for_the_thread() -> None:
    workers = Workers(1)
    release, began, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert release.wait(PATIENCE_S)
        ended.set()

    caller = asyncio.ensure_future(to_the_end(workers.disk(work)))
    await asyncio.to_thread(began.wait, PATIENCE_S)
    for _ in range(3):  # again and again: once is not special
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()
    workers.close()


async def test_results_and_errors_come_through() -> None:
    async def seven() -> int:
        return 7

    async def broken() -> None:
        raise ValueError("x")

    assert await to_the_end(seven()) == 7
    with pytest.raises(ValueError, match="x"):
        await to_the_end(broken())


async def test_an_error_after_a_cancellation_is_not_lost_loudly() -> None:
    """The caller is cancelled; the loop must not complain of an exception nobody fetched."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    gate = asyncio.Event()

    async def broken() -> None:
        await gate.wait()
        raise ValueError("x")

    caller = asyncio.ensure_future(to_the_end(broken()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    del caller
    await asyncio.sleep(0)
    assert complaints == []


async def test_one_at_a_time_for_each_key() -> None:
    locks = KeyedLocks()
    inside: list[str] = []
    most = 0

    async def use(key: str) -> None:
        nonlocal most
        async with locks.hold(key):
            inside.append(key)
            most = max(most, inside.count(key))
            await asyncio.sleep(0)
            inside.remove(key)

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(use("ab"[number % 2]))
    assert most == 1
    assert len(locks) == 0


async def test_a_cancelled_waiter_leaves_no_lock() -> None:
    locks = KeyedLocks()

    async def use() -> None:
        async with locks.hold(1):
            pass

    async with locks.hold(1):
        waiter = asyncio.ensure_future(use())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter])
    assert len(locks) == 0
