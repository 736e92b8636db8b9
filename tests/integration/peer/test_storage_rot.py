"""What rots beneath storage: content files that are cut, edited, deleted; an index that is damaged.

Whatever happened to the files, nobody gets a wrong byte, and storage opens and goes on.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.content import cut, make_content, make_download, make_task_id

from odonata.errors import StorageError
from peer.runtime.storage.store import DiskStorage
from peer.runtime.storage.task import DiskTask

PIECE = 16 * 1024
CONTENT = make_content(4 * PIECE + 100)
TASK = make_task_id()
HOUR_S = 3600.0


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def fill(storage: DiskStorage, content: bytes = CONTENT, name: str = "task") -> DiskTask:
    """Store what is not held, as a download does, and finish."""
    task = await storage.create(make_task_id(name), make_download())
    await task.learn(len(content), PIECE, {})
    for piece, data in cut(content, PIECE):
        await task.store(piece, data)
    await task.finish()
    return task


async def sound(task: DiskTask) -> list[int]:
    """Pieces whose bytes may go out."""
    return [number for number in range(5) if await task.sound(number) is not None]


def turn_over(path: Path, offset: int) -> None:
    """One byte becomes another one, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


async def test_a_piece_is_read_again_after_a_start_and_then_believed_for_a_time(
    folder: Path,
) -> None:
    clock = Clock()
    async with await DiskStorage.open(folder) as storage:
        path = (await fill(storage)).path
    turn_over(path, PIECE + 1)
    async with await DiskStorage.open(folder, clock=clock, verify_after_s=HOUR_S) as storage:
        task = storage.get(TASK)
        assert task is not None
        assert task.held() == (0, 1, 2, 3, 4)
        assert await sound(task) == [0, 2, 3, 4]
        assert (task.held(), task.finished) == ((0, 2, 3, 4), False)
        await fill(storage)
        assert await sound(task) == [0, 1, 2, 3, 4]
        # Rot that leaves no trace (the file's time is put back) is found when its time has come.
        before = path.stat()
        turn_over(path, 2 * PIECE)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        await task.examine()
        assert await sound(task) == [0, 1, 2, 3, 4]
        clock.now_s += HOUR_S + 1
        assert await sound(task) == [0, 1, 3, 4]
    async with await DiskStorage.open(folder) as storage:
        assert storage.tasks()[0].held() == (0, 1, 3, 4)


async def test_an_edit_in_place_is_noticed_at_the_next_look(folder: Path) -> None:
    async with await DiskStorage.open(folder) as storage:
        task = await fill(storage)
        assert await sound(task) == [0, 1, 2, 3, 4]
        turn_over(task.path, 3 * PIECE)
        await task.examine()
        assert await sound(task) == [0, 1, 2, 4]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 2 * PIECE + 5])


def delete(path: Path) -> None:
    path.unlink()


def replace_by_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("harm", "left"), [(cut_short, (0, 1)), (delete, ()), (replace_by_a_link, ())]
)
async def test_what_the_file_lost_is_forgotten_and_can_be_fetched_again(
    folder: Path, harm: Callable[[Path], None], left: tuple[int, ...]
) -> None:
    async with await DiskStorage.open(folder) as storage:
        task = await fill(storage)
        heard: list[tuple[int, ...]] = []
        task.subscribe(lambda: heard.append(task.held()))
        harm(task.path)
        await task.examine()
        assert (task.held(), task.finished, heard) == (left, False, [left])
        again = await fill(storage)
        assert again is task
        assert task.path.read_bytes() == CONTENT
    async with await DiskStorage.open(folder) as storage:
        assert await sound(storage.tasks()[0]) == [0, 1, 2, 3, 4]


async def test_what_a_user_edits_is_never_written_to(folder: Path, tmp_path: Path) -> None:
    """The output is a hard link: mending what is stored must not touch it."""
    async with await DiskStorage.open(folder) as storage:
        task = await fill(storage)
        await task.export(tmp_path / "out")
        before, fd_number = (tmp_path / "out").stat(), task.file_number
        assert before.st_nlink == 2
        turn_over(tmp_path / "out", PIECE)
        edited = (tmp_path / "out").read_bytes()
        await task.examine()
        assert await sound(task) == [0, 2, 3, 4]
        await fill(storage)
        assert (tmp_path / "out").read_bytes() == edited
        assert task.path.read_bytes() == CONTENT
        assert task.file_number != fd_number
        assert sorted(path.name for path in task.path.parent.iterdir()) == [TASK]


async def test_a_copy_that_was_being_made_is_removed_at_the_next_start(folder: Path) -> None:
    async with await DiskStorage.open(folder) as storage:
        path = (await fill(storage)).path
    left = path.with_name(f".{path.name}.partial")
    left.write_bytes(b"half")
    async with await DiskStorage.open(folder) as storage:
        assert [task.held() for task in storage.tasks()] == [(0, 1, 2, 3, 4)]
    assert not left.exists()


# --- the index ---


async def test_a_file_that_is_no_index_is_set_aside_and_everything_fetched_again(
    folder: Path,
) -> None:
    async with await DiskStorage.open(folder) as storage:
        path = (await fill(storage)).path
    garbage = b"this is no database at all" * 100
    (folder / "index.sqlite3").write_bytes(garbage)
    async with await DiskStorage.open(folder) as storage:
        assert storage.tasks() == ()
        assert not path.exists(), "nobody can say what is in it"
        await fill(storage)
    assert (folder / "index.sqlite3.damaged").read_bytes() == garbage
    async with await DiskStorage.open(folder) as storage:
        assert len(storage.tasks()) == 1


async def test_a_damaged_page_costs_what_it_held(folder: Path) -> None:
    """Two hundred tasks; the page with one task's name in it is overwritten."""
    names = [f"task {number}" for number in range(200)]
    async with await DiskStorage.open(folder) as storage:
        for name in names:
            await fill(storage, CONTENT[: PIECE + 1], name)
    index = folder / "index.sqlite3"
    data = bytearray(index.read_bytes())
    page = data.find(make_task_id(names[7]).encode()) // 4096 * 4096
    data[page : page + 4096] = b"\xff" * 4096
    index.write_bytes(data)
    async with await DiskStorage.open(folder) as storage:
        left = [task for task in storage.tasks() if task.finished]
        assert len(names) // 2 < len(left) < len(names)
        for task in left:
            assert [await task.sound(number) is not None for number in task.held()] == [True, True]
    async with await DiskStorage.open(folder) as storage:  # the new index is a good one
        assert len([task for task in storage.tasks() if task.finished]) == len(left)


@pytest.mark.parametrize("rounds", [20, pytest.param(300, marks=pytest.mark.long)])
async def test_whatever_the_index_says_no_wrong_byte_goes_out(folder: Path, rounds: int) -> None:
    """Bytes of the index are turned over, parts of it zeroed, cut off or moved."""
    async with await DiskStorage.open(folder) as storage:
        for number in range(30):
            await fill(storage, CONTENT[number:], f"task {number}")
    good = folder.with_name("good")
    shutil.copytree(folder, good)
    contents = {make_task_id(f"task {number}"): CONTENT[number:] for number in range(30)}
    for seed in range(rounds):
        shutil.rmtree(folder)
        shutil.copytree(good, folder)
        damage(folder / "index.sqlite3", random.Random(seed))
        opened = await open_unless_newer(folder)
        if opened is None:
            continue
        async with opened as storage:
            for task in storage.tasks():
                content = contents[task.task_id]
                stored = task.path.read_bytes()
                for number in task.held():
                    piece = await task.sound(number)
                    if piece is not None:
                        end = piece.offset + piece.length
                        assert stored[piece.offset : end] == content[piece.offset : end], seed
                if task.finished:
                    assert stored[: len(content)] == content, seed


async def open_unless_newer(folder: Path) -> DiskStorage | None:
    """None: the damage made it an index of another version, which is left alone."""
    try:
        return await DiskStorage.open(folder)
    except StorageError as error:
        if "schema version" in error.detail:
            return None
        raise


def damage(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at, length = dice.randrange(len(data)), dice.choice((1, 1, 1, 20, 4096, 20_000))
    way = dice.randrange(4)
    if way == 0:
        data[at : at + length] = dice.randbytes(len(data[at : at + length]))
    elif way == 1:
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif way == 2:
        del data[at:]
    else:
        other = dice.randrange(len(data))
        data[at : at + length] = data[other : other + len(data[at : at + length])]
    path.write_bytes(data)
