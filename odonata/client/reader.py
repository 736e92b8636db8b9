"""A content as a binary file (`io.RawIOBase`), without asyncio. What is asked when is `supply`'s.

The twin of `async_reader`, on grpc's blocking calls: no thread of its own, no event loop.
"""

from __future__ import annotations

import io
import os
import threading
from typing import Any, Final

from odonata.client.answer import arrived_in, began_in, deadline_s, to_read
from odonata.client.content_file import open_content_file, read_at, read_into
from odonata.client.link import Link
from odonata.client.supply import Ask, Supply
from odonata.client.wish import part
from odonata.errors import CallerError, ProtocolError
from odonata.wire.dragonfly import download_request_to_wire
from odonata.wire.message import Download

_CHUNK_BYTES: Final = 1024 * 1024


class Reader(io.RawIOBase):
    """Bytes of one content, in order or by jumps. Calls of several threads wait for each other.

    Errors of reading: SourceError (what the origin said), UnavailableError (the daemon is gone),
    DigestMismatchError, and the other OdonataErrors.
    """

    def __init__(self, link: Link, download: Download, supply: Supply) -> None:
        """Made by `Client.open`."""
        super().__init__()
        self._link = link
        self._download = download
        self._supply = supply
        self._call: Any = None
        self._fd: int | None = None
        self._position = 0
        self._lock = threading.RLock()
        self.task_id = ""
        """Known once something was read."""

    # --- as a file ---

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
                assert self._fd is not None, "a supply in a file has one"
                count = read_into(self._fd, view[:count], self._position)
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
        parts: list[bytes] = []
        with self._lock:
            while n_bytes is None or n_bytes > 0:
                count = self.reach(start, _CHUNK_BYTES if n_bytes is None else n_bytes)
                data = self._take(start, count if n_bytes is None else min(count, n_bytes))
                if not data:
                    break
                parts.append(data)
                start += len(data)
                n_bytes = None if n_bytes is None else n_bytes - len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As of files; from the end only if the origin says how long the content is."""
        with self._lock:
            self._check_open()
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
            if base is None:
                base = self.size
            if base + offset < 0:
                raise CallerError(
                    f"position {base + offset} is before the content: seek to 0 or later"
                )
            self._position = base + offset
            return self._position

    @property
    def size(self) -> int:
        """Length of the content in bytes. Read to its end if the origin does not say."""
        with self._lock:
            if self._supply.content_length is None:
                self.reach(0, 1)
            position = 0
            while self._supply.content_length is None:
                position += self.reach(position, _CHUNK_BYTES)
            return self._supply.content_length

    def close(self) -> None:
        """End what is under way."""
        with self._lock:
            if not self.closed:
                self._hang_up()
                fd, self._fd = self._fd, None
                if fd is not None:
                    os.close(fd)
            super().close()

    # --- bytes that come ---

    def reach(self, start: int, want: int) -> int:
        """Make the byte at `start` come; how many are at hand from there on, 0 at the end."""
        self._check_open()
        while (count := self._supply.ready(start)) is None:
            ask = self._supply.step(start, want)
            try:
                with self._link.explained():
                    if ask is None:
                        self._next()
                    else:
                        self._begin(ask)
            except BaseException:  # a reader that was interrupted can go on
                self._hang_up()
                self._supply.broke()
                raise
        return count

    def finish(self) -> None:
        """Take the daemon's last word: it checks the content if a digest is named."""
        with self._lock, self._link.explained():
            while self._call is not None:
                self._next()

    def _begin(self, ask: Ask) -> None:
        self._hang_up()
        wish = part(self._download, ask.range)
        for files in (True, False) if self._link.files else (False,):
            self._supply.asked(ask)
            if self._asked(wish, files=files):
                return
        raise ProtocolError("the daemon neither sends bytes nor says where they lie: update it")

    def _asked(self, wish: Download, *, files: bool) -> bool:
        """Whether the answer can be read: there is a file if `files`, else bytes will come."""
        request = download_request_to_wire(wish)
        request.download.need_piece_content = not files
        self._call = self._link.stub.DownloadTask(
            request, timeout=deadline_s(wish), metadata=to_read(wish)
        )
        message = next(self._call, None)
        if message is None:
            raise ProtocolError("the daemon said nothing of the content: update it")
        began = began_in(message)
        self.task_id = began.task_id
        file = began.content_file if files else None
        if file is not None and self._fd is None:
            self._fd = open_content_file(file)
        if files and (file is None or self._fd is None):
            self._link.files = False
            self._hang_up()
            return False
        if self._supply.began(began.started, file, trusted=wish.digest is None) is not None:
            self._hang_up()
        return True

    def _next(self) -> None:
        message = next(self._call, None)
        if message is None:
            self._call = None
            self._supply.ended()
        else:
            self._supply.arrived(arrived_in(message))

    def _take(self, start: int, count: int) -> bytes:
        if self._supply.in_file and count:
            assert self._fd is not None, "a supply in a file has one"
            return read_at(self._fd, start, count)
        return bytes(self._supply.chunk(start, count))

    def _hang_up(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the reader is closed: open the URL again")
