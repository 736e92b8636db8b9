"""Pieces on their way to this host, and what has come of each: for whom it is passed on to.

The piece client enters each piece from its first byte to its end; the piece server takes from here
what a child asks for of a piece that is not whole yet; the hub tells children what there is. A
piece is told of only when it has been coming for a while: what is quick is here before anybody
could have asked.

The bytes are not proved yet, so the last of them stay here until they are: a child has the whole of
a piece only after this host has checked and stored it, and gets the end from the file. If the piece
does not come, or is wrong, whatever passes it on ends with it. (No circle of hosts can wait for
each other: what is passed on belongs to one reception, which began before, and ends with it.)
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from math import inf
from typing import Final, Protocol

from odonata.wire.message import Piece

TOLD_AFTER_S: Final = 0.1
"""As long as pieces take that are quick for a download (`DownloadLimits.quick_piece_s`)."""

HELD_BACK_BYTES: Final = 1
"""Of the end, until the whole is proved. One byte short, it is of no use to anybody."""

LATELY_S: Final = 2.0
"""Who was sent something so long ago is still downloading: between two pieces is a round trip or
two, on full links."""

STEP_S: Final = 0.05
"""What is passed on is taken off the kernel about this often: what each station adds in delay..."""
STEP_MIN_BYTES: Final = 8 * 1024
"""...but no fewer bytes at a time: some six segments, for two wake-ups and two system calls..."""
STEP_MAX_BYTES: Final = 512 * 1024
"""...and no more, which is one 8th of a piece of 4 MiB."""


class Incoming(Protocol):
    """Content that comes over a connection, front to back, into memory."""

    data: memoryview
    position: int
    """So many of the first bytes are there."""

    def hurry(self) -> None:
        """Somebody waits for what comes: do not wait until it is much."""
        ...


class Reception:
    """One piece on its way. `piece`: what its parent says of it."""

    def __init__(self, piece: Piece, incoming: Incoming, serial: int) -> None:
        self.piece = piece
        self.serial = serial
        """No other one of this process has it."""
        self.is_over = False
        """Stored, or not to come: `incoming` is not to be read any more."""
        self._incoming = incoming
        self._followers = 0
        self._changed = asyncio.Event()

    @property
    def is_followed(self) -> bool:
        """Somebody waits for what comes of it."""
        return self._followers > 0

    @property
    def ready(self) -> int:
        """Bytes, from the first, that may be passed on."""
        return min(self._incoming.position, self.piece.length - HELD_BACK_BYTES)

    def read(self, position: int, n_bytes: int) -> bytes:
        """What came from `position` on, at most `n_bytes`; b"" if nothing did, or it is over."""
        if self.is_over:
            return b""
        return bytes(self._incoming.data[position : min(position + n_bytes, self.ready)])

    async def more(self, position: int) -> None:
        """Return once there is something from `position` on, or it is over."""
        while not self.is_over and self.ready <= position:
            await self._changed.wait()

    @contextmanager
    def followed(self) -> Generator[None]:
        """While it is being passed on: it comes in small steps."""
        self._followers += 1
        if self._followers == 1 and not self.is_over:
            self._incoming.hurry()
        try:
            yield
        finally:
            self._followers -= 1

    def grew(self) -> None:
        """More has come, or it is over: whoever waits looks anew."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Receptions:
    """All of this daemon. `on_told` is called with a task's id when there is news for children."""

    def __init__(self) -> None:
        self.on_told: Callable[[str], None] = _tell_nobody
        self._told: dict[str, dict[int, Reception]] = {}  # of each task, by number
        self._serials = itertools.count(1)
        self._coming = 0
        self._came_at = -inf

    def is_receiving(self) -> bool:
        """Something is on its way here, or was a moment ago."""
        now = asyncio.get_running_loop().time()
        return self._coming > 0 or now - self._came_at < LATELY_S

    def of(self, task_id: str, number: int) -> Reception | None:
        """The piece that children were told of, while it comes."""
        return self._told.get(task_id, {}).get(number)

    def news(self, task_id: str, wanted: Collection[int], told: set[int]) -> tuple[Piece, ...]:
        """Pieces of the task (`wanted` empty: any) that are not among the `told`; they are now."""
        fresh = [
            one
            for number, one in self._told.get(task_id, {}).items()
            if one.serial not in told and (not wanted or number in wanted)
        ]
        told.update(one.serial for one in fresh)
        return tuple(one.piece for one in fresh)

    @contextmanager
    def begin(
        self, task_id: str, piece: Piece, incoming: Incoming, *, is_told: bool = True
    ) -> Generator[Reception]:
        """A piece begins to come; at the end of the context it is stored, or does not come.

        Not `is_told`: children hear of it only when it is here.
        """
        reception = Reception(piece, incoming, next(self._serials))
        loop = asyncio.get_running_loop()
        telling = loop.call_later(TOLD_AFTER_S, self._tell, task_id, reception) if is_told else None
        self._coming += 1
        try:
            yield reception
        finally:
            if telling is not None:
                telling.cancel()
            self._coming, self._came_at = self._coming - 1, loop.time()
            reception.is_over = True
            told = self._told.get(task_id, {})
            if told.get(piece.number) is reception:
                del told[piece.number]
                if not told:
                    del self._told[task_id]
            reception.grew()

    def _tell(self, task_id: str, reception: Reception) -> None:
        """The first of several for one piece is told of, if it will be proved."""
        if not reception.piece.digest:
            return
        told = self._told.setdefault(task_id, {})
        if told.setdefault(reception.piece.number, reception) is reception:
            self.on_told(task_id)


def step_bytes(position: int, took_s: float) -> int:
    """How much to wait for when `position` bytes came in `took_s` seconds and somebody follows."""
    rate = position / max(took_s, 1e-3)
    return int(min(max(rate * STEP_S, STEP_MIN_BYTES), STEP_MAX_BYTES))


def _tell_nobody(task_id: str) -> None:
    del task_id
