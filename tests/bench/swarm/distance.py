"""How far hosts are from each other and how many packets get lost: rules of a router's firewall.

The kernel has no netem where this is to run, so packets wait in a program (`delay_line`), into
which the router's rules lead them, and a share is dropped by lot. One site only: packets that
cross two routers would be held twice.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.swarm.world import WorldPlan

from odonata.errors import CallerError, UnavailableError

NEAR_S: Final = 0.001
"""The simulator's default; a shaped link has as much by itself, so nothing is added."""
AMONG_HOSTS: Final = 1
TO_ORIGIN: Final = 2
"""Numbers of the kernel's queues."""
DELAY_LINE: Final = Path(__file__).with_name("delay_line.py")
STOP_TIMEOUT_S: Final = 5.0

Run = Callable[..., str]
"""Runs a program with words, and returns what it says."""


def is_far(world: WorldPlan) -> bool:
    """Something has to be added to the links of this world."""
    return bool(delays(world)) or world.loss_share > 0


def delays(world: WorldPlan) -> dict[int, float]:
    """Seconds by queue; a queue without delay is left out."""
    both = {AMONG_HOSTS: world.delay_s, TO_ORIGIN: world.source_delay_s}
    return {queue: delay_s for queue, delay_s in both.items() if delay_s > NEAR_S}


def rules(world: WorldPlan, origin_ip: str) -> list[list[str]]:
    """What is appended to the chain of packets that pass the router, in this order."""
    found: list[list[str]] = []
    if world.loss_share:
        lot = ["-m", "statistic", "--mode", "random", "--probability", str(world.loss_share)]
        found.append([*lot, "-j", "DROP"])
    for queue in delays(world):
        line = ["-j", "NFQUEUE", "--queue-num", str(queue), "--queue-bypass"]
        if queue == TO_ORIGIN:
            found += [["-s", origin_ip, *line], ["-d", origin_ip, *line]]
        else:
            away = (["!", flag, f"{origin_ip}/32"] for flag in ("-s", "-d"))
            found.append([word for pair in away for word in pair] + line)
    return found


def check(world: WorldPlan) -> None:
    """CallerError if this machine can't play the world's distances."""
    if not is_far(world):
        return
    if world.n_sites > 1:
        raise CallerError(
            f"{world.scenario}: delays and losses are played between hosts of one site only: "
            "use one data centre, or neither delay nor loss"
        )
    if shutil.which("iptables") is None:
        raise CallerError(
            f"{world.scenario}: delays and losses need iptables (Debian: apt install iptables)"
        )


@contextmanager
def kept(world: WorldPlan, router: str, origin_ip: str, run: Run) -> Generator[None]:
    """Packets that pass `router`, a namespace, take their time. UnavailableError."""
    for rule in rules(world, origin_ip):
        words = ["iptables", "-w", "-t", "mangle", "-A", "FORWARD", *rule]
        run("ip", "netns", "exec", router, *words)
    waiting = delays(world)
    if not waiting:
        yield
        return
    program = shutil.which("ip")
    assert program is not None, "looked for before"
    words = [f"{queue}={delay_s}" for queue, delay_s in waiting.items()]
    line = subprocess.Popen(
        [program, "netns", "exec", router, sys.executable, str(DELAY_LINE), *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    with line:
        try:
            assert line.stdout is not None, "a pipe was asked for"
            if line.stdout.readline() != "ready\n":
                raise UnavailableError("packets can't be held back here: the kernel has no NFQUEUE")
            yield
        finally:
            line.terminate()
            line.wait(STOP_TIMEOUT_S)
