"""One content, asked for as its readers go; the same for both kinds of reader. See `calls`.

What is asked when is `supply`'s business. Bytes come with the answer, or lie in a file of the
daemon's that is opened here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from odonata.client.answer import arrived_in, began_in, deadline_s, to_read
from odonata.client.content_file import open_content_file, read_at
from odonata.client.tally import Tally
from odonata.client.wish import part
from odonata.errors import ProtocolError
from odonata.wire.dragonfly import download_request_to_wire

if TYPE_CHECKING:
    from odonata.client.link import AnyLink, TaskCall
    from odonata.client.supply import Ask, Supply
    from odonata.wire.message import Download

CHUNK_BYTES: Final = 1024 * 1024
"""Of an iteration: large enough that the work for each does not show, small enough for a cache."""


class Asking:
    """The questions about one content, one after the other, and what came of them."""

    def __init__(self, link: AnyLink, download: Download, supply: Supply) -> None:
        self.task_id = ""
        """Known once something was read."""
        self.tally = Tally()
        """Where the bytes came from that were made to come until now."""
        self.fd: int | None = None
        """The daemon's file, once it is open here."""
        self._link = link
        self._download = download
        self._supply = supply
        self._call: TaskCall | None = None

    async def reach(self, start: int, want: int) -> int:
        """Make the byte at `start` come; how many are at hand from there on, 0 at the end."""
        while (count := self._supply.ready(start)) is None:
            ask = self._supply.step(start, want)
            try:
                await (self._next() if ask is None else self._begin(ask))
            except BaseException:  # a reader that was interrupted can go on
                self._hang_up()
                self._supply.broke()
                raise
        return count

    async def finish(self) -> None:
        """Take the daemon's last word: it checks the content if a digest is named."""
        while self._call is not None:
            await self._next()

    async def read_at(self, start: int, n_bytes: int | None) -> bytes:
        """`n_bytes` from `start` on, less only at the end; None: all the rest."""
        parts: list[bytes] = []
        while n_bytes is None or n_bytes > 0:
            data = await self.some(start, CHUNK_BYTES if n_bytes is None else n_bytes, n_bytes)
            if not data:
                break
            parts.append(data)
            start += len(data)
            n_bytes = None if n_bytes is None else n_bytes - len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def some(self, start: int, want: int, limit: int | None) -> bytes:
        """What is at hand from `start` on, at most `limit` bytes; empty: the end."""
        count = await self.reach(start, want)
        count = count if limit is None else min(count, limit)
        if self._supply.in_file and count:
            assert self.fd is not None, "a supply in a file has one"
            data: bytes = await self._link.run(read_at, self.fd, start, count)
            return data
        return bytes(self._supply.chunk(start, count))

    async def size(self) -> int:
        """Length of the content in bytes. Read to its end if the origin does not say."""
        if self._supply.content_length is None:
            await self.reach(0, 1)
        position = 0
        while self._supply.content_length is None:
            position += await self.reach(position, CHUNK_BYTES)
        return self._supply.content_length

    def close(self) -> None:
        """End what is under way."""
        self._hang_up()
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    # --- one question -----------------------------------------------------------------------------

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
        self._call = await self._link.begin(
            request, timeout_s=deadline_s(wish), metadata=to_read(wish)
        )
        message = await self._call.next_message()
        if message is None:
            raise ProtocolError("the daemon said nothing of the content: update it")
        began = began_in(message)
        self.task_id = began.task_id
        file = began.content_file if files else None
        if file is not None and self.fd is None:
            self.fd = await self._link.run(open_content_file, file)
        if files and (file is None or self.fd is None):
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
        assert self._call is not None, "only while an answer comes"
        message = await self._call.next_message()
        if message is None:
            self._call = None
            self._supply.ended()
        else:
            arrived = arrived_in(message)
            self._supply.arrived(arrived)
            self.tally.add(arrived.piece)

    def _hang_up(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
