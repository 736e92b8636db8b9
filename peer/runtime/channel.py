"""gRPC channels to other hosts: one for each address, shared by its users, closed when idle.

Knows nothing of what is said.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from odonata.grpc_client import open_channel

MAX_IDLE_CHANNELS: Final = 64
"""Kept open after use. A download has at most 8 parents; a busy host runs a few at a time."""

IDLE_S: Final = 60.0
"""How long an unused channel stays open: longer than the gap between two layers of an image."""

DEAD_AFTER_S: Final = 4.0
"""Silence of a parent that vanished: then its streams break, and its pieces are asked elsewhere.
One that is only slow answers pings all the same. Costs a ping every 2 s while a parent is
connected."""


class _Shared:
    """One channel and how many use it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.users = 0
        self.closing: asyncio.TimerHandle | None = None


class ChannelPool:
    """Channels by address. `use` lends one; unused ones close after IDLE_S, or if too many idle."""

    def __init__(self, *, max_idle: int = MAX_IDLE_CHANNELS, idle_s: float = IDLE_S) -> None:
        self._max_idle = max_idle
        self._idle_s = idle_s
        self._shared: OrderedDict[str, _Shared] = OrderedDict()
        self._closings: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._shared)

    @asynccontextmanager
    async def use(self, address: str) -> AsyncGenerator[grpc.aio.Channel]:
        """Lend the channel to `address` (host:port)."""
        shared = self._shared.get(address)
        if shared is None:
            shared = self._shared[address] = _Shared(
                open_channel(address, dead_after_s=DEAD_AFTER_S)
            )
        if shared.closing is not None:
            shared.closing.cancel()
            shared.closing = None
        shared.users += 1
        self._shared.move_to_end(address)
        try:
            yield shared.channel
        finally:
            shared.users -= 1
            if shared.users == 0 and self._shared.get(address) is shared:
                self._rest(address, shared)

    def _rest(self, address: str, shared: _Shared) -> None:
        loop = asyncio.get_running_loop()
        shared.closing = loop.call_later(self._idle_s, self._drop, address, shared)
        idle = [name for name, other in self._shared.items() if other.users == 0]
        for name in idle[: max(0, len(idle) - self._max_idle)]:
            self._drop(name, self._shared[name])

    def _drop(self, address: str, shared: _Shared) -> None:
        if shared.users or self._shared.get(address) is not shared:
            return
        del self._shared[address]
        if shared.closing is not None:
            shared.closing.cancel()
        task = asyncio.get_running_loop().create_task(shared.channel.close())
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def close(self) -> None:
        """Close them all, in use or not."""
        shared, self._shared = tuple(self._shared.values()), OrderedDict()
        for one in shared:
            if one.closing is not None:
                one.closing.cancel()
        await asyncio.gather(*(one.channel.close() for one in shared), *self._closings)
