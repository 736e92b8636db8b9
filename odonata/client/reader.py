"""A content as a binary file (`io.RawIOBase`), without asyncio. How it comes is `asking`'s.

The twin of `async_reader`, on grpc's blocking calls: no thread of its own, no event loop.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any

from odonata.client.asking import Asking
from odonata.client.async_reader import position_at
from odonata.client.content_file import read_into
from odonata.client.link import Link, run_blocking

if TYPE_CHECKING:
    from odonata.client.supply import Supply
    from odonata.wire.message import Download


class Reader(io.RawIOBase):
    """Bytes of one content, in order or by jumps. Calls of several threads wait for each other.

    Errors of reading: SourceError (what the origin said), UnavailableError (the daemon is gone),
    DigestMismatchError, and the other OdonataErrors.
    """

    def __init__(self, link: Link, download: Download, supply: Supply) -> None:
        """Made by `Client.open`."""
        super().__init__()
        self._asking = Asking(link, download, supply)
        self._supply = supply
        self._position = 0
        self._lock = threading.RLock()

    @property
    def task_id(self) -> str:
        """Known once something was read."""
        return self._asking.task_id

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # anything with a writable buffer
        """Fill `buffer` with what is at hand; wait only if that is nothing. 0: the end."""
        view = memoryview(buffer).cast("B")
        with self._lock:
            if not len(view):
                return 0
            count = min(self.reach(self._position, len(view)), len(view))
            if count and self._supply.in_file:
                assert self._asking.fd is not None, "a supply in a file has one"
                count = read_into(self._asking.fd, view[:count], self._position)
            elif count:
                view[:count] = self._supply.chunk(self._position, count)
            self._position += count
            return count

    def readall(self) -> bytes:
        """All the rest."""
        with self._lock:
            data = self.read_at(self._position)
            self._position += len(data)
            return data

    def read_at(self, start: int, n_bytes: int | None = None) -> bytes:
        """`n_bytes` from `start` on, less only at the end; None: all the rest."""
        with self._lock:
            self._check_open()
            return run_blocking(self._asking.read_at(start, n_bytes))

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As of files; from the end only if the origin says how long the content is."""
        with self._lock:
            self._check_open()
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
            self._position = position_at(self.size if base is None else base, offset)
            return self._position

    @property
    def size(self) -> int:
        """Length of the content in bytes. Read to its end if the origin does not say."""
        with self._lock:
            self._check_open()
            return run_blocking(self._asking.size())

    def reach(self, start: int, want: int) -> int:
        """Make the byte at `start` come; how many are at hand from there on, 0 at the end."""
        self._check_open()
        return run_blocking(self._asking.reach(start, want))

    def finish(self) -> None:
        """Take the daemon's last word: it checks the content if a digest is named."""
        with self._lock:
            run_blocking(self._asking.finish())

    def close(self) -> None:
        """End what is under way."""
        with self._lock:
            if not self.closed:
                self._asking.close()
            super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the reader is closed: open the URL again")
