"""A fleet of BitTorrent clients (`rival`) in place of daemons: the rival on the same links.

Its clock starts when the seed offers its first piece: peers that are there from the start have met
by then, and the ten seconds that libtorrent lets pass (see `rival`) do not count. That favours it.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

from bench.swarm import rival
from bench.swarm.content import Content
from bench.swarm.fleet import UNKNOWN, Note, Stage, ready_or_dead
from bench.swarm.ground import Ground
from bench.swarm.world import HostPlan

from odonata.errors import CallerError
from odonata.swarm.demo.image import blob_path
from odonata.swarm.process import Processes

PROGRAM: Final = Path(rival.__file__)


class Torrents:
    """Seeds that hold the content, and peers. Nobody asks the origin, or says who gave a piece."""

    def __init__(self, stage: Stage, ground: Ground) -> None:
        """CallerError if the rival can't play here."""
        why_not = rival.why_not()
        if why_not:
            raise CallerError(why_not)
        if len(stage.contents) > 1:
            raise CallerError(
                f"{stage.world.scenario}: bittorrent is compared with one content at a time: "
                "leave it out of this scenario"
            )
        self._stage = stage
        self._ground = ground
        self._processes: Processes | None = None
        self._ready = {host.name: asyncio.Event() for host in self.hosts}
        self._offers = asyncio.Event()
        self._arrived: dict[str, asyncio.Queue[int]] = {
            host.name: asyncio.Queue() for host in self.hosts
        }

    @property
    def hosts(self) -> list[HostPlan]:
        return [*self._stage.world.seeds, *self._stage.world.peers]

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.hosts]

    async def start(self, processes: Processes) -> None:
        self._processes = processes
        stage = self._stage
        content = blob_path(stage.contents[0].folder, stage.contents[0].digest)
        torrent = stage.folder / "content.torrent"
        await asyncio.to_thread(rival.make_torrent, content, stage.world.piece_length, torrent)
        addresses = [self._ground.ip(host) for host in self.hosts]
        for place, host in enumerate(self.hosts):
            folder = content.parent if host.is_seed else stage.folder / host.name
            role, slots = ("seed", rival.SEED_SLOTS) if host.is_seed else ("peer", rival.PEER_SLOTS)
            words = [sys.executable, str(PROGRAM), role, str(torrent), str(folder)]
            # Each connects to those that were named before it: every pair once.
            words += [addresses[place], str(slots), *addresses[:place]]
            await processes.start(host.name, self._ground.words(host, words), self._hear)
        await ready_or_dead(processes, self._all_ready())
        for host in self.hosts:
            if host.is_seed or not host.arrives_at_s:
                processes.child(host.name).signal(signal.SIGUSR1)
        await ready_or_dead(processes, self._first_offer())

    async def _all_ready(self) -> None:
        await asyncio.gather(*(event.wait() for event in self._ready.values()))

    async def _first_offer(self) -> None:
        await self._offers.wait()

    def _hear(self, name: str, line: str) -> None:
        if line == "ready":
            self._ready[name].set()
        elif line == "offers":
            self._offers.set()
        elif line.startswith("piece "):
            self._arrived[name].put_nowait(int(line.split()[1]))

    async def fetch(self, host: HostPlan, content: Content, output: Path, note: Note) -> str:
        assert self._processes is not None, "started before anybody fetches"
        stage, world = self._stage, self._stage.world
        if host.arrives_at_s:
            self._processes.child(host.name).signal(signal.SIGUSR1)
        missing = set(range(world.piece_count))
        while missing:
            number = await self._arrived[host.name].get()
            if number in missing:
                missing.remove(number)
                first = number * world.piece_length
                note(number, min(world.piece_length, world.size - first), UNKNOWN)
        name = blob_path(content.folder, content.digest).name
        await asyncio.to_thread(shutil.copyfile, stage.folder / host.name / name, output)
        return ""

    async def origin_bytes(self) -> int:
        return 0
