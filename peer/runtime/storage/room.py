"""Room on a full volume: who runs out of it has old contents collected, and tries once more.

Without it a full volume would stay full until the next collection, and every download would fail
meanwhile, though most of what is there could be fetched again. What may go is not decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from odonata.errors import DiskFullError

_T = TypeVar("_T")


class Room:
    """Shared by all tasks of a storage."""

    def __init__(self) -> None:
        self.make: Callable[[int], Awaitable[None]] | None = None
        """Collect, so that as many bytes as given fit, if it can be done. Set by the daemon."""
        self._turn = asyncio.Lock()  # what the first one's collection frees, the others find

    async def enough(self, needed_bytes: int, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What `work()` returns. Called again, once, if the volume was full; else DiskFullError.

        Call it without a lock that a removal needs.
        """
        try:
            return await work()
        except DiskFullError:
            if self.make is None:
                raise
        async with self._turn:
            await self.make(needed_bytes)
        return await work()
