"""What each rule of client and graph is worth: switched off in turn, over worlds of the simulator.

    python tests/bench/second_stage.py [--peers 32] [--seeds 3] [--size 128MiB] [--jobs 2]
                                       [--world NAME ...] [--variant NAME ...] [--json]

Both production cores on virtual time, everybody asks at once from a cold start. A row is one world
under one variant: p50 and p99 of the stretch (multiples of the physical bound), and how many copies
left the source and the seeds; means over the same random worlds for all variants. The first row of
each world is the product as it is. Differences below 0.05 are chance.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from msgspec.structs import replace  # noqa: E402  # after the path

from models.named import make_ranker  # noqa: E402
from odonata.units import parse_size  # noqa: E402
from peer.core.limits import DownloadLimits  # noqa: E402
from scheduler.core.limits import Limits  # noqa: E402
from simulator.client import STOCK  # noqa: E402
from simulator.report import percentile  # noqa: E402
from simulator.scenario import MBIT, Degrading, Scenario  # noqa: E402
from simulator.swarm import Swarm  # noqa: E402

THIN, FAST = 40 * MBIT, 400 * MBIT
WORLDS: dict[str, dict[str, Any]] = {
    "thin": {"seed_up": THIN},
    "fast": {"seed_up": FAST},
    "lognormal": {"seed_up": FAST, "uplink_sigma": 0.8, "hidden_slow_share": 0.1},
    "degrading": {"seed_up": FAST, "degrading": Degrading(share=0.05, factor=50.0, at_s=10.0)},
    "two data centres": {"seed_up": FAST, "idcs": 2, "between_idcs": 80 * MBIT},
    "false words": {"seed_up": FAST, "uplink_sigma": 0.8, "hidden_slow_share": 0.33},
    "far": {"seed_up": FAST, "peer_up": FAST, "peer_down": FAST, "delay_s": 0.025},
    "very far": {
        "seed_up": 4 * FAST,
        "peer_up": FAST,
        "peer_down": FAST,
        "delay_s": 0.1,
        "piece_length": 1 << 20,
    },
    "in turn": {"seed_up": FAST, "delay_s": 0.02, "arrival_s": 4.0},
    "crowd": {"seed_up": THIN, "piece_length": 1 << 18},
    "stock clients": {"seed_up": FAST, "uplink_sigma": 0.8},
    "trickling seed": {"seed_up": 0.1 * MBIT, "piece_length": 1 << 20},
}
"""Peers of 40 Mbit/s each way: equal ones with a seed as thin or ten times as wide, uneven ones of
which some are not what they say (or a third), two data centres; and 400 Mbit/s with round trips of
50 ms, or of 200 ms and pieces of 1 MiB instead of 4. `in turn` they come one after the other, 40 ms
away from each other; a `crowd` is one of many peers and small pieces; `stock clients` are those of
Dragonfly, with uneven uplinks, and none of our client's rules; and a seed that gives next to
nothing."""
_STOCK = frozenset({"stock clients"})

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no beside": {"beside": False},
    "4 always": {"widen": False},
    "8 always": {"concurrent_piece_count": 8, "widen": False},
    "4 from one parent": {"pieces_per_parent": 4},
    "1 from quick parents": {"quick_pieces_per_parent": 1},
    "piece first": {"first": "piece"},
    "ascending": {"order": "ascending"},
    "told weights": {"weight": "told"},
    "no seed once": {"seed_once": False},
    "not exclusive": {"exclusive": False},
    "no reader order": {"reader_order": False},
    "no far once": {"far_once": False},
    "no far patience": {"far_patience_s": 0.0},
    "no far shares": {"far_shares": False},
    "far when late": {"far_in_earnest": False},
    "no hedge": {"hedge": False},
    "late hedge": {"end_factor": 4.0},
    "no replacing": {"replace_slow": False},
    "no sparing": {"spare_late": False},
    "neither": {"hedge": False, "replace_slow": False},
    "queue of 4": {"waiting_max": 4},
    "no queue": {"waiting_max": 0},
    "patient": {"impatient": False},
    "never early": {"ask_early": False},
    "never ahead": {"ask_ahead": False},
    "never rests": {"rest": False},
    "helps at once": {"far_help_after": 0.0},
    "any gateway": {"gateway_far_count": 0},
    "no seed cap": {"seed_share": 0.0},
    "no queue, 8 slots": {"waiting_max": 0, "peer_slots": 8},
}
"""Fields of `DownloadLimits`, of the scheduler's `Limits`, and of `Scenario`."""

_OF_SCENARIO = frozenset({"waiting_max", "peer_slots"})
_OF_SCHEDULER = frozenset({"gateway_far_count", "seed_share"})

Order = tuple[str, str, int, int, int]
"""World, variant, seed, peers, size in bytes."""
Figures = dict[str, float]


def run(order: Order) -> Figures:
    """One world, from its seed to its figures."""
    world, variant, seed, peers, size = order
    changes = VARIANTS[variant]
    more = {key: v for key, v in changes.items() if key in _OF_SCENARIO}
    of_graph = {key: v for key, v in changes.items() if key in _OF_SCHEDULER}
    of_client = {key: v for key, v in changes.items() if key not in more | of_graph}
    limits = replace(DownloadLimits(), **of_client)
    facts: dict[str, Any] = {"piece_length": 4 << 20, **WORLDS[world], **more}
    scenario = Scenario(peers=peers, size=size, limits=limits, **facts)
    if world in _STOCK:
        scenario = STOCK.on(scenario)
    swarm = Swarm(
        scenario,
        seed=seed,
        ranker=make_ranker("rule"),
        keep_log=False,
        scheduler_limits=Limits(**of_graph),
    )
    report = swarm.run()
    stretches = sorted(o.took_s / report.bound_s for o in report.outcomes if o.took_s is not None)
    return {
        "p50": percentile(stretches, 50),
        "p99": percentile(stretches, 99),
        "source": report.source_copies,
        "seed": sum(report.copies(node.name) for node in swarm.seeds),
        "failed": float(peers - len(stretches)),
    }


def measure(orders: list[Order], jobs: int) -> dict[tuple[str, str], Figures]:
    """Means by world and variant, each told on stderr as soon as it is there."""
    context = multiprocessing.get_context("spawn")
    found: dict[tuple[str, str], list[Figures]] = {}
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for order, figures in zip(orders, pool.map(run, orders), strict=True):
            found.setdefault(order[:2], []).append(figures)
            sys.stderr.write(f"{order[0]}, {order[1]}, seed {order[2]}: {figures}\n")
    return {
        key: {name: statistics.fmean(one[name] for one in some) for name in some[0]}
        for key, some in found.items()
    }


def show(rows: dict[tuple[str, str], Figures]) -> None:
    """A table for people, in Markdown."""
    lines = [
        "| world | variant | p50 | p99 | source copies | seed copies |",
        "|---|---|---|---|---|---|",
    ]
    for (world, variant), row in rows.items():
        failed = f" ({row['failed']:.1f} failed)" if row["failed"] else ""
        lines.append(
            f"| {world} | {variant}{failed} | {row['p50']:.2f} | {row['p99']:.2f} "
            f"| {row['source']:.2f} | {row['seed']:.2f} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peers", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=parse_size, default=parse_size("128MiB"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--world", action="append", choices=list(WORLDS))
    parser.add_argument("--variant", action="append", choices=list(VARIANTS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    orders: list[Order] = [
        (world, variant, seed, args.peers, args.size)
        for world in args.world or WORLDS
        for variant in args.variant or VARIANTS
        for seed in range(1, args.seeds + 1)
    ]
    rows = measure(orders, args.jobs)
    if args.json:
        told = [{"world": w, "variant": v} | row for (w, v), row in rows.items()]
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        show(rows)


if __name__ == "__main__":
    main()
