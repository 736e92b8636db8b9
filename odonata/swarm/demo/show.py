"""The demo's script: make an image, start origin and swarm, pull twice, compare."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from odonata.swarm.demo.image import Image, make_image
from odonata.swarm.demo.pull import PlainPuller, SwarmPuller, sent_bytes, verify
from odonata.swarm.demo.registry import fetch_image
from odonata.swarm.demo.report import Outcome, complaints, outcome, show
from odonata.swarm.demo.tally import Tally, World
from odonata.swarm.demo.view import watching
from odonata.swarm.local import running
from odonata.swarm.plan import SwarmOptions, SwarmPlan, make_plan
from odonata.swarm.process import Processes, died_early

START_TIMEOUT_S = 30.0  # of the origin: a Python process on a busy machine
LOG_LINES_SHOWN = 30  # of each process, when something went wrong


class Demo:
    """One run. `lines` keeps what the swarm's processes said, for the case that something fails."""

    def __init__(self, console: Console, world: World, image_name: str | None, seed: int) -> None:
        self._console = console
        self._world = world
        self._image_name = image_name
        self._seed = seed
        self._lines: dict[str, list[str]] = {}

    async def run(self) -> int:
        """Run everything; 0 if all is as it should be."""
        with tempfile.TemporaryDirectory(prefix="odonata-demo-") as folder:
            return await self._run(Path(folder))

    async def _run(self, folder: Path) -> int:
        blobs = folder / "blobs"
        blobs.mkdir()
        image = await self._image(blobs)
        world = self._world
        self._console.print(
            f"An image of {len(image.layers)} layers, {image.size / (1 << 20):.0f} MiB.\n"
            f"Uplinks: origin {_mb(world.origin_rate_bytes_per_s)}, seed"
            f" {_mb(world.seed_rate_bytes_per_s)}, each of {world.peers} peers"
            f" {_mb(world.peer_rate_bytes_per_s)}."
        )
        async with Processes(self._note) as others:
            origin = await self._start_origin(others, blobs)
            plain = await self._plain(origin, image)
            options = SwarmOptions(
                peers=world.peers,
                seeds=1,
                upload_rate_bytes_per_s=int(world.peer_rate_bytes_per_s),
            )
            plan = make_plan(options, folder / "swarm")
            self._console.print(f"Starting a scheduler, a seed and {world.peers} peers.")
            async with running(plan, self._note):
                swarm = await self._swarm(plan, origin, image, folder)
        return self._judge(image, plain, swarm)

    async def _image(self, blobs: Path) -> Image:
        if self._image_name is not None:
            return await fetch_image(self._console, self._image_name, blobs)
        return await asyncio.to_thread(make_image, blobs, self._seed)

    async def _start_origin(self, others: Processes, blobs: Path) -> str:
        rate = str(self._world.origin_rate_bytes_per_s)
        words = [sys.executable, "-m", "odonata.swarm.demo.origin", str(blobs), rate]
        port: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def on_line(name: str, line: str) -> None:
            if line.startswith("listening ") and not port.done():
                port.set_result(line.split()[1])
            self._note(name, line)

        child = await others.start("origin", words, on_line)
        ended = asyncio.ensure_future(others.first_end())
        either: set[asyncio.Future[Any]] = {port, ended}
        await asyncio.wait(either, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not port.done():
            raise died_early(child)
        return f"http://127.0.0.1:{port.result()}"

    async def _plain(self, origin: str, image: Image) -> Outcome:
        tallies = self._tallies(image)
        title = "plain, all from the origin"
        async with watching(self._console, title, tallies), asyncio.TaskGroup() as group:
            for tally in tallies:
                group.create_task(PlainPuller(origin, image, tally).pull())
        return outcome("plain", tallies, await sent_bytes(origin), [])

    async def _swarm(self, plan: SwarmPlan, origin: str, image: Image, folder: Path) -> Outcome:
        tallies = self._tallies(image)
        before = await sent_bytes(origin)
        names = [member.name for member in plan.daemons]
        outs = [folder / "out" / member.name for member in plan.peers]
        for out in outs:
            out.mkdir(parents=True)
        title = "through Odonata"
        async with watching(self._console, title, tallies), asyncio.TaskGroup() as group:
            for member, tally, out in zip(plan.peers, tallies, outs, strict=True):
                puller = SwarmPuller(member, names, origin, image, out, tally)
                group.create_task(puller.pull())
        sent = await sent_bytes(origin) - before
        wrong = await asyncio.to_thread(_wrong_digests, image, outs)
        return outcome("Odonata", tallies, sent, wrong)

    def _tallies(self, image: Image) -> list[Tally]:
        return [Tally(f"peer-{i + 1}", image.size) for i in range(self._world.peers)]

    def _judge(self, image: Image, plain: Outcome, swarm: Outcome) -> int:
        show(self._console, self._world, image.size, plain, swarm)
        found = complaints(plain, swarm, image.size)
        for complaint in found:
            self._console.print(f"[bold red]not as it should be:[/] {complaint}")
        if found:
            self._show_lines()
            return 1
        faster = max(plain.seconds) / max(swarm.seconds)
        self._console.print(
            f"[bold green]All digests right.[/] The last peer was done {faster:.1f} times as"
            f" fast,\nthe origin sent {plain.origin_bytes / max(1, swarm.origin_bytes):.1f} times"
            " less."
        )
        return 0

    def _note(self, name: str, line: str) -> None:
        lines = self._lines.setdefault(name, [])
        lines.append(line)
        del lines[:-LOG_LINES_SHOWN]

    def _show_lines(self) -> None:
        for name, lines in self._lines.items():
            for line in lines:
                self._console.print(
                    f"{name} │ {line}", style="grey70", markup=False, highlight=False
                )


def _wrong_digests(image: Image, outs: Sequence[Path]) -> list[str]:
    return [f"{out.name}: {wrong}" for out in outs for wrong in verify(image, out)]


def _mb(rate_bytes_per_s: float) -> str:
    return f"{rate_bytes_per_s / 1e6:.0f} MB/s"
