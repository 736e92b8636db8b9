"""A damaged index: set aside, and read for what can still be believed.

A piece is believed as far as its content: each row carries the digest of its bytes, and after a
start they are read before they go out (see `trust`). So a row that survived is worth having, and
what the damaged part held is fetched again. One damaged file is kept, for whoever looks into it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from peer.runtime.storage.disk import storage_error
from peer.runtime.storage.index import Loaded, read_rows

_KEYS: Final = {"meta": "key", "task": "id", "piece": "task_id {0}, number", "upload": "task_id"}


def set_aside(path: Path) -> Path:
    """Rename the index at `path`, so that a new one can be made; returns its new name. Blocking.

    The journal goes first: one that was left would be taken for the new index's.
    """
    aside = path.with_name(path.name + ".damaged")
    try:
        for suffix in ("-wal", ""):
            old, new = (one.with_name(one.name + suffix) for one in (path, aside))
            new.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                old.rename(new)
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path, "set aside the damaged index") from error
    return aside


def salvage(path: Path) -> Loaded:
    """What the index at `path` still says. Blocking; never fails because of what is in it."""
    try:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            return read_rows(db, _readable_rows)
    except (sqlite3.Error, UnicodeDecodeError):
        return Loaded(tasks={}, same_boot=False, damaged=True)


def _readable_rows(db: sqlite3.Connection, table: str) -> Iterable[tuple[Any, ...]]:
    """From the front up to the damage, then from the back down to it."""
    for direction in ("ASC", "DESC"):
        order = f"{_KEYS[table].format(direction)} {direction}"
        try:
            yield from db.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608  # ours
        except (sqlite3.Error, UnicodeDecodeError):
            continue
        return
