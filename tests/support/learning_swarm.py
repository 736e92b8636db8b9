"""A real swarm whose scheduler ranks and records: daemons in this process, on hosts that differ.

The scheduler is anybody's (in this process or another one); an origin with content of all sizes is
part of it. Everybody records into `<folder>/telemetry`, unless told otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.content import make_content
from support.daemon import get, settings
from support.origin import Manners, Origin

from odonata.ids import task_id_of
from odonata.wire.message import Download
from peer.runtime.daemon import Daemon

SEED_NUMBER = 2
PEER_NUMBERS = (3, 4, 5, 6, 7)


class LearningSwarm:
    """Daemons by number (their address is 127.0.0.<number>), and files at the origin by name."""

    def __init__(self, folder: Path, origin: Origin, scheduler_address: str) -> None:
        self.folder = folder
        self.origin = origin
        self.peers: dict[int, Daemon] = {}
        self.done: list[str] = []
        """Names of the files of all downloads that ended well."""
        self._files: dict[str, tuple[str, bytes]] = {}
        self._scheduler_address = scheduler_address
        self._outputs = itertools.count()

    @property
    def telemetry(self) -> Path:
        """The folder that everybody records into."""
        return self.folder / "telemetry"

    def settings(self, **more: Any) -> dict[str, Any]:
        """What every daemon of this swarm is told; `more` as of `support.daemon.overrides`."""
        return {"scheduler__addrs": [self._scheduler_address], "telemetry__enable": True} | more

    async def add(self, number: int, **more: Any) -> Daemon:
        """Start a daemon in this process; `SEED_NUMBER` is a seed."""
        told = self.settings(seedPeer__enable=number == SEED_NUMBER, **more)
        one = Daemon(settings(self.folder, number, **told))
        await one.start()
        self.peers[number] = one
        return one

    def offer(self, name: str, length: int, manners: Manners | None = None) -> str:
        """Put `length` bytes, unlike any others, at the origin; returns the URL."""
        content = make_content(length, seed=len(self._files) + 1)
        url = self.origin.add(f"/{name}", content, manners)
        self._files[name] = (url, content)
        return url

    def content(self, name: str) -> bytes:
        """What was offered by that name."""
        return self._files[name][1]

    def task_id(self, name: str) -> str:
        """The task that downloads of that name are of."""
        return task_id_of(Download(url=self._files[name][0]))

    async def fetch(self, number: int | Path, name: str) -> None:
        """Download by a daemon (its number, or its socket); AssertionError for wrong bytes."""
        url, content = self._files[name]
        one = number if isinstance(number, Path) else self.peers[number]
        output = self.folder / f"out{next(self._outputs)}"
        try:
            await get(one, url, output)
            came = await asyncio.to_thread(output.read_bytes)
        finally:
            output.unlink(missing_ok=True)
        assert came == content, f"{name} by {number}: {len(came)} bytes that are not the content's"
        self.done.append(name)

    async def fetch_all(self, name: str, numbers: Iterable[int | Path] = PEER_NUMBERS) -> None:
        """Download by several daemons at the same time."""
        async with asyncio.TaskGroup() as tasks:
            for number in numbers:
                tasks.create_task(self.fetch(number, name))

    async def stop(self) -> None:
        """Stop all daemons of this process, together; what they recorded is on the disk then."""
        peers, self.peers = self.peers, {}
        async with asyncio.TaskGroup() as tasks:
            for one in peers.values():
                tasks.create_task(one.stop())


@asynccontextmanager
async def learning_swarm(
    folder: Path, scheduler_address: str, **seed: Any
) -> AsyncGenerator[LearningSwarm]:
    """An origin and a seed that know the scheduler; `seed` are the seed's settings."""
    async with Origin() as origin:
        one = LearningSwarm(folder, origin, scheduler_address)
        try:
            await one.add(SEED_NUMBER, **seed)
            yield one
        finally:
            await one.stop()
