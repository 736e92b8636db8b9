"""What a reader is given of a content that is not proved, or turned out to be wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from support.content import cut, make_content, make_download, make_task_id
from support.memory_storage import MemoryStorage, MemoryTask

from odonata.errors import DigestMismatchError
from odonata.wire.message import ByteRange
from peer.runtime.view import View

PIECE = 4096
CONTENT = make_content(3 * PIECE)
WRONG = DigestMismatchError("wrong")


class Shared:
    """What a view needs of the task it looks at; nothing is downloaded."""

    def __init__(self, task: MemoryTask) -> None:
        self.task = task
        self.task_id = task.task_id
        self.is_proved = False
        self.proved_digests: set[str] = set()
        self.waiting = asyncio.Event()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        self.waiting.set()
        await self._changed.wait()

    def notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        self.waiting.clear()
        changed.set()

    def reader_at(self, view: View, number: int | None) -> None:
        del view, number

    def want_more(self, view: View) -> None:
        del view

    def leave(self, view: View) -> None:
        del view


@pytest.fixture
async def shared() -> AsyncIterator[Shared]:
    storage = MemoryStorage()
    task = await storage.create(make_task_id(), make_download())
    await task.learn(len(CONTENT), PIECE, {})
    for piece, data in cut(CONTENT, PIECE):
        await task.store(piece, data)
    yield Shared(task)
    storage.close()


def view_of(shared: Shared) -> View:
    return View(shared, make_download(), linger=False)  # type: ignore[arg-type]  # what it uses


async def read(view: View, wanted: ByteRange | None = None) -> bytes:
    parts = [os.pread(one.fd, one.length, one.offset) async for one in view.read(wanted)]
    return b"".join(parts)


async def test_the_last_piece_waits_until_the_whole_is_proved(shared: Shared) -> None:
    view = view_of(shared)
    got = bytearray()

    async def take() -> None:
        async for one in view.read():
            got.extend(os.pread(one.fd, one.length, one.offset))

    async with asyncio.TaskGroup() as group:
        group.create_task(take())
        await shared.waiting.wait()
        assert got == CONTENT[: 2 * PIECE]
        shared.is_proved = True
        shared.notify()
    assert got == CONTENT


async def test_a_part_is_not_held_back(shared: Shared) -> None:
    wanted = ByteRange(start=PIECE, length=2 * PIECE)
    assert await read(view_of(shared), wanted) == CONTENT[PIECE:]


async def test_who_had_a_wrong_piece_gets_no_other(shared: Shared) -> None:
    view = view_of(shared)
    parts = view.read()
    assert (await anext(parts)).offset == 0
    view.spoil(WRONG, 0)
    shared.is_proved = True
    with pytest.raises(DigestMismatchError):
        await anext(parts)


@pytest.mark.parametrize("number", [1, 2])
async def test_who_had_only_right_pieces_goes_on(shared: Shared, number: int) -> None:
    view = view_of(shared)
    parts = view.read()
    assert (await anext(parts)).offset == 0
    view.spoil(WRONG, number)
    shared.is_proved = True
    assert [one.offset async for one in parts] == [PIECE, 2 * PIECE]


async def test_a_whole_that_is_wrong_ends_all_who_had_any_of_it(shared: Shared) -> None:
    reader, other = view_of(shared), view_of(shared)
    parts = reader.read()
    await anext(parts)
    for view in (reader, other):
        view.spoil(WRONG)
    assert (reader.is_spoiled, other.is_spoiled) == (True, False)
    with pytest.raises(DigestMismatchError):
        await anext(parts)
