"""Content files that the daemon may not write, or not read, and folders that take none.

An output may be a hard link of the content file, so a user who write-protects the one does so to
the other. Root is above modes: what they keep from others happens in a process that is not.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from support.content_mender import CONTENT, PIECE, TASK, Found, fill, turn_over
from support.unprivileged import run_unprivileged

from peer.runtime.storage import disk
from peer.runtime.storage.layout import FILE_MODE
from peer.runtime.storage.store import DiskStorage

ALL = (0, 1, 2, 3, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def played(folder: Path, *words: str) -> Found:
    said = run_unprivileged("support.content_mender", folder, *words)
    return msgspec.json.decode(said.splitlines()[-1], type=Found)


async def test_a_protected_file_is_written_to_again(folder: Path, tmp_path: Path) -> None:
    """The only name that is left is ours: its mode is, too."""
    async with await DiskStorage.open(folder) as storage:
        task, _ = await fill(storage)
        output = tmp_path / "out"
        await task.export(output, force_hard_link=True)
        output.chmod(0o444)
        output.unlink()
        turn_over(task.path, PIECE)
        await task.examine()
        assert await task.sound(1) is None
        number = task.file_number
        await fill(storage)
        assert task.path.stat().st_mode & 0o777 == FILE_MODE
        assert (task.path.read_bytes(), task.file_number) == (CONTENT, number)


async def test_a_protected_output_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    async with await DiskStorage.open(folder) as storage:
        task, _ = await fill(storage)
        output = tmp_path / "out"
        await task.export(output, force_hard_link=True)
        output.chmod(0o444)
        turn_over(task.path, PIECE)
        await task.examine()
        assert await task.sound(1) is None
        await fill(storage)
        assert task.path.stat().st_mode & 0o777 == FILE_MODE
        assert output.stat().st_mode & 0o777 == 0o444
        assert (task.path.read_bytes(), output.read_bytes() == CONTENT) == (CONTENT, False)


@pytest.mark.parametrize("moment", ["down", "running"])
@pytest.mark.parametrize(("mode", "before"), [("444", (0, 2, 3, 4)), ("000", ())])
def test_a_user_mends_what_was_closed_to_him(
    folder: Path, moment: str, mode: str, before: tuple[int, ...]
) -> None:
    expected = Found(mode=FILE_MODE, before=before, whole=True)
    assert played(folder, moment, mode) == expected


@pytest.mark.parametrize(("mode", "before"), [("444", (0,)), ("000", ())])
def test_what_fails_in_the_middle_goes_on_next_time(
    folder: Path, mode: str, before: tuple[int, ...]
) -> None:
    expected = Found(mode=FILE_MODE, before=before, whole=True)
    assert played(folder, "writing", mode) == expected


def test_a_folder_that_takes_no_file_keeps_nobody_from_mending_one(folder: Path) -> None:
    found = played(folder, "running", "444", "locked")
    assert found == Found(mode=FILE_MODE, before=(0, 2, 3, 4), whole=True)


@pytest.mark.parametrize(
    ("mode", "how", "left"),
    [("000", ("locked",), ()), ("444", ("linked", "locked"), (0, 2, 3, 4))],
    ids=["unreadable", "somebody has it"],
)
def test_a_folder_that_takes_no_file_is_named(
    folder: Path, mode: str, how: tuple[str, ...], left: tuple[int, ...]
) -> None:
    found = played(folder, "running", mode, *how)
    place = f"{folder}/content/tasks/{TASK[:3]}"
    assert f"can't write to, nor replace, {place}/{TASK}" in found.error
    assert found.error.endswith(f"give the daemon's user write access to {place}")
    assert found.before == left, "what is right is held as before"


def test_a_folder_that_takes_no_folder_is_named(folder: Path) -> None:
    error = played(folder, "closed").error
    assert f"can't create {folder}/content/tasks/{TASK[:3]}/{TASK}" in error
    assert error.endswith(f"give the daemon's user write access to {folder}/content/tasks")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
async def test_somebody_else_s_file_is_copied(folder: Path) -> None:
    async with await DiskStorage.open(folder) as storage:
        path = (await fill(storage))[0].path
    turn_over(path, PIECE)
    os.chown(path, 65534, 65534)
    found = played(folder, "as-it-is")
    assert found == Found(mode=FILE_MODE, before=(0, 2, 3, 4), whole=True)
    assert path.stat().st_uid == 0


async def test_what_can_not_be_read_is_not_right(folder: Path) -> None:
    """Also where the content is checked by its strong digest."""
    async with await DiskStorage.open(folder) as storage:
        path = (await fill(storage))[0].path
        path.unlink()
        assert disk.read_piece(path, PIECE, 0) == b""
