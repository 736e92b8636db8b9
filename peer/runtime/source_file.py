"""Files of this host, but only those in the folders that the settings name.

It has the few methods of an fsspec filesystem that `FsspecSource` calls, and none that writes. What
is opened is looked at once it is open: neither `..`, nor a symbolic link, nor one that is put there
between the check and the opening leads outside. Only regular files are given: a pipe or a device
has no length and may never end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class ConfinedFiles:
    """Reads below `roots`. PermissionError for everything else."""

    async_impl = False

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots)

    def info(self, path: str) -> dict[str, Any]:
        """Type, size and time of change of one name."""
        fd = self._open_inside(path)
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        is_dir = stat.S_ISDIR(found.st_mode)
        return {
            "name": path,
            "type": "directory" if is_dir else "file",
            "size": found.st_size,
            "mtime": found.st_mtime,
            # Inode and nanoseconds: as strong as a file without a hash of its content has it.
            "etag": f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}",
        }

    def ls(self, path: str, *, detail: bool = True) -> list[dict[str, Any]]:
        """What is in a folder: files and folders; links and other things are left out."""
        assert detail, "names alone are asked for by nobody"
        fd = self._open_inside(path)
        try:
            with os.scandir(fd) as entries:
                return [_entry(path, one) for one in entries if _is_plain(one)]
        finally:
            os.close(fd)

    def cat_file(self, path: str, *, start: int, end: int) -> bytes:
        """Bytes [start, end)."""
        fd = self._open_inside(path)
        with os.fdopen(fd, "rb") as file:
            file.seek(start)
            return file.read(end - start)

    def _open_inside(self, path: str) -> int:
        """A descriptor of a regular file or folder below a root.

        Looked at by its name first, so that nothing outside is opened or said to be there.
        """
        real = os.path.realpath(path)
        self._check_inside(real)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
        fd = os.open(real, flags)
        try:
            self._check_inside(str(Path(f"/proc/self/fd/{fd}").readlink()))
            _check_kind(os.fstat(fd).st_mode)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_inside(self, real: str) -> None:
        if not any(real == root or real.startswith(_folder(root)) for root in self._roots):
            raise PermissionError


def _check_kind(mode: int) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise PermissionError


def _folder(root: str) -> str:
    return root if root.endswith("/") else f"{root}/"


def _is_plain(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


def _entry(folder: str, entry: os.DirEntry[str]) -> dict[str, Any]:
    is_dir = entry.is_dir(follow_symlinks=False)
    return {
        "name": f"{folder.rstrip('/')}/{entry.name}",
        "type": "directory" if is_dir else "file",
        "size": entry.stat(follow_symlinks=False).st_size,
    }
