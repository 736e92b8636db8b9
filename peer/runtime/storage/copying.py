"""A second copy of a content file: a clone of its blocks where the volume can, else by the kernel.

    clone (btrfs, xfs) -> copy_file_range -> sendfile

Each is tried where the one before says that it can't; none brings the bytes into this process.
The target is a new file, which is whole only when the call returns: naming it is the caller's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
COPY_BYTES = 64 * 1024 * 1024  # per system call: long enough to be cheap, short enough to stop

_NO_CLONE = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM}
)


_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})
"""What open(2) says to O_TMPFILE where the volume, or the kernel, has none."""


def copy_content(source: Path, target: Path, mode: int) -> None:
    """All of `source` at `target`, flushed. Errors: OSError; FileExistsError if it is there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    to_fd = os.open(target, flags, mode)
    try:
        _fill(source, to_fd)
    finally:
        os.close(to_fd)


@contextmanager
def nameless_copy(source: Path, folder: Path, mode: int) -> Generator[int | None]:
    """A flushed copy of `source` without a name (open(2), O_TMPFILE), on the volume of `folder`.

    What it gets is for `name_open_file`. Whoever is killed meanwhile leaves nothing. None: this
    volume has no such files.
    """
    try:
        to_fd = os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in _NO_NAMELESS or not folder.is_dir():
            raise
        yield None
        return
    try:
        _fill(source, to_fd)
        yield to_fd
    finally:
        os.close(to_fd)


def name_open_file(fd: int, target: Path) -> None:
    """Like `os.link`, of an open file. Python follows the kernel's link to it only so."""
    open_files = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(fd), target, src_dir_fd=open_files, follow_symlinks=True)
    finally:
        os.close(open_files)


def _fill(source: Path, to_fd: int) -> None:
    from_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not clone(from_fd, to_fd):
            _copy_bytes(from_fd, to_fd, os.fstat(from_fd).st_size)
        os.fdatasync(to_fd)
    finally:
        os.close(from_fd)


def clone(from_fd: int, to_fd: int) -> bool:
    """Share the blocks of one file with an empty one; False: these two can't."""
    try:
        fcntl.ioctl(to_fd, FICLONE, from_fd)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def _copy_bytes(from_fd: int, to_fd: int, length: int) -> None:
    copied = 0
    while copied < length:
        try:
            count = os.copy_file_range(from_fd, to_fd, min(COPY_BYTES, length - copied))
        except OSError as error:
            if copied or error.errno not in _NO_CLONE:
                raise
            break
        if count == 0:
            raise OSError(errno.EIO, "the stored file became shorter while it was copied")
        copied += count
    while copied < length:  # copy_file_range does not work between these two
        count = os.sendfile(to_fd, from_fd, None, min(COPY_BYTES, length - copied))
        if count == 0:
            raise OSError(errno.EIO, "the stored file became shorter while it was copied")
        copied += count
