"""One task on disk: facts, finished pieces, and the order in which things become true.

    store:  check the digests -> write the content -> index the piece -> tell subscribers
    finish: flush the content -> stamp the task
    reset:  take everything out of the index -> a new file
    remove: unlink the file -> take the task out of the index

So the index is behind the data at every moment, never ahead. (Removal is the other way round, or a
full volume could never be emptied: the index needs room even to forget. A record without its file
is dropped when storage opens, and overwritten when the task is made anew.)
What is in memory follows the index. A file that has another name, a user's output, is never written
to: a download that goes on gets a copy of its own (`begin`).
What is in memory follows the index. Strong digests are in memory only: the list that pieces are
checked against (`expect`), and what was found of those that were.
A cancelled caller never leaves a step half done (`to_the_end`). Collection and opening are the
store's business; nothing here decides what to download.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from odonata.digest import (
    crc32,
    format_piece_digest,
    format_strong_digest,
    parse_piece_digest,
    piece_digest,
    strong_digest,
)
from odonata.errors import (
    DigestMismatchError,
    ListedDigestError,
    OdonataError,
    PreconditionError,
    ProtocolError,
    StorageError,
)
from odonata.piece import piece_at, piece_count
from odonata.wire.message import Piece, TaskType, Tenure, TrafficType
from peer.runtime.storage import disk
from peer.runtime.storage.export import export_file
from peer.runtime.storage.index import Index, TaskRecord
from peer.runtime.storage.layout import FILE_MODE
from peer.runtime.storage.room import Room
from peer.runtime.storage.trust import Trust
from peer.runtime.storage.worker import KeyedLocks, Workers, to_the_end

_log = structlog.get_logger(__name__)


class DiskTask:
    """A `StoredTask` in a data folder. Made by `DiskStorage` only."""

    def __init__(
        self,
        *,
        record: TaskRecord,
        pieces: dict[int, Piece],
        path: Path,
        index: Index,
        workers: Workers,
        room: Room,
        locks: KeyedLocks,
        trust: Trust,
        clock: Callable[[], float],
    ) -> None:
        self._record = record
        self._pieces = pieces
        self._path = path
        self._locks = locks
        self._trust = trust
        self._index = index
        self._workers = workers
        self._room = room
        self._clock = clock
        self._used_at_s = record.used_at_s
        self._active = False
        self._gone = False
        self._resets = 0
        self._pins = 0
        self._on_last_unpin: Callable[[], None] | None = None
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._file_number = 0
        self._expected: dict[int, bytes] = {}

    @property
    def task_id(self) -> str:
        return self._record.id

    @property
    def url(self) -> str:
        return self._record.url

    @property
    def kind(self) -> TaskType:
        return self._record.kind

    @property
    def persistent(self) -> bool:
        return self._record.persistent

    @property
    def ttl_s(self) -> float | None:
        return self._record.ttl_s

    @property
    def content_length(self) -> int | None:
        return self._record.content_length

    @property
    def piece_length(self) -> int | None:
        return self._record.piece_length

    @property
    def response_header(self) -> Mapping[str, str]:
        return self._record.response_header

    @property
    def finished(self) -> bool:
        return self._record.finished_at_s is not None and not self._gone

    @property
    def failed(self) -> bool:
        """The last download gave up."""
        return self._record.failed_at_s is not None

    @property
    def active(self) -> bool:
        return self._active and not self._gone

    @property
    def path(self) -> Path:
        return self._path

    @property
    def pinned(self) -> bool:
        """Somebody uses it."""
        return self._pins > 0

    @property
    def created_at_s(self) -> float:
        """Unix time of the first `create`; of the upload, where a tenure was told."""
        return self._record.created_at_s

    @property
    def used_at_s(self) -> float:
        """Unix time of the last store, finish or unpin."""
        return self._used_at_s

    def held(self) -> tuple[int, ...]:
        return tuple(sorted(self._pieces))

    def piece(self, number: int) -> Piece | None:
        return self._pieces.get(number)

    @property
    def file_number(self) -> int:
        return self._file_number

    def _facts_lock(self) -> AbstractAsyncContextManager[None]:
        """One change at a time of what the task is. Whoever needs a piece's lock, too, has it."""
        return self._locks.hold((self.task_id, None))

    # --- facts ---

    async def learn(
        self,
        content_length: int | None,
        piece_length: int,
        response_header: Mapping[str, str],
        *,
        wanted_bytes: int | None = None,
    ) -> None:
        needed = (content_length or 0) if wanted_bytes is None else wanted_bytes
        header = dict(response_header)
        await to_the_end(
            self._room.enough(
                needed, lambda: self._learn(content_length, piece_length, header, wanted_bytes)
            )
        )

    async def _learn(
        self,
        content_length: int | None,
        piece_length: int,
        response_header: dict[str, str],
        wanted_bytes: int | None,
    ) -> None:
        async with self._facts_lock():
            self._check_here()
            self._check_facts(content_length, piece_length)
            if content_length is None:
                content_length = self.content_length
            elif self.content_length is None or not self.finished:
                needed = content_length if wanted_bytes is None else wanted_bytes
                needed = min(needed, content_length)
                await self._workers.disk(disk.reserve, self._path, content_length, needed)
            record = msgspec.structs.replace(
                self._record,
                content_length=content_length,
                piece_length=piece_length,
                response_header=response_header or self._record.response_header,
            )
            if record == self._record:
                return
            await self._put(record)
        self._notify()

    def _check_facts(self, content_length: int | None, piece_length: int) -> None:
        """PreconditionError if the new facts contradict the known ones or what is held."""
        known_length, known_piece = self.content_length, self.piece_length
        if content_length is not None and known_length not in {None, content_length}:
            raise self._contradiction("content_length", known_length, content_length)
        if known_piece not in {None, piece_length}:
            raise self._contradiction("piece_length", known_piece, piece_length)
        length = known_length if content_length is None else content_length
        for piece in self._pieces.values():
            if not lies_right(piece, length, piece_length):
                held = f"a piece {piece.number} of {piece.length} bytes at {piece.offset}"
                raise self._contradiction("content_length", held, content_length)

    def _contradiction(self, field: str, known: object, new: object) -> PreconditionError:
        return PreconditionError(
            f"task {self.task_id}: {field} is {new} now, but {known} is stored: the content "
            "changed at the source; delete the task to fetch it anew"
        )

    # --- pieces ---

    def expect(self, digests: Mapping[int, bytes]) -> None:
        for number, digest in digests.items():
            if digest:
                self._expected[number] = digest
            else:
                self._expected.pop(number, None)

    async def store(self, piece: Piece, data: memoryview) -> Piece:
        stored = await self.receive(piece, data, lambda: piece)
        assert stored is not None, "nothing was missing"
        return stored

    async def receive(
        self, piece: Piece, data: memoryview, rest: Callable[[], Piece | None]
    ) -> Piece | None:
        held = self._pieces.get(piece.number)
        if held is not None:
            return held
        self._check_here()
        self._check_place(piece, len(data))
        return await to_the_end(
            self._room.enough(piece.length, lambda: self._store(piece, data, rest))
        )

    async def _store(
        self, piece: Piece, data: memoryview, rest: Callable[[], Piece | None]
    ) -> Piece | None:
        async with self._one_writer(piece.number):
            held = self._pieces.get(piece.number)
            if held is not None:
                return held
            resets = self._resets
            expected = self._expected.get(piece.number, b"")
            stored = await self._workers.disk(self._keep_piece, data, rest, expected, resets)
            if stored is None:
                return None
            self._check_not_reset_since(resets)
            self._pieces[piece.number] = stored
            self._used_at_s = now_s = self._clock()
            self._trust.seen(piece.number, now_s)
        self._notify()
        return stored

    def _keep_piece(
        self,
        data: memoryview,
        rest: Callable[[], Piece | None],
        expected: bytes,
        resets: int,
    ) -> Piece | None:
        """In a thread: what is missing, then the digests, the file, the index. None: see `rest`."""
        piece = rest()
        if piece is None:
            return None
        digest, strong = _check_and_write(self._path, piece, data, expected)
        stored = msgspec.structs.replace(
            piece,
            digest=digest,
            strong_digest=strong,
            created_at_s=piece.created_at_s or self._clock(),
        )
        # A reset is counted first and takes rows out later, so it finds this one, or prevents it.
        if not self._index.put_piece(self.task_id, stored, lambda: resets == self._resets):
            self._check_not_reset_since(resets)
        return stored

    def _check_not_reset_since(self, resets: int) -> None:
        """PreconditionError if so: the bytes went to the file before, or among other bytes."""
        if resets != self._resets:
            raise PreconditionError(f"task {self.task_id} was reset while a piece was stored")

    def _check_place(self, piece: Piece, n_bytes: int) -> None:
        """ProtocolError unless the piece lies where a piece of its number lies."""
        well_formed = piece.number >= 0 and piece.offset >= 0 and n_bytes == piece.length > 0
        if not well_formed or not lies_right(piece, self.content_length, self.piece_length):
            raise ProtocolError(
                f"task {self.task_id}: piece {piece.number} can't be {n_bytes} bytes at offset "
                f"{piece.offset} (content_length {self.content_length}, piece_length "
                f"{self.piece_length})"
            )

    @asynccontextmanager
    async def _one_writer(self, number: int) -> AsyncGenerator[None]:
        """Two fetches of one piece (a hedge) take turns; the task stays while they write."""
        self.pin()
        try:
            async with self._locks.hold((self.task_id, number)):
                yield
        finally:
            self.drop_pin()

    async def verify(self, number: int) -> bool:
        piece = self._pieces.get(number)
        if piece is None:
            return False
        return await to_the_end(self._verify(piece))

    async def _verify(self, piece: Piece, *, doubted_only: bool = False) -> bool:
        async with self._one_writer(piece.number):
            held = self._pieces.get(piece.number)
            if held is None:
                return False
            if doubted_only and not self._trust.doubts(held.number, self._clock()):
                return True  # somebody else has just read it
            expected = self._expected.get(held.number, b"")
            if await self._workers.disk(piece_is_whole, self._path, held, expected):
                self._trust.seen(held.number, self._clock())
                return True
            _log.warning("piece_rotted", task_id=self.task_id, piece=held.number)
            async with self._facts_lock():
                await self._forget([held.number])
        self._notify()
        return False

    async def sound(self, number: int) -> Piece | None:
        piece = self._pieces.get(number)
        if piece is None or not self._trust.doubts(number, self._clock()):
            return piece
        return piece if await to_the_end(self._verify(piece, doubted_only=True)) else None

    async def examine(self) -> None:
        if not self._pieces or self._gone:
            return
        found = disk.print_of(self._path)  # at once, as it is opened: no byte of it is read
        length = self.content_length
        if found is None or length is None or found.size_bytes < length:
            await to_the_end(self._examine())
        elif self.finished:
            self._trust.file_is(found)

    async def _examine(self) -> None:
        async with self._facts_lock():
            lost = await self._look()
        if lost:
            self._notify()

    async def _look(self) -> int:
        """Forget what the file can't hold any more, and say how many pieces that was.

        While a download writes, it is longer than all that is held, and changes all the time.
        """
        found = await self._workers.disk(disk.print_of, self._path)
        size_bytes = -1 if found is None else found.size_bytes
        lost = [
            piece.number
            for piece in self._pieces.values()
            if piece.offset + piece.length > size_bytes
        ]
        if lost:
            _log.warning("pieces_lost", task_id=self.task_id, count=len(lost), first=min(lost))
            await self._forget(lost)
        elif found is not None and self.finished:
            self._trust.file_is(found)
        return len(lost)

    async def _forget(self, numbers: list[int]) -> None:
        """With the lock of the facts: or the task could be stamped as finished meanwhile."""
        self._trust.file_changes()
        if self.finished:
            await self._put(msgspec.structs.replace(self._record, finished_at_s=None))
        await self._index.forget_pieces(self.task_id, numbers)
        for number in numbers:
            self._pieces.pop(number, None)
            self._trust.lost(number)

    # --- ends ---

    async def finish(self) -> None:
        await to_the_end(self._finish())

    async def _finish(self) -> None:
        async with self._facts_lock():
            self._check_here()
            self._check_complete()
            if not self.finished:
                await self._workers.disk(disk.flush, self._path)
                found = await self._workers.disk(disk.print_of, self._path)
                if found is not None:
                    self._trust.file_is(found)
                self._used_at_s = now_s = self._clock()
                await self._put(
                    msgspec.structs.replace(
                        self._record, finished_at_s=now_s, failed_at_s=None, used_at_s=now_s
                    )
                )
            self._active = False
        self._notify()

    def _check_complete(self) -> None:
        if self.content_length is None or self.piece_length is None:
            raise PreconditionError(f"task {self.task_id} can't finish: its length is not known")
        count = piece_count(self.content_length, self.piece_length)
        if len(self._pieces) != count:
            raise PreconditionError(
                f"task {self.task_id} can't finish: {len(self._pieces)} of {count} pieces are held"
            )

    async def fail(self) -> None:
        await to_the_end(self._fail())

    async def _fail(self) -> None:
        async with self._facts_lock():
            self._active = False
            if not self._gone and not self.finished:
                await self._put(msgspec.structs.replace(self._record, failed_at_s=self._clock()))
        self._notify()

    async def found(self) -> None:
        """Make the content file and the record of a new task."""
        async with self._facts_lock():
            try:
                await self._workers.disk(disk.create_file, self._path, FILE_MODE)
                await self._index.put_new_task(self._record)
            except OdonataError:
                self._gone = True
                raise

    async def begin(self, *, new: bool = False) -> None:
        """A download of this run adds pieces from now on. `new`: the file was made just now."""
        async with self._facts_lock():
            self._check_here()
            if self.finished:
                return
            if not new and not self._active:
                await self._look()
                if await self._workers.disk(disk.make_ours, self._path, FILE_MODE):
                    self._file_number += 1
            self._active = True
            if self.failed:
                await self._put(msgspec.structs.replace(self._record, failed_at_s=None))

    async def keep(self, tenure: Tenure) -> None:
        await to_the_end(self._keep(tenure))

    async def _keep(self, tenure: Tenure) -> None:
        async with self._facts_lock():
            self._check_here()
            record = msgspec.structs.replace(
                self._record,
                persistent=tenure.persistent,
                ttl_s=tenure.ttl_s,
                created_at_s=tenure.created_at_s,
            )
            if record != self._record:
                await self._put(record)

    async def reset(self) -> None:
        await to_the_end(self._reset())

    async def _reset(self) -> None:
        async with self._facts_lock():
            self._check_here()
            self._resets += 1
            self._pieces.clear()
            self._expected.clear()
            self._record = msgspec.structs.replace(
                self._record,
                content_length=None,
                piece_length=None,
                response_header={},
                finished_at_s=None,
            )
            await self._index.put_new_task(self._record)
            # A new file, not a shorter one: whoever reads the old content has it open still.
            await self._workers.disk(disk.remove, self._path)
            await self._workers.disk(disk.create_file, self._path, FILE_MODE)
            self._file_number += 1
        self._notify()

    async def remove(self) -> None:
        """Off the disk, then out of the index. Only while nobody uses it or can get hold of it."""
        async with self._facts_lock():
            self._gone = True
            try:
                await self._workers.disk(disk.remove, self._path)
            except OdonataError:
                self._gone = False
                raise
            self._pieces.clear()
            try:
                await self._index.remove_task(self.task_id)
            except OdonataError as error:
                _log.warning("record_not_removed", task_id=self.task_id, error=error.detail)
        self._notify()

    async def export(
        self, path: Path, *, overwrite: bool = False, force_hard_link: bool = False
    ) -> None:
        if not self.finished:
            raise PreconditionError(f"task {self.task_id} is not finished: nothing to export yet")
        self.pin()
        try:
            await to_the_end(
                self._workers.disk(
                    export_file,
                    self._path,
                    path,
                    overwrite=overwrite,
                    force_hard_link=force_hard_link,
                )
            )
        finally:
            self.unpin()

    # --- use ---

    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        key = object()
        self._subscribers[key] = on_change

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    def _notify(self) -> None:
        for on_change in tuple(self._subscribers.values()):
            on_change()

    def open_fd(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise disk.storage_error(error, self._path, "open") from error

    def pin(self) -> None:
        self._pins += 1

    def unpin(self) -> None:
        self._used_at_s = self._clock()
        if self._pins == 1:
            self._active = False  # nobody downloads what nobody holds
        self.drop_pin()

    def drop_pin(self) -> None:
        """`unpin` of one that was no use of the task."""
        assert self._pins > 0, f"task {self.task_id}: unpinned more often than pinned"
        self._pins -= 1
        if self._pins == 0 and self._on_last_unpin is not None:
            on_last_unpin, self._on_last_unpin = self._on_last_unpin, None
            on_last_unpin()

    def when_unpinned(self, act: Callable[[], None] | None) -> None:
        """Call `act` once, at the last unpin (None: not any more)."""
        self._on_last_unpin = act

    def _check_here(self) -> None:
        if self._gone:
            raise StorageError(f"task {self.task_id} was deleted: create it again")

    async def _put(self, record: TaskRecord) -> None:
        await self._index.put_task(record)
        self._record = record


def lies_right(piece: Piece, content_length: int | None, piece_length: int | None) -> bool:
    """Whether the piece is on the grid, as far as the grid is known."""
    if piece_length is None:
        return piece.number > 0 or piece.offset == 0
    if content_length is None:
        return piece.offset == piece.number * piece_length and piece.length <= piece_length
    if piece.number >= piece_count(content_length, piece_length):
        return False
    return (piece.offset, piece.length) == piece_at(piece.number, content_length, piece_length)


def _check_and_write(
    path: Path, piece: Piece, data: memoryview, expected: bytes
) -> tuple[str, bytes]:
    """In a thread: the digests, then the bytes into the file.

    Returns the digest, and the strong one if that was computed: of what comes from the source,
    which nobody knows better, and of what has one to be checked against (`expected`, else empty).
    """
    crc = crc32(data)
    if piece.digest and parse_piece_digest(piece.digest) != crc:
        raise DigestMismatchError(
            f"piece {piece.number} of {piece.length} bytes from {piece.parent_id or 'its source'} "
            f"has digest crc32:{crc}, but {piece.digest} was promised"
        )
    strong = b""
    is_from_source = piece.traffic_type is TrafficType.BACK_TO_SOURCE
    if expected or is_from_source:
        strong = strong_digest(data)
    if not is_from_source and strong != expected:
        raise ListedDigestError(
            f"piece {piece.number} of {piece.length} bytes from {piece.parent_id} has digest "
            f"{format_strong_digest(strong)}, but at its source {format_strong_digest(expected)}"
        )
    disk.write_piece(path, data, piece.offset)
    return format_piece_digest(crc), strong


def piece_is_whole(path: Path, piece: Piece, expected: bytes = b"") -> bool:
    """In a thread: whether the content file still holds what the index says.

    And, where it is known (`expected`), what the source sent, unless it came from there.
    """
    if not expected or piece.traffic_type is TrafficType.BACK_TO_SOURCE:
        crc = disk.crc_of(path, piece.length, piece.offset)
        return crc is not None and format_piece_digest(crc) == piece.digest
    data = disk.read_piece(path, piece.length, piece.offset)
    if len(data) != piece.length or piece_digest(data) != piece.digest:
        return False
    return strong_digest(data) == expected
