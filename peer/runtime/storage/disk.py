"""The system calls of storage, each blocking, with errors turned into the taxonomy. Run in threads.

Knows files, offsets and errno; knows nothing of tasks, pieces or the index.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from odonata.digest import crc32
from odonata.errors import DiskFullError, OdonataError, StorageError
from peer.runtime.storage.copying import copy_content
from peer.runtime.storage.trust import FilePrint

FALLOCATE_PAYS = frozenset({"ext4", "xfs"})
"""Where allocating ahead makes writing cheaper (ext4: 0.23 -> 0.17 CPU-s/GB). On tmpfs it zeroes
the pages first (0.35 s/GB), copy-on-write file systems gain nothing, and where the call is
missing the C library would write zeros instead."""

PARTIAL = ".partial"
"""Ends the name of a file that is being made; what is left of one is removed at the next start."""

_READ_BYTES = 1024 * 1024  # at once: large enough to be cheap, small enough for many threads
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FIX = {
    errno.EACCES: "give the daemon's user write access, or set another folder",
    errno.EPERM: "give the daemon's user write access, or set another folder",
    errno.EROFS: "the volume is mounted read-only: remount it, or set another folder",
    errno.ENOTDIR: "a file stands where a folder should be: move it, or set another folder",
    errno.EFBIG: "no file may be that large here: raise ulimit -f, or use another volume",
    errno.EIO: "the disk reports an input/output error: look at the kernel's log",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine: raise fs.file-max",
}


def storage_error(error: OSError, path: Path, doing: str) -> OdonataError:
    """The taxonomy's word for `error`, with the path and what to do about it."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return DiskFullError(f"can't {doing} {path}: {reason}; free some space on its volume")
    fix = _FIX.get(error.errno or 0)
    return StorageError(f"can't {doing} {path}: {reason}" + (f"; {fix}" if fix else ""))


def write_fully(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; pwrite may write less than asked (EINTR: Python retries)."""
    written = 0
    while written < len(data):
        count = os.pwrite(fd, data[written:], offset + written)
        if count == 0:
            raise OSError(errno.EIO, "the volume took no bytes")
        written += count


def write_piece(path: Path, data: memoryview, offset: int) -> None:
    """Write `data` into the content file. It must be there: a deleted task is not made again."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_fully(fd, data, offset)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, path, "write") from error


def read_piece(path: Path, length: int, offset: int) -> bytes:
    """`length` bytes at `offset`; fewer if the file ends, none if they can't be read.

    Errors: StorageError for what says nothing of the file (no descriptor, no memory).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, length, offset)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _SCARCE:
            raise storage_error(error, path, "read") from error
        return b""


def crc_of(path: Path, length: int, offset: int) -> int | None:
    """CRC-32 of `length` bytes at `offset`, read in small parts; None if they can't be read.

    Errors: StorageError for what says nothing of the file (no descriptor, no memory).
    """
    buffer = memoryview(bytearray(min(length, _READ_BYTES)))
    crc, end = 0, offset + length
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while offset < end:
                count = os.preadv(fd, [buffer[: min(end - offset, _READ_BYTES)]], offset)
                if count == 0:
                    return None
                crc = crc32(buffer[:count], crc)
                offset += count
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _SCARCE:
            raise storage_error(error, path, "read") from error
        return None
    return crc


def print_of(path: Path) -> FilePrint | None:
    """What the content file is by now; None if it is not there, or no file that we can read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _SCARCE:
            raise storage_error(error, path, "look at") from error
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return FilePrint(inode=found.st_ino, size_bytes=found.st_size, modified_at_ns=found.st_mtime_ns)


def make_ours(path: Path, mode: int) -> bool:
    """See that there is a file to write into which is nobody's output. True: it is a new one.

    An output may be a hard link of it, and whoever has it must not see us write there: then the
    content is copied (by a clone where the volume can) and the copy takes the name. So it is if
    the file is not ours to write to; else its mode, which a user may have changed by such a link,
    is what it was.
    """
    before = print_of(path)
    try:
        if before is None:
            path.unlink(missing_ok=True)  # unreadable: nothing in it is held any more
            create_file(path, mode)
            return True
        if path.stat().st_nlink == 1 and _may_write(path, mode):
            return False
        copy = path.with_name(f".{path.name}{PARTIAL}")
        try:
            copy_content(path, copy, mode)
            copy.rename(path)
        finally:
            copy.unlink(missing_ok=True)
    except OSError as error:
        raise _folder_error(error, path, "write to, nor replace,") from error
    return True


def _may_write(path: Path, mode: int) -> bool:
    """Whether this user can open the file for writing, by now."""
    try:
        if not path.stat().st_mode & stat.S_IWUSR:
            path.chmod(mode)
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    except PermissionError:
        return False
    return True


def _folder_error(error: OSError, path: Path, doing: str) -> OdonataError:
    """Of permissions, it is the folder's that are lacking: a file there may be anybody's."""
    if not isinstance(error, PermissionError):
        return storage_error(error, path, doing)
    folder = next(one for one in path.parents if one.is_dir())
    reason = error.strerror or str(error)
    return StorageError(
        f"can't {doing} {path}: {reason}; give the daemon's user write access to {folder}"
    )


def create_file(path: Path, mode: int) -> None:
    """An empty file, and its folder if need be; a file that is there stays as it is."""
    try:
        path.parent.mkdir(exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode))
    except OSError as error:
        raise _folder_error(error, path, "create") from error


def reserve(path: Path, length: int, needed: int) -> None:
    """Make `path` `length` bytes long and see that `needed` more bytes fit on its volume.

    Blocks are allocated at once where that pays and all of the file is needed; else it is sparse.
    Errors: DiskFullError before a byte is written, rather than in the middle of the download.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            blocks = os.fstat(fd).st_blocks
            missing = needed - blocks * 512
            free = free_bytes(path)
            if missing > free:
                raise DiskFullError(
                    f"{path.parent} has {free} bytes free, the task needs {missing} more: "
                    "free some space, or lower gc.policy.diskThreshold"
                )
            os.ftruncate(fd, length)
            if 0 < length <= needed and file_system(path) in FALLOCATE_PAYS:
                _allocate(fd, length)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, path, f"make room for {needed} bytes in") from error


def _allocate(fd: int, length: int) -> None:
    """All of the file's blocks or, of an empty one, none: a part would only fill the volume."""
    sparse = os.fstat(fd).st_blocks == 0
    try:
        os.posix_fallocate(fd, 0, length)
    except OSError:
        if sparse:
            os.ftruncate(fd, 0)
        raise


def flush(path: Path) -> None:
    """Data to the disk itself; returns when the volume says so."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, path, "flush") from error


def remove(path: Path) -> None:
    """Unlink; gone already is fine."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path, "remove") from error


def freed_bytes(path: Path) -> int:
    """What its volume gains if the file goes: its blocks, or nothing while it has other names."""
    try:
        found = path.stat()
        return found.st_blocks * 512 if found.st_nlink == 1 else 0
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error(error, path, "look at") from error


def free_bytes(path: Path) -> int:
    """Bytes an ordinary user may still write on the volume of `path`."""
    volume = os.statvfs(path)
    return volume.f_bavail * volume.f_frsize


def volume_bytes(path: Path) -> tuple[int, int]:
    """(total, used) of the volume of `path`, as `df` counts them."""
    try:
        volume = os.statvfs(path)
    except OSError as error:
        raise storage_error(error, path, "look at the volume of") from error
    used = (volume.f_blocks - volume.f_bfree) * volume.f_frsize
    return used + volume.f_bavail * volume.f_frsize, used


def file_system(path: Path) -> str:
    """Type of the file system `path` lies on ("ext4", "tmpfs", ...); "" if the kernel won't say."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in lines.splitlines():
        left, _, right = line.partition(" - ")
        if left.split(" ")[2] == wanted:
            return right.split(" ")[0]
    return ""


def boot_id() -> str:
    """A name for this run of the kernel: what was written under another one may not have landed."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
