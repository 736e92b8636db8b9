"""The file in which the daemon keeps a content, opened by a reader on the same host.

Only if it is the very file that the daemon means: the same path may be another one in another
container. Whoever may not open it has the bytes sent instead.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from odonata.errors import StorageError
from odonata.wire.dragonfly.content_file import ContentFile


def open_content_file(told: ContentFile | None) -> int | None:
    """A descriptor for reading; None: not here, not for this user, or another file."""
    if told is None:
        return None
    try:
        fd = os.open(told.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    facts = os.fstat(fd)
    if (facts.st_dev, facts.st_ino) != (told.device, told.inode):
        os.close(fd)
        return None
    return fd


def read_at(fd: int, start: int, length: int) -> bytes:
    """`length` bytes from `start` on. Raises StorageError."""
    with _explained():
        data = os.pread(fd, length, start)
        while len(data) < length:  # Linux gives at most 2 GiB at once
            more = os.pread(fd, length - len(data), start + len(data))
            if not more:
                raise StorageError("the daemon's file is shorter than it says: ask again")
            data += more
    return data


def read_into(fd: int, buffer: memoryview, start: int) -> int:
    """As many bytes as come at once, at least one. Raises StorageError."""
    with _explained():
        count = os.preadv(fd, [buffer], start)
    if not count:
        raise StorageError("the daemon's file is shorter than it says: ask again")
    return count


@contextmanager
def _explained() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"the daemon's file can't be read: {error.strerror}") from error
