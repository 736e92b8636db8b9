"""Arithmetic of pieces: how long they are, how many, and where each one lies.

Every task is cut into pieces of one length; only the last may be shorter. Peers, seeds and ranges
of the same task share this grid. Nothing here knows what a piece holds or who has it.
All lengths and offsets are bytes; piece numbers start at 0.
"""

from __future__ import annotations

from typing import Final

from odonata.errors import CallerError
from odonata.wire.message import ByteRange

MIB: Final = 1024 * 1024
# Bounds and target of Dragonfly's piece length rule; a peer that cuts otherwise can't share pieces.
PIECE_LENGTH_MIN: Final = 4 * MIB
PIECE_LENGTH_FLOOR: Final = 64 * 1024  # that an operator may choose: below, questions cost more
PIECE_LENGTH_MAX: Final = 64 * MIB
PIECE_COUNT_TARGET: Final = 500
# Pieces for each of several seeds that share a source, or only the first one is asked: a smaller
# part is fetched in about the time that it takes to call another seed. Scheduler and seeds go by
# it, so that the first seed knows whether others will come.
SHARE_PIECES_MIN: Final = 4


def piece_length_for(content_length: int, least: int = PIECE_LENGTH_MIN) -> int:
    """Length of the pieces of a content of `content_length` bytes, if the user did not choose one.

    Dragonfly's rule: the next power of two of a five-hundredth, within 4 MiB to 64 MiB. `least`:
    other than 4 MiB in clusters without a stock peer.
    """
    _check_content_length(content_length)
    share = content_length // PIECE_COUNT_TARGET
    power = 1 << max(share - 1, 0).bit_length()
    return min(max(power, least), PIECE_LENGTH_MAX)


def piece_count(content_length: int, piece_length: int) -> int:
    """Number of pieces; an empty content has none."""
    _check_content_length(content_length)
    _check_piece_length(piece_length)
    return -(-content_length // piece_length)


def piece_at(number: int, content_length: int, piece_length: int) -> tuple[int, int]:
    """Return `(offset, length)` of piece `number`; CallerError if the content has no such piece."""
    count = piece_count(content_length, piece_length)
    if not 0 <= number < count:
        raise CallerError(
            f"piece {number} does not exist: {content_length} bytes in pieces of {piece_length} "
            f"make {count} pieces, numbered from 0"
        )
    offset = number * piece_length
    return offset, min(piece_length, content_length - offset)


def pieces_of_range(wanted: ByteRange | None, content_length: int, piece_length: int) -> range:
    """Numbers of the pieces that hold any byte of `wanted` (None: the whole content).

    A range that reaches past the end is cut there, as HTTP does. CallerError if it starts past the
    end (except for an empty range at the very end) or is negative.
    """
    count = piece_count(content_length, piece_length)
    if wanted is None:
        return range(count)
    if wanted.start < 0 or wanted.length < 0 or wanted.start > content_length:
        raise CallerError(
            f"range of {wanted.length} bytes from {wanted.start} is not inside the content: "
            f"ask for bytes between 0 and {content_length}"
        )
    end = min(wanted.start + wanted.length, content_length)
    if end == wanted.start:
        if wanted.length > 0:
            raise CallerError(
                f"range starts at {wanted.start}, but the content ends there: "
                f"ask for bytes between 0 and {content_length}"
            )
        return range(0)
    return range(wanted.start // piece_length, (end - 1) // piece_length + 1)


def _check_content_length(content_length: int) -> None:
    if content_length < 0:
        raise CallerError(f"content length {content_length} is negative: give 0 or more bytes")


def _check_piece_length(piece_length: int) -> None:
    if piece_length <= 0:
        raise CallerError(f"piece length {piece_length} is not positive: give 1 or more bytes")
