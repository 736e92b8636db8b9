"""Bytes of a file in slices for a socket, without holding up the event loop for a cold disk.

What the page cache has is read at once (0.05 ms for a slice); what it lacks is read in a worker
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

# 64 KiB costs half as much CPU again, 1 MiB gains little and makes buffers four times as large.
SLICE: Final = 256 * 1024

_CANNOT_TELL: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL})  # the latter on older kernels
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", None)


async def slices(segment: Segment) -> AsyncIterator[bytes | bytearray]:
    """The segment's bytes in order. StorageError if the file is shorter than it should be."""
    offset, end = segment.offset, segment.offset + segment.length
    while offset < end:
        data = await _some(segment.fd, offset, end)
        offset += len(data)
        yield data


async def whole(segment: Segment) -> bytes | bytearray:
    """All bytes of a segment that is no longer than a slice. Errors: as of `slices`."""
    offset, end = segment.offset, segment.offset + segment.length
    data = await _some(segment.fd, offset, end)
    while len(data) < segment.length:
        data += await _some(segment.fd, offset + len(data), end)
    return data


async def _some(fd: int, offset: int, end: int) -> bytes | bytearray:
    """At most a slice of what lies between."""
    length = min(SLICE, end - offset)
    data = _read_at_once(fd, offset, length)
    if data is None:
        data = await asyncio.to_thread(_read, fd, offset, length)
    if not data:
        raise StorageError(
            f"a content file ends at {offset} although {end} bytes of it are indexed: "
            "the data folder was changed from outside; delete the task and fetch it again"
        )
    return data


def _read(fd: int, offset: int, length: int) -> bytes:
    try:
        return os.pread(fd, length, offset)
    except OSError as cause:
        raise StorageError(f"a content file can't be read: {cause.strerror}") from None


def _read_at_once(fd: int, offset: int, length: int) -> bytes | bytearray | None:
    """None: that would take waiting for the disk."""
    if _NOWAIT is None:
        return _read(fd, offset, length)
    buffer = bytearray(length)
    try:
        count = os.preadv(fd, [buffer], offset, _NOWAIT)
    except BlockingIOError:
        return None
    except OSError as cause:
        if cause.errno in _CANNOT_TELL:
            return _read(fd, offset, length)
        raise StorageError(f"a content file can't be read: {cause.strerror}") from None
    if count == 0:
        return None
    if count < length:
        del buffer[count:]
    return buffer
