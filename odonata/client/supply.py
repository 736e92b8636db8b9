"""Which bytes of a content are at hand, and what to ask the daemon for next. Pure: no I/O.

A reader stands somewhere and wants so many bytes. The first question is for a window there; whoever
then reads on where the window ended is taken for one who reads to the end, and the rest is asked
for at once, so that the daemon fetches ahead of it. Who jumps gets windows. Bytes come in the order
of the content. Either the daemon sends them, and one step of them is kept; or it only says what
lies in a file that the reader has open, and everything that was said stays at hand.
"""

from __future__ import annotations

from typing import Final

from odonata.errors import CallerError, ProtocolError, SourceError
from odonata.piece import PIECE_LENGTH_MIN
from odonata.wire.dragonfly import PieceArrived, TaskStarted
from odonata.wire.dragonfly.content_file import ContentFile
from odonata.wire.dragonfly.parent import content_length_from_wire
from odonata.wire.message import ByteRange, Piece, TrafficType, Value

WINDOW_BYTES: Final = PIECE_LENGTH_MIN
"""Asked for around a first read: the daemon fetches whole pieces anyway, and none is shorter."""

_GRID_BYTES: Final = PIECE_LENGTH_MIN
_SKIP_BYTES: Final = PIECE_LENGTH_MIN  # rather waited for than asked for anew


class Ask(Value, frozen=True, kw_only=True):
    """A question to the daemon; `range` None: everything."""

    range: ByteRange | None


class Supply:
    """One reader's bytes. `content_length` is None until it is known."""

    def __init__(self, *, window_bytes: int = WINDOW_BYTES, whole: bool = False) -> None:
        """`whole`: everything is wanted, from the first byte on."""
        self.content_length: int | None = None
        self.in_file = False
        """The bytes are read from a file, whose finished parts the daemon names."""
        self._window_bytes = window_bytes
        self._whole = whole
        self._asked = False
        self._running = False
        self._end: int | None = None  # of the running call's range
        self._low = self._high = 0  # at hand
        self._ends_at: int | None = None  # seen, though no length was said
        self._chunk = b""
        self._file: ContentFile | None = None
        self._etag: str | None = None

    def ready(self, start: int) -> int | None:
        """Bytes at hand from `start` on; 0: the content ends there; None: they must come first."""
        for end in (self.content_length, self._ends_at):
            if end is not None and start >= end:
                return 0
        return self._high - start if self._low <= start < self._high else None

    def step(self, start: int, want: int) -> Ask | None:
        """How the byte at `start` is made to come: a new question, or (None) the next message."""
        if self._running and self._high <= start:
            near = start <= self._high + _SKIP_BYTES
            if self._end is None or (near and start < self._end):
                return None
        return Ask(range=self._range(start, want))

    def _range(self, start: int, want: int) -> ByteRange | None:
        length = self.content_length
        sequential = start == self._high if self._asked else self._whole
        if sequential:
            # Without a length no end can be named, but the end of everything.
            return None if start == 0 or length is None else _span(start, length)
        end = start + max(want, self._window_bytes, 1)
        if self.in_file:
            start -= start % _GRID_BYTES
            end += -end % _GRID_BYTES
        return _span(start, end if length is None else min(end, length))

    def asked(self, ask: Ask) -> None:
        """The question is on its way; what an earlier one brought and is not in a file is gone."""
        self._asked = self._running = True
        self._chunk = b""
        self._low = self._high = 0 if ask.range is None else ask.range.start
        self._end = None if ask.range is None else ask.range.start + ask.range.length

    def began(
        self, started: TaskStarted, file: ContentFile | None, *, trusted: bool
    ) -> Piece | None:
        """The first answer; `file`: what is read from, if anything is.

        `trusted`: nothing is left to be checked at the end. Returned is what is at hand already, if
        that is all that was asked for; then the rest of the answer is not needed. Raises
        SourceError: it is another content than before.
        """
        length = content_length_from_wire(started.content_length, len(started.pieces))
        changed = self.content_length is not None and length not in {None, self.content_length}
        etag = started.response_header.get("etag")
        changed = changed or (etag is not None and self._etag not in {None, etag})
        self._etag = etag or self._etag
        if changed or (self._file is not None and file not in {None, self._file}):
            raise SourceError("the content changed at the source while it was read: open it again")
        self.content_length = length if length is not None else self.content_length
        self._file = file or self._file
        self.in_file = file is not None
        if not (self.in_file and started.is_finished and trusted) or length is None:
            return None
        self._high = length if self._end is None else min(self._end, length)
        self._running = False
        held = self._high - self._low
        return Piece(number=0, offset=self._low, length=held, traffic_type=TrafficType.LOCAL_PEER)

    def arrived(self, step: PieceArrived) -> None:
        """More is at hand. Raises ProtocolError."""
        piece = step.piece
        if piece.offset != self._high:
            raise ProtocolError(
                f"the daemon named bytes from {piece.offset} on, not from {self._high}: "
                "it does not serve readers in order; use a daemon of this version"
            )
        if not self.in_file:
            if step.content is None or len(step.content) != piece.length:
                raise ProtocolError("the daemon sent another number of bytes than it named")
            self._low = piece.offset
            self._chunk = step.content
        self._high = piece.offset + piece.length

    def ended(self) -> None:
        """The running call is over. Raises ProtocolError if it brought less than it had to."""
        self._running = False
        length = self.content_length
        if length is None:
            if self._end is None:
                self.content_length = self._high
            elif self._high < self._end:
                self._ends_at = self._high
        elif self._high < min(length, length if self._end is None else self._end):
            raise ProtocolError(f"the daemon's answer ended at byte {self._high}, too early")

    def check_start(self, start: int) -> None:
        """Raises CallerError if the content ends before `start`."""
        length = self._ends_at if self.content_length is None else self.content_length
        if length is not None and start > length:
            raise CallerError(f"start {start} is behind the content: it has {length} bytes")

    def broke(self) -> None:
        """The running call is gone; what it brought stays at hand."""
        self._running = False

    def chunk(self, start: int, length: int) -> memoryview:
        """Bytes at hand that came by message."""
        offset = start - self._low
        return memoryview(self._chunk)[offset : offset + length]


def supply_for(start: int, length: int | None) -> Supply:
    """For one reading of a part. Raises CallerError if there can be no such part."""
    if start < 0 or (length is not None and length < 0):
        raise CallerError(f"no content has {length} bytes at {start}: give 0 or more of both")
    return Supply(window_bytes=0, whole=start == 0 and length is None)


def _span(start: int, end: int) -> ByteRange:
    return ByteRange(start=start, length=end - start)
