"""Starts one daemon of a measured swarm, by the rules it is to follow.

    python launch_daemon.py CONFIG PIECE_LENGTH own|stock [FIELD=JSON ...]

"stock" gives the core the numbers by which the simulator plays Dragonfly's client
(`simulator.client`). A FIELD is one of the core's own numbers (`peer.core.limits`) that is changed,
for an ablation.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Runnable as it lies there, and no module here hides another.
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

import uvloop  # noqa: E402  # after the path
from bench.swarm.rule_change import rules_of  # noqa: E402
from bench.swarm.short_pieces import allow_pieces_of  # noqa: E402
from msgspec.structs import replace  # noqa: E402

from odonata import logs  # noqa: E402
from odonata.service_run import run_until_stopped  # noqa: E402
from odonata.settings.loading import load  # noqa: E402
from peer.runtime.daemon import Daemon  # noqa: E402
from peer.runtime.daemon_parts import limits_of  # noqa: E402
from peer.runtime.descriptors import allow_descriptors  # noqa: E402
from peer.runtime.outgoing_proxy import forget_environment_proxies  # noqa: E402
from peer.settings import DaemonSettings  # noqa: E402
from simulator.client import STOCK  # noqa: E402


async def main(config: str, piece_length: str, client: str, *changes: str) -> None:
    """Until it is told to stop."""
    allow_pieces_of(int(piece_length))
    forget_environment_proxies()
    allow_descriptors()
    settings = load(DaemonSettings, file=Path(config)).settings
    logs.configure(settings.log, program=settings.program)
    if client == "stock":
        daemon = Daemon(settings, limits=STOCK.limits, features=())
    else:
        daemon = Daemon(settings, limits=replace(limits_of(settings), **rules_of(changes)))
    await run_until_stopped(daemon)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
