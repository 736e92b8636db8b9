"""Strong digests of many pieces as bytes: what a scheduler tells, and a peer unpacks.

Runs of pieces one after the other: the number of the first and how many there are, four bytes each,
the most significant first, then the strong digest of each. A digest of zeros takes back what was
told before. A run of a scheduler's list is a slice of its memory, so telling thousands costs it
what telling a few does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from odonata.digest import STRONG_DIGEST_BYTES
from odonata.errors import ProtocolError

TAKEN_BACK: Final = bytes(STRONG_DIGEST_BYTES)
_HEAD_BYTES: Final = 8


def pack_run(first: int, digests: bytes | bytearray) -> bytes:
    """One run from piece `first` on; its digests one after the other."""
    return first.to_bytes(4) + (len(digests) // STRONG_DIGEST_BYTES).to_bytes(4) + digests


def pack(digests: Mapping[int, bytes]) -> bytes:
    """Any pieces; empty bytes take one back."""
    runs: list[list[int]] = []
    for number in sorted(digests):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return b"".join(
        pack_run(run[0], b"".join(digests[number] or TAKEN_BACK for number in run)) for run in runs
    )


def unpack(packed: bytes) -> dict[int, bytes]:
    """By piece number; empty bytes: it is taken back. ProtocolError if it is cut short."""
    told: dict[int, bytes] = {}
    for first, start, end in _runs(packed):
        for number, place in enumerate(range(start, end, STRONG_DIGEST_BYTES), first):
            digest = packed[place : place + STRONG_DIGEST_BYTES]
            told[number] = b"" if digest == TAKEN_BACK else digest
    return told


def check(packed: bytes) -> None:
    """Return if it can be unpacked; ProtocolError otherwise."""
    for _ in _runs(packed):
        pass


def _runs(packed: bytes) -> Iterator[tuple[int, int, int]]:
    """First piece of each run, and where its digests begin and end."""
    position = 0
    while position < len(packed):
        first = int.from_bytes(packed[position : position + 4])
        count = int.from_bytes(packed[position + 4 : position + _HEAD_BYTES])
        start = position + _HEAD_BYTES
        position = start + count * STRONG_DIGEST_BYTES
        if position > len(packed):
            raise ProtocolError(
                f"the scheduler's digests of {count} pieces from {first} on are cut short"
            )
        yield first, start, position
