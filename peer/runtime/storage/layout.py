"""Where things lie in the data folder, and who may use it. No content is read or written here.

A task id becomes a path only after it is checked: lower-case hexadecimal, of a length that a digest
has. Anything else (`../`, an upper-case twin on a case-insensitive volume) is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from odonata.errors import CallerError, StorageError
from odonata.wire.message import TaskType
from peer.runtime.storage.disk import PARTIAL, storage_error

CONTENT_FOLDERS = {
    TaskType.STANDARD: "tasks",
    TaskType.PERSISTENT: "persistent-tasks",
    TaskType.PERSISTENT_CACHE: "persistent-cache-tasks",
}
"""Below `content`, by the kind of task. Dragonfly's names."""

TASK_ID_PATTERN = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}")
"""sha256 (every id Dragonfly computes) or sha512 (blob digests of some registries)."""

FOLDER_MODE = 0o755
FILE_MODE = 0o644  # outputs are hard links of content files: readable like any download
_PID_WIDTH = 19  # in the lock file, which is not cut: on a full volume it might not grow again
PRIVATE_MODE = 0o600  # the index holds URLs, which may be signed


def check_task_id(task_id: str) -> str:
    """Return `task_id` if it is one; CallerError otherwise."""
    if TASK_ID_PATTERN.fullmatch(task_id) is None:
        raise CallerError(
            f"task id {task_id[:140]!r} is not 64 or 128 lower-case hexadecimal digits"
        )
    return task_id


class Layout:
    """The paths below one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents = folder / "content"
        self.content = {kind: self.contents / name for kind, name in CONTENT_FOLDERS.items()}
        self.index = folder / "index.sqlite3"
        self.lock = folder / "lock"

    def content_file(self, task_id: str, kind: TaskType = TaskType.STANDARD) -> Path:
        """`content/tasks/<first three>/<id>`, as Dragonfly lays it out; a folder for each kind."""
        check_task_id(task_id)
        return self.content[kind] / task_id[:3] / task_id

    def prepare(self) -> None:
        """Make the folders and try them: a wrong folder is told at start, not at a piece."""
        try:
            for content in self.content.values():
                content.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
                probe = content / f".probe-{os.getpid()}"
                os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE))
                probe.unlink()
        except OSError as error:
            raise storage_error(error, self.folder, "use as data folder (storage.dir)") from error

    def content_files(self) -> Iterator[Path]:
        """Every file that lies where a content file would, and is named like one."""
        for content in self.content.values():
            for file in content.glob("[0-9a-f][0-9a-f][0-9a-f]/*"):
                named = TASK_ID_PATTERN.fullmatch(file.name) is not None
                if named and file.name.startswith(file.parent.name) and not file.is_symlink():
                    yield file

    def leftovers(self) -> Iterator[Path]:
        """Files that were being made in our folders when their maker died."""
        for content in self.content.values():
            yield from content.glob(f"[0-9a-f][0-9a-f][0-9a-f]/.*{PARTIAL}")
            yield from content.glob(".probe-*")

    def wipe(self) -> None:
        """Remove content and index, and nothing else that somebody may keep in this folder."""
        try:
            for file in self.content_files():
                file.unlink(missing_ok=True)
            for suffix in ("", "-wal", "-shm"):
                self.index.with_name(self.index.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder, "empty the data folder") from error


class FolderLock:
    """One daemon per data folder: a flock, which the kernel drops with the process."""

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise storage_error(error, path, "lock the data folder") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, _PID_WIDTH, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise storage_error(error, path, "lock the data folder") from error
            raise StorageError(
                f"another daemon (pid {holder or 'unknown'}) uses the data folder {path.parent}: "
                "stop it, or set another storage.dir"
            ) from error
        with suppress(OSError):  # a full volume; the name is for people only
            os.pwrite(self._fd, f"{os.getpid():<{_PID_WIDTH}}\n".encode(), 0)

    def release(self) -> None:
        """Let another daemon use the folder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
