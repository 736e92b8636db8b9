"""The sendings of this daemon under one eye: broken off and held back while its uplink rests.

`peer.core.uplink` decides. Here is the clock, and what follows for those who are being sent
something, who ask for something, or who would be told of something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import structlog

from peer.core.uplink import LOOK_S, Uplink
from peer.runtime.piece_wire import PieceWire

_log: Final = structlog.get_logger(__name__)


class _Sending:
    """What has arrived at `child` of what goes over `wire`, by its acknowledgements.

    Not what the kernel has taken: that is a whole piece at once, and then nothing for seconds.
    """

    def __init__(self, wire: PieceWire, child: str, *, waits: bool) -> None:
        self.wire = wire
        self.child = child
        self._waits = waits
        self._arrived = wire.arrived_bytes()

    @property
    def can_tell(self) -> bool:
        """If nothing arrives, that is the uplink's fault, or the child's."""
        return self._arrived is not None and not self._waits

    def news(self) -> int:
        """Bytes that have arrived since the last time."""
        before, self._arrived = self._arrived, self.wire.arrived_bytes()
        return 0 if before is None or self._arrived is None else self._arrived - before


class UplinkWatch:
    """One for the whole daemon. `watch` runs as long as the daemon serves."""

    def __init__(
        self, is_receiving: Callable[[], bool] = lambda: False, *, look_s: float = LOOK_S
    ) -> None:
        """`is_receiving`: this host is being sent something by others."""
        self._is_receiving = is_receiving
        self._look_s = look_s
        self._uplink = Uplink()
        self._sendings: dict[asyncio.Task[None], _Sending] = {}
        self._arrived_bytes = 0  # of sendings that have ended since the last look
        self._begun = asyncio.Event()
        self._awake = asyncio.Event()
        self._awake.set()

    @property
    def is_resting(self) -> bool:
        """Whoever asks for something is to be refused."""
        return not self._awake.is_set()

    async def awake(self) -> None:
        """Return once it does not rest, which may be at once."""
        await self._awake.wait()

    @contextmanager
    def sending(self, wire: PieceWire, child: str, *, waits: bool = False) -> Generator[None]:
        """While this task sends something to `child`. It may be cancelled, its connection reset.

        `waits`: for something that is not here yet, so that a silence says nothing.
        """
        task = asyncio.current_task()
        assert task is not None, "a sending is a task"
        one = self._sendings[task] = _Sending(wire, child, waits=waits)
        self._begun.set()
        try:
            yield
        finally:
            del self._sendings[task]
            self._arrived_bytes += one.news()

    async def watch(self) -> None:
        """Look, as long as there is something to look at."""
        while True:
            await self._begun.wait()
            while self._sendings or self.is_resting:
                await asyncio.sleep(self._look_s)
                self._look(asyncio.get_running_loop().time())
            self._begun.clear()
            self._uplink.pause()

    def _look(self, now: float) -> None:
        children = len({one.child for one in self._sendings.values() if one.can_tell})
        arrived = self._arrived_bytes + sum(one.news() for one in self._sendings.values())
        self._arrived_bytes = 0
        if self._uplink.look(arrived, children, now, is_receiving=self._is_receiving()):
            _log.warning("uplink_gave_way", count=children)
            self._awake.clear()
            for task, one in self._sendings.items():
                one.wire.forget_unsent()
                task.cancel()
        elif not self._uplink.is_resting(now):
            self._awake.set()
