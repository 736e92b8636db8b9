"""Content on its way out: a slot for it, and its bytes, paced by the upload limit.

What the piece server speaks (Vortex, HTTP) is the same to it. Who is served when is for
`peer.core.upload` to decide; here is only the waiting, the sending and the counting.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from odonata.piece import piece_count
from odonata.wire.message import Piece
from peer.core.upload import TaskPiece, UploadQueue
from peer.runtime.child_account import ChildAccount, ChildAccounts
from peer.runtime.limit import slice_bytes
from peer.runtime.meter import RateMeter
from peer.runtime.piece_wire import PieceWire, while_there
from peer.runtime.port import RateLimit, StoredTask
from peer.runtime.reception import Reception
from peer.runtime.uplink_watch import UplinkWatch

PIECE_WAIT_S: Final = 5.0
"""How long a child waits here for a piece that is still coming; then it is told to go elsewhere."""

PASSED_ON_BYTES: Final = 128 * 1024
"""Passed on at a time, of what has come: each is copied once, for the buffer may go meanwhile."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Child:
    """Who asks. `is_greeted`: it is one of ours, and has said so."""

    account: ChildAccount
    is_greeted: bool = False


class PieceSender:
    """One for the whole daemon."""

    def __init__(
        self, limit: RateLimit, queue: UploadQueue, uplink: UplinkWatch | None = None
    ) -> None:
        """`uplink` None: nobody looks whether what is sent gets out."""
        self._limit = limit
        self._uplink = uplink or UplinkWatch()
        self._slice_bytes = slice_bytes(limit)
        self.queue = queue
        self._turns: dict[int, asyncio.Event] = {}
        self.meter = RateMeter()
        self.accounts = ChildAccounts()
        self.refused = 0
        """Requests turned away for want of a slot."""

    def given(self, task: StoredTask, number: int, child: Child) -> list[int]:
        """Pieces of the task that others are given; none if piece `number` is not among them."""
        now_s = asyncio.get_running_loop().time()
        piece = TaskPiece(task.task_id, number)
        given = self.queue.given(piece, child.account.child, now_s)
        of_tasks = (one for one in given if isinstance(one, TaskPiece))
        return [one.number for one in of_tasks if one.task_id == task.task_id]

    @asynccontextmanager
    async def slot(
        self,
        wire: PieceWire,
        task: StoredTask,
        number: int,
        child: Child,
        *,
        is_patient: bool = True,
        insists: bool = False,
    ) -> AsyncGenerator[bool]:
        """Wait for a slot, and keep the task from being collected. False: refuse, queue full."""
        clock = asyncio.get_running_loop().time
        ticket = None
        if not self._uplink.is_resting:
            ticket = self.queue.ask(
                TaskPiece(task.task_id, number),
                clock(),
                child=child.account.child,
                is_patient=is_patient,
                insists=insists,
            )
        if ticket is None:
            self._count_refusal(child)
            yield False
            return
        task.pin()
        is_whole = False
        try:
            if not self.queue.goes(ticket):
                self._turns[ticket] = turn = asyncio.Event()
                async with while_there(wire):
                    await turn.wait()
            if self._uplink.is_resting:  # it had waited in the queue by then
                self._count_refusal(child)
                yield False
                return
            with self._uplink.sending(wire, child.account.child):
                yield True
            is_whole = True
        finally:
            task.unpin()
            self._turns.pop(ticket, None)
            following = self.queue.leave(ticket, clock(), is_whole=is_whole)
            if following is not None:
                self._turns[following].set()

    @contextmanager
    def passing_on(
        self, wire: PieceWire, task: StoredTask, number: int, child: Child
    ) -> Generator[bool]:
        """While a piece that is still coming goes out; no slot is taken. False: refuse."""
        piece = TaskPiece(task.task_id, number)
        if self._uplink.is_resting or not self.queue.pass_on(piece):
            self._count_refusal(child)
            yield False
            return
        task.pin()
        try:
            with self._uplink.sending(wire, child.account.child, waits=True):
                yield True
        finally:
            task.unpin()
            self.queue.passed_on(piece)

    def _count_refusal(self, child: Child) -> None:
        self.refused += 1
        child.account.refused += 1

    def _count(self, n_bytes: int, child: Child) -> None:
        self.meter.add(n_bytes, asyncio.get_running_loop().time())
        child.account.sent_bytes += n_bytes

    async def send_coming(self, wire: PieceWire, reception: Reception, child: Child) -> int:
        """Send what comes of a piece until that is over; the bytes that were sent."""
        position = 0
        with reception.followed():
            while True:
                if reception.ready <= position and not reception.is_over:
                    async with while_there(wire):
                        await reception.more(position)
                data = reception.read(position, min(PASSED_ON_BYTES, self._slice_bytes))
                if not data:
                    return position
                await self._limit.acquire(len(data))
                await wire.send(data)
                position += len(data)
                self._count(len(data), child)

    async def first_slice(self, fd: int, position: int, length: int) -> None:
        """Before the head is sent: the disk begins to read ahead, and the limit lets us begin."""
        # sendfile would block the loop for what is not cached.
        os.posix_fadvise(fd, position, length, os.POSIX_FADV_WILLNEED)
        await self._limit.acquire(min(self._slice_bytes, length))

    async def send_content(
        self, wire: PieceWire, fd: int, position: int, length: int, child: Child
    ) -> bool:
        """The first slice has been let pass already. False: the file ends early."""
        end = position + length
        allowed = min(position + self._slice_bytes, end)
        while position < end:
            if position == allowed:
                allowed = min(position + self._slice_bytes, end)
                await self._limit.acquire(allowed - position)
            count = await wire.send_file(fd, position, allowed - position)
            if count == 0:  # somebody cut the file: an early end tells the child
                _log.warning("content_file_short", offset=position)
                return False
            position += count
            self._count(count, child)
        child.account.pieces += 1
        return True


async def coming_piece(task: StoredTask, number: int, wait_s: float) -> Piece | None:
    """A piece that is held, or still being downloaded, waited for. None: it did not come."""
    piece = task.piece(number)
    if piece is not None or not may_come(task, number):
        return piece
    changed = asyncio.Event()
    unsubscribe = task.subscribe(changed.set)
    try:
        async with asyncio.timeout(wait_s):
            while piece is None and may_come(task, number):
                await changed.wait()
                changed.clear()
                piece = task.piece(number)
    except TimeoutError:
        return None
    finally:
        unsubscribe()
    return piece


def may_come(task: StoredTask, number: int) -> bool:
    """Whether a piece that is not held is worth waiting for."""
    if not task.active:
        return False
    if task.content_length is None or task.piece_length is None:
        return True
    return number < piece_count(task.content_length, task.piece_length)
