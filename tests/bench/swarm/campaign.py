"""All runs of a bench: worlds one after the other, in each every policy, in a drawn order.

Interleaved, so that what the machine does over an hour falls on all policies alike. One campaign
runs on a machine at a time, and what a killed one left behind is removed first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from bench.swarm import namespaces
from bench.swarm.calibrate import Calibration, Overhead, calibrate
from bench.swarm.content import make_contents
from bench.swarm.fleet import Daemons, Stage
from bench.swarm.ground import Ground, loopback
from bench.swarm.namespaces import Namespaces
from bench.swarm.outcome import RunOutcome
from bench.swarm.policy import Policy
from bench.swarm.run import OnLine, OnPiece, Run, ignore
from bench.swarm.torrents import Torrents
from bench.swarm.world import Rates, Scale, WorldPlan, plan_world, scaled

from odonata.errors import CapacityError
from odonata.wire.message import Value
from simulator.scenario_file import load_scenario

PLACE_NAME: Final = "odonata-bench-swarm"
MEMORY: Final = Path("/dev/shm")
"""Contents lie there, if it is there: a disk would be one more thing that is measured."""


class Wish(Value, frozen=True, kw_only=True):
    """What was asked for. `shaped`: on network namespaces, not on loopback."""

    scenarios: tuple[str, ...]
    policies: tuple[Policy, ...]
    n_runs: int
    scale: Scale
    shaped: bool
    first_world: int = 1
    logs: Path | None = None
    """Where to write what the processes of each run say."""

    @property
    def n_total(self) -> int:
        return len(self.scenarios) * len(self.policies) * self.n_runs


OnStage = Callable[[str], None]
"""Told what goes on now."""
OnRun = Callable[[RunOutcome], None]


def run_all(wish: Wish, on_stage: OnStage, on_piece: OnPiece, on_run: OnRun) -> list[RunOutcome]:
    """Every run, in this thread. Whatever ends it, nothing is left behind."""
    outcomes: list[RunOutcome] = []
    with place() as folder:
        if wish.shaped:
            namespaces.remove_all()
        for number, name in order(wish):
            world = plan_world(name, scaled(load_scenario(name), wish.scale), number)
            contents = make_contents(folder / "content", world.sizes, number)
            on_stage(f"{name} {number}: links")
            with laid(world, wish.shaped) as ground:
                calibration = calibration_of(world, ground)
                policies = list(wish.policies)
                random.Random(number).shuffle(policies)
                for policy in policies:
                    on_stage(f"{name} {number}: {policy.name}")
                    stage = Stage(
                        world=world, policy=policy, contents=contents, folder=folder / "run"
                    )
                    fleet = Torrents if policy.is_rival else Daemons
                    with heard(wish.logs, f"{name}-{policy.name}-{number}") as hear:
                        run = Run(stage, fleet(stage, ground), ground, calibration, on_piece, hear)
                        outcome = asyncio.run(run.measure())
                    outcomes.append(outcome)
                    on_run(outcome)
            shutil.rmtree(folder / "content")
    return outcomes


@contextmanager
def heard(folder: Path | None, name: str) -> Generator[OnLine]:
    """Who writes down what processes say; without a folder nobody does."""
    if folder is None:
        yield ignore
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("w") as file:
        yield lambda process, line: print(process, line.rstrip(), file=file)


def order(wish: Wish) -> Iterator[tuple[int, str]]:
    """Number of the world and scenario: all scenarios, then all of them again."""
    for number in range(wish.first_world, wish.first_world + wish.n_runs):
        for name in wish.scenarios:
            yield number, name


def laid(world: WorldPlan, shaped: bool) -> AbstractContextManager[Ground]:
    """What the world stands on."""
    return namespaces.namespaces(world) if shaped else loopback(world)


def calibration_of(world: WorldPlan, ground: Ground) -> Calibration:
    """Measured, or what the daemons were told to keep."""
    if isinstance(ground, Namespaces):
        return calibrate(world, ground)
    up = {host.name: host.link.up for host in world.hosts if host.link.up is not None}
    down = {host.name: host.link.down for host in world.hosts if host.link.down is not None}
    return Calibration(rates=Rates(up=up, down=down), overhead=Overhead(along=1.0, against=0.0))


@contextmanager
def place() -> Generator[Path]:
    """An empty folder that only one campaign has at a time; CapacityError if another has it."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    folder = parent / f"{PLACE_NAME}-{os.getuid()}"
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CapacityError(
                "another swarm bench runs on this machine: they would share its cores"
            ) from None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def chosen(runs: Sequence[RunOutcome], scenario: str) -> list[RunOutcome]:
    """One run of each policy for a picture: the first that counts."""
    found: dict[str, RunOutcome] = {}
    for run in runs:
        if run.scenario == scenario and not run.rejected:
            found.setdefault(run.policy, run)
    return list(found.values())
