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

One connection in one thread (`Workers.index`): SQLite has a single writer anyway, and no statement
ever waits for a lock. All methods here are coroutines around that thread; the caller orders them
after the data. Nothing here touches content files.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from odonata.errors import DiskFullError, OdonataError, StorageError
from odonata.wire.message import Piece, TaskType, TrafficType, Value
from peer.runtime.storage.disk import boot_id
from peer.runtime.storage.layout import PRIVATE_MODE
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
_PUT_PIECE = "INSERT OR REPLACE INTO piece VALUES (?,?,?,?,?,?,?,?,?)"

_T = TypeVar("_T")


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


class Index:
    """Records of tasks and pieces. Errors: StorageError, DiskFullError."""

    def __init__(self, path: Path, workers: Workers) -> None:
        self._path = path
        self._workers = workers
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or create the file."""
        await self._run(self._open)

    async def load(self) -> Loaded:
        """Everything, and whether this boot of the machine wrote it."""
        return await self._run(self._load)

    async def stamp_boot(self) -> None:
        """From now on, what the index says was written under this boot of the machine."""
        await self._write("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot_id(),))

    async def put_task(self, record: TaskRecord) -> None:
        """Insert or replace."""
        await self._write(_PUT_TASK, _task_row(record))

    async def put_new_task(self, record: TaskRecord) -> None:
        """A task that holds nothing: every row of that id from before is removed."""
        await self.remove_task(record.id)
        await self.put_task(record)

    async def put_piece(self, task_id: str, piece: Piece) -> None:
        """Insert or replace. The content must have been written before."""
        await self._write(_PUT_PIECE, _piece_row(task_id, piece))

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
        row = (upload.task_id, int(upload.kind), upload.peer_id)
        await self._write("INSERT OR REPLACE INTO upload VALUES (?,?,?)", row)

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

    # --- in the index's thread ---

    async def _write(self, statement: str, row: tuple[Any, ...]) -> None:
        await self._run(lambda: self._connection().execute(statement, row))

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await self._workers.index(work)
        except sqlite3.Error as error:
            raise _storage_error(error, self._path) from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StorageError(f"the index {self._path} is closed")
        return self._db

    def _open(self) -> None:
        try:  # SQLite would create it readable for all
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE))
        except OSError as error:
            raise StorageError(f"can't open the index {self._path}: {error.strerror}") from error
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=True)
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
        db = self._connection()
        tasks = {
            row[0]: (_task_record(row), dict[int, Piece]())
            for row in db.execute("SELECT * FROM task")
        }
        for task_id, *row in db.execute("SELECT * FROM piece"):
            if task_id in tasks:
                piece = _piece(row)
                tasks[task_id][1][piece.number] = piece
        boot = db.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
        uploads = tuple(
            UploadRecord(task_id=row[0], kind=TaskType(row[1]), peer_id=row[2])
            for row in db.execute("SELECT * FROM upload")
        )
        return Loaded(tasks=tasks, uploads=uploads, same_boot=boot == (boot_id(),))

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


def _piece_row(task_id: str, piece: Piece) -> tuple[Any, ...]:
    return (
        task_id, piece.number, piece.offset, piece.length, piece.digest, piece.parent_id,
        int(piece.traffic_type), piece.cost_s, piece.created_at_s,
    )  # fmt: skip


def _task_record(row: tuple[Any, ...]) -> TaskRecord:
    return TaskRecord(
        id=row[0],
        url=row[1],
        content_length=row[2],
        piece_length=row[3],
        response_header=msgspec.json.decode(row[4], type=dict[str, str]),
        created_at_s=row[5],
        used_at_s=row[6],
        finished_at_s=row[7],
        failed_at_s=row[8],
        kind=TaskType(row[9]),
        persistent=bool(row[10]),
        ttl_s=row[11],
    )


def _piece(row: list[Any]) -> Piece:
    return Piece(
        number=row[0],
        offset=row[1],
        length=row[2],
        digest=row[3],
        parent_id=row[4],
        traffic_type=TrafficType(row[5]),
        cost_s=row[6],
        created_at_s=row[7],
    )


def _storage_error(error: sqlite3.Error, path: Path) -> OdonataError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return DiskFullError(f"can't write the index {path}: {error}; free space on its volume")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        fix = "it is damaged: move it away, and the daemon starts with an empty one"
    elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        fix = "give the daemon's user write access, or set another storage.dir"
    else:
        fix = "look at the volume and the kernel's log"
    return StorageError(f"can't use the index {path}: {error}; {fix}")
