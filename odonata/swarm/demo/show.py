"""The demo's script: an image, an origin, a swarm; pull, learn from it, pull again, compare."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from rich.console import Console

from odonata.invocation import command
from odonata.swarm.demo.image import LAYERS_BYTES, Image, make_image
from odonata.swarm.demo.learn import Learned, Learning
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
EXPLORATION = 0.1  # while it learns from so few decisions, a scheduler may try more
PARENTS = 4  # of eight others: if so few were all each other's parents, there would be no choice


class Demo:
    """One run. `lines` keeps what the swarm's processes said, for the case that something fails."""

    def __init__(
        self,
        console: Console,
        world: World,
        *,
        rounds: int,
        out: Path,
        image_name: str | None,
        random_seed: int,
        layers_bytes: Sequence[int] = LAYERS_BYTES,
    ) -> None:
        """`rounds`: images before and after learning. `out`: what was learned stays there."""
        self._console = console
        self._world = world
        self._rounds = rounds
        self._out = out
        self._image_name = image_name
        self._random_seed = random_seed
        self._layers_bytes = layers_bytes
        self._lines: dict[str, list[str]] = {}

    async def run(self) -> int:
        """Run everything; 0 if all is as it should be."""
        with tempfile.TemporaryDirectory(prefix="odonata-demo-") as folder:
            return await self._run(Path(folder))

    async def spread_only(self) -> list[Outcome]:
        """Pull by the rule alone, neither directly nor with a model: for measurements."""
        with tempfile.TemporaryDirectory(prefix="odonata-demo-") as name:
            folder = Path(name)
            blobs = folder / "blobs"
            blobs.mkdir()
            image = await self._image(blobs)
            async with Processes(self._note) as others:
                origin = await self._start_origin(others, blobs)
                plan = make_plan(self._options(), folder / "swarm", self._out)
                async with running(plan, self._note):
                    return await self._spread("rule", plan, origin, image, folder)

    async def _run(self, folder: Path) -> int:
        blobs = folder / "blobs"
        blobs.mkdir()
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir(parents=True)
        image = await self._image(blobs)
        self._introduce(image)
        async with Processes(self._note) as others:
            origin = await self._start_origin(others, blobs)
            plain = await self._plain(origin, image)
            plan = make_plan(self._options(), folder / "swarm", self._out)
            self._console.print(f"Starting a scheduler, a seed and {self._world.peers} peers.")
            async with running(plan, self._note):
                by_rule = await self._spread("rule", plan, origin, image, folder)
                learned = await Learning(self._console, self._out, plan).learn()
                self._tell(learned)
                by_model = await self._spread("learned", plan, origin, image, folder)
        return self._judge(image, plain, by_rule, by_model)

    def _options(self) -> SwarmOptions:
        world = self._world
        return SwarmOptions(
            peers=world.peers,
            seeds=1,
            upload_rate_bytes_per_s=int(world.peer_rate_bytes_per_s),
            seed_upload_rate_bytes_per_s=int(world.seed_rate_bytes_per_s),
            slow=world.slow_names,
            slow_rate_bytes_per_s=int(world.slow_rate_bytes_per_s),
            exploration=EXPLORATION,
            parents=PARENTS,
        )

    def _introduce(self, image: Image) -> None:
        world = self._world
        text = (
            f"Images of {len(image.layers)} layers, {image.size / (1 << 20):.0f} MiB each.\n"
            f"Uplinks: origin {_mb(world.origin_rate_bytes_per_s)}, seed"
            f" {_mb(world.seed_rate_bytes_per_s)}, each of {world.peers} peers"
            f" {_mb(world.peer_rate_bytes_per_s)}"
        )
        if world.slow_peers:
            slow = " and ".join(world.slow_names)
            text += f",\nbut {slow}: {_mb(world.slow_rate_bytes_per_s)}; nobody tells the scheduler"
        self._console.print(f"{text}.")

    async def _image(self, blobs: Path) -> Image:
        if self._image_name is not None:
            return await fetch_image(self._console, self._image_name, blobs)
        return await asyncio.to_thread(make_image, blobs, self._random_seed, self._layers_bytes)

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
        title = "direct, all from the origin"
        async with watching(self._console, title, tallies), asyncio.TaskGroup() as group:
            for tally in tallies:
                group.create_task(PlainPuller(origin, image, tally).pull())
        return outcome("direct", tallies, await sent_bytes(origin), [])

    async def _spread(
        self, way: str, plan: SwarmPlan, origin: str, image: Image, folder: Path
    ) -> list[Outcome]:
        """Pull image after image through the swarm.

        The blobs are the same under another name: for the swarm, which goes by URL, they are new.
        """
        done: list[Outcome] = []
        for number in range(1, self._rounds + 1):
            new = replace(image, name=f"{image.name}-{way}-{number}")
            title = f"{way}, image {number} of {self._rounds}"
            done.append(await self._swarm(way, title, plan, origin, new, folder / "out"))
        return done

    async def _swarm(
        self, way: str, title: str, plan: SwarmPlan, origin: str, image: Image, folder: Path
    ) -> Outcome:
        tallies = self._tallies(image)
        before = await sent_bytes(origin)
        names = [member.name for member in plan.daemons]
        outs = [folder / member.name for member in plan.peers]
        for out in outs:
            out.mkdir(parents=True, exist_ok=True)
        async with watching(self._console, title, tallies), asyncio.TaskGroup() as group:
            for member, tally, out in zip(plan.peers, tallies, outs, strict=True):
                puller = SwarmPuller(member, names, origin, image, out, tally)
                group.create_task(puller.pull())
        sent = await sent_bytes(origin) - before
        wrong = await asyncio.to_thread(_wrong_digests, image, outs)
        await asyncio.to_thread(shutil.rmtree, folder)
        return outcome(way, tallies, sent, wrong, self._world.slow_names)

    def _tallies(self, image: Image) -> list[Tally]:
        return [Tally(f"peer-{i + 1}", image.size) for i in range(self._world.peers)]

    def _tell(self, learned: Learned) -> None:
        regret = learned.regret()
        told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in regret.items())
        self._console.print(
            f"Trained on {learned.decisions} decisions. The scheduler ranks with it from now on:"
            f"\nmodel {learned.version}. Regret of its first choice on hosts it has\n"
            f"not seen: {told or 'too few decisions to say'}.",
            highlight=False,
        )

    def _judge(
        self, image: Image, plain: Outcome, by_rule: list[Outcome], by_model: list[Outcome]
    ) -> int:
        show(self._console, self._world, image.size, [[plain], by_rule, by_model])
        found = complaints(plain, [*by_rule, *by_model], image.size)
        for complaint in found:
            self._console.print(f"[bold red]not as it should be:[/] {complaint}")
        if found:
            self._show_lines()
            return 1
        self._console.print("[bold green]All digests right.[/] What was learned stays here:")
        for line in next_steps(self._out):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
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


def next_steps(out: Path) -> list[str]:
    """What to type to look at what was learned below `out`, and where the model is."""
    odonata, store = command("odonata"), f"sqlite:///{out / 'mlflow.db'}"
    return [
        f"  {odonata} dataset describe {shlex.quote(str(out / 'dataset'))}",
        f"  {odonata} telemetry ls {shlex.quote(str(out / 'telemetry'))}",
        f"  {command('mlflow')} ui --backend-store-uri {shlex.quote(store)}",
        f"the model: {out / 'models' / 'current'}",
    ]


def _wrong_digests(image: Image, outs: Sequence[Path]) -> list[str]:
    return [f"{out.name}: {wrong}" for out in outs for wrong in verify(image, out)]


def _mb(rate_bytes_per_s: float) -> str:
    return f"{rate_bytes_per_s / 1e6:.3g} MB/s"
