"""A data folder in which anything may be damaged: index, journal, content, whole files.

Opening works or is a StorageError. What is held then lies where it belongs, and whatever is not the
content is found when it is read again: wrong bytes are never taken for right ones.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from support.content import cut, make_content, make_download, make_task_id
from support.fuzzing import Campaign, Edit, damage, edits, open_descriptors

from odonata.errors import StorageError
from odonata.piece import piece_count
from peer.runtime.storage.store import DiskStorage

PIECE = 4096
WHOLE, PART = make_task_id("whole"), make_task_id("part")
CONTENT = {WHOLE: make_content(5 * PIECE + 99, 1), PART: make_content(4 * PIECE, 2)}
FILES = {
    "index": "index.sqlite3",
    "journal": "index.sqlite3-wal",
    "whole": f"content/tasks/{WHOLE[:3]}/{WHOLE}",
    "part": f"content/tasks/{PART[:3]}/{PART}",
    "lock": "lock",
}

Harm = Callable[[Path], None]


async def _fill(folder: Path) -> None:
    async with await DiskStorage.open(folder) as storage:
        for task_id, content in CONTENT.items():
            task = await storage.create(task_id, make_download())
            await task.learn(len(content), PIECE, {"Content-Type": "x/y"})
            for piece, data in cut(content, PIECE)[: None if task_id == WHOLE else 2]:
                await task.store(piece, data)
            if task_id == WHOLE:
                await task.finish()
        # As a kill leaves it: with what is still in the journal.
        shutil.copytree(folder, folder.with_name("killed"))


@pytest.fixture
def template(tmp_path: Path) -> Path:
    asyncio.run(_fill(tmp_path / "good"))
    return tmp_path


# --- harm -----------------------------------------------------------------------------------------


def _edited(name: str, changes: list[Edit]) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / FILES[name]
        if path.is_file():
            path.write_bytes(damage(path.read_bytes(), changes))

    return harm


def _replaced(name: str, by: str) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / FILES[name]
        path.unlink(missing_ok=True)
        match by:
            case "nothing":
                pass
            case "folder":
                path.mkdir()
            case "link":
                path.symlink_to("/dev/null")
            case "empty":
                path.write_bytes(b"")
            case _:
                path.write_bytes(make_content(10_000, 9))

    return harm


def _cell(cell: tuple[str, str], value: Any, where: int) -> Harm:
    """One cell of the index says something else."""
    table, column = cell

    def harm(folder: Path) -> None:
        with closing(sqlite3.connect(folder / FILES["index"], isolation_level=None)) as db:
            keys = "number, task_id" if table == "piece" else "id"
            try:
                rows = db.execute(f"SELECT {keys} FROM {table}").fetchall()
                row = rows[where % len(rows)]
                condition = " AND ".join(f"{key} = ?" for key in keys.split(", "))
                db.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {condition}",
                    (value, *row),
                )
            except (sqlite3.Error, ZeroDivisionError):
                return  # harmed before, or not to be harmed so: a key twice, a NULL

    return harm


_COLUMNS = {
    "task": (
        "id", "url", "content_length", "piece_length", "response_header", "created_at_s",
        "used_at_s", "finished_at_s", "failed_at_s",
    ),
    "piece": (
        "task_id", "number", "offset", "length", "digest", "parent_id", "traffic_type", "cost_s",
        "created_at_s",
    ),
}  # fmt: skip
_cells = st.sampled_from(
    [(table, column) for table, columns in _COLUMNS.items() for column in columns]
)
_values: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-1, 6),
    st.sampled_from([0, PIECE, 3 * PIECE, 5 * PIECE, 2 * PIECE - 1, 2**62, float("inf")]),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sampled_from(["crc32:0", "crc32:x", "sha256:00", "{}", "[1]", "../../../x", "f" * 64]),
    st.none(),
)
harms: st.SearchStrategy[list[Harm]] = st.lists(
    st.one_of(
        st.builds(_edited, st.sampled_from(sorted(FILES)), edits),
        st.builds(
            _replaced,
            st.sampled_from(sorted(FILES)),
            st.sampled_from(["nothing", "folder", "link", "empty", "noise"]),
        ),
        st.builds(_cell, _cells, _values, st.integers(0, 50)),
    ),
    min_size=1,
    max_size=3,
)


# --- the property ---------------------------------------------------------------------------------


async def _look(folder: Path) -> None:
    try:
        storage = await DiskStorage.open(folder)
    except StorageError:
        return
    async with storage:
        for task in storage.tasks():
            content = CONTENT.get(task.task_id)
            if content is None:  # an id that was harmed into another one
                assert not task.held() or await _all_refused(task)
                continue
            if task.finished:
                assert task.content_length is not None
                assert task.piece_length is not None
                count = piece_count(task.content_length, task.piece_length)
                assert task.held() == tuple(range(count))
            for number in task.held():
                piece = task.piece(number)
                assert piece is not None
                assert piece.number == number
                right = content[piece.offset :][: piece.length]
                is_whole = await task.verify(number)
                if is_whole:
                    assert task.path.read_bytes()[piece.offset :][: piece.length] == right
                    if task.piece_length == PIECE:
                        assert piece.offset == number * PIECE


async def _all_refused(task: Any) -> bool:
    """Pieces of a task that is none: nobody can ask for it, and reading them must not fail."""
    for number in task.held():
        await task.verify(number)
    return True


def test_whatever_is_damaged(campaign: Campaign, template: Path) -> None:
    descriptors = open_descriptors()
    folder = template / "harmed"

    def check(which: str, chosen: list[Harm]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template / which, folder)
        for harm in chosen:
            try:
                harm(folder)
            except (IsADirectoryError, PermissionError, NotADirectoryError, FileExistsError):
                continue  # harmed before: a folder stands there
        asyncio.run(_look(folder))
        assert open_descriptors() <= descriptors

    campaign.run(check, st.sampled_from(["good", "killed"]), harms, examples=40)


def test_what_is_not_damaged_is_all_there(template: Path) -> None:
    """Or the property above would hold for a storage that forgets everything."""

    async def held(folder: Path) -> dict[str, tuple[bool, int]]:
        async with await DiskStorage.open(folder) as storage:
            return {task.task_id: (task.finished, len(task.held())) for task in storage.tasks()}

    for name in ("good", "killed"):
        assert asyncio.run(held(template / name)) == {WHOLE: (True, 6), PART: (False, 2)}
