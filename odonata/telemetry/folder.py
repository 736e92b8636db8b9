"""Where telemetry lies, who may touch what, and what goes when there is too much of it.

    <folder>/<stem>.part              a segment: being written (locked), or not yet converted
    <folder>/<stem>.broken            was a segment's file, but can't be read
    <folder>/<kind>/<stem>.parquet    whole, always: renamed into place
    <folder>/<kind>/.<stem>.tmp       on its way there, or left by a conversion that died

A part is locked (flock) by whoever writes or converts it; the kernel drops the lock with the
process, so a part without one belongs to nobody. A part goes when all its Parquet files stand.
While both stand, the Parquet file of a kind counts: rows are never seen twice.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from odonata.telemetry.segment import Origin

KINDS: Final = ("decision", "candidate", "piece", "download")
"""Of tables; a decision record becomes rows of the first two."""

PART: Final = ".part"
BROKEN: Final = ".broken"
PARQUET: Final = ".parquet"
UNFINISHED: Final = ".tmp"

UNFINISHED_AGE_S: Final = 3600.0
"""A conversion takes seconds; what it left an hour ago nobody will finish."""

_NAME_CHARS_MAX = 100  # with the rest of the stem and a suffix below the kernel's 255
_ODD_CHARS = re.compile(r"[^A-Za-z0-9._-]+")


def stem_of(origin: Origin, created_at_s: float, pid: int, number: int) -> str:
    """A name that no other segment has: `scheduler-host1-20261124T040500123-4711-1`."""
    who = _ODD_CHARS.sub("_", f"{origin.program or 'program'}-{origin.host or 'host'}")
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(created_at_s))
    milliseconds = int(created_at_s * 1000) % 1000
    return f"{who[:_NAME_CHARS_MAX].lstrip('.')}-{moment}{milliseconds:03}-{pid}-{number}"


def parquet_path(directory: Path, kind: str, stem: str) -> Path:
    """Where the rows of `kind` out of segment `stem` stand when they are converted."""
    return directory / kind / f"{stem}{PARQUET}"


def unfinished_path(directory: Path, kind: str, stem: str) -> Path:
    """Where they are written before."""
    return directory / kind / f".{stem}{UNFINISHED}"


def parts(directory: Path) -> list[Path]:
    """All segments not yet converted, live ones too, by name. OSError if there is no folder."""
    return sorted(path for path in directory.iterdir() if path.suffix == PART)


def parquet_files(directory: Path, kind: str) -> list[Path]:
    """All whole files of `kind`, by name."""
    return sorted((directory / kind).glob(f"[!.]*{PARQUET}"))


def try_lock(fd: int) -> bool:
    """Lock an open part; False if somebody else holds it, or it is gone already."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(fd).st_nlink > 0


@contextmanager
def held(part: Path) -> Generator[BinaryIO | None]:
    """The part, open for reading and locked; None if it is somebody else's or gone."""
    try:
        file = part.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file if try_lock(file.fileno()) else None


def has_finished_parts(directory: Path) -> bool:
    """Whether a segment waits to be converted. OSError if the folder can't be listed."""
    for part in parts(directory):
        with held(part) as file:
            if file is not None:
                return True
    return False


def sync_folder(directory: Path) -> None:
    """Make renames in it outlast a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(directory: Path, now_s: float) -> None:
    """Remove what conversions that died have left; `now_s` is seconds since 1970."""
    for kind in KINDS:
        for path in (directory / kind).glob(f".*{UNFINISHED}"):
            with suppress(FileNotFoundError):
                if now_s - path.stat().st_mtime > UNFINISHED_AGE_S:
                    path.unlink()


@dataclass
class _Group:
    """All files of one stem."""

    bytes: int = 0
    changed_at_s: float = 0.0
    paths: list[Path] = field(default_factory=list[Path])

    def add(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            facts = path.stat()
            self.bytes += facts.st_size
            self.changed_at_s = max(self.changed_at_s, facts.st_mtime)
            self.paths.append(path)

    def remove(self) -> int:
        """Remove all of it but what is written or converted now; how many files went."""
        part = next((path for path in self.paths if path.suffix == PART), None)
        if part is None:
            return sum(map(_removed, self.paths))
        with held(part) as file:
            return 0 if file is None else sum(map(_removed, self.paths))


def prune(directory: Path, bytes_max: int) -> int:
    """Remove the oldest files until at most `bytes_max` are left; how many went.

    Files of one segment go together. Segments that are being written count, and stay.
    """
    groups: dict[str, _Group] = {}
    for path in _files(directory):
        groups.setdefault(path.stem.lstrip("."), _Group()).add(path)
    total = sum(group.bytes for group in groups.values())
    count = 0
    for group in sorted(groups.values(), key=lambda group: group.changed_at_s):
        if total <= bytes_max:
            break
        removed = group.remove()
        count += removed
        total -= group.bytes if removed else 0
    return count


def _files(directory: Path) -> Iterator[Path]:
    suffixes = {PART, BROKEN, PARQUET, UNFINISHED}
    for folder in (directory, *(directory / kind for kind in KINDS)):
        with suppress(FileNotFoundError):
            yield from (path for path in folder.iterdir() if path.suffix in suffixes)


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
