"""A content as a file, with asyncio. How it comes is `asking`'s business."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

from odonata.client.asking import CHUNK_BYTES, Asking
from odonata.errors import CallerError

if TYPE_CHECKING:
    from odonata.client.link import AsyncLink
    from odonata.client.supply import Supply
    from odonata.client.tally import Tally
    from odonata.wire.message import Download


class AsyncReader:
    """Bytes of one content, in order or by jumps. For one task at a time; close it when done.

    Errors of reading: SourceError (what the origin said), UnavailableError (the daemon is gone),
    DigestMismatchError, and the other OdonataErrors.
    """

    def __init__(self, link: AsyncLink, download: Download, supply: Supply) -> None:
        """Made by `AsyncClient.open`."""
        self._asking = Asking(link, download, supply)
        self._position = 0
        self._closed = False

    @property
    def task_id(self) -> str:
        """Known once something was read."""
        return self._asking.task_id

    @property
    def tally(self) -> Tally:
        """Where the bytes came from that were made to come until now."""
        return self._asking.tally

    async def read(self, n_bytes: int = -1) -> bytes:
        """`n_bytes` from here on, less only at the end; -1: all the rest."""
        data = await self.read_at(self._position, None if n_bytes < 0 else n_bytes)
        self._position += len(data)
        return data

    async def read_at(self, start: int, n_bytes: int | None = None) -> bytes:
        """`n_bytes` from `start` on, less only at the end; None: all the rest."""
        self._check_open()
        return await self._asking.read_at(start, n_bytes)

    def tell(self) -> int:
        """Where the next `read` begins."""
        return self._position

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of files; from the end only if the origin says how long the content is."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        if base is None:
            base = await self.size()
        self._position = position_at(base, offset)
        return self._position

    async def size(self) -> int:
        """Length of the content in bytes. Read to its end if the origin does not say."""
        self._check_open()
        return await self._asking.size()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The rest, in chunks."""
        self._check_open()
        while data := await self._asking.some(self._position, CHUNK_BYTES, CHUNK_BYTES):
            self._position += len(data)
            yield data
            self._check_open()

    async def reach(self, start: int, want: int) -> int:
        """Make the byte at `start` come; how many are at hand from there on, 0 at the end."""
        self._check_open()
        return await self._asking.reach(start, want)

    async def finish(self) -> None:
        """Take the daemon's last word: it checks the content if a digest is named."""
        await self._asking.finish()

    async def close(self) -> None:
        """End what is under way."""
        self._closed = True
        self._asking.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise CallerError("the reader is closed: open the URL again")


def position_at(base: int, offset: int) -> int:
    """Where a jump leads. Raises CallerError: before the content."""
    if base + offset < 0:
        raise CallerError(f"position {base + offset} is before the content: seek to 0 or later")
    return base + offset
