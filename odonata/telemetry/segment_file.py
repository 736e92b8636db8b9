"""A segment being written: created and locked by its writer, and whole after every append."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from odonata.telemetry.folder import try_lock
from odonata.telemetry.segment import SegmentHeader, encode_header

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
_MODE = 0o644  # ids and numbers: readable for whoever trains


class SegmentFile:
    """Creates `path` with its header. OSError, and no file, if that fails.

    What `append` wrote outlives the process at once, and a power cut as soon as the kernel wrote it
    (30 s at most on a usual Linux): telemetry is not worth a sync.
    """

    def __init__(self, path: Path, header: SegmentHeader) -> None:
        self._fd = os.open(path, _FLAGS, _MODE)
        self.path = path
        self.size = 0
        try:
            if not try_lock(self._fd):
                raise BlockingIOError(errno.EAGAIN, "locked by another process", str(path))
            self.append(encode_header(header))
        except OSError:
            with suppress(OSError):
                path.unlink()
            os.close(self._fd)
            raise

    def append(self, frames: bytes) -> None:
        """Write whole frames. OSError: none of them is in the file."""
        rest = memoryview(frames)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            # If even this fails, the torn frame stays the last: nothing is appended after an error.
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        self.size += len(frames)

    def close(self) -> None:
        """Finish it: whoever converts may have it."""
        with suppress(OSError):  # what a remote disk says only now, nobody can mend
            os.close(self._fd)
