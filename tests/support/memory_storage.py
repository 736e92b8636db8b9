"""An in-memory twin of the daemon's storage, held to the same suite (conformance/test_storage.py).

Content lies in a memfd, so descriptors, sendfile and preads work as on a disk. Nothing survives the
process. `fail_next_store` makes the next store raise, as a full volume would.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from odonata.digest import check_piece, piece_digest, strong_digest
from odonata.errors import (
    AlreadyExistsError,
    CallerError,
    ListedDigestError,
    OdonataError,
    PreconditionError,
    ProtocolError,
    StorageError,
)
from odonata.piece import piece_at, piece_count
from odonata.wire.message import Download, Piece, TaskType, Tenure, TrafficType
from peer.runtime.storage.layout import check_task_id
from peer.runtime.storage.worker import to_the_end


class MemoryTask:
    """A `StoredTask` without a disk."""

    def __init__(self, task_id: str, url: str, kind: TaskType = TaskType.STANDARD) -> None:
        self._task_id = task_id
        self._url = url
        self._kind = kind
        self._tenure: Tenure | None = None
        self._made_at_s = time.time()
        self._content_length: int | None = None
        self._piece_length: int | None = None
        self._response_header: dict[str, str] = {}
        self._pieces: dict[int, Piece] = {}
        self._expected: dict[int, bytes] = {}
        self._finished = False
        self._active = False
        self._gone = False
        self._pins = 0
        self._fd = os.memfd_create(task_id[:16], os.MFD_CLOEXEC)
        self._subscribers: dict[object, Callable[[], None]] = {}
        self.on_last_unpin: Callable[[], None] | None = None
        self.fail_next_store: OdonataError | None = None

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def url(self) -> str:
        return self._url

    @property
    def kind(self) -> TaskType:
        return self._kind

    @property
    def persistent(self) -> bool:
        return self._tenure is not None and self._tenure.persistent

    @property
    def ttl_s(self) -> float | None:
        return None if self._tenure is None else self._tenure.ttl_s

    @property
    def created_at_s(self) -> float:
        return self._made_at_s if self._tenure is None else self._tenure.created_at_s

    async def keep(self, tenure: Tenure) -> None:
        self._tenure = tenure

    @property
    def content_length(self) -> int | None:
        return self._content_length

    @property
    def piece_length(self) -> int | None:
        return self._piece_length

    @property
    def response_header(self) -> Mapping[str, str]:
        return self._response_header

    @property
    def finished(self) -> bool:
        return self._finished and not self._gone

    @property
    def active(self) -> bool:
        return self._active and not self._gone

    @property
    def pinned(self) -> bool:
        return self._pins > 0

    @property
    def path(self) -> Path:
        return Path(f"/proc/self/fd/{self._fd}")

    def held(self) -> tuple[int, ...]:
        return tuple(sorted(self._pieces))

    def piece(self, number: int) -> Piece | None:
        return self._pieces.get(number)

    async def learn(
        self,
        content_length: int | None,
        piece_length: int,
        response_header: Mapping[str, str],
        *,
        wanted_bytes: int | None = None,
    ) -> None:
        self._check_here()
        if self._content_length is not None and content_length not in {None, self._content_length}:
            raise PreconditionError(f"content_length is {self._content_length} already")
        if self._piece_length not in {None, piece_length}:
            raise PreconditionError(f"piece_length is {self._piece_length} already")
        length = self._content_length if content_length is None else content_length
        for piece in self._pieces.values():
            if not _lies_right(piece, length, piece_length):
                raise PreconditionError(f"piece {piece.number} is held and does not fit")
        before = (self._content_length, self._piece_length, self._response_header)
        self._content_length, self._piece_length = length, piece_length
        self._response_header = dict(response_header) or self._response_header
        if length is not None:
            os.ftruncate(self._fd, length)
        if before != (self._content_length, self._piece_length, self._response_header):
            self._notify()

    def expect(self, digests: Mapping[int, bytes]) -> None:
        self._expected.update(digests)

    async def receive(
        self, piece: Piece, data: memoryview, rest: Callable[[], Piece | None]
    ) -> Piece | None:
        held = self._pieces.get(piece.number)
        if held is not None:
            return held
        whole = await to_the_end(asyncio.to_thread(rest))
        return None if whole is None else await self.store(whole, data)

    async def store(self, piece: Piece, data: memoryview) -> Piece:
        held = self._pieces.get(piece.number)
        if held is not None:
            return held
        self._check_here()
        if self.fail_next_store is not None:
            error, self.fail_next_store = self.fail_next_store, None
            raise error
        right = len(data) == piece.length > 0 and piece.number >= 0 and piece.offset >= 0
        if not right or not _lies_right(piece, self._content_length, self._piece_length):
            raise ProtocolError(f"piece {piece.number} can't lie at {piece.offset}")
        if piece.digest:
            check_piece(data, piece.digest)
        is_from_source = piece.traffic_type is TrafficType.BACK_TO_SOURCE
        expected = self._expected.get(piece.number, b"")
        strong = strong_digest(data) if expected or is_from_source else b""
        if not is_from_source and strong != expected:
            raise ListedDigestError(f"piece {piece.number} is not what the source sent")
        os.pwrite(self._fd, data, piece.offset)
        stored = msgspec.structs.replace(
            piece,
            digest=piece_digest(data),
            strong_digest=strong,
            created_at_s=piece.created_at_s or time.time(),
        )
        self._pieces[piece.number] = stored
        self._notify()
        return stored

    async def verify(self, number: int) -> bool:
        piece = self._pieces.get(number)
        if piece is None:
            return False
        data = os.pread(self._fd, piece.length, piece.offset)
        expected = self._expected.get(number) or strong_digest(data)
        is_from_source = piece.traffic_type is TrafficType.BACK_TO_SOURCE
        is_right = is_from_source or strong_digest(data) == expected
        if piece_digest(data) == piece.digest and is_right:
            return True
        del self._pieces[number]
        self._finished = False
        self._notify()
        return False

    async def sound(self, number: int) -> Piece | None:
        """Nothing is ever believed here."""
        return self._pieces[number] if await self.verify(number) else None

    async def examine(self) -> None:
        """A memfd stays."""

    @property
    def file_number(self) -> int:
        return self._fd

    async def finish(self) -> None:
        self._check_here()
        if self._content_length is None or self._piece_length is None:
            raise PreconditionError("can't finish: the length is not known")
        if len(self._pieces) != piece_count(self._content_length, self._piece_length):
            raise PreconditionError("can't finish: pieces are missing")
        self._finished, self._active = True, False
        self._notify()

    async def fail(self) -> None:
        self._active = False
        self._notify()

    async def reset(self) -> None:
        self._check_here()
        self._pieces.clear()
        self._expected.clear()
        self._content_length = self._piece_length = None
        self._response_header = {}
        self._finished = False
        os.close(self._fd)
        self._fd = os.memfd_create(self._task_id[:16], os.MFD_CLOEXEC)
        self._notify()

    async def export(
        self, path: Path, *, overwrite: bool = False, force_hard_link: bool = False
    ) -> None:
        if not self._finished:
            raise PreconditionError("not finished: nothing to export yet")
        self._export(path, overwrite=overwrite, force_hard_link=force_hard_link)

    def _export(self, path: Path, *, overwrite: bool, force_hard_link: bool) -> None:
        if not path.is_absolute() or not path.parent.is_dir() or path.is_dir():
            raise CallerError(f"{path} is no place for a file")
        if path.exists() and not overwrite:
            raise AlreadyExistsError(f"{path} is there already")
        if force_hard_link:
            raise StorageError("memory has no hard links")
        path.write_bytes(os.pread(self._fd, self._content_length or 0, 0))

    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        key = object()
        self._subscribers[key] = on_change

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    def open_fd(self) -> int:
        # A new open file, not a dup: descriptors must not share their position.
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def pin(self) -> None:
        self._pins += 1

    def unpin(self) -> None:
        assert self._pins > 0, "unpinned more often than pinned"
        self._pins -= 1
        if self._pins == 0:
            self._active = False
            if self.on_last_unpin is not None:
                self.on_last_unpin()

    def begin(self) -> None:
        self._active = not self._finished

    def corrupt(self, offset: int) -> None:
        """Turn one byte over, as a bad disk would."""
        byte = os.pread(self._fd, 1, offset)[0]
        os.pwrite(self._fd, bytes([byte ^ 0xFF]), offset)

    def remove(self) -> None:
        """What deletion does; the content itself goes with the last descriptor."""
        self._gone = True
        self._pieces.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._notify()

    def _notify(self) -> None:
        for on_change in tuple(self._subscribers.values()):
            on_change()

    def _check_here(self) -> None:
        if self._gone:
            raise StorageError(f"task {self._task_id} was deleted")


class MemoryStorage:
    """A `Storage` without a disk. `close` frees the memory."""

    def __init__(self) -> None:
        self._tasks: dict[str, MemoryTask] = {}

    def get(self, task_id: str) -> MemoryTask | None:
        return self._tasks.get(task_id)

    def tasks(self) -> tuple[MemoryTask, ...]:
        return tuple(self._tasks.values())

    async def create(self, task_id: str, download: Download) -> MemoryTask:
        check_task_id(task_id)
        task = self._tasks.get(task_id)
        if task is None:
            task = self._tasks[task_id] = MemoryTask(task_id, download.url, download.type)
        if task.kind is not download.type:
            raise AlreadyExistsError(f"task {task_id} is of kind {task.kind.name}")
        task.on_last_unpin = None
        task.begin()
        return task

    async def delete(self, task_id: str) -> bool:
        task = self._tasks.get(task_id)
        if task is None:
            return False
        if task.pinned:
            task.on_last_unpin = lambda: self._remove(task_id)
        else:
            self._remove(task_id)
        return True

    def _remove(self, task_id: str) -> None:
        task = self._tasks.pop(task_id, None)
        if task is not None:
            task.remove()

    def close(self) -> None:
        for task_id in tuple(self._tasks):
            self._remove(task_id)


def _lies_right(piece: Piece, content_length: int | None, piece_length: int | None) -> bool:
    if piece_length is None:
        return piece.number > 0 or piece.offset == 0
    if content_length is None:
        return piece.offset == piece.number * piece_length and piece.length <= piece_length
    if piece.number >= piece_count(content_length, piece_length):
        return False
    place = piece_at(piece.number, content_length, piece_length)
    return (piece.offset, piece.length) == place
