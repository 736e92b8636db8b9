"""What the pieces of one task are, by their CRC-32, as those said who had them from the source.

Nobody's word is taken for the truth: when two differ on a piece, nothing is known of it any more.
The list tells who holds other bytes than the rest (`accusation`).
"""

from __future__ import annotations

from array import array

MAX_PIECES = 65_536
"""Pieces that are remembered: 512 KiB for each task, and 256 GiB of content in pieces of 4 MiB."""

_UNKNOWN = -1
_DISPUTED = -2
_PREFIX = "crc32:"
_DIGITS_MAX = 10  # of 2^32 - 1
_CRC_END = 1 << 32


class PieceDigests:
    """Digests by piece number, 8 bytes each."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values = array("q")

    def __len__(self) -> int:
        """Pieces there is room for: the highest number heard of, and one more."""
        return len(self._values)

    def learn(self, number: int, digest: str) -> None:
        """Somebody had this piece from the source. What can't be a CRC-32 is ignored."""
        value = crc_of(digest)
        if value is None or not 0 <= number < MAX_PIECES:
            return
        if number >= len(self._values):
            self._values.extend([_UNKNOWN] * (number + 1 - len(self._values)))
        known = self._values[number]
        if known == _UNKNOWN:
            self._values[number] = value
        elif known != value:
            self._values[number] = _DISPUTED

    def get(self, number: int) -> int | None:
        """The CRC-32 of a piece; None if nobody said it, or not everybody the same."""
        value = self._values[number] if 0 <= number < len(self._values) else _UNKNOWN
        return None if value < 0 else value

    def agrees(self, number: int, digest: str) -> bool | None:
        """Whether `digest` is that of the piece; None if one of the two is not known."""
        known, value = self.get(number), crc_of(digest)
        return None if known is None or value is None else known == value

    def clear(self) -> None:
        """The source may have another content now."""
        self._values = array("q")


def crc_of(digest: str) -> int | None:
    """The number in `crc32:<decimal>`; None for anything else."""
    digits = digest[len(_PREFIX) :]
    if not digest.startswith(_PREFIX) or len(digits) > _DIGITS_MAX:
        return None
    if not (digits.isascii() and digits.isdigit()):
        return None
    value = int(digits)
    return value if value < _CRC_END else None
