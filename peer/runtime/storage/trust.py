"""Which pieces of a task were seen to be right lately; the others are read before they go out.

Disks rot, people edit files, and an output may be a hard link of what is stored. Children notice by
the digest; readers on this host have none to go by. Reading everything before each use would double
its cost; so a piece is read again only if that was not done since the daemon's start, or for so
long, or if the file has changed without us. Memory only: nothing here reads a file.
"""

from __future__ import annotations

from typing import Final

from odonata.wire.message import Value

VERIFY_AFTER_S: Final = 24 * 3600.0
"""A silent error of a disk is rare enough for once a day."""


class FilePrint(Value, frozen=True, kw_only=True):
    """By what a content file that nobody of us writes to is known again."""

    inode: int
    size_bytes: int
    modified_at_ns: int


class Trust:
    """Of one task. Times are of one clock, in seconds."""

    __slots__ = ("_after_s", "_print", "_seen_at_s")

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._seen_at_s: dict[int, float] = {}
        self._print: FilePrint | None = None

    def seen(self, number: int, now_s: float) -> None:
        """Piece `number` is right at this moment."""
        self._seen_at_s[number] = now_s

    def lost(self, number: int) -> None:
        """It is not held any more."""
        self._seen_at_s.pop(number, None)

    def doubts(self, number: int, now_s: float) -> bool:
        """It should be read again before it is used."""
        seen_at_s = self._seen_at_s.get(number)
        return seen_at_s is None or now_s - seen_at_s > self._after_s

    def file_is(self, found: FilePrint) -> None:
        """The file, while none of us writes to it. Another one than before: nothing is sure."""
        if self._print is not None and self._print != found:
            self._seen_at_s.clear()
        self._print = found

    def file_changes(self) -> None:
        """We write to it from now on."""
        self._print = None
