"""Is the whole content what the user said it is? Read once, in a worker thread.

Pieces are checked one by one as they arrive; this is the check of the user's own digest.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from odonata.digest import Digest, Verifier, parse_digest
from odonata.errors import DigestMismatchError, StorageError
from peer.runtime.port import StoredTask

_READ_BYTES: Final = 1024 * 1024


async def check_whole(task: StoredTask, digest: str) -> None:
    """Return if the content of `task` has `digest`; DigestMismatchError otherwise."""
    expected = parse_digest(digest)
    length = task.content_length
    assert length is not None, "only a whole content has a digest"
    fd = task.open_fd()
    reading = asyncio.get_running_loop().run_in_executor(None, _check, fd, length, expected)
    try:
        await asyncio.shield(reading)
    except asyncio.CancelledError:
        # The thread reads the descriptor still: it must stay open until it is done.
        reading.add_done_callback(lambda done: _drop(done, fd))
        raise
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)


def _drop(reading: asyncio.Future[None], fd: int) -> None:
    reading.exception()  # nobody waits for it any more
    os.close(fd)


def _check(fd: int, length: int, expected: Digest) -> None:
    verifier = Verifier(expected)
    offset = 0
    while offset < length:
        try:
            data = os.pread(fd, min(_READ_BYTES, length - offset), offset)
        except OSError as error:
            raise StorageError(f"the stored content can't be read: {error.strerror}") from error
        if not data:
            raise StorageError(f"the stored content ends after {offset} of {length} bytes")
        verifier.update(data)
        offset += len(data)
    try:
        verifier.finish()
    except DigestMismatchError as error:
        raise DigestMismatchError(
            f"{error.detail}: nothing was written; check the digest, or what the source holds"
        ) from None
