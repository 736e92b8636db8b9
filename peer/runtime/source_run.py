"""One request to a source: its answer cut into pieces and stored, in order.

Lives from OpenSource or FetchSource to the end of the run, StopSource (a cancellation) or failure.
It reports what happened as events and decides nothing: which pieces, when to stop and whether to
try again are the core's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from odonata.errors import (
    CallerError,
    DiskFullError,
    OdonataError,
    SourceError,
    StorageError,
    is_retryable,
)
from odonata.ids import blob_digest_task_id
from odonata.wire.dragonfly.origin import origin_of_download
from odonata.wire.message import Download, Piece, SourceAnswer, TrafficType
from peer.core.effect import CancelReason, FetchSource, OpenSource, StopSource
from peer.core.event import SourceEnded, SourceFailed, SourceOpened, SourcePieceStored
from peer.core.run_record import STOPPED, Try
from peer.runtime.port import SourceStream, StoredTask
from peer.runtime.run_tools import RunPlace, storage_failed
from peer.runtime.source import LimitedStream
from peer.runtime.source_http import strong_etag

"""Recorded of the piece that was on its way from the source when nobody needed it any more."""


def source_failed(first: int, error: OdonataError) -> SourceFailed:
    """The event for a failed run that began at piece `first`."""
    if not isinstance(error, SourceError):
        return SourceFailed(first=first, reason=error.detail, fatal=isinstance(error, CallerError))
    answer = None
    if error.status_code is not None:
        answer = SourceAnswer(
            message=error.detail, status_code=error.status_code, header=dict(error.header)
        )
    return SourceFailed(
        first=first, reason=error.detail, answer=answer, fatal=not is_retryable(error)
    )


class SourceRuns:
    """All runs of one download, by their first piece."""

    def __init__(self, place: RunPlace) -> None:
        self._place = place
        self._runs: dict[int, tuple[_SourceRun, asyncio.Task[None]]] = {}

    def perform(self, effect: OpenSource | FetchSource | StopSource, download: Download) -> None:
        """Carry out `effect`; `download` names the URL and the freshest headers."""
        if isinstance(effect, StopSource):
            _, task = self._runs.pop(effect.first, (None, None))
            if task is not None:
                task.cancel()
            return
        order = effect if isinstance(effect, FetchSource) else None
        open_run, _ = self._runs.get(effect.first, (None, None))
        if order is not None and open_run is not None and open_run.waits:
            open_run.order(order)
            return
        opening = effect if isinstance(effect, OpenSource) else None
        run = _SourceRun(effect.first, self._place, download, opening)
        work = self._place.start(f"source from piece {effect.first}", run.drive(order))
        self._runs[effect.first] = (run, work)


class _SourceRun:
    """A run that begins at piece `first`. `drive` does it; `order` says how far to go."""

    def __init__(
        self, first: int, place: RunPlace, download: Download, opening: OpenSource | None
    ) -> None:
        self._first = first
        self._task = place.task
        self._tools = place.tools
        self._tell = place.tell
        self._changed = place.changed
        self._url = download.url
        self._chosen_piece_length = download.piece_length
        self._header = for_source(download.request_header)
        self._options = origin_of_download(download)
        self._orders: asyncio.Queue[FetchSource] = asyncio.Queue(1)
        self._record = place.record
        self._attempt: Try | None = None  # at the piece that is to come next
        self._opening = opening
        self.waits = opening is not None
        """Opened, but nobody has said yet what to fetch."""

    def order(self, order: FetchSource) -> None:
        """Go on to fetch."""
        self.waits = False
        self._orders.put_nowait(order)

    async def drive(self, order: FetchSource | None) -> None:
        """Ask, report, fetch, report. Every failure but a cancellation becomes an event."""
        if order is not None:
            self._attempt = self._record.from_source(order.first)
        try:
            await self._ask(order)
        except (StorageError, DiskFullError) as error:
            self.waits = False
            if self._attempt is not None:
                self._attempt.cancelled(error.code)
            await self._tell(storage_failed(error))
        except OdonataError as error:
            self.waits = False
            if self._attempt is not None:
                self._attempt.failed(error.code)
            await self._tell(source_failed(self._first, error))
        finally:
            if self._attempt is not None:
                self._attempt.cancelled(STOPPED)  # else it has ended otherwise

    async def _ask(self, order: FetchSource | None) -> None:
        offset, end = self._bytes_of(order)
        try:
            opened = await self._open(offset, end)
            if opened.content_length is None and opened.ranges and order is None:
                await opened.__aexit__(None, None, None)  # where would it go on from there?
                opened = await self._open(offset, None)
        except SourceError as error:
            if offset == 0 or error.status_code != 200:
                raise
            await self._report_no_ranges()
            return
        async with opened as stream:
            why = _other_content(self._url, self._task, stream)
            if why is not None:
                self._changed(why)
                return
            await self._tell(
                SourceOpened(
                    content_length=stream.content_length,
                    ranges=stream.ranges,
                    response_header=dict(stream.response_header),
                )
            )
            await self._copy(stream, order or await self._orders.get())

    async def _open(self, offset: int, end: int | None) -> SourceStream:
        return await self._tools.source.open(
            self._url, self._header, offset=offset, end=end, options=self._options
        )

    async def _report_no_ranges(self) -> None:
        """It begins at byte 0 whatever is asked: the core stops this run for one from the start."""
        await self._tell(SourceOpened(content_length=self._task.content_length, ranges=False))
        await self._orders.get()

    def _bytes_of(self, order: FetchSource | None) -> tuple[int, int | None]:
        """What to ask for; the piece length is not known yet to an opening that says the bytes."""
        if self._opening is not None and self._opening.offset is not None:
            return self._opening.offset, self._opening.end
        return self._offset_of(self._first), self._end_of(order)

    def _offset_of(self, number: int) -> int:
        if number == 0:
            return 0
        piece_length = self._task.piece_length or self._chosen_piece_length
        assert piece_length is not None, "a run that does not begin at 0 knows the piece length"
        return number * piece_length

    def _end_of(self, order: FetchSource | None) -> int | None:
        """Where the request ends, in bytes; None: at the end."""
        length = self._task.content_length
        if order is None or (order.last is None and order.first == 0):
            return None
        if order.last is None:
            return length  # said, for sources that do not say how long they are
        end = self._offset_of(order.last + 1)
        return end if length is None else min(end, length)

    async def _copy(self, stream: SourceStream, order: FetchSource) -> None:
        piece_length = self._task.piece_length
        assert piece_length is not None, "the core names the piece length before it fetches"
        length = await self._copy_pieces(stream, order, piece_length)
        await self._tell(SourceEnded(first=order.first, content_length=length))

    async def _copy_pieces(
        self, stream: SourceStream, order: FetchSource, piece_length: int
    ) -> int | None:
        """Store the pieces of `order`; return the length of the content, if that is known now.

        A buffer for each piece, not one for all: whoever waits for memory gets some after a piece
        of those who have it, not after their whole contents.
        """
        total = stream.content_length
        body = LimitedStream(stream, self._tools.source_limit)
        number, position = order.first, order.first * piece_length
        ended = False
        while not ended and (order.last is None or number <= order.last):
            wanted = _wanted_bytes(position, piece_length, total)
            attempt = self._next_attempt(number, order, 0 if total is None else wanted)
            async with self._tools.buffers.lease(max(1, wanted)) as buffer:
                began_s = time.monotonic()
                count = await _fill(body, buffer[:wanted], attempt)
                ended = count < piece_length
                position += count
                if total is not None and count < wanted:
                    raise SourceError(f"the source ended after {position} of {total} bytes")
                if count:
                    await self._keep(number, buffer[:count], order, began_s)
                    number += 1
        self._attempt = None
        return position if total is None and ended else total

    def _next_attempt(self, number: int, order: FetchSource, length: int) -> Try | None:
        """The first piece's began with the request; None: it is only read past."""
        if number in order.skip:
            self._attempt = None
        elif self._attempt is None or self._attempt.number != number:
            self._attempt = self._record.from_source(number)
        if self._attempt is not None:
            self._attempt.length = length
        return self._attempt

    async def _keep(
        self, number: int, data: memoryview, order: FetchSource, began_s: float
    ) -> None:
        if number in order.skip:
            return
        piece_length = self._task.piece_length or 0
        piece = Piece(
            number=number,
            offset=number * piece_length,
            length=len(data),
            traffic_type=TrafficType.BACK_TO_SOURCE,
            cost_s=time.monotonic() - began_s,
            created_at_s=time.time(),
        )
        stored = await self._task.store(piece, data)
        if self._attempt is not None:
            if stored.traffic_type is TrafficType.BACK_TO_SOURCE:
                self._attempt.ok(stored.length)
            else:  # a parent's copy came first, and stays
                self._attempt.cancelled(CancelReason.HEDGED)
        await self._tell(SourcePieceStored(piece=stored))


async def _fill(stream: LimitedStream, buffer: memoryview, attempt: Try | None) -> int:
    """Fill `buffer` as far as the source goes; return the count."""
    filled = 0
    while filled < len(buffer):
        count = await stream.read_into(buffer[filled:])
        if count == 0:
            break
        if not filled and attempt is not None:
            attempt.times.first_byte_at_s = time.monotonic()
        filled += count
    return filled


def for_source(header: Mapping[str, str]) -> dict[str, str]:
    """The user's headers but for Range: which bytes are asked for is the core's business."""
    return {name: value for name, value in header.items() if name.lower() != "range"}


def _other_content(url: str, task: StoredTask, stream: SourceStream) -> str | None:
    """Why what the source has now can't continue what is held; None if it can.

    Strong validators (RFC 9110 §8.8) tell; Last-Modified alone does not, since servers behind one
    name often differ in it. A blob is named by its digest, and is the same in every registry.
    """
    if not task.held():
        return None
    known, new = task.content_length, stream.content_length
    if known is not None and new is not None and known != new:
        return f"the source has {new} bytes now, and {known} before"
    if blob_digest_task_id(url) == task.task_id:
        return None
    old_tag, new_tag = (strong_etag(one.response_header) for one in (task, stream))
    if old_tag is None or new_tag is None or old_tag == new_tag:
        return None
    return f"the source's ETag is {new_tag} now, and {old_tag} before"


def _wanted_bytes(position: int, piece_length: int, total: int | None) -> int:
    return piece_length if total is None else max(0, min(piece_length, total - position))
