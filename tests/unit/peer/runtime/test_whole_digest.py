"""The digest of the whole: read along while pieces come in any order, or once all are here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator

import pytest
from support.content import cut, make_content, make_download, make_task_id
from support.eventually import eventually
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.errors import CallerError, DigestMismatchError, StorageError
from peer.runtime.whole_digest import WholeCheck, check_whole

PIECE = 4096
CONTENT = make_content(20 * PIECE + 5)
RIGHT = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
ALSO_RIGHT = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"
WRONG = f"sha256:{'0' * 64}"


@pytest.fixture
async def task() -> AsyncIterator[MemoryTask]:
    storage = MemoryStorage()
    one = await storage.create(make_task_id(), make_download())
    await one.learn(len(CONTENT), PIECE, {})
    yield one
    storage.close()


async def fill(task: MemoryTask, content: bytes = CONTENT, *, seed: int = 0) -> None:
    pieces = list(cut(content, PIECE))
    random.Random(seed).shuffle(pieces)
    for piece, data in pieces:
        await task.store(piece, data)
        await asyncio.sleep(0)


async def test_what_is_here_is_checked_against_all_digests(task: MemoryTask) -> None:
    await fill(task)
    await check_whole(task, RIGHT)
    await WholeCheck(task, (RIGHT, ALSO_RIGHT)).finish()
    with pytest.raises(DigestMismatchError, match="was promised"):
        await check_whole(task, WRONG)
    with pytest.raises(DigestMismatchError):
        await WholeCheck(task, (RIGHT, WRONG)).finish()
    with pytest.raises(CallerError):
        WholeCheck(task, ("sha256:no",))


@pytest.mark.parametrize("seed", range(5))
async def test_what_was_read_along_counts_once(task: MemoryTask, seed: int) -> None:
    check = WholeCheck(task, (RIGHT,))
    async with asyncio.TaskGroup() as group:
        following = group.create_task(check.follow())
        await fill(task, seed=seed)
        await check.finish()
        following.cancel()


@pytest.mark.parametrize("turns", range(8))
async def test_who_stops_following_in_the_middle_loses_nothing(
    task: MemoryTask, turns: int
) -> None:
    check = WholeCheck(task, (RIGHT,))
    await fill(task)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(check.follow())
        for _ in range(turns):
            await asyncio.sleep(0)
        following.cancel()
    await check.finish()


async def test_what_was_replaced_is_read_once_more(task: MemoryTask) -> None:
    check = WholeCheck(task, (RIGHT,))
    pieces = list(cut(CONTENT, PIECE))
    forged = bytearray(CONTENT)
    forged[PIECE + 1] ^= 1
    async with asyncio.TaskGroup() as group:
        following = group.create_task(check.follow())
        for piece, data in list(cut(bytes(forged), PIECE))[:3]:
            await task.store(piece, data)
        task.expect({1: b"?" * 32})
        assert not await task.verify(1)
        check.restart(pieces[1][0].offset)
        task.expect({1: b""})
        for piece, data in pieces:
            await task.store(piece, data)
        await check.finish()
        following.cancel()


async def test_a_content_that_ends_early_is_said_so_and_read_anew_later(task: MemoryTask) -> None:
    await fill(task)
    check = WholeCheck(task, (RIGHT,))
    os.truncate(task.path, 5 * PIECE)
    with pytest.raises(StorageError, match="ends at"):
        await check.finish()
    fd = os.open(task.path, os.O_RDWR)
    os.pwrite(fd, CONTENT, 0)
    os.close(fd)
    await check.finish()


async def test_nothing_is_read_beyond_a_gap(task: MemoryTask) -> None:
    check = WholeCheck(task, (WRONG,))
    pieces = list(cut(CONTENT, PIECE))
    async with asyncio.TaskGroup() as group:
        following = group.create_task(check.follow())
        for piece, data in (*pieces[:2], *pieces[3:]):
            await task.store(piece, data)
        await eventually(lambda: check.read_to == 2 * PIECE)
        await task.store(*pieces[2])
        await eventually(lambda: check.read_to == len(CONTENT))
        following.cancel()
