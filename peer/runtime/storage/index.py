"""The index: which tasks are here, and which of their pieces are whole. SQLite, one file.

Why SQLite: it comes with Python, commits are atomic whatever the moment of a crash, and the volume
of writes is small (one row of about 150 bytes for each 4 MiB of content). RocksDB, which Dragonfly
uses, is another dependency with a compiler; a log of our own would be SQLite's journal once more.

Durability. The journal is a write-ahead log with `synchronous=NORMAL`: a commit costs no disk
flush, survives the death of the process, and the file stays consistent through a power loss,
after which the last commits may be missing (the index is behind: harmless). But after a power
loss rows may have landed whose *content* had not. So `finish` flushes content before the stamp,
and pieces of unfinished tasks are read again when the index was last written under another boot
of the machine (see `store`).

One connection, one statement or transaction at a time: SQLite has a single writer anyway. What is
rare is a coroutine around one thread (`Workers.index`); a piece, of which there are many, is put by
the thread that has just written its content, which saves waking another one for each. The caller
orders them after the data. Nothing here touches content files.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from odonata.digest import parse_piece_digest
from odonata.errors import DiskFullError, OdonataError, StorageError
from odonata.wire.message import Piece, TaskType, TrafficType, Value
from peer.runtime.storage.disk import boot_id
from peer.runtime.storage.layout import PRIVATE_MODE, check_task_id
from peer.runtime.storage.worker import Workers

SCHEMA_VERSION = 2
"""Kept in `PRAGMA user_version`. A change of the tables raises it and brings a migration."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE task (
    id TEXT PRIMARY KEY, url TEXT NOT NULL, content_length INTEGER, piece_length INTEGER,
    response_header TEXT NOT NULL, created_at_s REAL NOT NULL, used_at_s REAL NOT NULL,
    finished_at_s REAL, failed_at_s REAL,
    kind INTEGER NOT NULL DEFAULT 0, persistent INTEGER NOT NULL DEFAULT 0, ttl_s REAL
) WITHOUT ROWID;
CREATE TABLE upload (
    task_id TEXT PRIMARY KEY, kind INTEGER NOT NULL, peer_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE piece (
    task_id TEXT NOT NULL, number INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, digest TEXT NOT NULL, parent_id TEXT NOT NULL,
    traffic_type INTEGER NOT NULL, cost_s REAL NOT NULL, created_at_s REAL NOT NULL,
    PRIMARY KEY (task_id, number)
) WITHOUT ROWID;
"""

_MIGRATIONS = {
    1: """
ALTER TABLE task ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN persistent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN ttl_s REAL;
CREATE TABLE upload (
    task_id TEXT PRIMARY KEY, kind INTEGER NOT NULL, peer_id TEXT NOT NULL
) WITHOUT ROWID;
""",
}
"""Version -> what leads to the next one. All that were before it held standard tasks only."""

_PUT_TASK = "INSERT OR REPLACE INTO task VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_PUT_UPLOAD = "INSERT OR REPLACE INTO upload VALUES (?,?,?)"
_PUT_PIECE = "INSERT OR REPLACE INTO piece VALUES (?,?,?,?,?,?,?,?,?)"

MAX_BYTES = 1 << 62
"""No content is longer; more is not a length."""

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

_T = TypeVar("_T")


class DamagedIndexError(StorageError):
    """The file is no index any more, or not all of it."""


class TaskRecord(Value, frozen=True, kw_only=True):
    """One row of `task`. Times are Unix seconds; `used_at_s` is the last store, finish or unpin.

    The last three are told in `Tenure`; of a standard task they stay as they are here.
    """

    id: str
    url: str
    content_length: int | None = None
    piece_length: int | None = None
    response_header: Mapping[str, str] = {}
    created_at_s: float
    used_at_s: float
    finished_at_s: float | None = None
    failed_at_s: float | None = None
    kind: TaskType = TaskType.STANDARD
    persistent: bool = False
    ttl_s: float | None = None


class UploadRecord(Value, frozen=True, kw_only=True):
    """One row of `upload`: the scheduler was told that `peer_id` uploads, and not yet how it ended.

    Of an earlier run of the daemon, once it was opened anew.
    """

    task_id: str
    kind: TaskType
    peer_id: str


class Loaded(Value, frozen=True, kw_only=True):
    """What an index held when it was opened."""

    tasks: dict[str, tuple[TaskRecord, dict[int, Piece]]]
    uploads: tuple[UploadRecord, ...] = ()
    same_boot: bool
    damaged: bool = False
    """There may have been more; and it says things that this program would not have written."""


class Index:
    """Records of tasks and pieces. Errors: StorageError, DiskFullError."""

    def __init__(self, path: Path, workers: Workers) -> None:
        self._path = path
        self._workers = workers
        self._db: sqlite3.Connection | None = None
        self._turn = threading.Lock()

    async def open(self) -> None:
        """Open or create the file."""
        await self._run(self._open)

    async def load(self) -> Loaded:
        """Everything, and whether this boot of the machine wrote it."""
        return await self._run(self._load)

    async def stamp_boot(self) -> None:
        """From now on, what the index says was written under this boot of the machine."""
        await self._write("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot_id(),))

    async def put_all(self, loaded: Loaded) -> None:
        """Into an index that holds nothing: all of it, or nothing."""

        def put(db: sqlite3.Connection) -> None:
            with _Transaction(db):
                for record, pieces in loaded.tasks.values():
                    db.execute(_PUT_TASK, _task_row(record))
                    db.executemany(
                        _PUT_PIECE, [_piece_row(record.id, it) for it in pieces.values()]
                    )
                for upload in loaded.uploads:
                    db.execute(_PUT_UPLOAD, _upload_row(upload))

        await self._run(lambda: put(self._connection()))

    async def put_task(self, record: TaskRecord) -> None:
        """Insert or replace."""
        await self._write(_PUT_TASK, _task_row(record))

    async def put_new_task(self, record: TaskRecord) -> None:
        """A task that holds nothing: every row of that id from before is removed."""
        await self.remove_task(record.id)
        await self.put_task(record)

    def put_piece(self, task_id: str, piece: Piece, is_wanted: Callable[[], bool]) -> bool:
        """Insert or replace, in the calling thread. The content must have been written before.

        False: it was not `is_wanted` any more when its turn came. So whoever ends that before a
        removal is sure that no row comes after it.
        """

        def put() -> bool:
            if not is_wanted():
                return False
            self._connection().execute(_PUT_PIECE, _piece_row(task_id, piece))
            return True

        return self._in_turn(put)

    async def put_whole_task(self, record: TaskRecord, pieces: Iterable[Piece]) -> None:
        """A task with all its pieces: both or none, and every row of that id from before goes."""
        rows = [_piece_row(record.id, piece) for piece in pieces]

        def put(db: sqlite3.Connection) -> None:
            with _Transaction(db):
                db.execute("DELETE FROM piece WHERE task_id = ?", (record.id,))
                db.execute(_PUT_TASK, _task_row(record))
                db.executemany(_PUT_PIECE, rows)

        await self._run(lambda: put(self._connection()))

    async def put_upload(self, upload: UploadRecord) -> None:
        """Insert or replace."""
        await self._write(_PUT_UPLOAD, _upload_row(upload))

    async def remove_upload(self, task_id: str) -> None:
        """Remove, if it is there."""
        await self._write("DELETE FROM upload WHERE task_id = ?", (task_id,))

    async def forget_pieces(self, task_id: str, numbers: Iterable[int]) -> None:
        """Remove these rows, all or none."""
        rows = [(task_id, number) for number in numbers]

        def forget(db: sqlite3.Connection) -> None:
            with _Transaction(db):
                db.executemany("DELETE FROM piece WHERE task_id = ? AND number = ?", rows)

        await self._run(lambda: forget(self._connection()))

    async def remove_task(self, task_id: str) -> None:
        """Remove the task and its pieces, both or none."""

        def remove(db: sqlite3.Connection) -> None:
            with _Transaction(db):
                db.execute("DELETE FROM piece WHERE task_id = ?", (task_id,))
                db.execute("DELETE FROM task WHERE id = ?", (task_id,))

        await self._run(lambda: remove(self._connection()))

    async def touch(self, used_at_s: Mapping[str, float]) -> None:
        """Note when tasks were last used."""
        rows = [(at_s, task_id) for task_id, at_s in used_at_s.items()]

        def update(db: sqlite3.Connection) -> None:
            with _Transaction(db):
                db.executemany("UPDATE task SET used_at_s = ? WHERE id = ?", rows)

        await self._run(lambda: update(self._connection()))

    async def close(self) -> None:
        """Close the file; what was committed stays."""
        await self._run(self._close)

    # --- in a thread ---

    async def _write(self, statement: str, row: tuple[Any, ...]) -> None:
        await self._run(lambda: self._connection().execute(statement, row))

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await self._workers.index(self._in_turn, work)

    def _in_turn(self, work: Callable[[], _T]) -> _T:
        """What `work()` returns, with nobody else at the connection."""
        try:
            with self._turn:
                return work()
        except sqlite3.Error as error:
            raise _storage_error(error, self._path) from error
        except UnicodeDecodeError as error:  # an error's own text, out of the damaged file
            raise _damaged(self._path, "no text") from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StorageError(f"the index {self._path} is closed")
        return self._db

    def _open(self) -> None:
        try:  # SQLite would create it readable for all
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE))
        except OSError as error:
            raise StorageError(f"can't open the index {self._path}: {error.strerror}") from error
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._db = db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # no shared memory file: it may not fit
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            _change(db, _SCHEMA, SCHEMA_VERSION)
            return
        while version in _MIGRATIONS:
            _change(db, _MIGRATIONS[version], version + 1)
            version += 1
        if version != SCHEMA_VERSION:
            raise StorageError(
                f"the index {self._path} has schema version {version}, this program knows "
                f"{SCHEMA_VERSION}: use the program that wrote it, or another storage.dir"
            )

    def _load(self) -> Loaded:
        loaded = read_rows(self._connection(), _all_rows)
        if loaded.damaged:
            raise DamagedIndexError(f"the index {self._path} holds what no program of ours wrote")
        return loaded

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


class _Transaction:
    """BEGIN ... COMMIT, or ROLLBACK on an error (the connection itself is in autocommit mode)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _change(db: sqlite3.Connection, statements: str, version: int) -> None:
    """Change the tables and say so, both or neither."""
    with _Transaction(db):
        for statement in statements.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")


def _task_row(record: TaskRecord) -> tuple[Any, ...]:
    row = msgspec.structs.astuple(record)
    return (*row[:4], msgspec.json.encode(record.response_header).decode(), *row[5:])


def _upload_row(upload: UploadRecord) -> tuple[str, int, str]:
    return upload.task_id, int(upload.kind), upload.peer_id


def _piece_row(task_id: str, piece: Piece) -> tuple[Any, ...]:
    return (
        task_id, piece.number, piece.offset, piece.length, piece.digest, piece.parent_id,
        int(piece.traffic_type), piece.cost_s, piece.created_at_s,
    )  # fmt: skip


def read_rows(
    db: sqlite3.Connection, rows: Callable[[sqlite3.Connection, str], Iterable[tuple[Any, ...]]]
) -> Loaded:
    """What an index says, by `rows(db, table)`. Rows that make no sense are left out."""
    tasks: dict[str, tuple[TaskRecord, dict[int, Piece]]] = {}
    damaged = False
    for row in rows(db, "task"):
        record = _sensible(_task_record, row)
        damaged = damaged or record is None
        if record is not None:
            tasks[record.id] = (record, {})
    for task_id, *facts in rows(db, "piece"):
        piece = _sensible(_piece, facts)
        damaged = damaged or piece is None
        if piece is not None and task_id in tasks:  # else a removal was under way
            tasks[task_id][1][piece.number] = piece
    boot = next((row[1:] for row in rows(db, "meta") if row[0] == "boot_id"), None)
    uploads = [_sensible(_upload, row) for row in rows(db, "upload")]
    return Loaded(
        tasks=tasks,
        uploads=tuple(one for one in uploads if one is not None),
        same_boot=boot == (boot_id(),),
        damaged=damaged or None in uploads,
    )


def _upload(row: tuple[Any, ...]) -> UploadRecord:
    return UploadRecord(task_id=check_task_id(row[0]), kind=TaskType(row[1]), peer_id=row[2])


def _all_rows(db: sqlite3.Connection, table: str) -> Iterable[tuple[Any, ...]]:
    return db.execute(f"SELECT * FROM {table}")  # noqa: S608  # a name of ours


def _sensible(make: Callable[[Any], _T], row: Any) -> _T | None:
    """What `row` says; None if it can't be what was written."""
    try:
        return make(row)
    except (OdonataError, msgspec.MsgspecError, ValueError, TypeError, AttributeError):
        return None


def _task_record(row: tuple[Any, ...]) -> TaskRecord:
    names = TaskRecord.__struct_fields__
    values = dict(zip(names, row, strict=False))  # one of an older version has fewer
    values["response_header"] = msgspec.json.decode(values["response_header"])
    values["persistent"] = bool(values.get("persistent"))  # a number there
    record = msgspec.convert(values, TaskRecord)
    check_task_id(record.id)
    piece_length = 1 if record.piece_length is None else record.piece_length
    lengths = (record.content_length or 0, piece_length)
    if not (0 <= lengths[0] <= MAX_BYTES and 0 < lengths[1] <= MAX_BYTES):
        raise ValueError(f"lengths {lengths}")
    return record


def _piece(row: list[Any]) -> Piece:
    number, offset, length, digest, parent_id, traffic_type, cost_s, created_at_s = row
    if not (type(number) is type(offset) is type(length) is int):
        raise TypeError("a place that is no number")
    if not (0 <= number <= MAX_BYTES and 0 <= offset <= MAX_BYTES and 0 < length <= MAX_BYTES):
        raise ValueError("a place outside of everything")
    parse_piece_digest(digest)
    return Piece(
        number=number,
        offset=offset,
        length=length,
        digest=digest,
        parent_id=sys.intern(parent_id),  # a parent gives many
        traffic_type=TrafficType(traffic_type),
        cost_s=float(cost_s),
        created_at_s=float(created_at_s),
    )


def _storage_error(error: sqlite3.Error, path: Path) -> OdonataError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return DiskFullError(f"can't write the index {path}: {error}; free space on its volume")
    # Our statements are right; and text that is none has no name of its own.
    strange = isinstance(error, sqlite3.OperationalError) and name in {"", "SQLITE_ERROR"}
    if name.startswith(_DAMAGED) or strange:
        return _damaged(path, name or "no text")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        fix = "give the daemon's user write access, or set another storage.dir"
    else:
        fix = "look at the volume and the kernel's log"
    return StorageError(f"can't use the index {path}: {error}; {fix}")


def _damaged(path: Path, how: str) -> DamagedIndexError:
    return DamagedIndexError(
        f"the index {path} is damaged ({how}): start the daemon anew, it goes on with what can "
        "still be read"
    )
