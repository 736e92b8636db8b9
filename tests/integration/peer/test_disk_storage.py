"""Storage on a real disk: restarts, kills, full and read-only volumes, output files, collection."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.content import cut, make_content, make_download, make_task_id
from support.storage_writer import PIECE_LENGTH, length_of

from odonata.errors import (
    AlreadyExistsError,
    DiskFullError,
    OdonataError,
    PreconditionError,
    StorageError,
)
from odonata.wire.message import Piece
from peer.runtime.storage import copying, disk, export, index
from peer.runtime.storage.collect import CollectPolicy, Reason
from peer.runtime.storage.store import DiskStorage
from peer.runtime.storage.task import DiskTask

KiB = 1024
PIECE = 4 * KiB
TASK = make_task_id()
ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def storage(folder: Path) -> AsyncIterator[DiskStorage]:
    async with await DiskStorage.open(folder) as opened:
        yield opened


async def keep(
    storage: DiskStorage, content: bytes, name: str = "task", *, finish: bool = True
) -> DiskTask:
    task = await storage.create(make_task_id(name), make_download())
    await task.learn(len(content), PIECE, {"etag": "x"})
    for piece, data in cut(content, PIECE):
        await task.store(piece, data)
    if finish:
        await task.finish()
    return task


def files_below(folder: Path) -> list[str]:
    """Names of all files, sorted."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def names_in(folder: Path) -> list[str]:
    """What a listing of the folder shows, sorted."""
    return sorted(path.name for path in folder.iterdir())


# --- restarts ---


async def test_everything_is_found_again(folder: Path) -> None:
    content = make_content(3 * PIECE + 1)
    async with await DiskStorage.open(folder) as first:
        await keep(first, content)
        part = await first.create(make_task_id("part"), make_download("http://o.test/part"))
        await part.learn(len(content), PIECE, {})
        await part.store(*cut(content, PIECE)[2])
        kept = part.piece(2)
    async with await DiskStorage.open(folder) as second:
        whole, found = second.get(TASK), second.get(make_task_id("part"))
        assert whole is not None
        assert found is not None
        assert (whole.finished, whole.active, whole.held()) == (True, False, (0, 1, 2, 3))
        assert whole.path.read_bytes() == content
        assert whole.response_header == {"etag": "x"}
        assert (found.finished, found.url, found.piece(2)) == (False, "http://o.test/part", kept)
        # The download goes on where it stood.
        resumed = await second.create(make_task_id("part"), make_download())
        await store_all(resumed, cut(content, PIECE))
        await resumed.finish()
        assert resumed.path.read_bytes() == content


async def test_a_failed_download_can_go_on(folder: Path) -> None:
    content = make_content(2 * PIECE)
    async with await DiskStorage.open(folder) as first:
        task = await keep(first, content, finish=False)
        await task.fail()
        assert task.failed
    async with await DiskStorage.open(folder) as second:
        again = await second.create(TASK, make_download())
        assert (again.failed, again.active, again.held()) == (False, True, (0, 1))
        await again.finish()


async def test_not_to_keep_means_to_start_empty_and_to_touch_nothing_else(folder: Path) -> None:
    async with await DiskStorage.open(folder) as first:
        await keep(first, b"content")
    notes = [folder / "notes.txt", folder / "content/tasks/readme", folder / "content/tasks/abc"]
    for note in notes:
        note.write_text("mine")
    async with await DiskStorage.open(folder, keep=False) as second:
        assert second.tasks() == ()
        assert files_below(folder / "content") == ["abc", "readme"]
    assert [note.read_text() for note in notes] == ["mine"] * 3


async def test_pieces_beyond_the_end_of_a_cut_file_are_forgotten(folder: Path) -> None:
    async with await DiskStorage.open(folder) as first:
        path = (await keep(first, make_content(4 * PIECE))).path
    os.truncate(path, 2 * PIECE + 100)
    async with await DiskStorage.open(folder) as second:
        task = second.get(TASK)
        assert task is not None
        assert (task.held(), task.finished) == ((0, 1), False)
    async with await DiskStorage.open(folder) as third:
        assert third.tasks()[0].held() == (0, 1)


async def test_a_task_without_its_file_is_dropped_and_a_file_without_its_task(
    folder: Path,
) -> None:
    async with await DiskStorage.open(folder) as first:
        path = (await keep(first, make_content(PIECE))).path
    stray = folder / "content/tasks/fff" / ("f" * 64)
    stray.parent.mkdir()
    stray.write_text("left over")
    path.unlink()
    async with await DiskStorage.open(folder) as second:
        assert second.tasks() == ()
        assert not stray.exists()


async def test_after_a_restart_of_the_machine_unfinished_pieces_are_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss may keep an index row and lose the content it speaks of."""
    async with await DiskStorage.open(folder) as first:
        part = await keep(first, make_content(3 * PIECE), finish=False)
        await keep(first, make_content(PIECE), "finished")
    with part.path.open("r+b") as file:
        file.seek(PIECE)
        file.write(bytes(PIECE))
    async with await DiskStorage.open(folder) as same_boot:
        unread = same_boot.get(TASK)
        assert unread is not None
        assert unread.held() == (0, 1, 2)
    monkeypatch.setattr(index, "boot_id", lambda: "another")
    async with await DiskStorage.open(folder) as next_boot:
        read = next_boot.get(TASK)
        assert read is not None
        assert read.held() == (0, 2)
        assert next_boot.get(make_task_id("finished")) is not None


@pytest.mark.parametrize("rounds", [12, pytest.param(200, marks=pytest.mark.long)])
async def test_killed_at_any_moment_the_index_is_never_ahead(folder: Path, rounds: int) -> None:
    dice = random.Random(rounds)
    pieces_seen = finished_seen = first = 0
    for _ in range(rounds):
        await asyncio.to_thread(write_and_kill, folder, first, dice)
        async with await DiskStorage.open(folder) as storage:
            for task in storage.tasks():
                number = int(task.response_header.get("number", -1))
                first = max(first, number + 1)
                await check_content(task, number)
                pieces_seen += len(task.held())
                finished_seen += task.finished
                await storage.delete(task.task_id)
    assert pieces_seen > rounds  # it was not idle
    assert finished_seen > 0


def write_and_kill(folder: Path, first: int, dice: random.Random) -> None:
    """Let a process write, kill it after a random number of pieces and a random moment more."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "support.storage_writer", str(folder), str(first)],
        stdout=subprocess.PIPE,
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    with writer:
        assert writer.stdout is not None
        for _ in range(dice.randrange(1, 120)):
            assert writer.stdout.readline(), "the writer ended by itself"
        try:
            writer.wait(dice.random() * 0.005)
        except subprocess.TimeoutExpired:
            writer.kill()


async def check_content(task: DiskTask, number: int) -> None:
    """Every indexed piece has the right bytes, and a finished task has all of them."""
    if not task.held():
        return
    content = make_content(length_of(number), seed=number)
    stored = task.path.read_bytes()
    for piece, data in cut(content, PIECE_LENGTH):
        held = task.piece(piece.number)
        if held is not None:
            assert held.digest == piece.digest
            assert stored[piece.offset : piece.offset + piece.length] == data
            assert await task.verify(piece.number)
    if task.finished:
        assert stored == content


# --- who may use the folder ---


async def test_a_second_daemon_on_the_folder_is_told_who_holds_it(
    folder: Path, storage: DiskStorage
) -> None:
    with pytest.raises(StorageError, match=rf"another daemon \(pid {os.getpid()}\)"):
        await DiskStorage.open(folder)
    await storage.close()
    async with await DiskStorage.open(folder):
        pass


async def test_the_index_is_private_and_contents_are_readable(folder: Path) -> None:
    async with await DiskStorage.open(folder) as storage:
        task = await keep(storage, b"x")
        assert (folder / "index.sqlite3").stat().st_mode & 0o777 == 0o600
        assert task.path.stat().st_mode & 0o777 == 0o644
        assert task.path.relative_to(folder) == Path(f"content/tasks/{TASK[:3]}/{TASK}")


@contextmanager
def read_only(path: Path) -> Generator[None]:
    """A folder that can't be written: by its mode, or for root by its mount."""
    path.mkdir()
    if os.geteuid() != 0:
        path.chmod(0o555)
        yield
        path.chmod(0o755)
        return
    mounted = mount(path, "ro")
    try:
        if not mounted:  # a root that may not mount: a folder below a file can't be made either
            path.rmdir()
            path.write_text("no folder")
        yield
    finally:
        if mounted:
            unmount(path)


def mount(path: Path, options: str) -> bool:
    """Mount a small tmpfs if this process may."""
    program = shutil.which("mount")
    if os.geteuid() != 0 or program is None:
        return False
    command = [program, "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def unmount(path: Path) -> None:
    program = shutil.which("umount")
    assert program is not None
    subprocess.run([program, "-l", str(path)], check=True)


async def test_a_folder_that_cannot_be_written_is_told_at_start(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    with read_only(path), pytest.raises(StorageError, match=str(path)) as caught:
        await DiskStorage.open(path / "data")
    assert "set another folder" in caught.value.detail


async def test_an_index_of_another_version_is_left_alone(folder: Path) -> None:
    async with await DiskStorage.open(folder):
        pass
    db = sqlite3.connect(folder / "index.sqlite3")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="schema version 99"):
        await DiskStorage.open(folder)


# --- two things at once ---


class Gate:
    """A system call that waits in its thread until the test lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._real = getattr(disk, name)
        self._begun = threading.Event()
        self.opened = threading.Event()
        monkeypatch.setattr(disk, name, self._call)

    def _call(self, *arguments: object) -> object:
        self._begun.set()
        assert self.opened.wait(PATIENCE_S)
        return self._real(*arguments)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, PATIENCE_S)


async def test_a_task_that_is_being_removed_is_not_handed_out(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pinned it would wait for ever for pieces of a content that says it is finished."""
    old = await keep(storage, make_content(PIECE))
    gate = Gate(monkeypatch, "remove")
    async with asyncio.TaskGroup() as group:
        removing = group.create_task(storage.delete(TASK))
        await gate.reached()
        assert storage.get(TASK) is None
        assert storage.tasks() == ()
        making = group.create_task(storage.create(TASK, make_download()))
        gate.opened.set()
        assert await removing
        new = await making
    assert new is storage.get(TASK) is not old
    assert (new.active, new.held(), new.path.exists()) == (True, (), True)
    assert (old.finished, old.held()) == (False, ())


async def test_wanted_again_in_the_moment_of_the_last_unpin(storage: DiskStorage) -> None:
    task = await keep(storage, make_content(PIECE))
    task.pin()
    await storage.delete(TASK)
    async with asyncio.TaskGroup() as group:
        making = group.create_task(storage.create(TASK, make_download()))
        await asyncio.sleep(0)  # it has begun, but not looked yet
        task.unpin()
    made = making.result()
    await storage.close()  # waits for removals that are under way
    assert made is storage.get(TASK)
    assert made.path.exists()


async def test_a_piece_of_the_old_content_is_never_indexed_for_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await DiskStorage.open(folder) as storage:
        task = await storage.create(TASK, make_download())
        await task.learn(PIECE, PIECE, {})
        gate = Gate(monkeypatch, "write_piece")
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(failing(task.store(*cut(make_content(PIECE), PIECE)[0])))
            await gate.reached()
            await task.reset()
            gate.opened.set()
            assert isinstance(await storing, PreconditionError)
        assert task.held() == ()
    async with await DiskStorage.open(folder) as storage:
        found = storage.get(TASK)
        assert found is not None
        assert (found.held(), found.content_length) == ((), None)


async def failing(work: Awaitable[object]) -> OdonataError | None:
    try:
        await work
    except OdonataError as error:
        return error
    return None


# --- full volumes ---


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """About 1 MiB: a tmpfs where we may mount one, else a stub that runs out (see `fill_up`)."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = mount(path, "size=1m")
    yield path
    if mounted:
        unmount(path)


def run_out(path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Where nothing was mounted, let the system call say what a full volume says."""
    if path.is_mount():
        return
    real_pwrite, left = os.pwrite, room

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real_pwrite(fd, data[:left], offset)
        left -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)


async def test_a_full_volume_fails_the_piece_and_the_daemon_lives(
    small_volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_content(4 * 1024 * KiB)
    async with await DiskStorage.open(small_volume / "data") as storage:
        run_out(small_volume, monkeypatch, 600 * KiB)
        task = await storage.create(TASK, make_download())
        await task.learn(None, 64 * KiB, {})  # the length is unknown: nothing to check beforehand
        with pytest.raises(DiskFullError, match="free some space"):
            await store_all(task, cut(content, 64 * KiB))
        stored = len(task.held())
        assert 0 < stored < 16
        assert task.held() == tuple(range(stored))
        for number in task.held():
            assert await task.verify(number)
        monkeypatch.undo()
        # Room is made by removing the task, and then the next one fits.
        assert await storage.delete(TASK)
        await keep(storage, make_content(PIECE), "next")


async def store_all(task: DiskTask, pieces: list[tuple[Piece, memoryview]]) -> None:
    for piece, data in pieces:
        await task.store(piece, data)


async def test_what_cannot_fit_is_refused_before_a_byte_is_written(storage: DiskStorage) -> None:
    task = await storage.create(TASK, make_download())
    free = disk.free_bytes(storage.folder)
    with pytest.raises(DiskFullError, match="bytes free, the task needs"):
        await task.learn(2 * free + PIECE, PIECE, {})
    assert task.content_length is None
    # A range of it is another matter.
    await task.learn(2 * free + PIECE, PIECE, {}, wanted_bytes=PIECE)
    assert task.path.stat().st_blocks == 0
    await task.store(*cut(make_content(PIECE), PIECE)[0])
    assert disk.freed_bytes(task.path) <= 64 * KiB


def test_an_allocation_that_fails_gives_back_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may take the room after it was looked at; ext4 keeps what it had allocated by then."""
    path = tmp_path / "content"
    path.touch()
    real = os.posix_fallocate

    def run_out_half_way(fd: int, offset: int, length: int) -> None:
        real(fd, offset, length // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", run_out_half_way)

    def ext4(_path: Path) -> str:
        return "ext4"

    monkeypatch.setattr(disk, "file_system", ext4)
    with pytest.raises(DiskFullError):
        disk.reserve(path, 1024 * KiB, 1024 * KiB)
    assert path.stat().st_blocks == 0


async def test_a_limit_on_file_sizes_is_an_error_with_a_fix(folder: Path) -> None:
    script = (
        "import asyncio, resource, sys\n"
        "from pathlib import Path\n"
        "from odonata.errors import StorageError\n"
        "from odonata.wire.message import Download\n"
        "from peer.runtime.storage.store import DiskStorage\n"
        "async def main():\n"
        "    async with await DiskStorage.open(Path(sys.argv[1])) as storage:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (400000, 400000))\n"
        "        task = await storage.create('a' * 64, Download(url='http://o.test/x'))\n"
        "        try:\n"
        "            await task.learn(1000000, 65536, {})\n"
        "        except StorageError as error:\n"
        "            print(error.detail)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ulimit -f" in done.stdout


async def test_short_writes_are_completed(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pwrite = os.pwrite

    def lazy_pwrite(fd: int, data: memoryview, offset: int) -> int:
        return real_pwrite(fd, data[:1000], offset)

    monkeypatch.setattr(os, "pwrite", lazy_pwrite)
    content = make_content(2 * PIECE + 17)
    task = await keep(storage, content)
    assert task.path.read_bytes() == content


async def test_no_piece_is_held_if_the_index_could_not_take_it(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(PIECE, PIECE, {})

    def full(*_: object) -> None:
        raise DiskFullError("as if the volume were full")

    with monkeypatch.context() as patch:
        patch.setattr(index.Index, "put_piece", full)
        with pytest.raises(DiskFullError):
            await task.store(*cut(make_content(PIECE), PIECE)[0])
    assert task.held() == ()
    await task.store(*cut(make_content(PIECE), PIECE)[0])
    assert task.held() == (0,)


async def test_a_cancelled_store_is_done_with_its_buffer(storage: DiskStorage) -> None:
    content = make_content(PIECE)
    task = await storage.create(TASK, make_download())
    await task.learn(PIECE, PIECE, {})
    [(piece, _)] = cut(content, PIECE)
    buffer = bytearray(content)
    storing = asyncio.ensure_future(task.store(piece, memoryview(buffer)))
    await asyncio.sleep(0)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    buffer[:] = bytes(PIECE)  # reused at once: what is held must not notice
    for number in task.held():
        assert await task.verify(number)
    if task.held():
        assert task.path.read_bytes() == content


# --- output files ---


async def test_an_output_on_the_same_volume_is_a_hard_link(
    storage: DiskStorage, tmp_path: Path
) -> None:
    task = await keep(storage, make_content(PIECE + 1))
    target = tmp_path / "out"
    await task.export(target)
    assert target.samefile(task.path)
    await task.export(target)  # it is there already, and it is this very file
    other = tmp_path / "other"
    other.write_text("old")
    await task.export(other, overwrite=True)
    assert other.samefile(task.path)
    await storage.delete(TASK)
    assert target.read_bytes() == make_content(PIECE + 1)
    assert names_in(tmp_path) == ["data", "other", "out"]


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As between two volumes (the real case needs a second one)."""

    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(export, "_link", link)


@pytest.mark.parametrize("length", [0, 1, 3 * PIECE + 1, 5 * 1024 * KiB])
async def test_an_output_elsewhere_is_a_copy(
    storage: DiskStorage, tmp_path: Path, no_hard_links: None, length: int
) -> None:
    content = make_content(length)
    task = await keep(storage, content)
    target = tmp_path / "out"
    await task.export(target)
    assert target.read_bytes() == content
    assert not target.samefile(task.path)
    assert target.stat().st_mode & 0o777 == 0o644
    with pytest.raises(AlreadyExistsError):
        await task.export(target)
    target.write_text("old")
    await task.export(target, overwrite=True)
    assert target.read_bytes() == content
    with pytest.raises(StorageError, match="hard-link"):
        await task.export(tmp_path / "third", force_hard_link=True)
    assert names_in(tmp_path) == ["data", "out"]


async def test_without_copy_file_range_bytes_are_sent(
    storage: DiskStorage, tmp_path: Path, no_hard_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "copy_file_range", unknown)
    task = await keep(storage, make_content(3 * PIECE + 1))
    await task.export(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == make_content(3 * PIECE + 1)


async def test_a_failed_copy_leaves_nothing(
    storage: DiskStorage, tmp_path: Path, no_hard_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)

    def no_clone(from_fd: int, to_fd: int) -> bool:
        return False

    monkeypatch.setattr(copying, "clone", no_clone)
    task = await keep(storage, make_content(PIECE))
    target = tmp_path / "out"
    with pytest.raises(DiskFullError, match=str(target)):
        await task.export(target)
    assert names_in(tmp_path) == ["data"]


async def test_a_symlink_is_not_followed(storage: DiskStorage, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    target = tmp_path / "out"
    target.symlink_to(victim)
    task = await keep(storage, make_content(PIECE))
    with pytest.raises(AlreadyExistsError):
        await task.export(target)
    await task.export(target, overwrite=True)
    assert not target.is_symlink()
    assert victim.read_text() == "precious"


# --- collection ---


class Clock:
    """Unix time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


async def test_collection_removes_the_oldest_and_never_what_is_in_use(folder: Path) -> None:
    clock = Clock()
    names = ["oldest", "pinned", "active", "newest"]
    policy = CollectPolicy(task_ttl_s=1e9, threshold_bytes=8 * PIECE)
    async with await DiskStorage.open(folder, clock=clock) as storage:
        tasks: dict[str, DiskTask] = {}
        for name in names:
            content = make_content(2 * PIECE)
            tasks[name] = await keep(storage, content, name, finish=name != "active")
            clock.now_s += 10
        tasks["pinned"].pin()
        evicted = await storage.collect(clock.now_s, policy)
        assert [(e.task_id, e.reason) for e in evicted] == [
            (make_task_id("oldest"), Reason.DISK),
            (make_task_id("newest"), Reason.DISK),
        ]
        assert {task.task_id for task in storage.tasks()} == {
            make_task_id("pinned"),
            make_task_id("active"),
        }
        assert not tasks["oldest"].path.exists()
        tasks["pinned"].unpin()


async def test_what_frees_nothing_is_not_removed_to_make_room(folder: Path, tmp_path: Path) -> None:
    """A content with an output beside it shares its bytes: only the other ones free any."""
    clock = Clock()
    policy = CollectPolicy(task_ttl_s=1e9, threshold_bytes=3 * PIECE)
    async with await DiskStorage.open(folder, clock=clock) as storage:
        for name in ["linked", "old", "new"]:
            task = await keep(storage, make_content(2 * PIECE), name)
            if name == "linked":
                await task.export(tmp_path / "output")
            clock.now_s += 10
        evicted = await storage.collect(clock.now_s, policy)
        assert [e.task_id for e in evicted] == [make_task_id("old"), make_task_id("new")]


async def test_use_counts_also_over_a_restart(folder: Path) -> None:
    clock = Clock()
    policy = CollectPolicy(task_ttl_s=100, threshold_bytes=1 << 40)  # whatever else fills the disk
    async with await DiskStorage.open(folder, clock=clock) as first:
        served = await keep(first, b"1", "served")
        await keep(first, b"2", "idle")
        clock.now_s += 90
        served.pin()
        served.unpin()
    clock.now_s += 90
    async with await DiskStorage.open(folder, clock=clock) as second:
        evicted = await second.collect(clock.now_s, policy)
        assert [(e.task_id, e.reason) for e in evicted] == [(make_task_id("idle"), Reason.EXPIRED)]
        assert second.get(make_task_id("served")) is not None


async def test_a_task_that_cannot_be_removed_does_not_stop_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with await DiskStorage.open(folder, clock=clock) as storage:
        stuck = await keep(storage, b"1", "stuck")
        await keep(storage, b"2", "loose")
        real_remove = disk.remove

        def remove(path: Path) -> None:
            if path == stuck.path:
                raise StorageError("as if the volume were broken")
            real_remove(path)

        monkeypatch.setattr(disk, "remove", remove)
        clock.now_s += 1e6
        evicted = await storage.collect(clock.now_s, CollectPolicy(task_ttl_s=1))
        assert [e.task_id for e in evicted] == [make_task_id("loose")]


async def test_a_volume_without_room_for_the_index_is_emptied_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise DiskFullError("as if the volume were full")

    clock = Clock()
    async with await DiskStorage.open(folder, clock=clock) as storage:
        await keep(storage, b"1", "old")
        with monkeypatch.context() as patch:
            for write in ("touch", "remove_task"):
                patch.setattr(index.Index, write, full)
            clock.now_s += 1e6
            evicted = await storage.collect(clock.now_s, CollectPolicy(task_ttl_s=1))
        assert [e.task_id for e in evicted] == [make_task_id("old")]
        assert list(storage.folder.glob("content/tasks/*/*")) == []


async def test_closing_twice_is_quiet_and_then_nothing_is_taken(folder: Path) -> None:
    storage = await DiskStorage.open(folder)
    task = await keep(storage, b"1")
    await storage.close()
    await storage.close()
    with pytest.raises(StorageError, match="closed"):
        await task.reset()
    with pytest.raises(StorageError, match="closed"):
        await storage.create(make_task_id("late"), make_download())


async def test_rows_of_a_removal_that_failed_do_not_come_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index would then speak of pieces that the new file does not have."""
    async with await DiskStorage.open(folder) as first:
        await keep(first, make_content(2 * PIECE))

        async def full(*_: object) -> None:
            raise DiskFullError("as if the volume were full")

        with monkeypatch.context() as patch:
            patch.setattr(index.Index, "remove_task", full)
            assert await first.delete(TASK)
        again = await first.create(TASK, make_download())
        await again.learn(2 * PIECE, PIECE, {})
    async with await DiskStorage.open(folder) as second:
        found = second.get(TASK)
        assert found is not None
        assert found.held() == ()
