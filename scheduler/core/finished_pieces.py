"""The numbers of the pieces a peer has finished, one bit each.

A set of Python integers takes some 80 bytes a number; a scheduler remembers thousands of peers
with up to thousands of pieces each.
"""

from __future__ import annotations

from functools import lru_cache


class FinishedPieces:
    """A set of piece numbers that only grows."""

    __slots__ = ("_bits", "_count")

    def __init__(self) -> None:
        self._bits = 0
        self._count: int | None = 0

    def __len__(self) -> int:
        if self._count is None:
            self._count = self._bits.bit_count()
        return self._count

    def add(self, number: int) -> None:
        """Add `number`, 0 or more; the memory it takes grows with the highest one."""
        self._bits |= 1 << number
        self._count = None

    def has_part(self, index: int, count: int, of: int) -> bool:
        """Whether it holds all of 0 to `of - 1` that leave `index` when divided by `count`."""
        return all(self._bits >> number & 1 for number in range(index, of, count))

    def has_beyond(self, other: FinishedPieces) -> bool:
        """Whether it holds anything that the other one does not."""
        return bool(self._bits & ~other._bits)

    @property
    def has_no_gap(self) -> bool:
        """Whether the numbers are 0, 1, 2, ... up to some last one."""
        return self._bits > 0 and self._bits & (self._bits + 1) == 0

    def numbers(self) -> tuple[int, ...]:
        """Return all numbers in ascending order."""
        if not self._bits:
            return ()
        if self.has_no_gap:
            return _first(len(self))
        digits = f"{self._bits:b}"[::-1]
        return tuple(number for number, digit in enumerate(digits) if digit == "1")


@lru_cache(maxsize=64)
def _first(count: int) -> tuple[int, ...]:
    """0, 1, 2, ...: the holders of a task hold the same, and are named again and again."""
    return tuple(range(count))
