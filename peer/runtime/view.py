"""One caller's hold on one task: facts, ordered bytes, piece events.

A view only looks: what is wanted it says to its `SharedTask`, which owns the download. It never
ends short: whoever reads gets every byte, or the error of the download.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
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
        self.wanted: list[ByteRange | None] = [download.range]
        self.was_local = False
        self.peer_id = ""
        self._shared = shared
        self._open = True

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

    async def read(self, wanted: ByteRange | None = None) -> AsyncIterator[Segment]:
        """See `TaskView.read`. A whole content is checked against `Download.digest` at its end."""
        self._widen(wanted)
        self.reading = True
        fd = self.task.open_fd()
        try:
            position = 0 if wanted is None else wanted.start
            end = None if wanted is None else wanted.start + wanted.length
            while end is None or position < end:
                piece = await self._piece_at(position)
                if piece is None:
                    break
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
            was_satisfied = self.satisfied
            for number in self._numbers():
                piece = None if number in seen else self.task.piece(number)
                if piece is not None:
                    seen.add(number)
                    yield _as_local(piece) if local else piece
            local = False
            if was_satisfied:
                return
            if not self.satisfied:  # else the last ones may have landed while one was taken
                await self._news()

    async def done(self) -> None:
        """See `TaskView.done`; a whole content is checked against `Download.digest`."""
        while not self.satisfied:
            await self._news()
        if self.download.range is None:
            await self._check_digest()

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._shared.leave(self)

    # --- inside ---

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

    async def _piece_at(self, position: int) -> Piece | None:
        """The piece with the byte at `position`, waited for; None: the content ends before it."""
        number = position // self.piece_length
        while True:
            length = self.content_length
            if length is not None and position >= length:
                return None
            piece = self.task.piece(number)
            if piece is not None and position < piece.offset + piece.length:
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
        if self.download.digest:
            await check_whole(self.task, self.download.digest)


def _held(task: StoredTask, wanted: ByteRange | None) -> bool:
    if task.finished:
        return True
    if wanted is None or task.piece_length is None:
        return False  # a whole content is there when it is finished: flushed and stamped
    numbers = wanted_numbers(wanted, task.content_length, task.piece_length)
    return all(task.piece(number) is not None for number in numbers)


def _as_local(piece: Piece) -> Piece:
    return msgspec.structs.replace(piece, traffic_type=TrafficType.LOCAL_PEER)
