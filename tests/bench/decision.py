"""What one decision costs the scheduler's core, step by step: microseconds, median and p99.

    python tests/bench/decision.py [--candidates 128] [--rounds 400]

A task with so many candidates, each on a host with a history of its own; a child registers, is
given parents, and is forgotten again. The steps are timed one by one with the same candidates; the
last line is the whole event, with the answer and everything that is recorded. Compare numbers of
one run, or of runs one after the other: the machine is noisy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from support.scheduler_world import World, download, host  # noqa: E402  # after the path

from models.dragonfly import DragonflyRanker  # noqa: E402
from models.features import feature_matrix  # noqa: E402
from models.rule_ranker import RuleRanker  # noqa: E402
from odonata.wire.message import Register  # noqa: E402
from scheduler.core.candidate import survey  # noqa: E402
from scheduler.core.event import PeerDeleted, PeerSpoke  # noqa: E402
from scheduler.core.facts import facts  # noqa: E402
from scheduler.core.limits import Limits  # noqa: E402
from scheduler.core.pick import Lots, pick  # noqa: E402

GIGABIT = 10**9
MICRO = 1e6
PIECES = 8
"""Each candidate has fetched so many, from the one before it."""


def crowd(count: int) -> World:
    """A task with `count` peers that can serve, and their histories."""
    world = World(Limits(admission=False))
    for number in range(count):
        idc, location = f"idc-{number % 2}", f"eu|de|{number % 5}"
        name = f"h{number}"
        world.now += 1.0
        world.announce(host(name, idc=idc, location=location, bandwidth=GIGABIT))
        world.origin_fetcher(f"p{number}", name)
        for piece in range(PIECES):
            parent_id = f"p{number - 1}" if number else ""
            world.piece(f"p{number}", piece, parent_id, cost_s=0.1 + 0.01 * piece)
    world.announce(host("hx", idc="IDC-0", location="eu|de|mu"))
    world.register("x", "hx", download(source=True))
    return world


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and p99 of so many rounds, microseconds."""
    costs: list[float] = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        work()
        costs.append((time.perf_counter() - began_s) * MICRO)
    costs.sort()
    return costs[rounds // 2], costs[rounds * 99 // 100]


def whole_event(world: World) -> Callable[[], object]:
    """A child registers, is answered, and is forgotten."""

    spoke = PeerSpoke(
        host_id="hx", task_id="t", peer_id="child", message=Register(download=download())
    )
    left = PeerDeleted(host_id="hx", task_id="t", peer_id="child")

    def register() -> None:
        world.core.handle(spoke, world.now)
        world.core.handle(left, world.now)

    return register


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--candidates", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=400)
    args = parser.parse_args()
    world = crowd(args.candidates)
    child = world.peer("x")
    candidates = survey(child).eligible
    batch = facts(child, candidates, world.now, world.core.state)
    dragonfly, rule = DragonflyRanker(), RuleRanker()
    ranking = dragonfly.rank(batch, 1)
    steps: dict[str, Callable[[], object]] = {
        "survey": lambda: survey(child),
        "facts": lambda: facts(child, candidates, world.now, world.core.state),
        "features": lambda: feature_matrix(batch),
        "rank, dragonfly": lambda: dragonfly.rank(batch, 1),
        "rank, rule": lambda: rule.rank(batch, 1),
        "pick": lambda: pick(
            ranking,
            batch["child_count"].tolist(),
            Lots(Random(), 2**62),
            places=4,
            exploration=0.02,
        ),
        "the whole event": whole_event(world),
    }
    lines = [f"{len(candidates)} candidates{'':16}{'us, median':>12}{'p99':>9}"]
    for name, work in steps.items():
        median, p99 = timed(work, args.rounds)
        lines.append(f"{name:30}{median:>12.0f}{p99:>9.0f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
