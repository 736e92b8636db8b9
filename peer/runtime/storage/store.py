"""All tasks of this daemon on disk: opening after any kind of end, making, removing, collecting.

Opening trusts the index only as far as the disk agrees: pieces beyond the end of a content file
are forgotten, tasks without a file are dropped, files without a task are removed, and after a
restart of the machine the pieces of unfinished tasks are read again (see `index` for why only
those).

It does not decide whom to evict (`collect`) nor what a task's life looks like (`task`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec
import structlog

from odonata.errors import AlreadyExistsError, DiskFullError, OdonataError, PreconditionError
from odonata.piece import piece_count
from odonata.wire.message import Download, Piece, TaskType
from peer.runtime.storage import disk
from peer.runtime.storage.collect import Candidate, CollectPolicy, Eviction, choose_evictions
from peer.runtime.storage.index import (
    DamagedIndexError,
    Index,
    Loaded,
    TaskRecord,
    UploadRecord,
)
from peer.runtime.storage.layout import FolderLock, Layout, check_task_id
from peer.runtime.storage.local_file import LocalFile, place_file
from peer.runtime.storage.room import Room
from peer.runtime.storage.salvage import salvage, set_aside
from peer.runtime.storage.task import DiskTask, lies_right, piece_is_whole
from peer.runtime.storage.trust import VERIFY_AFTER_S, Trust
from peer.runtime.storage.worker import DISK_THREADS, KeyedLocks, Workers, to_the_end

_RECORD_BYTES = 64 * 1024  # for a new task's record the index's journal grows by a few pages

_log = structlog.get_logger(__name__)


class DiskStorage:
    """A `Storage` in one folder. Use `async with await DiskStorage.open(folder)`."""

    def __init__(
        self,
        layout: Layout,
        lock: FolderLock,
        workers: Workers,
        index: Index,
        clock: Callable[[], float],
        verify_after_s: float,
    ) -> None:
        self._layout = layout
        self._lock = lock
        self._workers = workers
        self._index = index
        self._clock = clock
        self._verify_after_s = verify_after_s
        self.room = Room()
        self._tasks: dict[str, DiskTask] = {}
        self._locks = KeyedLocks()
        self._task_locks = KeyedLocks()
        self._removals: set[asyncio.Task[None]] = set()
        self._doomed: set[str] = set()
        """Deleted, and to be removed when their last user leaves."""
        self._left_uploads: tuple[UploadRecord, ...] = ()
        self._closed = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        keep: bool = True,
        disk_threads: int = DISK_THREADS,
        clock: Callable[[], float] = time.time,
        verify_after_s: float = VERIFY_AFTER_S,
    ) -> Self:
        """Take the folder (an absolute path). `keep` False: start empty. `clock`: Unix seconds.

        `verify_after_s`: how long a piece that was read and found right is believed to be so.

        Errors: StorageError if the folder can't be used, or another daemon uses it.
        """
        layout = Layout(folder)
        workers = Workers(disk_threads)
        lock: FolderLock | None = None
        index: Index | None = None
        try:
            await workers.disk(layout.prepare)
            lock = await workers.disk(FolderLock, layout.lock)
            if not keep:
                await workers.disk(layout.wipe)
            index = Index(layout.index, workers)
            storage = cls(layout, lock, workers, index, clock, verify_after_s)
            loaded = await _read_index(layout, index, workers)
            await storage._recover(loaded)
            storage._left_uploads = loaded.uploads
            if not loaded.same_boot:
                await storage._stamp_boot()
        except BaseException:
            if index is not None:  # or its descriptors stay open
                with suppress(OdonataError):
                    await index.close()
            workers.close()
            if lock is not None:
                lock.release()
            raise
        return storage

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Note the last uses, close the index, let go of the folder. Again: nothing happens."""
        if self._closed:
            return
        self._closed = True
        if self._removals:
            await asyncio.wait(self._removals)
        await self._note_uses()
        await self._index.close()
        self._workers.close()
        self._lock.release()

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        return self._layout.folder

    def get(self, task_id: str) -> DiskTask | None:
        return self._tasks.get(task_id)

    def tasks(self) -> tuple[DiskTask, ...]:
        return tuple(self._tasks.values())

    async def create(self, task_id: str, download: Download) -> DiskTask:
        check_task_id(task_id)
        made: list[DiskTask] = []
        try:
            return await to_the_end(
                self.room.enough(_RECORD_BYTES, lambda: self._create(task_id, download, made))
            )
        finally:
            for task in made:
                task.drop_pin()  # the caller, who goes on at once, may pin it now

    async def _create(self, task_id: str, download: Download, made: list[DiskTask]) -> DiskTask:
        """Pinned, and so noted in `made`: nobody may remove it on its way to the caller."""
        async with self._locks.hold(task_id):
            task, new = self._tasks.get(task_id), False
            if task is None:
                now_s = self._clock()
                task = self._task(
                    TaskRecord(
                        id=task_id,
                        url=download.url,
                        created_at_s=now_s,
                        used_at_s=now_s,
                        kind=download.type,
                    ),
                    {},
                )
                await task.found()
                self._tasks[task_id] = task
                new = True
            _check_kind(task, download)
            self._doomed.discard(task_id)  # wanted again before its removal could happen
            task.when_unpinned(None)
            await task.begin(new=new)
            task.pin()
            made.append(task)
            return task

    async def adopt(self, task_id: str, download: Download, file: LocalFile) -> bool:
        """Make a finished task of a file of this host, which was read; all of it or nothing.

        False: it was here already, with the same bytes. Errors: AlreadyExistsError (a task of
        another kind), PreconditionError (one with other bytes is in use; the file was changed),
        StorageError, DiskFullError.
        """
        check_task_id(task_id)
        return await to_the_end(
            self.room.enough(file.content_length, lambda: self._adopt(task_id, download, file))
        )

    async def _adopt(self, task_id: str, download: Download, file: LocalFile) -> bool:
        async with self._locks.hold(task_id):
            old = self._tasks.get(task_id)
            if old is not None:
                _check_kind(old, download)
                if _is_copy_of(old, file):
                    self._doomed.discard(task_id)
                    old.when_unpinned(None)
                    return False
                if old.pinned:
                    raise PreconditionError(
                        f"task {task_id} is in use here with other bytes: import it again in a "
                        "moment, when nobody downloads it"
                    )
                await self._take_out(task_id, old)
            await self._put_in(task_id, download, file)
            return True

    async def _put_in(self, task_id: str, download: Download, file: LocalFile) -> None:
        """First the content, then the index: a crash between them leaves a file without a task."""
        now_s = self._clock()
        record = TaskRecord(
            id=task_id,
            url=download.url,
            content_length=file.content_length,
            piece_length=file.piece_length,
            created_at_s=now_s,
            used_at_s=now_s,
            finished_at_s=now_s,
            kind=download.type,
        )
        task = self._task(record, {piece.number: piece for piece in file.pieces})
        await self._workers.disk(place_file, file, task.path)
        try:
            await self._workers.disk(disk.flush, task.path)
            await self._index.put_whole_task(record, file.pieces)
        except OdonataError:
            await self._workers.disk(disk.remove, task.path)
            raise
        self._tasks[task_id] = task

    @property
    def left_uploads(self) -> tuple[UploadRecord, ...]:
        """Uploads that an earlier run of the daemon began and did not see the end of."""
        return self._left_uploads

    async def begin_upload(self, upload: UploadRecord) -> None:
        """Remember it, until `end_upload`, over the end of this process."""
        await to_the_end(self.room.enough(_RECORD_BYTES, lambda: self._index.put_upload(upload)))

    async def end_upload(self, task_id: str) -> None:
        """The scheduler knows how it ended."""
        self._left_uploads = tuple(one for one in self._left_uploads if one.task_id != task_id)
        await to_the_end(self._index.remove_upload(task_id))

    async def delete(self, task_id: str) -> bool:
        if task_id not in self._tasks:
            return False
        await to_the_end(self._delete(task_id))
        return True

    async def _delete(self, task_id: str, *, if_doomed: bool = False) -> None:
        async with self._locks.hold(task_id):
            task = self._tasks.get(task_id)
            if task is None or (if_doomed and task_id not in self._doomed):
                return
            if task.pinned:
                self._doomed.add(task_id)
                task.when_unpinned(lambda: self._delete_soon(task_id))
                return
            await self._take_out(task_id, task)

    async def _take_out(self, task_id: str, task: DiskTask) -> None:
        # From here on nobody can get hold of it; who makes it anew waits for the lock.
        del self._tasks[task_id]
        self._doomed.discard(task_id)
        try:
            await task.remove()
        except OdonataError:
            self._tasks[task_id] = task
            raise

    def _delete_soon(self, task_id: str) -> None:
        """Carry out a removal that waited for the last user; its failure is logged."""

        async def delete() -> None:
            try:
                await self._delete(task_id, if_doomed=True)
            except OdonataError as error:
                _log.warning("task_not_removed", task_id=task_id, error=error.detail)

        removal = asyncio.get_running_loop().create_task(delete())
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def collect(
        self, now_s: float, policy: CollectPolicy, *, needed_bytes: int = 0
    ) -> tuple[Eviction, ...]:
        """Evict what `policy` says; returns what went, so that the scheduler can be told.

        `now_s` is Unix time; `needed_bytes` are to fit on a volume that is too full for them. A
        task that can't be removed is logged and left out.
        """
        tasks = self.tasks()
        paths = [task.path for task in tasks]
        sizes = await self._workers.disk(lambda: [disk.freed_bytes(path) for path in paths])
        # The contents' own: the index may lie on another one, where their removal frees nothing.
        total, used = await self._workers.disk(disk.volume_bytes, self._layout.contents)
        chosen = choose_evictions(
            (_candidate(task, size, policy) for task, size in zip(tasks, sizes, strict=True)),
            now_s=now_s,
            policy=policy,
            volume_total_bytes=total,
            volume_used_bytes=used,
            needed_bytes=needed_bytes,
        )
        gone = tuple([eviction for eviction in chosen if await self._evict(eviction)])
        await self._note_uses()
        return gone

    async def _evict(self, eviction: Eviction) -> bool:
        task = self._tasks.get(eviction.task_id)
        if task is None or task.pinned or task.active:
            return False  # taken into use since the decision
        try:
            await to_the_end(self._delete(eviction.task_id))
        except OdonataError as error:
            _log.warning("task_not_removed", task_id=eviction.task_id, error=error.detail)
            return False
        return eviction.task_id not in self._tasks

    async def _note_uses(self) -> None:
        """For collection after a restart, so a full volume must not keep anything from going."""
        with suppress(OdonataError):
            await self._index.touch({it.task_id: it.used_at_s for it in self._tasks.values()})

    def _task(self, record: TaskRecord, pieces: dict[int, Piece]) -> DiskTask:
        path = self._layout.content_file(record.id, record.kind)
        return DiskTask(
            record=record,
            pieces=pieces,
            path=path,
            index=self._index,
            workers=self._workers,
            room=self.room,
            locks=self._task_locks,
            trust=Trust(self._verify_after_s),
            clock=self._clock,
        )

    # --- opening ---

    async def _recover(self, loaded: Loaded) -> None:
        found = await self._workers.disk(
            _look_at_all, self._layout, loaded.tasks, reread=not loaded.same_boot
        )
        for task_id, whole in found.items():
            record, pieces = loaded.tasks[task_id]
            await self._recover_task(record, pieces, whole)
        known = {task.path for task in self._tasks.values()}
        count = await self._workers.disk(_remove_orphans, self._layout, known)
        if count:
            _log.info("orphans_removed", count=count)

    async def _recover_task(
        self, record: TaskRecord, pieces: dict[int, Piece], whole: dict[int, Piece] | None
    ) -> None:
        path = self._layout.content_file(record.id, record.kind)
        if whole is None:
            _log.warning("content_file_missing", task_id=record.id, path=str(path))
            await self._drop(record.id)
            return
        if len(whole) < len(pieces) or not _may_be_finished(record, whole):
            lost = sorted(pieces.keys() - whole.keys())
            _log.warning(
                "pieces_lost", task_id=record.id, count=len(lost), first=min(lost, default=None)
            )
            record = msgspec.structs.replace(record, finished_at_s=None)
            try:
                await self._index.put_task(record)
                await self._index.forget_pieces(record.id, lost)
            except DiskFullError:  # rows that can't be taken out must not outlive their content
                await self._workers.disk(disk.remove, path)
                await self._drop(record.id)
                return
        self._tasks[record.id] = self._task(record, whole)

    async def _drop(self, task_id: str) -> None:
        """Out of the index; if that is full, the next opening finds the record without its file."""
        try:
            await self._index.remove_task(task_id)
        except DiskFullError as error:
            _log.warning("record_not_removed", task_id=task_id, error=error.detail)

    async def _stamp_boot(self) -> None:
        """A full volume must not keep the daemon from starting, or nothing would empty it."""
        try:
            await self._index.stamp_boot()
        except DiskFullError as error:
            _log.warning("boot_not_stamped", error=error.detail)


async def _read_index(layout: Layout, index: Index, workers: Workers) -> Loaded:
    """Open the index; one that is damaged is set aside, and what it still says is kept."""
    try:
        await index.open()
        return await index.load()
    except DamagedIndexError as error:
        await index.close()
        aside = await workers.index(set_aside, layout.index)
        loaded = await workers.index(salvage, aside)
        _log.warning(
            "index_set_aside", path=str(aside), error=error.detail, count=len(loaded.tasks)
        )
    await index.open()
    try:
        await index.put_all(loaded)
    except DiskFullError as error:
        _log.warning("records_lost", count=len(loaded.tasks), error=error.detail)
        return Loaded(tasks={}, same_boot=False)
    return loaded


def _check_kind(task: DiskTask, download: Download) -> None:
    """Ids of different kinds are different, unless a user has chosen what they are made from."""
    if task.kind is not download.type:
        raise AlreadyExistsError(
            f"task {task.task_id} is here already as a {_name_of(task.kind)} task: choose another "
            "text for calculating the task id, or delete that task first"
        )


def _name_of(kind: TaskType) -> str:
    return kind.name.lower().replace("_", " ")


def _is_copy_of(task: DiskTask, file: LocalFile) -> bool:
    """All of the file's pieces are held, byte for byte as far as digests tell."""
    if not task.finished or task.content_length != file.content_length:
        return False
    if task.piece_length != file.piece_length:
        return False
    held = (task.piece(piece.number) for piece in file.pieces)
    return all(
        one is not None and one.digest == piece.digest
        for one, piece in zip(held, file.pieces, strict=True)
    )


def _candidate(task: DiskTask, size_bytes: int, policy: CollectPolicy) -> Candidate:
    return Candidate(
        task_id=task.task_id,
        size_bytes=size_bytes,
        used_at_s=task.used_at_s,
        in_use=task.pinned or task.active,
        expires_at_s=_expires_at_s(task, policy),
        stays=task.persistent,
        kind=task.kind,
    )


def _look_at_all(
    layout: Layout, tasks: dict[str, tuple[TaskRecord, dict[int, Piece]]], *, reread: bool
) -> dict[str, dict[int, Piece] | None]:
    """In a thread, and all in one go: by task what `_surviving` says. `reread`: see `index`."""
    return {
        task_id: _surviving(
            layout.content_file(task_id, record.kind),
            _on_the_grid(record, pieces),
            reread and record.finished_at_s is None,
        )
        for task_id, (record, pieces) in tasks.items()
    }


def _on_the_grid(record: TaskRecord, pieces: dict[int, Piece]) -> dict[int, Piece]:
    """Those that lie where pieces of this content can lie (all, unless the index was damaged)."""
    length, piece_length = record.content_length, record.piece_length
    return {
        number: piece for number, piece in pieces.items() if lies_right(piece, length, piece_length)
    }


def _may_be_finished(record: TaskRecord, held: dict[int, Piece]) -> bool:
    """Not so if it says that it is and lacks a piece."""
    if record.finished_at_s is None:
        return True
    length, piece_length = record.content_length, record.piece_length
    if length is None or piece_length is None:
        return False
    return len(held) == piece_count(length, piece_length)


def _expires_at_s(task: DiskTask, policy: CollectPolicy) -> float | None:
    if task.kind is TaskType.STANDARD:
        return None
    default_s = (
        policy.persistent_task_ttl_s
        if task.kind is TaskType.PERSISTENT
        else policy.persistent_cache_task_ttl_s
    )
    return task.created_at_s + (default_s if task.ttl_s is None else task.ttl_s)


def _surviving(path: Path, pieces: dict[int, Piece], reread: bool) -> dict[int, Piece] | None:
    """The pieces that the content file still holds; None if there is none that can be read."""
    found = disk.print_of(path)
    if found is None:
        return None
    return {
        number: piece
        for number, piece in pieces.items()
        if piece.offset + piece.length <= found.size_bytes
        and (not reread or piece_is_whole(path, piece))
    }


def _remove_orphans(layout: Layout, known: set[Path]) -> int:
    """In a thread: content files that no task names (a crash between two steps of a removal)."""
    orphans = [*layout.leftovers(), *(it for it in layout.content_files() if it not in known)]
    for path in orphans:
        disk.remove(path)
    return len(orphans)
