"""Turns for downloads: so many at once, the others wait, first come, first served.

A node that starts a hundred containers asks for a thousand layers in one moment. Each download that
runs holds a stream to its scheduler, requests and parents; one that waits holds next to nothing.
Refusing the rest would only move the queue to clients, which serve nobody in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal


class Turns:
    """`at_once` turns; `async with take(...)` is one of them."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)  # hands out in the order of asking
        self.waiting = 0
        """Who asked and has not got one yet."""

    @asynccontextmanager
    async def take(self, gone: asyncio.Future[Any]) -> AsyncGenerator[bool]:
        """Wait for a turn, and have it inside; or be told False: `gone` was done before."""
        granted = await self._wait(gone)
        try:
            yield granted
        finally:
            if granted:
                self._free.release()

    async def _wait(self, gone: asyncio.Future[Any]) -> bool:
        if not self._free.locked():
            return await self._free.acquire()  # without a pause: one is free, and nobody waits
        turn = asyncio.get_running_loop().create_task(self._free.acquire())
        self.waiting += 1
        try:
            await asyncio.wait([turn, gone], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._give_back(turn)
            raise
        finally:
            self.waiting -= 1
        if gone.done():
            await self._give_back(turn)
            return False
        return True

    async def _give_back(self, turn: asyncio.Task[Literal[True]]) -> None:
        """Stop waiting; one that was granted in this very moment goes to the next."""
        turn.cancel()
        await asyncio.wait([turn])
        if not turn.cancelled():
            self._free.release()
