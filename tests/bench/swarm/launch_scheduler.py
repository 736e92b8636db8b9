"""Starts the scheduler of a measured swarm, by the rules it is to follow.

    python launch_scheduler.py CONFIG PIECE_LENGTH own|stock [FIELD=JSON ...]

"stock" gives the core the numbers by which the simulator plays Dragonfly's scheduler
(`simulator.policy`). A FIELD is one of the core's own numbers (`scheduler.core.limits`) that is
changed, for an ablation.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Runnable as it lies there, and no module here hides another.
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

import uvloop  # noqa: E402  # after the path
from bench.swarm.rule_change import rules_of  # noqa: E402
from bench.swarm.scheduler_change import changed  # noqa: E402
from bench.swarm.short_pieces import allow_pieces_of  # noqa: E402

from odonata import collector, logs  # noqa: E402
from odonata.service_run import run_until_stopped  # noqa: E402
from odonata.settings.loading import load  # noqa: E402
from scheduler.runtime.app import SchedulerApp, limits_of  # noqa: E402
from scheduler.settings import SchedulerSettings  # noqa: E402
from simulator.policy import policy_named  # noqa: E402


async def main(config: str, piece_length: str, client: str, *changes: str) -> None:
    """Until it is told to stop."""
    allow_pieces_of(int(piece_length))
    collector.look_seldom()
    settings = load(SchedulerSettings, file=Path(config)).settings
    logs.configure(settings.log, program=settings.program)
    if client == "stock":
        limits = policy_named("dragonfly").limits(records=False)
    else:
        limits = changed(limits_of(settings), rules_of(changes))
    await run_until_stopped(SchedulerApp(settings, limits=limits))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
