"""The joints of the peer's body: what storage, pieces, sources, hub and proxy owe each other.

Only protocols and the small values they exchange; each implementation lives in a module of its own,
and tests use in-memory twins of the same protocols. No behaviour here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from odonata.wire.message import ByteRange, Download, Piece, TaskType, Tenure, Value
from odonata.wire.origin import NO_OPTIONS, Entry, OriginOptions
from peer.core.run_record import FetchTimes as FetchTimes  # noqa: PLC0414  # part of this joint


class Segment(Value, frozen=True, kw_only=True):
    """`length` bytes at `offset` of the open file `fd`; valid until the next one is asked for."""

    fd: int
    offset: int
    length: int


class StoredTask(Protocol):
    """One task on disk: a sparse content file and the index of its finished pieces.

    The index is never ahead of the data. All methods run on the event loop's thread; disk work is
    done in worker threads. Errors: StorageError, DiskFullError, DigestMismatchError.
    """

    @property
    def task_id(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def kind(self) -> TaskType: ...
    @property
    def persistent(self) -> bool:
        """No disk pressure drops it. Of a standard task: never."""
        ...

    @property
    def ttl_s(self) -> float | None:
        """Time to live from `created_at_s` on; None: nobody said."""
        ...

    @property
    def created_at_s(self) -> float: ...
    @property
    def content_length(self) -> int | None: ...
    @property
    def piece_length(self) -> int | None: ...
    @property
    def response_header(self) -> Mapping[str, str]: ...
    @property
    def finished(self) -> bool: ...
    @property
    def active(self) -> bool:
        """A download of this run may still add pieces: created, and neither finished nor failed."""
        ...

    @property
    def path(self) -> Path: ...
    def held(self) -> tuple[int, ...]:
        """Numbers of finished pieces, ascending."""
        ...

    def piece(self, number: int) -> Piece | None: ...
    async def learn(
        self,
        content_length: int | None,
        piece_length: int,
        response_header: Mapping[str, str],
        *,
        wanted_bytes: int | None = None,
    ) -> None:
        """Note what the content is and make room. Again with the same facts: nothing happens.

        `wanted_bytes`: what this download will store of it (None: everything), so that a small
        range of a huge file asks the volume only for the range. Facts that contradict what is
        known are a PreconditionError: the source's content changed; `reset` forgets the old one.
        """
        ...

    def expect(self, digests: Mapping[int, bytes]) -> None:
        """Pieces from peers must have these strong digests from now on; empty bytes: not any more.

        What is held stays until it is verified. A reset forgets them.
        """
        ...

    async def store(self, piece: Piece, data: memoryview) -> Piece:
        """Check, write, index; return it with its digests.

        Checked is against `piece.digest`, if it names one, and against what is expected of a piece
        that a peer sends (ListedDigestError). The strong digest is there of a piece that was
        checked against one, or came from the source.
        A piece that is held already is returned as it is. Once this returns or raises, also when
        cancelled, nothing reads `data` any more.
        """
        ...

    async def receive(
        self, piece: Piece, data: memoryview, rest: Callable[[], Piece | None]
    ) -> Piece | None:
        """`store`, of which the last bytes are brought by the thread that checks them.

        There `rest` is called first, once. It returns `piece` with what it took (`cost_s`,
        `created_at_s`). None: not all of `data` is there yet; nothing has happened then, and None
        is returned. What `rest` raises is raised here.
        """
        ...

    async def verify(self, number: int) -> bool:
        """Read a held piece again: does it still match its digest? If not, it is forgotten."""
        ...

    async def sound(self, number: int) -> Piece | None:
        """A held piece whose bytes may go out: one not read for long is verified first.

        None: it is not held, or it was not right any more and is forgotten.
        """
        ...

    async def examine(self) -> None:
        """Forget what the content file can't hold any more: it is gone, unreadable or cut.

        Cheap: reads nothing of the content.
        """
        ...

    @property
    def file_number(self) -> int:
        """Another one: the content is in another file than before, to be opened anew."""
        ...

    async def reset(self) -> None:
        """Forget every piece and fact: the source has other content now."""
        ...

    async def keep(self, tenure: Tenure) -> None:
        """Note how long and how firmly this copy is to be kept."""
        ...

    async def export(
        self, path: Path, *, overwrite: bool = False, force_hard_link: bool = False
    ) -> None:
        """Put the finished content at `path`: a hard link if possible, else a copy, all or nothing.

        Errors: PreconditionError (not finished), AlreadyExistsError (`path` is there and not to be
        overwritten), CallerError (no such folder), StorageError, DiskFullError.
        """
        ...

    async def finish(self) -> None:
        """Everything is held: flush and stamp."""
        ...

    async def fail(self) -> None:
        """The download gave up; what is held stays and can be resumed."""
        ...

    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` after every learn, store, finish or fail; returns the unsubscriber."""
        ...

    def open_fd(self) -> int:
        """A new read-only descriptor of the content file; the caller closes it."""
        ...

    def pin(self) -> None:
        """In use: not to be collected. Counted; each pin needs its unpin."""
        ...

    def unpin(self) -> None: ...


class Storage(Protocol):
    """All tasks of this daemon."""

    def get(self, task_id: str) -> StoredTask | None: ...
    async def create(self, task_id: str, download: Download) -> StoredTask:
        """The task, made if it is not there yet, of the kind that `download.type` says.

        AlreadyExistsError: a task of another kind has this id.
        """
        ...

    async def delete(self, task_id: str) -> bool:
        """Remove it; at the last unpin if it is in use. False: there is no such task."""
        ...

    def tasks(self) -> tuple[StoredTask, ...]: ...


class RateLimit(Protocol):
    """A token bucket of bytes."""

    async def acquire(self, n_bytes: int) -> None:
        """Return when `n_bytes` may pass; first come, first served."""
        ...


class Early(NamedTuple):
    """Of a piece that is asked for before the content is known: `length` bytes as far as we know.

    Nothing of it is stored before `learned`; then it must be the one of our grid.
    """

    length: int
    learned: asyncio.Event


class AheadPiece(Protocol):
    """The only piece of a short content, asked for ahead: its head is here, the rest on the wire.

    It belongs to who has it: fetch it or close it.
    """

    @property
    def asked_at_s(self) -> float:
        """When it was asked for, as `time.monotonic` says."""
        ...

    def close(self) -> None: ...


class AheadAsker(Protocol):
    """Asks who is no parent yet."""

    async def ask_ahead(
        self, ip: str, port: int, task_id: str, *, features: Collection[str], timeout_s: float
    ) -> AheadPiece | None:
        """Ask for all of a content of one piece; None: it is not there, or longer than may be.

        Errors: UnavailableError, ProtocolError, TimeoutError, OSError (no descriptor).
        """
        ...


class PieceFetcher(Protocol):
    """Fetches one piece from a parent by Vortex TCP, straight into a task."""

    async def fetch(
        self,
        ip: str,
        port: int,
        task: StoredTask,
        number: int,
        *,
        parent_id: str,
        timeout_s: float,
        times: FetchTimes | None = None,
        features: Collection[str] = (),
        is_patient: bool = True,
        is_exclusive: bool = False,
        is_passed_on: bool = False,
        is_told: bool = True,
        early: Early | None = None,
        ahead: AheadPiece | None = None,
    ) -> Piece:
        """Fetch, check, store; `times` (`time.monotonic`) is filled on the way. Cancel to stop.

        `features`: what the parent said it can beyond Vortex (`odonata.wire.dragonfly.feature`).
        `is_patient` False: better refused than made to wait for a slot. `is_exclusive`: better
        told that the parent gives it to somebody else (PieceGivenError) than given it, too.
        `is_passed_on`: the parent is still being sent it, and may send what has come. `is_told`:
        our own children may hear of it before it is here. `early`: the task may not know yet how
        long it is. `ahead`: it was asked for already, by the same fetcher, and of the same parent.

        Errors: PeerRefusedError, NotFoundError (the parent lacks it), DigestMismatchError,
        ProtocolError, UnavailableError (connect failed, connection broke), TimeoutError, and
        storage's own.
        """
        ...


class KnownContent(Value, frozen=True, kw_only=True):
    """What is known of a content that came from an origin: its header, names in lower case."""

    content_length: int | None
    response_header: Mapping[str, str]


class SourceStream(Protocol):
    """An open answer of a source, positioned at `offset`. Use as an async context manager."""

    @property
    def offset(self) -> int: ...
    @property
    def content_length(self) -> int | None:
        """Length of the whole content, None if the source does not say."""
        ...

    @property
    def ranges(self) -> bool: ...
    @property
    def response_header(self) -> Mapping[str, str]: ...
    async def read_into(self, buffer: memoryview) -> int:
        """Fill as much of `buffer` as comes; return the count; 0 at the clean end.

        A body that ends early raises SourceError; it never looks like a clean end.
        """
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...


class Source(Protocol):
    """A kind of origin (http, https, s3, ...)."""

    async def open(
        self,
        url: str,
        header: Mapping[str, str],
        *,
        offset: int = 0,
        end: int | None = None,
        options: OriginOptions = NO_OPTIONS,
    ) -> SourceStream:
        """Ask for bytes [offset, end) (end None: to the end).

        From byte 0 on a source that ignores ranges gives everything, whatever `end` (the stream's
        `ranges` is False). Errors: SourceError with the status (that of HTTP, or what comes nearest
        to it), CallerError for a URL that can't be asked for.
        """
        ...

    async def list(
        self, url: str, header: Mapping[str, str], options: OriginOptions = NO_OPTIONS
    ) -> tuple[Entry, ...]:
        """All that lies below the folder `url`, at any depth, in the order of URLs.

        A `url` that names one content is its only entry. Errors: as `open`, and CallerError for an
        origin that has no folders, or for a folder with more below it than `ENTRIES_MAX`.
        """
        ...

    async def compare(
        self, url: str, header: Mapping[str, str], known: KnownContent, options: OriginOptions
    ) -> str | None:
        """Why the origin's content is another one than `known`; None: it is the same.

        An origin that can't tell is one that has another content. Errors: as `open`.
        """
        ...


class ObjectStore(Protocol):
    """Origins that content can be written to (s3, gs, az, oss, ...)."""

    async def put(self, url: str, path: Path, options: OriginOptions) -> None:
        """Write the file at `path` to `url`, all of it or nothing.

        Errors: SourceError, CallerError (a scheme that takes nothing), StorageError.
        """
        ...

    async def length(self, url: str, options: OriginOptions) -> int | None:
        """Bytes of the content at `url`; None: there is none. Errors: SourceError, CallerError."""
        ...


class TaskView(Protocol):
    """One caller's hold on one task: facts, ordered bytes, piece events. Close it when done."""

    @property
    def task_id(self) -> str: ...
    @property
    def peer_id(self) -> str: ...
    @property
    def content_length(self) -> int | None:
        """Length of the whole content; None while the source has not said."""
        ...

    @property
    def piece_length(self) -> int: ...
    @property
    def response_header(self) -> Mapping[str, str]: ...
    @property
    def was_local(self) -> bool:
        """Everything wanted was on this disk already when the caller came."""
        ...

    def read(self, wanted: ByteRange | None = None) -> AsyncGenerator[Segment]:
        """Bytes in order as they arrive (`wanted` None: all).

        Raises the download's error; never ends short. Holds a file until it is closed.
        """
        ...

    def pieces(self) -> AsyncIterator[Piece]:
        """Held pieces at once (LOCAL_PEER), then each as it lands; ends when all wanted are."""
        ...

    async def done(self) -> None:
        """Return when everything wanted is held; raise the download's error otherwise."""
        ...

    async def close(self) -> None: ...


class TaskHub(Protocol):
    """All downloads of this daemon: one at a time for each task, shared by all who want it."""

    def task_id(self, download: Download) -> str: ...
    async def open(self, download: Download, *, linger: bool = True) -> TaskView:
        """Join or start the download; returns once the content's facts are known.

        `linger`: it goes on although this caller leaves.
        Errors: SourceError (with the source's own status and headers), UnavailableError,
        StorageError, DiskFullError, CallerError.
        """
        ...
