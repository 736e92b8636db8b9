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


class UplinkWatch:
    """One for the whole daemon. `watch` runs as long as the daemon serves."""

    def __init__(
        self, is_receiving: Callable[[], bool] = lambda: False, *, look_s: float = LOOK_S
    ) -> None:
        """`is_receiving`: this host is being sent something by others."""
        self._is_receiving = is_receiving
        self._look_s = look_s
        self._uplink = Uplink()
        self._sendings: dict[asyncio.Task[None], tuple[PieceWire, str]] = {}
        self._sent_bytes = 0
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

    def sent(self, n_bytes: int) -> None:
        """So much has gone out just now."""
        self._sent_bytes += n_bytes

    @contextmanager
    def sending(self, wire: PieceWire, child: str) -> Generator[None]:
        """While this task sends something to `child`. It may be cancelled, its connection reset."""
        task = asyncio.current_task()
        assert task is not None, "a sending is a task"
        self._sendings[task] = (wire, child)
        self._begun.set()
        try:
            yield
        finally:
            del self._sendings[task]

    async def watch(self) -> None:
        """Look, as long as there is something to look at."""
        while True:
            await self._begun.wait()
            while self._sendings or self.is_resting:
                self._sent_bytes = 0
                await asyncio.sleep(self._look_s)
                self._look(asyncio.get_running_loop().time())
            self._begun.clear()
            self._uplink.pause()

    def _look(self, now: float) -> None:
        children = len({child for _, child in self._sendings.values()})
        is_receiving = self._is_receiving()
        if self._uplink.look(self._sent_bytes, children, now, is_receiving=is_receiving):
            _log.warning("uplink_gave_way", count=children)
            self._awake.clear()
            for task, (wire, _) in self._sendings.items():
                wire.forget_unsent()
                task.cancel()
        elif not self._uplink.is_resting(now):
            self._awake.set()
