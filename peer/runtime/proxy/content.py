"""Bytes of a file in slices for a socket, without holding up the event loop for a cold disk.

What the page cache has is read at once (0.1 ms for a slice); what it lacks is read in a worker
thread, since a spinning disk may take its time. A file system that can't tell (tmpfs, which is
memory anyway; some network volumes) is read at once, too. Sends nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from typing import Final

from odonata.errors import StorageError
from peer.runtime.port import Segment

SLICE: Final = 512 * 1024
"""256 KiB costs a tenth more CPU; 1 MiB no longer stays in a core's cache until it is read."""

_CANNOT_TELL: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL})  # the latter on older kernels
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", None)


async def slices(segment: Segment, buffer: memoryview) -> AsyncIterator[memoryview]:
    """The segment's bytes in order, each slice at the start of `buffer` and valid until the next.

    One buffer again and again stays in the core's cache, which is worth a third of all CPU.
    StorageError if the file is shorter than it should be.
    """
    offset, end = segment.offset, segment.offset + segment.length
    while offset < end:
        count = await _fill(segment.fd, offset, buffer[: end - offset])
        offset += count
        yield buffer[:count]


async def whole(segment: Segment) -> bytearray:
    """All bytes of a short segment. Errors: as of `slices`."""
    data = bytearray(segment.length)
    view, done = memoryview(data), 0
    while done < segment.length:
        done += await _fill(segment.fd, segment.offset + done, view[done:])
    return data


async def _fill(fd: int, offset: int, buffer: memoryview) -> int:
    """How many bytes came, at least one."""
    count = _read_at_once(fd, offset, buffer)
    if count is None:
        count = await asyncio.to_thread(_read, fd, offset, buffer)
    if not count:
        raise StorageError(
            f"a content file ends at {offset} although {len(buffer)} bytes more are indexed: "
            "the data folder was changed from outside; delete the task and fetch it again"
        )
    return count


def _read(fd: int, offset: int, buffer: memoryview) -> int:
    try:
        return os.preadv(fd, [buffer], offset)
    except OSError as cause:
        raise StorageError(f"a content file can't be read: {cause.strerror}") from None


def _read_at_once(fd: int, offset: int, buffer: memoryview) -> int | None:
    """None: that would take waiting for the disk."""
    if _NOWAIT is None:
        return _read(fd, offset, buffer)
    try:
        # Nothing at once: the end, or the beginning of what has to be waited for.
        return os.preadv(fd, [buffer], offset, _NOWAIT) or None
    except BlockingIOError:
        return None
    except OSError as cause:
        if cause.errno in _CANNOT_TELL:
            return _read(fd, offset, buffer)
        raise StorageError(f"a content file can't be read: {cause.strerror}") from None
