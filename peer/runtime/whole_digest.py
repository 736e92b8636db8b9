"""Is the whole content what its URL, or its user, said it is? Read in worker threads.

Pieces are checked one by one as they arrive; this is the check of the content's own digest. A
download has it done by a `WholeCheck`, which reads along as the head of the content grows, so that
little is left at the end; what is on the disk already is read at once (`check_whole`). SHA-256
takes 0.6 to 0.7 CPU seconds per GB.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from odonata.digest import Digest, Verifier, parse_digest
from odonata.errors import DigestMismatchError, StorageError
from peer.runtime.port import StoredTask
from peer.runtime.storage.worker import to_the_end

_READ_BYTES: Final = 256 * 1024
"""At a time: fits the second-level cache."""


async def check_whole(task: StoredTask, digest: str) -> None:
    """Return if the content of `task` has `digest`; DigestMismatchError otherwise."""
    await WholeCheck(task, (digest,)).finish()


class WholeCheck:
    """Of one content, against all of these digests."""

    def __init__(self, task: StoredTask, digests: tuple[str, ...]) -> None:
        self._task = task
        self._digests: tuple[Digest, ...] = tuple(map(parse_digest, digests))
        self._verifiers = self._fresh()
        self._end = 0
        self._begun_to = 0  # what is being read
        self._reading = asyncio.Lock()
        self._is_stale = False

    @property
    def read_to(self) -> int:
        """What was read so far, in bytes from the start."""
        return self._end

    def restart(self, offset: int) -> None:
        """What lies at `offset` has changed, or will: read it once more if it was read."""
        if offset < max(self._end, self._begun_to):
            self._is_stale = True

    async def follow(self) -> None:
        """Read along, as long as the content grows from its start; cancel to stop."""
        changed = asyncio.Event()
        unsubscribe = self._task.subscribe(changed.set)
        try:
            while True:
                changed.clear()
                await self._advance()
                await changed.wait()
        finally:
            unsubscribe()

    async def finish(self) -> None:
        """Read the rest, all of which is held. Return if it is right; DigestMismatchError."""
        length = self._task.content_length
        assert length is not None, "only a whole content has a digest"
        await self._advance(length)
        try:
            for verifier in self._verifiers:
                verifier.finish()
        except DigestMismatchError as error:
            raise DigestMismatchError(
                f"{error.detail}: nothing was written; check the digest, or what the source holds"
            ) from None

    def _fresh(self) -> tuple[Verifier, ...]:
        return tuple(map(Verifier, self._digests))

    async def _advance(self, end: int | None = None) -> None:
        """Read up to `end`, or as far as there is no gap."""
        async with self._reading:
            fd: int | None = None
            try:
                while True:
                    if self._is_stale:
                        self._begin_anew()
                    stop = self._held_to() if end is None else end
                    if stop <= self._end:
                        return
                    if fd is None:
                        fd = self._task.open_fd()
                    await to_the_end(self._read(fd, min(stop - self._end, _PART_BYTES)))
            finally:
                if fd is not None:
                    os.close(fd)

    def _begin_anew(self) -> None:
        self._verifiers = self._fresh()
        self._end = self._begun_to = 0
        self._is_stale = False

    async def _read(self, fd: int, length: int) -> None:
        """Read the next `length` bytes. Not to be torn: what was read must be counted."""
        offset, self._begun_to = self._end, self._end + length
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, _feed, self._verifiers, fd, offset, length)
        except BaseException:
            self._is_stale = True  # nobody knows how far it came
            raise
        self._end += length

    def _held_to(self) -> int:
        """Where the first gap begins, at or after what was read."""
        piece_length = self._task.piece_length
        if piece_length is None:
            return self._end
        piece = self._task.piece(self._end // piece_length)
        return self._end if piece is None else piece.offset + piece.length


_PART_BYTES: Final = 16 * 1024 * 1024
"""In one go of a thread, some 10 ms: who stops waits for it."""


def _feed(verifiers: tuple[Verifier, ...], fd: int, offset: int, length: int) -> None:
    end = offset + length
    buffer = memoryview(bytearray(min(_READ_BYTES, length)))
    while offset < end:
        try:
            count = os.preadv(fd, [buffer[: end - offset]], offset)
        except OSError as error:
            raise StorageError(f"the stored content can't be read: {error.strerror}") from error
        if not count:
            raise StorageError(f"the stored content ends at {offset}, {end - offset} bytes early")
        for verifier in verifiers:
            verifier.update(buffer[:count])
        offset += count
