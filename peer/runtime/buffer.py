"""The pool of piece buffers: page-aligned, bounded in sum, handed out first come, first served.

A piece is received as a whole before it is checked and written, so pieces in flight cost memory:
8 pieces of 64 MiB would take half a gigabyte. The pool bounds that for all downloads together.
It knows nothing of pieces; whoever leases returns the buffer once no thread reads it any more.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

POOL_BYTES = 80 * 1024 * 1024
"""20 pieces of 4 MiB. A daemon is 93 MB without them, and is to stay below 200 MB however many
downloads it has; 20 on their way at once fill any link that its two or three cores can."""

LARGE_AT_ONCE = 4
"""Of buffers so large that fewer of them would fill the pool: a content of 32 GiB comes in pieces
of 64 MiB, and one at a time would be slow. Then the pool grows to 256 MiB."""

IDLE_S = 30.0
"""Buffers that nobody took for so long are given back to the system, all of them: a daemon that
rests should not weigh what it weighed at work."""

SMALLEST_BYTES = 64 * 1024  # below, sizes are not told apart: ranges and last pieces are often tiny


class BufferPool:
    """At most `capacity_bytes` of buffers, in sizes of powers of two, reused while they fit.

    Or `LARGE_AT_ONCE` buffers, if that is more.

    Reuse matters: fresh memory costs a page fault for each 4 KiB, a used buffer is warm in the
    cache.
    """

    def __init__(
        self, capacity_bytes: int = POOL_BYTES, *, large_at_once: int = LARGE_AT_ONCE
    ) -> None:
        self._capacity_bytes = capacity_bytes
        self._large_at_once = large_at_once
        self._leased_bytes = 0
        self._idle: dict[int, list[mmap.mmap]] = {}
        self._idle_bytes = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._release: asyncio.TimerHandle | None = None

    @property
    def leased_bytes(self) -> int:
        """Bytes in use now."""
        return self._leased_bytes

    @property
    def idle_bytes(self) -> int:
        """Bytes kept for the next lease."""
        return self._idle_bytes

    @property
    def waiting(self) -> int:
        """Leases that wait for room."""
        return sum(not turn.done() for _, turn in self._queue)

    @asynccontextmanager
    async def lease(self, n_bytes: int) -> AsyncGenerator[memoryview]:
        """Exactly `n_bytes` of memory with old content; waits for its turn if there is no room."""
        size = _size_class(n_bytes)
        await self._turn(size)
        memory = self._take(size)
        try:
            with memoryview(memory) as whole, whole[:n_bytes] as view:
                yield view
        finally:
            self._leased_bytes -= size
            self._put(size, memory)
            self._wake()

    async def _turn(self, size: int) -> None:
        """Count `size` as leased once it fits and everyone who came earlier has been served."""
        if not self._queue and self._fits(size):
            self._leased_bytes += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leased_bytes -= size  # it was granted in the very moment of the cancellation
            self._wake()
            raise

    def _wake(self) -> None:
        while self._queue:
            size, turn = self._queue[0]
            if turn.done():  # cancelled
                self._queue.popleft()
                continue
            if not self._fits(size):
                return
            self._queue.popleft()
            self._leased_bytes += size
            turn.set_result(None)

    def _fits(self, size: int) -> bool:
        most = max(self._capacity_bytes, self._large_at_once * size)
        return self._leased_bytes + size <= most

    def _take(self, size: int) -> mmap.mmap:
        same = self._idle.get(size)
        if same:
            self._idle_bytes -= size
            return same.pop()
        self._drop_idle(self._capacity_bytes - self._leased_bytes)
        # Private: shared anonymous memory is a hidden file, whose pages cost more.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def _put(self, size: int, memory: mmap.mmap) -> None:
        """Keep it for the next lease, unless idle and leased memory together exceed the pool."""
        if self._leased_bytes + self._idle_bytes + size <= self._capacity_bytes:
            self._idle.setdefault(size, []).append(memory)
            self._idle_bytes += size
            if self._leased_bytes == 0:
                self._release_later()

    def _release_later(self) -> None:
        if self._release is not None:
            self._release.cancel()
        self._release = asyncio.get_running_loop().call_later(IDLE_S, self.release)

    def release(self) -> None:
        """Give back what lies idle, unless somebody is at work."""
        self._release = None
        if self._leased_bytes == 0:
            self._drop_idle(0)

    def _drop_idle(self, limit_bytes: int) -> None:
        """Free idle buffers of other sizes until at most `limit_bytes` are kept."""
        while self._idle_bytes > max(limit_bytes, 0):
            size = next(size for size, same in self._idle.items() if same)
            self._idle[size].pop()
            self._idle_bytes -= size


def _size_class(n_bytes: int) -> int:
    return max(SMALLEST_BYTES, 1 << max(n_bytes - 1, 0).bit_length())
