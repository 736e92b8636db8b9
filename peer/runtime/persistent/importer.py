"""An import: a file of this host becomes a finished task, and the scheduler hears of it.

    read, digest -> UploadStarted -> into storage -> (to object storage) -> UploadFinished
                                      any failure -> out of storage, UploadFailed

The scheduler opens the task for one uploader at a time, so of two imports of one content the second
is refused. A process that is killed leaves nothing half: storage drops a file without a task when
it opens, and remembers whose end the scheduler was not told (see `recovery`).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from odonata import ids
from odonata.errors import (
    AlreadyExistsError,
    CallerError,
    OdonataError,
    PreconditionError,
    UnavailableError,
)
from odonata.piece import piece_count
from odonata.wire.dragonfly.persistent import (
    MIN_TTL_S,
    PersistentFacts,
    PersistentTaskMessage,
    facts_from_wire,
)
from odonata.wire.message import Download, TaskType, Tenure, Value
from odonata.wire.origin import NO_OPTIONS, OriginOptions
from peer.runtime.host_info import HostFacts
from peer.runtime.persistent.scheduler_calls import Upload
from peer.runtime.persistent.tasks import PersistentTasks
from peer.runtime.port import ObjectStore, StoredTask
from peer.runtime.storage.index import UploadRecord
from peer.runtime.storage.local_file import LocalFile
from peer.runtime.storage.worker import to_the_end

MAX_IMPORTS: Final = 4
"""At once: each reads a file at the speed of the disk and hashes it on a core of its own. More
would only take turns."""

_log = structlog.get_logger("import")


class Adopter(Protocol):
    """A storage that takes files in, and remembers what was begun. See `DiskStorage`."""

    async def adopt(self, task_id: str, download: Download, file: LocalFile) -> bool: ...
    @property
    def left_uploads(self) -> tuple[UploadRecord, ...]: ...
    async def begin_upload(self, upload: UploadRecord) -> None: ...
    async def end_upload(self, task_id: str) -> None: ...


class Import(Value, frozen=True, kw_only=True):
    """What a user asks for. Bytes and seconds; `url` and what follows: a persistent task's."""

    path: Path
    replica_count: int
    ttl_s: float
    timeout_s: float | None = None
    tag: str | None = None
    application: str | None = None
    piece_length: int | None = None
    content_for_calculating_task_id: str | None = None
    url: str = ""
    storage: bytes = b""
    """An ObjectStorage message, serialised. Never logged."""
    options: OriginOptions = NO_OPTIONS


class Importer:
    """Imports files as tasks of one kind.

    `store`: where persistent tasks are written to. `clock`: Unix time.
    """

    def __init__(
        self,
        tasks: PersistentTasks,
        adopter: Adopter,
        facts: HostFacts,
        store: ObjectStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._adopter = adopter
        self._facts = facts
        self._store = store
        self._turns = asyncio.Semaphore(MAX_IMPORTS)
        self._under_way: set[str] = set()

    async def run(self, wish: Import) -> PersistentTaskMessage:
        """Import; returns the task as the scheduler knows it.

        Errors: CallerError, NotFoundError (no such file), AlreadyExistsError (the swarm has it),
        PreconditionError, UnavailableError, StorageError, DiskFullError, SourceError.
        """
        try:
            async with asyncio.timeout(wish.timeout_s or None), self._turns:
                return await self._run(wish)
        except TimeoutError:
            raise UnavailableError(
                f"the import took more than {wish.timeout_s:g} s and was undone: allow more time "
                "with --timeout"
            ) from None

    async def offer_again(self, stored: StoredTask, facts: PersistentFacts) -> None:
        """Upload what is here once more, for the rest of its time: the swarm has lost it.

        Nothing is read or moved, and a failure leaves the copy. `facts`: what was lost. Errors: as
        `run`'s.
        """
        ttl_s = stored.created_at_s + facts.ttl_s - self._clock()
        length, piece_length = stored.content_length, stored.piece_length
        if ttl_s < MIN_TTL_S or length is None or piece_length is None:
            return
        upload = Upload(
            task_id=stored.task_id,
            peer_id=self._facts.peer_id(str(uuid.uuid4())),
            replica_count=facts.persistent_replica_count,
            content_length=length,
            piece_count=piece_count(length, piece_length),
            piece_length=piece_length,
            ttl_s=ttl_s,
            tag=facts.tag,
            application=facts.application,
        )
        async with self._announced(upload):
            stored.pin()
            try:
                await self._finish(upload, stored)
            except OdonataError as error:
                await to_the_end(_Undo(self._tasks, self._adopter, upload).run(error.detail))
                raise
            finally:
                stored.unpin()

    async def _run(self, wish: Import) -> PersistentTaskMessage:
        if self._tasks.kind is TaskType.PERSISTENT and self._store is None:
            raise CallerError(
                f"this daemon can't write to {wish.url.partition(':')[0]} storage: install the "
                "sources it needs"
            )
        file = await asyncio.to_thread(LocalFile, wish.path, wish.piece_length)
        task_id = await _read(file, wish)
        upload = Upload(
            task_id=task_id,
            peer_id=self._facts.peer_id(str(uuid.uuid4())),
            replica_count=wish.replica_count,
            content_length=file.content_length,
            piece_count=len(file.pieces),
            piece_length=file.piece_length,
            ttl_s=wish.ttl_s,
            tag=wish.tag,
            application=wish.application,
            url=wish.url,
            storage=wish.storage,
        )
        undo = _Undo(self._tasks, self._adopter, upload)
        async with self._announced(upload):
            try:
                return await self._upload(wish, upload, file, undo)
            except asyncio.CancelledError:
                await to_the_end(undo.run("the import was cancelled"))
                raise
            except OdonataError as error:
                await to_the_end(undo.run(error.detail))
                raise

    @asynccontextmanager
    async def _announced(self, upload: Upload) -> AsyncGenerator[None]:
        """The scheduler knows that it began, and nobody else here imports the same meanwhile.

        It is remembered first: who dies in between is remembered, and the scheduler told.
        """
        task_id = upload.task_id
        self._check_free(task_id)
        self._under_way.add(task_id)
        try:
            record = UploadRecord(task_id=task_id, kind=self._tasks.kind, peer_id=upload.peer_id)
            await self._adopter.begin_upload(record)
            try:
                await self._tasks.calls.upload_started(upload)
            except OdonataError:
                await self._adopter.end_upload(task_id)
                raise
            except asyncio.CancelledError:  # it may have heard of it
                await to_the_end(_Undo(self._tasks, self._adopter, upload).run("cancelled"))
                raise
            _log.info("import_started", task_id=task_id, content_length=upload.content_length)
            yield
        finally:
            self._under_way.discard(task_id)

    def _check_free(self, task_id: str) -> None:
        if task_id in self._under_way:
            raise AlreadyExistsError(f"task {task_id} is being imported on this host: let it end")
        if any(one.task_id == task_id for one in self._adopter.left_uploads):
            raise PreconditionError(
                f"an import of task {task_id} was cut off by the end of the daemon, and its "
                "scheduler has yet to hear that: import it again in a moment"
            )

    async def _upload(
        self, wish: Import, upload: Upload, file: LocalFile, undo: _Undo
    ) -> PersistentTaskMessage:
        download = Download(
            type=self._tasks.kind, url=wish.url, tag=wish.tag, application=wish.application
        )
        undo.adopted = await self._adopter.adopt(upload.task_id, download, file)
        stored = self._tasks.hub.storage.get(upload.task_id)
        if stored is None:
            raise UnavailableError(f"task {upload.task_id} was deleted while it was imported")
        stored.pin()
        try:
            if self._store is not None and self._tasks.kind is TaskType.PERSISTENT:
                await self._store.put(wish.url, stored.path, wish.options)
            return await self._finish(upload, stored)
        finally:
            stored.unpin()

    async def _finish(self, upload: Upload, stored: StoredTask) -> PersistentTaskMessage:
        answer = await self._tasks.calls.upload_finished(upload.task_id, upload.peer_id)
        facts = facts_from_wire(answer)
        await stored.keep(
            Tenure(persistent=True, ttl_s=facts.ttl_s, created_at_s=facts.created_at_s)
        )
        self._tasks.hub.finished(upload.task_id, upload.peer_id, told=True)
        await self._adopter.end_upload(upload.task_id)
        _log.info("import_finished", task_id=upload.task_id, peer_id=upload.peer_id)
        return answer


class _Undo:
    """What an upload that fails leaves undone."""

    def __init__(self, tasks: PersistentTasks, adopter: Adopter, upload: Upload) -> None:
        self._tasks = tasks
        self._adopter = adopter
        self._upload = upload
        self.adopted = False
        """The copy here is this upload's."""

    async def run(self, why: str) -> None:
        """Take the copy out and tell the scheduler. Failures are logged: there is one already."""
        task_id = self._upload.task_id
        _log.warning("import_failed", task_id=task_id, error=why)
        if self.adopted:
            await _logged(self._tasks.hub.delete(task_id), task_id)
        failed = self._tasks.calls.upload_failed(task_id, self._upload.peer_id, why)
        if await _logged(failed, task_id):
            await _logged(self._adopter.end_upload(task_id), task_id)


async def _logged(work: Awaitable[Any], task_id: str) -> bool:
    """Whether it was done."""
    try:
        await work
    except OdonataError as error:
        _log.warning("import_not_undone", task_id=task_id, error=error.detail)
        return False
    return True


async def _read(file: LocalFile, wish: Import) -> str:
    """Read the file once, in a thread; return the task's id."""
    try:
        return await asyncio.to_thread(_identify, file, wish)
    except asyncio.CancelledError:
        file.stop()
        raise


def _identify(file: LocalFile, wish: Import) -> str:
    if not wish.url and wish.content_for_calculating_task_id is None:
        return ids.persistent_cache_task_id(
            file.blocks(),
            tag=wish.tag,
            application=wish.application,
            piece_length=wish.piece_length,
        )
    deque(file.blocks(), maxlen=0)  # for the pieces' digests
    if wish.url:
        where = wish.options.storage
        return ids.persistent_task_id(wish.url, region=where.region, endpoint=where.endpoint)
    return ids.content_task_id(wish.content_for_calculating_task_id or "")
