"""Starts one scheduler or daemon of a measured swarm, by the rules it is to follow.

    python launch.py scheduler|daemon CONFIG PIECE_LENGTH own|stock [FIELD=JSON ...]

A measured content is short, so that a run takes a minute; to have as many pieces as a long one, its
pieces are shorter than the 4 MiB that the API asks for. Here the bound of the check is lowered, on
all hosts alike. "stock" gives the core the numbers by which the simulator plays Dragonfly's
scheduler and client (`simulator.policy`, `simulator.client`). A FIELD is one of the core's own
numbers (`scheduler.core.limits`, `peer.core.limits`) that is changed, for an ablation.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Runnable as it lies there, and no module here hides another.
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

import uvloop  # noqa: E402  # after the path
from bench.swarm.rule_change import Rules, changed, rules_of  # noqa: E402
from msgspec.structs import replace  # noqa: E402

from odonata import collector, logs  # noqa: E402
from odonata.service_run import run_until_stopped  # noqa: E402
from odonata.settings.loading import load  # noqa: E402
from odonata.wire.dragonfly import check  # noqa: E402
from peer.runtime.daemon import Daemon  # noqa: E402
from peer.runtime.daemon_parts import limits_of as client_limits  # noqa: E402
from peer.runtime.descriptors import allow_descriptors  # noqa: E402
from peer.runtime.outgoing_proxy import forget_environment_proxies  # noqa: E402
from peer.settings import DaemonSettings  # noqa: E402
from scheduler.runtime.app import SchedulerApp  # noqa: E402
from scheduler.runtime.app import limits_of as scheduler_limits  # noqa: E402
from scheduler.settings import SchedulerSettings  # noqa: E402
from simulator.client import STOCK  # noqa: E402
from simulator.policy import policy_named  # noqa: E402

LOWERED = "MIN_PIECE_LENGTH_BYTES"


async def run_scheduler(config: Path, is_stock: bool, rules: Rules) -> None:
    """Until it is told to stop."""
    collector.look_seldom()
    settings = load(SchedulerSettings, file=config).settings
    logs.configure(settings.log, program=settings.program)
    stock = policy_named("dragonfly").limits(records=False)
    limits = stock if is_stock else changed(scheduler_limits(settings), rules)
    await run_until_stopped(SchedulerApp(settings, limits=limits))


async def run_daemon(config: Path, is_stock: bool, rules: Rules) -> None:
    """Until it is told to stop."""
    forget_environment_proxies()
    allow_descriptors()
    settings = load(DaemonSettings, file=config).settings
    logs.configure(settings.log, program=settings.program)
    if is_stock:
        daemon = Daemon(settings, limits=STOCK.limits, features=())
    else:
        daemon = Daemon(settings, limits=replace(client_limits(settings), **rules))
    await run_until_stopped(daemon)


def main(program: str, config: str, piece_length: str, client: str, *changes: str) -> None:
    assert hasattr(check, LOWERED), "the check of piece lengths has moved"
    setattr(check, LOWERED, min(check.MIN_PIECE_LENGTH_BYTES, int(piece_length)))
    run = run_scheduler if program == "scheduler" else run_daemon
    uvloop.run(run(Path(config), client == "stock", rules_of(changes)))


if __name__ == "__main__":
    main(*sys.argv[1:])
