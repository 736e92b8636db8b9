"""Outputs: which way they are made, in which order the ways are tried, and that no part ever shows.

The system calls that this machine's volumes can't do are played: each says what a volume without it
says, and notes that it was asked.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.content import cut, make_content, make_download, make_task_id

from odonata.errors import CallerError, StorageError
from peer.runtime.storage import copying, export
from peer.runtime.storage.store import DiskStorage
from peer.runtime.storage.task import DiskTask

PIECE = 64 * 1024
CONTENT = make_content(3 * PIECE + 5)

WAYS = ("link", "clone", "copy_file_range", "sendfile")
REASONS = {
    "link": errno.EXDEV,
    "clone": errno.EOPNOTSUPP,
    "copy_file_range": errno.EXDEV,
}


@pytest.fixture
async def task(tmp_path: Path) -> AsyncIterator[DiskTask]:
    async with await DiskStorage.open(tmp_path / "data") as storage:
        task = await storage.create(make_task_id(), make_download())
        await task.learn(len(CONTENT), PIECE, {})
        for piece, data in cut(CONTENT, PIECE):
            await task.store(piece, data)
        await task.finish()
        yield task


def no_nameless_copy(_source: Path, _folder: Path, _mode: int) -> nullcontext[None]:
    """What a volume without O_TMPFILE has."""
    return nullcontext()


class Volume:
    """Can do `way` and what comes after it; `asked` is what it was asked for, in order.

    Whenever it is, `look` is called: what a bystander would see in that moment.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        way: str,
        look: Callable[[], Any],
        *,
        nameless: bool = True,
    ) -> None:
        if not nameless:
            monkeypatch.setattr(export, "nameless_copy", no_nameless_copy)
        self.asked: list[str] = []
        self._way = way
        self._look = look
        self._real_sendfile = os.sendfile
        self._real_copy = os.copy_file_range
        monkeypatch.setattr(export, "_link", self._link)
        monkeypatch.setattr(fcntl, "ioctl", self._ioctl)
        monkeypatch.setattr(os, "copy_file_range", self._copy_file_range)
        monkeypatch.setattr(os, "sendfile", self._sendfile)
        monkeypatch.setattr(copying, "COPY_BYTES", PIECE)

    def _ask(self, name: str) -> None:
        self._look()
        if not self.asked or self.asked[-1] != name:
            self.asked.append(name)
        if WAYS.index(name) < WAYS.index(self._way):
            raise OSError(REASONS[name], os.strerror(REASONS[name]))

    def _link(self, source: Path, target: Path) -> None:
        if ".partial" in source.name:  # the copy gets its name
            os.link(source, target)
            return
        self._ask("link")
        os.link(source, target)

    def _ioctl(self, to_fd: int, request: int, from_fd: int) -> int:
        assert request == 0x40049409  # FICLONE of linux/fs.h
        self._ask("clone")
        return self._real_copy(from_fd, to_fd, len(CONTENT))  # as good as the same blocks

    def _copy_file_range(self, from_fd: int, to_fd: int, count: int) -> int:
        self._ask("copy_file_range")
        return self._real_copy(from_fd, to_fd, count)

    def _sendfile(self, to_fd: int, from_fd: int, offset: int | None, count: int) -> int:
        self._ask("sendfile")
        return self._real_sendfile(to_fd, from_fd, offset, count)


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_the_cheapest_way_is_taken_and_no_part_ever_shows(
    task: DiskTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    overwrite: bool,
    nameless: bool,
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "content"
    if overwrite:
        target.write_bytes(b"old")
    before = b"old" if overwrite else None

    def look() -> None:
        assert (target.read_bytes() if target.exists() else None) == before
        if nameless:
            assert {path.name for path in folder.iterdir()} <= {"content"}, "nothing to leave"

    volume = Volume(monkeypatch, way, look, nameless=nameless)
    await task.export(target, overwrite=overwrite)
    monkeypatch.undo()
    assert volume.asked == list(WAYS[: WAYS.index(way) + 1])
    assert target.read_bytes() == CONTENT
    assert target.samefile(task.path) is (way == "link")
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in folder.iterdir()] == ["content"]


async def test_who_insists_on_a_hard_link_gets_no_copy(
    task: DiskTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(monkeypatch, "clone", lambda: None)
    with pytest.raises(StorageError, match="can't hard-link"):
        await task.export(tmp_path / "out", force_hard_link=True)
    assert volume.asked == ["link"]
    assert not (tmp_path / "out").exists()


async def test_a_folder_that_vanishes_while_it_is_written_into(
    task: DiskTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = tmp_path / "out", tmp_path / "other"
    folder.mkdir()
    other.mkdir()

    def vanish() -> None:
        if folder.exists():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    Volume(monkeypatch, "sendfile", vanish)
    with pytest.raises(StorageError, match="can't write the output file"):
        await task.export(folder / "content")
    monkeypatch.undo()
    with pytest.raises(CallerError, match="does not exist: make it first"):
        await task.export(folder / "content")
    await task.export(other / "content")
    assert (other / "content").read_bytes() == CONTENT
    assert task.finished
