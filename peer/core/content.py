"""What is known, held and wanted of one content. Facts only, not where pieces come from.

While the length is unknown, every piece that is not held counts as missing, and nothing is complete
(unless only ranges are wanted, and all their pieces are held).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Self

from odonata.errors import CallerError
from odonata.piece import PIECE_LENGTH_MIN, piece_at, piece_count, piece_length_for, pieces_of_range
from odonata.wire.message import ByteRange, Piece
from peer.core.effect import LearnMeta

if TYPE_CHECKING:
    from odonata.wire.message import Download
    from peer.core.limits import DownloadLimits


class Content:
    """The grid of a content, and which of its pieces are here, wanted, missing."""

    def __init__(
        self,
        *,
        piece_length: int | None,
        wanted: ByteRange | None,
        least_piece_length: int = PIECE_LENGTH_MIN,
    ) -> None:
        """`piece_length`: what the user chose, None for the rule. `wanted` None: everything."""
        self._least_piece_length = least_piece_length
        self.content_length: int | None = None
        self.piece_length: int | None = piece_length
        self.response_header: dict[str, str] = {}
        self.held: set[int] = set()
        self.learned = False  # LearnMeta was said: there is room for pieces
        self._wanted: list[ByteRange | None] = [wanted]
        self._missing: set[int] | None = None  # None: no end in sight

    @classmethod
    def of(cls, download: Download, limits: DownloadLimits) -> Self:
        """Of which nothing is known but what is asked for."""
        return cls(
            piece_length=download.piece_length,
            wanted=download.range,
            least_piece_length=limits.least_piece_length,
        )

    def by_rule(self, content_length: int) -> int:
        """How long pieces of so long a content are, if nobody says."""
        return piece_length_for(content_length, self._least_piece_length)

    # --- facts ----------------------------------------------------------------------------------

    def resume(
        self, content_length: int | None, piece_length: int | None, held: tuple[int, ...]
    ) -> None:
        """Take what storage knows from an earlier download."""
        self.held = set(held)
        self.content_length = content_length
        self.piece_length = piece_length or self.piece_length
        if content_length is not None and self.piece_length is None:
            self.piece_length = self.by_rule(content_length)
        # What holds pieces was learned before, if only that nobody says how long it is.
        self.learned = content_length is not None or bool(held)
        self._count_missing()

    def learn(
        self,
        content_length: int | None,
        piece_length: int | None,
        response_header: dict[str, str],
    ) -> LearnMeta | None:
        """Note facts that do not contradict; return what there is to tell, None if no news."""
        news = not self.learned or (self.content_length is None and content_length is not None)
        if not news:
            return None
        if self.content_length is None:
            self.content_length = content_length
        if self.piece_length is None:
            self.piece_length = self._piece_length(piece_length)
        self.response_header = self.response_header or response_header
        self.learned = True
        self._count_missing()
        return LearnMeta(
            content_length=self.content_length,
            piece_length=self.piece_length,
            response_header=self.response_header,
        )

    def contradiction(self, content_length: int | None, piece_length: int | None) -> str | None:
        """Why these facts can't be of this content; None if they can."""
        if (piece_length is not None and piece_length <= 0) or (content_length or 0) < 0:
            return f"content length {content_length} in pieces of {piece_length}"
        if self.piece_length and piece_length and piece_length != self.piece_length:
            return f"piece length {piece_length}, but it is {self.piece_length}"
        if content_length is None:
            return None
        if self.content_length is not None and content_length != self.content_length:
            return f"content length {content_length}, but it is {self.content_length}"
        length = self.piece_length or piece_length
        if length and self.held and max(self.held) >= piece_count(content_length, length):
            return f"content length {content_length}, but piece {max(self.held)} is held"
        return None

    def misfit(self, piece: Piece) -> str | None:
        """Why an offered piece can't be of this content; None if it can (or nothing is known)."""
        if piece.number < 0 or self.piece_length is None:
            return f"piece {piece.number} is negative" if piece.number < 0 else None
        offset, length = self.span(piece.number)
        if offset is None or piece.offset != offset:
            return f"piece {piece.number} at {piece.offset} is not on the grid"
        if length is None and not 0 < piece.length <= self.piece_length:
            return f"piece {piece.number} is {piece.length} bytes long"
        if length is not None and piece.length != length:
            return f"piece {piece.number} is {piece.length} bytes long, not {length}"
        return None

    def span(self, number: int) -> tuple[int | None, int | None]:
        """Offset and length of a piece; None for what is unknown, or outside the content."""
        if self.piece_length is None:
            return None, None
        if self.content_length is None:
            return number * self.piece_length, None
        if not 0 <= number < self._count(self.content_length):
            return None, None
        return piece_at(number, self.content_length, self.piece_length)

    @property
    def count(self) -> int | None:
        """Number of pieces, None while the length is unknown."""
        return None if self.content_length is None else self._count(self.content_length)

    # --- held and wanted ------------------------------------------------------------------------

    def want(self, wanted: ByteRange | None) -> None:
        """Somebody wants this, too."""
        if None in self._wanted or wanted in self._wanted:
            return
        self._wanted = [None] if wanted is None else [*self._wanted, wanted]
        self._count_missing()

    @property
    def wanted(self) -> tuple[ByteRange | None, ...]:
        """What anybody wants, each part once; (None,): everything."""
        return tuple(self._wanted)

    @property
    def parts_only(self) -> bool:
        """Nobody wants the whole content."""
        return None not in self._wanted

    def hold(self, number: int) -> bool:
        """A piece is on the disk now; False if it was already."""
        if number in self.held:
            return False
        self.held.add(number)
        if self._missing is not None:
            self._missing.discard(number)
        return True

    def forget(self, number: int) -> None:
        """A piece is not held any more: its bytes were wrong."""
        if number in self.held:
            self.held.discard(number)
            self._count_missing()

    def lacks(self, number: int) -> bool:
        """It is wanted and not held."""
        if self._missing is None:
            return number >= 0 and number not in self.held
        return number in self._missing

    def missing(self) -> list[int] | None:
        """Wanted pieces that are not held, ascending; None while there is no end in sight."""
        return None if self._missing is None else sorted(self._missing)

    def each_missing(self) -> Collection[int]:
        """The same in no order, and not to be kept; empty while there is no end in sight."""
        return () if self._missing is None else self._missing

    def first_missing_from(self, number: int) -> int | None:
        """The lowest missing piece at or after `number`."""
        if self._missing is None:
            while number in self.held:
                number += 1
            return number
        return min((n for n in self._missing if n >= number), default=None)

    @property
    def complete(self) -> bool:
        """Everything wanted is held."""
        return self.learned and self._missing is not None and not self._missing

    @property
    def whole(self) -> bool:
        """The entire content is held."""
        return self.count is not None and len(self.held) >= self.count

    # --- inside ---------------------------------------------------------------------------------

    def _piece_length(self, told: int | None) -> int:
        """What others cut by, else the rule (4 MiB without a length)."""
        if told or self.content_length is None:
            return told or PIECE_LENGTH_MIN
        return self.by_rule(self.content_length)

    def _count(self, content_length: int) -> int:
        return piece_count(content_length, self.piece_length or PIECE_LENGTH_MIN)

    def _count_missing(self) -> None:
        self._missing = None
        if self.piece_length is None:
            return
        if self.content_length is None and None in self._wanted:
            return
        missing: set[int] = set()
        for wanted in self._wanted:
            missing.update(wanted_numbers(wanted, self.content_length, self.piece_length))
        self._missing = missing - self.held


def wanted_numbers(
    wanted: ByteRange | None, content_length: int | None, piece_length: int
) -> range:
    """The pieces that `wanted` touches; of a content without a known end, only a part has any."""
    if content_length is not None:
        try:
            return pieces_of_range(wanted, content_length, piece_length)
        except CallerError:
            return range(0)  # outside the content: whoever reads it is told so there
    if wanted is None or wanted.length <= 0:
        return range(0)
    end = wanted.start + wanted.length
    return range(wanted.start // piece_length, -(-end // piece_length))
