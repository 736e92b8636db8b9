"""What a learned ranker is worth in worlds it has never seen: the must-hold experiment.

    python tests/bench/worlds.py [--scenario lognormal] [--peers 200] [--seeds 5] [--json]

For each client (Dragonfly's rules, and ours):

1. gather: other worlds (seeds from 1001) of the scenario under `rule` and `random`, exploring;
2. learn: build the data set of their records, fit a ranker, write its bundle;
3. judge: worlds from seed 1 under dragonfly, rule, random and that model, none of them exploring;
   a world lives through several files, and only the later ones count.

Printed is, per client, the study's table: the share of the p99 gap between `dragonfly` and the
physical bound that each policy closes, median and spread over the worlds. With `--json` all of it.
`--keep DIR` keeps telemetry, data sets, bundles and runs; `--model DIR` judges a bundle of your own
instead of learning one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]  # runnable as it lies there

import msgspec  # noqa: E402  # after the path
from rich.console import Console  # noqa: E402

from models.bundle import write_bundle  # noqa: E402
from simulator.policy import Policy, policy_named  # noqa: E402
from simulator.scenario import Scenario  # noqa: E402
from simulator.scenario_file import load_scenario  # noqa: E402
from simulator.study import Order, WorldOutcome, run_worlds  # noqa: E402
from simulator.study_files import draw, write_runs  # noqa: E402
from simulator.summary import Row, summarise, table  # noqa: E402
from training.dataset import build  # noqa: E402
from training.fit import FitConfig, fit  # noqa: E402
from training.pipeline import bundle_version, golden_batches  # noqa: E402
from training.registry import MODEL_NAME  # noqa: E402
from training.rows import load  # noqa: E402

FIRST_GATHERED = 1001
"""Far from the judged worlds, which begin at 1."""
GATHERED_BY = ("rule", "random")
JUDGED = ("dragonfly", "rule", "random", "learned")

say, out = Console(stderr=True), Console()


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(options.keep or scratch)
        results = {client: _of_client(options, client, place / client) for client in options.client}
    if options.json:
        found = {client: msgspec.to_builtins(rows) for client, rows in results.items()}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for client, rows in results.items():
        out.print(f"\n{options.scenario}, {client} client: {_verdict(rows)}", soft_wrap=True)
        out.print(table(rows))


def _of_client(options: Any, client: str, place: Path) -> list[Row]:
    overrides = {"peers": str(options.peers), "files": str(options.files)}
    overrides["judgedFrom"] = str(options.judged_from)
    scenario = load_scenario(options.scenario, overrides=overrides)
    bundle = Path(options.model) if options.model else _learn(options, client, scenario, place)
    policies = [policy_named(name, model=bundle) for name in options.policy]
    seeds = range(1, 1 + options.seeds)
    outcomes = _run(options, "judging", [(scenario, p, client, s) for s in seeds for p in policies])
    write_runs(outcomes, place)
    draw(outcomes, scenario.question, place)
    return summarise(outcomes)


def _learn(options: Any, client: str, scenario: Scenario, place: Path) -> Path:
    """Gather, build, fit; return the bundle's folder."""
    policies = [policy_named(name, exploration=options.exploration) for name in GATHERED_BY]
    seeds = range(FIRST_GATHERED, FIRST_GATHERED + options.gather)
    worlds = [(scenario, policy, client, seed) for seed in seeds for policy in policies]
    _run(options, "gathering", worlds, telemetry=place / "telemetry")
    began_s = time.monotonic()
    card = build([place / "telemetry"], place / "dataset")
    rows = load(place / "dataset").frame
    fitted = fit(rows, FitConfig())
    write_bundle(
        place / "bundle",
        name=MODEL_NAME,
        version=bundle_version(fitted, 0.0),
        created_at_s=0.0,
        model=fitted.rank_text,
        goodput=fitted.goodput_text,
        golden=golden_batches(rows),
        weights=FitConfig().weights,
        card={"scenario": options.scenario, "client": client, "worlds": len(worlds)},
    )
    took_s = time.monotonic() - began_s
    say.print(f"learned from {len(rows)} rows in {took_s:.0f} s ({type(card).__name__} kept)")
    return place / "bundle"


def _run(
    options: Any,
    what: str,
    worlds: Sequence[tuple[Scenario, Policy, str, int]],
    telemetry: Path | None = None,
) -> list[WorldOutcome]:
    orders = [
        Order(
            name=options.scenario,
            scenario=scenario,
            policy=policy,
            client=client,
            seed=seed,
            telemetry=telemetry,
        )
        for scenario, policy, client, seed in worlds
    ]
    done: list[Order] = []

    def on_done(order: Order) -> None:
        done.append(order)
        say.print(f"{what} {len(done)}/{len(orders)}: {order.stem}")

    return run_worlds(orders, jobs=options.jobs, on_done=on_done)


def _verdict(rows: Sequence[Row]) -> str:
    """The shares of the p99 gap, in words."""
    return "; ".join(
        f"{row.policy} closes {sorted(row.gap_closed)[len(row.gap_closed) // 2]:.0%} "
        f"({min(row.gap_closed):.0%} to {max(row.gap_closed):.0%})"
        for row in rows
        if row.gap_closed and row.policy != "dragonfly"
    )


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scenario", default="lognormal")
    parser.add_argument("--client", action="append", choices=["stock", "own"])
    parser.add_argument("--policy", action="append", choices=JUDGED)
    parser.add_argument("--peers", type=int, default=200)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--judged-from", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5, help="judged worlds")
    parser.add_argument("--gather", type=int, default=4, help="worlds per gathering policy")
    parser.add_argument("--exploration", type=float, default=0.2, help="while gathering")
    parser.add_argument("--model", help="a bundle to judge, instead of learning one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", help="folder for everything")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.client = options.client or ["stock", "own"]
    options.policy = options.policy or list(JUDGED)
    return options


if __name__ == "__main__":
    main()
