"""A file of this host on its way into storage: read once for its digests, then put in its place.

    read: blocks in order -> whoever names the content, and one CRC-32 for each piece
    place: a clone of the blocks, else a hard link, else a copy

All of it blocks and runs in threads. It knows nothing of tasks, and the index is not its business.

Note: after a hard link the stored content and the user's file are one. Whoever edits the file in
place edits what this peer serves; children notice by the digests and go elsewhere. A clone is
tried first for that reason.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from odonata.digest import crc32, format_piece_digest
from odonata.errors import CallerError, NotFoundError, PreconditionError, UnavailableError
from odonata.piece import MIB, piece_at, piece_count, piece_length_for
from odonata.wire.message import Piece, TrafficType, Value
from peer.runtime.storage.copying import clone, copy_content
from peer.runtime.storage.disk import storage_error
from peer.runtime.storage.export import hard_link_refused
from peer.runtime.storage.layout import FILE_MODE

BLOCK_BYTES: Final = 4 * MIB
"""Read at a time: few system calls, and it stays in the processor's cache from one digest to the
next on most machines."""


class FileFacts(Value, frozen=True, kw_only=True):
    """What the system says of a file. Two readings that are equal: it was not written between."""

    device: int
    inode: int
    length: int
    modified_ns: int


class LocalFile:
    """One file to be imported. `blocks` reads it; then `pieces` are known."""

    def __init__(self, path: Path, piece_length: int | None = None) -> None:
        """`path` is absolute. `piece_length` in bytes; None: by the rule.

        Errors: CallerError (not a plain file), NotFoundError, StorageError.
        """
        self.path = _resolved(path)
        self.facts = _facts_of(self.path)
        self.piece_length = piece_length or piece_length_for(self.facts.length)
        self.pieces: list[Piece] = []
        """As far as the file was read."""
        self._stopped = threading.Event()

    @property
    def content_length(self) -> int:
        return self.facts.length

    def stop(self) -> None:
        """Have a reading that runs in another thread end with UnavailableError."""
        self._stopped.set()

    def blocks(self) -> Iterator[memoryview]:
        """Read it all, in order; each block is valid until the next one is asked for."""
        self.pieces.clear()
        buffer = memoryview(bytearray(min(BLOCK_BYTES, max(1, self.content_length))))
        try:
            with self.path.open("rb", buffering=0) as file:
                for number in range(piece_count(self.content_length, self.piece_length)):
                    yield from self._piece(file.fileno(), number, buffer)
        except OSError as error:
            raise storage_error(error, self.path, "read") from error
        self.check_unchanged()

    def _piece(self, fd: int, number: int, buffer: memoryview) -> Iterator[memoryview]:
        offset, length = piece_at(number, self.content_length, self.piece_length)
        position, end, crc = offset, offset + length, 0
        while position < end:
            if self._stopped.is_set():
                raise UnavailableError("the import was stopped")
            count = os.preadv(fd, [buffer[: min(len(buffer), end - position)]], position)
            if count == 0:
                raise self.changed()
            block = buffer[:count]
            crc = crc32(block, crc)
            position += count
            yield block
        self.pieces.append(
            Piece(
                number=number,
                offset=offset,
                length=length,
                digest=format_piece_digest(crc),
                traffic_type=TrafficType.LOCAL_PEER,
                created_at_s=time.time(),
            )
        )

    def check_unchanged(self) -> None:
        """PreconditionError if somebody wrote the file since it was first looked at."""
        if _facts_of(self.path) != self.facts:
            raise self.changed()

    def check_length(self, copy: Path) -> None:
        """PreconditionError if `copy` was made of something longer or shorter."""
        if copy.stat().st_size != self.content_length:
            raise self.changed()

    def changed(self) -> PreconditionError:
        """What is raised for it."""
        return PreconditionError(
            f"{self.path} was changed while it was imported: import it when nobody writes to it"
        )


def place_file(source: LocalFile, target: Path) -> None:
    """Put the content at `target`, in place of what is there; on an error nothing is left.

    Whoever stops in the middle leaves a part: the caller names `target` only afterwards.
    """
    try:
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)
        if not _placed_for_nothing(source.path, target):
            copy_content(source.path, target, FILE_MODE)
        source.check_unchanged()
        source.check_length(target)
    except OSError as error:
        _forget(target)
        raise storage_error(error, target, "import into") from error
    except BaseException:
        _forget(target)
        raise


def _forget(target: Path) -> None:
    """What is left in spite of it goes when storage opens."""
    with suppress(OSError):
        target.unlink(missing_ok=True)


def _placed_for_nothing(source: Path, target: Path) -> bool:
    """By a clone or a hard link. False: neither works here, and nothing is there."""
    from_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        to_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            if clone(from_fd, to_fd):
                os.fdatasync(to_fd)
                return True
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)
    target.unlink()
    try:
        os.link(source, target)
    except OSError as error:
        if hard_link_refused(error):
            return False
        raise
    return True


def _resolved(path: Path) -> Path:
    if not path.is_absolute():
        raise CallerError(f"the path {str(path)!r} is not absolute: the daemon needs it so")
    try:
        return path.resolve(strict=True)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}: name one of this host") from None
    except (OSError, RuntimeError) as error:
        raise CallerError(f"can't follow {path}: {error}") from error


def _facts_of(path: Path) -> FileFacts:
    try:
        found = path.stat()
    except OSError as error:
        raise storage_error(error, path, "look at") from error
    if not stat.S_ISREG(found.st_mode):
        raise CallerError(f"{path} is no plain file: name one (a folder goes file by file)")
    return FileFacts(
        device=found.st_dev,
        inode=found.st_ino,
        length=found.st_size,
        modified_ns=found.st_mtime_ns,
    )
