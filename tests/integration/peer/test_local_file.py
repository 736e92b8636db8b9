"""Files of this host on their way into storage: read, placed, adopted; on a real disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.content import cut, make_content, make_download, make_task_id

from odonata.digest import piece_digest
from odonata.errors import (
    AlreadyExistsError,
    CallerError,
    NotFoundError,
    PreconditionError,
    StorageError,
    UnavailableError,
)
from odonata.piece import MIB, PIECE_LENGTH_MIN
from odonata.wire.message import Download, TaskType, Tenure
from peer.runtime.storage import index
from peer.runtime.storage.collect import CollectPolicy, Reason
from peer.runtime.storage.layout import Layout
from peer.runtime.storage.local_file import LocalFile, place_file
from peer.runtime.storage.store import DiskStorage

KIND = TaskType.PERSISTENT_CACHE
TASK = make_task_id()
CACHED = Download(type=KIND, url="")
PIECE = 5000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file.bin"
    file.write_bytes(make_content(3 * PIECE + 7))
    return file


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[DiskStorage]:
    async with await DiskStorage.open(tmp_path / "data") as opened:
        yield opened


def read(path: Path, piece_length: int = PIECE) -> LocalFile:
    file = LocalFile(path, piece_length)
    assert b"".join(bytes(block) for block in file.blocks()) == path.read_bytes()
    return file


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def inode_of(path: Path) -> int:
    return path.stat().st_ino


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "piece_length"),
    [(0, 5), (1, 5), (5, 5), (11, 5), (9 * MIB + 1, PIECE_LENGTH_MIN), (9 * MIB, 5 * MIB)],
)
def test_every_piece_has_its_digest(length: int, piece_length: int, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(make_content(length))
    found = read(path, piece_length).pieces
    expected = [piece for piece, _ in cut(path.read_bytes(), piece_length)]
    assert [(p.number, p.offset, p.length, p.digest) for p in found] == [
        (p.number, p.offset, p.length, p.digest) for p in expected
    ]


def test_without_a_wish_the_rule_cuts(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    assert LocalFile(path).piece_length == PIECE_LENGTH_MIN


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("nothing", NotFoundError, "there is no file"),
        ("folder", CallerError, "no plain file"),
        ("pipe", CallerError, "no plain file"),
        ("loop", CallerError, "can't follow"),
    ],
)
def test_what_is_no_file_is_refused(
    name: str, kind: type[Exception], text: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(kind, match=text):
        LocalFile(tmp_path / name)
    with pytest.raises(CallerError, match="not absolute"):
        LocalFile(Path(name))


@pytest.mark.parametrize("change", ["longer", "shorter", "other bytes", "another file"])
def test_a_file_that_changes_meanwhile_is_not_taken(change: str, path: Path) -> None:
    file = LocalFile(path, PIECE)
    blocks = file.blocks()
    next(blocks)
    content = path.read_bytes()
    if change == "another file":
        path.unlink()
    changed = {"longer": content + b"x", "shorter": content[:PIECE]}
    path.write_bytes(changed.get(change, content))
    os.utime(path, ns=(1, 1))
    with pytest.raises(PreconditionError, match="was changed while it was imported"):
        list(blocks)


def test_a_reading_can_be_stopped(path: Path) -> None:
    file = LocalFile(path, PIECE)
    blocks = file.blocks()
    next(blocks)
    file.stop()
    with pytest.raises(UnavailableError, match="stopped"):
        list(blocks)


# --- placing --------------------------------------------------------------------------------------


def test_a_link_is_followed_and_costs_nothing(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    target = tmp_path / "abc" / "target"
    place_file(read(link), target)
    assert target.read_bytes() == path.read_bytes()
    assert not target.is_symlink()


def test_on_another_volume_it_is_copied(path: Path) -> None:
    folder = Path("/dev/shm")
    if not folder.is_dir() or folder.stat().st_dev == path.stat().st_dev:
        pytest.skip("there is no second volume")
    target = folder / f"odonata-test-{os.getpid()}" / "target"
    try:
        target.parent.mkdir()
        place_file(read(path), target)
        assert target.read_bytes() == path.read_bytes()
        assert target.stat().st_ino != path.stat().st_ino
    finally:
        shutil.rmtree(target.parent)


def test_what_changed_since_it_was_read_is_not_placed(path: Path, tmp_path: Path) -> None:
    file = read(path)
    path.write_bytes(make_content(3 * PIECE + 7, seed=2))
    os.utime(path, ns=(1, 1))
    target = tmp_path / "target"
    with pytest.raises(PreconditionError, match="was changed"):
        place_file(file, target)
    assert not target.exists()


def test_a_place_that_can_not_be_written_is_said(path: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(StorageError, match="import into"):
        place_file(read(path), tmp_path / "occupied" / "target")


# --- adopting -------------------------------------------------------------------------------------


async def test_an_adopted_file_is_a_finished_task(
    path: Path, storage: DiskStorage, tmp_path: Path
) -> None:
    file = read(path)
    assert await storage.adopt(TASK, CACHED, file)
    task = storage.get(TASK)
    assert task is not None
    assert (task.finished, task.kind, task.content_length) == (True, KIND, file.content_length)
    assert task.held() == (0, 1, 2, 3)
    assert task.path.read_bytes() == bytes_of(path)
    assert "persistent-cache-tasks" in str(task.path)
    for number in task.held():
        assert await task.verify(number)
    await task.export(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == bytes_of(path)
    remove(path)
    assert await task.verify(0), "the copy does not need the user's file"


async def test_it_is_found_again_with_its_tenure(path: Path, tmp_path: Path) -> None:
    tenure = Tenure(persistent=True, ttl_s=77.0, created_at_s=1234.5)
    async with await DiskStorage.open(tmp_path / "data") as first:
        await first.adopt(TASK, CACHED, read(path))
        task = first.get(TASK)
        assert task is not None
        await task.keep(tenure)
    async with await DiskStorage.open(tmp_path / "data") as second:
        found = second.get(TASK)
        assert found is not None
        assert (found.finished, found.kind, found.persistent) == (True, KIND, True)
        assert (found.ttl_s, found.created_at_s) == (77.0, 1234.5)
        piece = found.piece(1)
        assert piece is not None
        assert piece.digest == piece_digest(bytes_of(path)[PIECE : 2 * PIECE])


async def test_the_same_bytes_are_adopted_once(path: Path, storage: DiskStorage) -> None:
    assert await storage.adopt(TASK, CACHED, read(path))
    before = storage.get(TASK)
    assert not await storage.adopt(TASK, CACHED, read(path))
    assert storage.get(TASK) is before


async def test_other_bytes_replace_unless_they_are_in_use(path: Path, storage: DiskStorage) -> None:
    await storage.adopt(TASK, CACHED, read(path))
    old = storage.get(TASK)
    assert old is not None
    remove(path)  # not written in place: the stored copy may share its bytes
    write(path, make_content(2 * PIECE, seed=2))
    old.pin()
    with pytest.raises(PreconditionError, match="in use here with other bytes"):
        await storage.adopt(TASK, CACHED, read(path))
    old.unpin()
    assert await storage.adopt(TASK, CACHED, read(path))
    new = storage.get(TASK)
    assert new is not None
    assert new.path.read_bytes() == bytes_of(path)
    assert new.held() == (0, 1)


async def test_a_download_in_part_is_replaced_by_the_whole(
    path: Path, storage: DiskStorage
) -> None:
    file = read(path)
    part = await storage.create(TASK, CACHED)
    await part.learn(file.content_length, PIECE, {})
    await part.store(*cut(bytes_of(path), PIECE)[0])
    assert await storage.adopt(TASK, CACHED, file)
    task = storage.get(TASK)
    assert task is not None
    assert task.finished


async def test_kinds_do_not_share_an_id(path: Path, storage: DiskStorage) -> None:
    await storage.create(TASK, make_download())
    with pytest.raises(AlreadyExistsError, match="as a standard task"):
        await storage.adopt(TASK, CACHED, read(path))
    with pytest.raises(AlreadyExistsError, match="as a standard task"):
        await storage.create(TASK, CACHED)


async def test_a_file_without_a_record_is_removed_at_the_next_start(
    path: Path, tmp_path: Path
) -> None:
    """A crash between the two steps of an adoption."""
    async with await DiskStorage.open(tmp_path / "data") as storage:
        place = Layout(storage.folder).content_file(TASK, KIND)
    place_file(read(path), place)
    async with await DiskStorage.open(tmp_path / "data") as storage:
        assert storage.get(TASK) is None
        assert not place.exists()


async def test_a_full_index_leaves_no_copy(
    path: Path, storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(index, "_task_row", full)
    with pytest.raises(StorageError):
        await storage.adopt(TASK, CACHED, read(path))
    monkeypatch.undo()
    assert storage.get(TASK) is None
    assert not Layout(storage.folder).content_file(TASK, KIND).exists()
    assert await storage.adopt(TASK, CACHED, read(path))


# --- tenure and index -----------------------------------------------------------------------------


async def test_a_replica_outlasts_disk_pressure_and_not_its_time(
    path: Path, storage: DiskStorage
) -> None:
    now_s = time.time()
    for name, persistent in (("replica", True), ("copy", False)):
        await storage.adopt(make_task_id(name), CACHED, read(path))
        task = storage.get(make_task_id(name))
        assert task is not None
        await task.keep(Tenure(persistent=persistent, ttl_s=100, created_at_s=now_s))
    remove(path)  # else it frees nothing
    pressed = CollectPolicy(threshold_bytes=1, high_percent=1, low_percent=0)
    gone = await storage.collect(now_s, pressed)
    if gone:  # hard links of one file count for nothing until the last one goes
        assert [(one.task_id, one.reason) for one in gone] == [(make_task_id("copy"), Reason.DISK)]
    assert storage.get(make_task_id("replica")) is not None
    gone = await storage.collect(now_s + 101, CollectPolicy())
    assert make_task_id("replica") in {one.task_id for one in gone}
    assert {one.reason for one in gone} == {Reason.EXPIRED}


async def test_what_was_not_told_its_time_gets_the_setting(
    path: Path, storage: DiskStorage
) -> None:
    await storage.adopt(TASK, CACHED, read(path))
    policy = CollectPolicy(persistent_cache_task_ttl_s=50, task_ttl_s=1e9)
    assert await storage.collect(time.time() + 40, policy) == ()
    [gone] = await storage.collect(time.time() + 60, policy)
    assert (gone.task_id, gone.kind, gone.reason) == (TASK, KIND, Reason.EXPIRED)


_SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE task (
    id TEXT PRIMARY KEY, url TEXT NOT NULL, content_length INTEGER, piece_length INTEGER,
    response_header TEXT NOT NULL, created_at_s REAL NOT NULL, used_at_s REAL NOT NULL,
    finished_at_s REAL, failed_at_s REAL
) WITHOUT ROWID;
CREATE TABLE piece (
    task_id TEXT NOT NULL, number INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, digest TEXT NOT NULL, parent_id TEXT NOT NULL,
    traffic_type INTEGER NOT NULL, cost_s REAL NOT NULL, created_at_s REAL NOT NULL,
    PRIMARY KEY (task_id, number)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
"""As the first release wrote it."""


async def test_an_index_of_the_first_release_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    file = folder / "content" / "tasks" / TASK[:3] / TASK
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    db = sqlite3.connect(folder / "index.sqlite3")
    db.executescript(_SCHEMA_1)
    db.execute(
        "INSERT INTO task VALUES (?,?,?,?,?,?,?,?,?)",
        (TASK, "http://o/f", 5, 4, '{"etag":"x"}', 1.0, 2.0, 3.0, None),
    )
    for number, offset, data in ((0, 0, b"1234"), (1, 4, b"5")):
        db.execute(
            "INSERT INTO piece VALUES (?,?,?,?,?,?,?,?,?)",
            (TASK, number, offset, len(data), piece_digest(data), "p", 1, 0.5, 1.5),
        )
    db.commit()
    db.close()
    for _ in range(2):  # and once more, as it is then
        async with await DiskStorage.open(folder) as storage:
            task = storage.get(TASK)
            assert task is not None
            assert (task.finished, task.url, task.held()) == (True, "http://o/f", (0, 1))
            assert (task.kind, task.persistent, task.ttl_s) == (TaskType.STANDARD, False, None)
            assert await task.verify(0)
            assert await task.verify(1)
            assert storage.left_uploads == ()
