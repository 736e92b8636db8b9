"""Files of this host as fsspec sees them, but only those in the folders that the settings name.

What is opened is looked at once it is open: neither `..`, nor a symbolic link, nor one that is put
there between the check and the opening leads outside. Only regular files are given: a pipe or a
device has no length and may never end. Imported only when a file:// URL is asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class ConfinedFileSystem(LocalFileSystem):  # type: ignore[misc]  # it has no types
    """Reads below `roots`, writes nothing. PermissionError for everything else."""

    def __init__(self, roots: Iterable[Path], **rest: Any) -> None:
        super().__init__(auto_mkdir=False, **rest)
        self._roots = tuple(os.path.realpath(root) for root in roots)

    def info(self, path: str, **_rest: Any) -> dict[str, Any]:
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

    def ls(self, path: str, detail: bool = True, **_rest: Any) -> list[Any]:
        """What is in a folder: files and folders; links and other things are left out."""
        fd = self._open_inside(path)
        try:
            with os.scandir(fd) as entries:
                found = [_entry(path, one) for one in entries if _is_plain(one)]
        finally:
            os.close(fd)
        return found if detail else [one["name"] for one in found]

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_rest: Any
    ) -> bytes:
        """Bytes [start, end)."""
        fd = self._open_inside(path)
        with os.fdopen(fd, "rb") as file:
            file.seek(start or 0)
            return file.read(-1 if end is None else end - (start or 0))

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
