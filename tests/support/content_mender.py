"""A process that mends a task whose content file it may not write, or not read.

    python -m support.content_mender FOLDER as-it-is|closed
    python -m support.content_mender FOLDER down|running|writing MODE [linked] [locked]

MODE (octal) is what becomes of the content file, while no daemon runs, while one runs, or in the
middle of a download; `linked`: it has another name by then; `locked`: its folder takes no file any
more. `closed`: nor does the folder above, while a daemon runs that has no task yet.

Prints what was found afterwards: the file's mode, which pieces were held before the download, and
whether all bytes are right; or the error. See test_storage_modes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from pathlib import Path

import msgspec
from support.content import cut, make_content, make_download, make_task_id

from odonata.errors import OdonataError, StorageError
from odonata.wire.message import TaskType
from peer.runtime.storage.layout import Layout
from peer.runtime.storage.store import DiskStorage
from peer.runtime.storage.task import DiskTask

PIECE = 16 * 1024
CONTENT = make_content(4 * PIECE + 100)
TASK = make_task_id()


class Found(msgspec.Struct, kw_only=True):
    """`before`: the pieces held when the download began."""

    mode: int = 0
    before: tuple[int, ...] = ()
    whole: bool = False
    error: str = ""


async def fill(storage: DiskStorage) -> tuple[DiskTask, tuple[int, ...]]:
    """Store what is not held, as a download does, and finish; the pieces held before, too."""
    task = await storage.create(TASK, make_download())
    before = task.held()
    await task.learn(len(CONTENT), PIECE, {})
    for piece, data in cut(CONTENT, PIECE):
        await task.store(piece, data)
    await task.finish()
    return task, before


def turn_over(path: Path, offset: int) -> None:
    """One byte becomes another one, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def spoil(folder: Path, mode: int, how: Collection[str]) -> None:
    """Piece 1 rots, and the file gets the mode, as by a user who had a hard link of it."""
    path = Layout(folder).content_file(TASK, TaskType.STANDARD)
    turn_over(path, PIECE + 1)
    if "linked" in how:
        path.with_name("output").hardlink_to(path)
    path.chmod(mode)
    if "locked" in how:
        path.parent.chmod(0o555)


async def mend(storage: DiskStorage) -> Found:
    """What a user of the task does: look at it, read it, and fetch what is not right."""
    old = storage.get(TASK)
    if old is not None:
        await old.examine()
        for number in old.held():
            await old.sound(number)
    try:
        task, before = await fill(storage)
    except OdonataError as error:
        return Found(before=() if old is None else old.held(), error=error.detail)
    mode = task.path.stat().st_mode & 0o777
    return Found(mode=mode, before=before, whole=task.path.read_bytes() == CONTENT)


async def interrupted(storage: DiskStorage, mode: int) -> None:
    """A download whose file is closed to it in the middle fails."""
    task = await storage.create(TASK, make_download())
    task.pin()
    await task.learn(len(CONTENT), PIECE, {})
    pieces = cut(CONTENT, PIECE)
    await task.store(*pieces[0])
    task.path.chmod(mode)
    try:
        await task.store(*pieces[1])
    except StorageError:
        await task.fail()
    else:
        raise AssertionError("this user is above file modes")
    finally:
        task.unpin()


async def play(folder: Path, moment: str, mode: int, how: Collection[str]) -> Found:
    if moment == "as-it-is":
        async with await DiskStorage.open(folder) as storage:
            return await mend(storage)
    async with await DiskStorage.open(folder) as storage:
        if moment == "closed":
            Layout(folder).content[TaskType.STANDARD].chmod(0o555)
            return await mend(storage)
        if moment == "writing":
            await interrupted(storage, mode)
            return await mend(storage)
        await fill(storage)
        if moment == "running":
            spoil(folder, mode, how)
            return await mend(storage)
    spoil(folder, mode, how)
    async with await DiskStorage.open(folder) as storage:
        return await mend(storage)


def main(folder: Path, moment: str, mode: str = "0", *how: str) -> None:
    found = asyncio.run(play(folder, moment, int(mode, 8), how))
    sys.stdout.write(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
