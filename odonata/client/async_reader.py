"""A content as a file, with asyncio. What is asked when is `supply`'s business."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from typing import Any, Final, Self

from odonata.client.answer import arrived_in, began_in, deadline_s, to_read
from odonata.client.content_file import open_content_file, read_at
from odonata.client.link import AsyncLink, next_of
from odonata.client.supply import Ask, Supply
from odonata.client.tally import Tally
from odonata.client.wish import part
from odonata.errors import CallerError, ProtocolError
from odonata.wire.dragonfly import download_request_to_wire
from odonata.wire.message import Download

CHUNK_BYTES: Final = 1024 * 1024
"""Of an iteration: large enough that the work for each does not show, small enough for a cache."""


class AsyncReader:
    """Bytes of one content, in order or by jumps. For one task at a time; close it when done.

    Errors of reading: SourceError (what the origin said), UnavailableError (the daemon is gone),
    DigestMismatchError, and the other OdonataErrors.
    """

    def __init__(self, link: AsyncLink, download: Download, supply: Supply) -> None:
        """Made by `AsyncClient.open`."""
        self._link = link
        self._download = download
        self._supply = supply
        self._call: Any = None
        self._fd: int | None = None
        self._position = 0
        self._closed = False
        self.task_id = ""
        """Known once something was read."""
        self.tally = Tally()
        """Where the bytes came from that were made to come until now."""

    # --- as a file ---

    async def read(self, n_bytes: int = -1) -> bytes:
        """`n_bytes` from here on, less only at the end; -1: all the rest."""
        data = await self.read_at(self._position, None if n_bytes < 0 else n_bytes)
        self._position += len(data)
        return data

    async def read_at(self, start: int, n_bytes: int | None = None) -> bytes:
        """`n_bytes` from `start` on, less only at the end; None: all the rest."""
        parts: list[bytes] = []
        while n_bytes is None or n_bytes > 0:
            data = await self._some(start, CHUNK_BYTES if n_bytes is None else n_bytes, n_bytes)
            if not data:
                break
            parts.append(data)
            start += len(data)
            n_bytes = None if n_bytes is None else n_bytes - len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _some(self, start: int, want: int, limit: int | None) -> bytes:
        count = await self.reach(start, want)
        return await self._take(start, count if limit is None else min(count, limit))

    def tell(self) -> int:
        """Where the next `read` begins."""
        return self._position

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of files; from the end only if the origin says how long the content is."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        if base is None:
            base = await self.size()
        if base + offset < 0:
            raise CallerError(f"position {base + offset} is before the content: seek to 0 or later")
        self._position = base + offset
        return self._position

    async def size(self) -> int:
        """Length of the content in bytes. Read to its end if the origin does not say."""
        if self._supply.content_length is None:
            await self.reach(0, 1)
        position = 0
        while self._supply.content_length is None:
            position += await self.reach(position, CHUNK_BYTES)
        return self._supply.content_length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The rest, in chunks."""
        while data := await self._some(self._position, CHUNK_BYTES, CHUNK_BYTES):
            self._position += len(data)
            yield data

    async def close(self) -> None:
        """End what is under way."""
        self._closed = True
        self._hang_up()
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- bytes that come ---

    async def reach(self, start: int, want: int) -> int:
        """Make the byte at `start` come; how many are at hand from there on, 0 at the end."""
        if self._closed:
            raise CallerError("the reader is closed: open the URL again")
        while (count := self._supply.ready(start)) is None:
            ask = self._supply.step(start, want)
            try:
                async with self._link.explained():
                    await (self._next() if ask is None else self._begin(ask))
            except BaseException:  # a reader that was interrupted can go on
                self._hang_up()
                self._supply.broke()
                raise
        return count

    async def finish(self) -> None:
        """Take the daemon's last word: it checks the content if a digest is named."""
        async with self._link.explained():
            while self._call is not None:
                await self._next()

    async def _begin(self, ask: Ask) -> None:
        self._hang_up()
        wish = part(self._download, ask.range)
        for files in (True, False) if self._link.files else (False,):
            self._supply.asked(ask)
            if await self._asked(wish, files=files):
                return
        raise ProtocolError("the daemon neither sends bytes nor says where they lie: update it")

    async def _asked(self, wish: Download, *, files: bool) -> bool:
        """Whether the answer can be read: there is a file if `files`, else bytes will come."""
        request = download_request_to_wire(wish)
        request.download.need_piece_content = not files
        self._call = self._link.stub.DownloadTask(
            request, timeout=deadline_s(wish), metadata=to_read(wish)
        )
        message = await next_of(self._call)
        if message is None:
            raise ProtocolError("the daemon said nothing of the content: update it")
        began = began_in(message)
        self.task_id = began.task_id
        file = began.content_file if files else None
        if file is not None and self._fd is None:
            self._fd = await asyncio.to_thread(open_content_file, file)
        if files and (file is None or self._fd is None):
            self._link.files = False
            self._hang_up()
            return False
        self.tally.start(began.started)
        held = self._supply.began(began.started, file, trusted=wish.digest is None)
        if held is not None:
            self.tally.add(held)
            self._hang_up()
        return True

    async def _next(self) -> None:
        message = await next_of(self._call)
        if message is None:
            self._call = None
            self._supply.ended()
        else:
            arrived = arrived_in(message)
            self._supply.arrived(arrived)
            self.tally.add(arrived.piece)

    async def _take(self, start: int, count: int) -> bytes:
        if self._supply.in_file and count:
            assert self._fd is not None, "a supply in a file has one"
            return await asyncio.to_thread(read_at, self._fd, start, count)
        return bytes(self._supply.chunk(start, count))

    def _hang_up(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
