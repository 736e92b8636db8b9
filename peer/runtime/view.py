"""One caller's hold on one task: facts, ordered bytes, piece events.

A view only looks: what is wanted it says to its `SharedTask`, which owns the download. It never
ends short: whoever reads gets every byte, or the error of the download.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from odonata.errors import OdonataError
from odonata.piece import pieces_of_range
from odonata.wire.message import ByteRange, Download, Piece, TrafficType
from peer.core.content import wanted_numbers
from peer.runtime.port import Segment, StoredTask
from peer.runtime.whole_digest import check_whole

if TYPE_CHECKING:
    from peer.runtime.shared_task import SharedTask


class View:
    """A `TaskView`. Made by the hub; `close` it when done."""

    def __init__(self, shared: SharedTask, download: Download, *, linger: bool) -> None:
        self.download = download
        self.linger = linger
        """The download goes on although this view is closed."""
        self.error: OdonataError | None = None
        """The download it waited for failed."""
        self.joined = False
        """A download was begun or joined for it, so that its failure is this view's, too."""
        self.waits_at: int | None = None
        """The piece its reader stands at and waits for."""
        self.reading = False
        """Bytes were handed out: another content can't continue them."""
        self.is_spoiled = False
        """Wrong bytes were handed out: no others may follow."""
        self.wanted: list[ByteRange | None] = [download.range]
        self.was_local = False
        self.peer_id = ""
        self._shared = shared
        self._open = True
        self._checked = False  # against the digest that the caller gave
        self._handed: set[int] = set()  # pieces whose bytes were handed out

    @property
    def task(self) -> StoredTask:
        """The stored task behind it."""
        return self._shared.task

    @property
    def task_id(self) -> str:
        return self._shared.task_id

    @property
    def content_length(self) -> int | None:
        return self.task.content_length

    @property
    def piece_length(self) -> int:
        length = self.task.piece_length
        assert length is not None, "a view is handed out once the facts are known"
        return length

    @property
    def response_header(self) -> Mapping[str, str]:
        return self.task.response_header

    @property
    def satisfied(self) -> bool:
        """Everything wanted is held."""
        return all(_held(self.task, wanted) for wanted in self.wanted)

    @property
    def wishes(self) -> tuple[Download, ...]:
        """What a download is asked for on its behalf: one for each part that it wants."""
        return tuple(msgspec.structs.replace(self.download, range=one) for one in self.wanted)

    async def known(self) -> None:
        """Return once the content's facts are known; raise the download's error."""
        while self.task.piece_length is None:
            await self._news()

    async def sized(self) -> None:
        """Return once the content's length is known; raise the download's error.

        A part of a content whose length the source does not say may be here without it.
        """
        while self.task.content_length is None and not self.satisfied:
            await self._news()

    async def read(self, wanted: ByteRange | None = None) -> AsyncGenerator[Segment]:
        """See `TaskView.read`. The end of a whole content comes once it is proved."""
        self._widen(wanted)
        self.reading = True
        fd, file_number = self.task.open_fd(), self.task.file_number
        try:
            position = 0 if wanted is None else wanted.start
            end = None if wanted is None else wanted.start + wanted.length
            while end is None or position < end:
                piece = await self._piece_at(position, is_whole=wanted is None)
                if piece is None:
                    break
                if file_number != self.task.file_number:
                    fd = _opened_anew(fd, self.task)
                    file_number = self.task.file_number
                self._handed.add(piece.number)
                stop = piece.offset + piece.length
                stop = stop if end is None else min(stop, end)
                yield Segment(fd=fd, offset=position, length=stop - position)
                position = stop
        finally:
            os.close(fd)
            self._shared.reader_at(self, None)
        if wanted is None:
            await self._check_digest()

    async def pieces(self) -> AsyncIterator[Piece]:
        """See `TaskView.pieces`."""
        self.reading = self.reading or self.download.need_piece_content
        seen: set[int] = set()
        local = True
        while True:
            for number in self._numbers():
                piece = None if number in seen else await self._offered(number)
                if piece is not None:
                    seen.add(number)
                    if self.download.need_piece_content:
                        self._handed.add(number)
                    yield _as_local(piece) if local else piece
            local = False
            if any(number not in seen and self.task.piece(number) for number in self._numbers()):
                continue  # landed while others were looked at
            if self.satisfied:
                return
            await self._news()

    async def landed(self, pause_s: float) -> AsyncIterator[list[Piece]]:
        """`pieces` without content, many at a time: what lands within `pause_s` comes together."""
        seen: set[int] = set()
        was_here = True
        while True:
            new = [
                piece
                for number in self._numbers()
                if number not in seen and (piece := self.task.piece(number)) is not None
            ]
            if new:
                seen.update(piece.number for piece in new)
                yield [_as_local(piece) for piece in new] if was_here else new
            elif self.satisfied:
                return
            else:
                await self._news()
            was_here = False
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    while not self.satisfied:
                        await self._news()

    async def done(self) -> None:
        """See `TaskView.done`; a whole content is checked against `Download.digest`.

        What becomes an output, or has a digest to meet, is not believed unread: see `sound`.
        """
        thorough = self.download.output_path or self.download.digest
        while True:
            while not self.satisfied:
                await self._news()
            if not thorough or await self._all_sound():
                break
        if self.download.range is None:
            await self._check_digest()

    def spoil(self, error: OdonataError, number: int | None = None) -> None:
        """Piece `number` is wrong (None: any of them): end with `error` if it was handed out."""
        if self._handed and (number is None or number in self._handed):
            self.is_spoiled, self.error = True, error

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._shared.leave(self)

    # --- inside ---

    async def _all_sound(self) -> bool:
        """What rots is forgotten, and so is fetched again."""
        found = [await self.task.sound(number) for number in self._numbers()]
        return None not in found

    async def _offered(self, number: int) -> Piece | None:
        """A held piece; if its content goes with it, one that may go out."""
        if self.download.need_piece_content:
            return await self.task.sound(number)
        return self.task.piece(number)

    async def _news(self) -> None:
        """Wait until something changed; raise the download's error instead of waiting for ever."""
        if self.error is not None:
            raise self.error
        assert self._open, "asked after close"
        await self._shared.change()

    def _widen(self, wanted: ByteRange | None) -> None:
        """Reading more than was asked for when the view was opened is asking for it."""
        length = self.content_length
        if wanted is not None and length is not None:
            pieces_of_range(wanted, length, self.piece_length)  # CallerError outside the content
        if wanted not in self.wanted and None not in self.wanted and not _held(self.task, wanted):
            self.wanted.append(wanted)
            self._shared.want_more(self)

    async def _piece_at(self, position: int, *, is_whole: bool) -> Piece | None:
        """The piece with the byte at `position`, waited for; None: the content ends before it.

        Of a whole content neither the last piece is handed out nor the end told before it is
        proved: whoever has all bytes takes them for the right ones, whatever comes then.
        """
        while True:
            if self.is_spoiled and self.error is not None:
                raise self.error
            length = self.content_length
            if length is not None and position >= length:
                if not is_whole or self._shared.is_proved:
                    return None
                await self._news()
                continue
            number = position // self.piece_length
            while (
                held := self.task.piece(number)
            ) is not None and position < held.offset + held.length:
                is_last = length is not None and held.offset + held.length >= length
                if is_whole and is_last and not self._shared.is_proved:
                    break
                piece = await self.task.sound(number)
                if piece is not None:
                    return piece
            # Also after a short piece: the last one, but only the length says so.
            self._shared.reader_at(self, number)
            await self._news()

    def _numbers(self) -> range | tuple[int, ...]:
        """Pieces to look at: those wanted, or all that are held while there is no end in sight."""
        length, wanted = self.content_length, self.download.range
        if length is None and wanted is None:
            return self.task.held()
        return wanted_numbers(wanted, length, self.piece_length)

    async def _check_digest(self) -> None:
        digest = self.download.digest
        if digest and not self._checked and digest not in self._shared.proved_digests:
            await check_whole(self.task, digest)
            self._checked = True


def _held(task: StoredTask, wanted: ByteRange | None) -> bool:
    if task.finished:
        return True
    if wanted is None or task.piece_length is None:
        return False  # a whole content is there when it is finished: flushed and stamped
    numbers = wanted_numbers(wanted, task.content_length, task.piece_length)
    return all(task.piece(number) is not None for number in numbers)


def _opened_anew(fd: int, task: StoredTask) -> int:
    """The content is in another file now; the old one is closed, also if the new one can't be."""
    new = task.open_fd()
    os.close(fd)
    return new


def _as_local(piece: Piece) -> Piece:
    return msgspec.structs.replace(piece, traffic_type=TrafficType.LOCAL_PEER)
