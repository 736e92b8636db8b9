"""Makes datasets/samples/parent-ranker anew: the model that a checkout simulates with.

    ./run bench sample_ranker [--out DIR] [--peers 60] [--gather 2] [--judge 3]

1. gather: worlds of `lognormal` and `degrade` (seeds from 1001) under `rule` and `random`,
   exploring, with our client and with Dragonfly's;
2. learn: one data set of all their records, one ranker; judged on held-out decisions and hosts;
3. judge: worlds of `lognormal` from seed 1 under dragonfly, rule, random and that ranker;
4. write the bundle and its README, which says all of this with the figures.

The same code writes the same bytes: virtual time is the only time in it. It takes a few minutes on
2 cores. To be run whenever the features change: `learned` refuses a model of other features.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]  # runnable as it lies there

from rich.console import Console  # noqa: E402  # after the path

from models.bundle import BUNDLE_FILES  # noqa: E402
from simulator.policy import SAMPLE_BUNDLE, policy_named  # noqa: E402
from simulator.scenario_file import load_scenario  # noqa: E402
from simulator.study import DAY_ONE_S, Order, WorldOutcome, run_worlds  # noqa: E402
from simulator.summary import Row, summarise  # noqa: E402
from training.card import markdown  # noqa: E402
from training.dataset import build  # noqa: E402
from training.fit import FitConfig  # noqa: E402
from training.pipeline import Trained, train  # noqa: E402
from training.rows import load  # noqa: E402

COMMAND = "./run bench sample_ranker"
GATHERED = ("lognormal", "degrade")
GATHERED_BY = ("rule", "random")
JUDGED = "lognormal"
JUDGED_BY = ("dragonfly", "rule", "random", "learned")
CLIENTS = ("own", "stock")
FIRST_GATHERED, FIRST_JUDGED = 1001, 1
EXPLORATION = 0.2
"""While gathering: what is never tried can't be learned."""
FILES, JUDGED_FROM = 3, 2

say = Console(stderr=True)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _gather(options, place / "telemetry")
        build([place / "telemetry"], place / "dataset")
        trained = train(
            load(place / "dataset"),
            FitConfig(),
            place / "bundle",
            created_at_s=DAY_ONE_S,
            command=COMMAND,
            tell=say.print,
        )
        rows = summarise(_judge(options, place / "bundle"))
        _write(options, place / "bundle", trained, rows)
    say.print(f"written: {options.out}")


def _gather(options: Any, telemetry: Path) -> None:
    seeds = range(FIRST_GATHERED, FIRST_GATHERED + options.gather)
    orders = [
        _order(options, name, by, client, seed, EXPLORATION, telemetry=telemetry)
        for name in GATHERED
        for seed in seeds
        for client in CLIENTS
        for by in GATHERED_BY
    ]
    _run("gathering", orders, options.jobs)


def _judge(options: Any, bundle: Path) -> list[WorldOutcome]:
    seeds = range(FIRST_JUDGED, FIRST_JUDGED + options.judge)
    orders = [
        _order(options, JUDGED, by, client, seed, model=bundle)
        for seed in seeds
        for client in CLIENTS
        for by in JUDGED_BY
    ]
    return _run("judging", orders, options.jobs)


def _order(
    options: Any,
    name: str,
    by: str,
    client: str,
    seed: int,
    exploration: float = 0.0,
    *,
    model: Path | None = None,
    telemetry: Path | None = None,
) -> Order:
    overrides = {
        "peers": str(options.peers),
        "files": str(FILES),
        "judgedFrom": str(JUDGED_FROM),
        "size": options.size,
    }
    return Order(
        name=name,
        scenario=load_scenario(name, overrides=overrides),
        policy=policy_named(by, model=model, exploration=exploration),
        client=client,
        seed=seed,
        telemetry=telemetry,
    )


def _run(what: str, orders: Sequence[Order], jobs: int) -> list[WorldOutcome]:
    done: list[Order] = []

    def on_done(order: Order) -> None:
        done.append(order)
        say.print(f"{what} {len(done)}/{len(orders)}: {order.stem}")

    return run_worlds(orders, jobs=jobs, on_done=on_done)


def _write(options: Any, bundle: Path, trained: Trained, rows: Sequence[Row]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    for name in BUNDLE_FILES:
        shutil.copyfile(bundle / name, options.out / name)
    (options.out / "README.md").write_text(_page(options, trained, rows), encoding="utf-8")


def _page(options: Any, trained: Trained, rows: Sequence[Row]) -> str:
    names = " and ".join(f"`{name}`" for name in GATHERED)
    worlds = len(GATHERED) * len(CLIENTS) * len(GATHERED_BY) * options.gather
    table = ["| client | policy | stretch p50 | p99 | p99 of worlds | p99 gap closed |"]
    table += ["|---|---|---|---|---|---|", *(_line(row) for row in rows)]
    card = markdown(trained.manifest.card, trained.fitted, trained.evaluation)
    about = f"""\
# A sample ranker

The model that `odonata simulate --policy learned` takes in a checkout while none is published on
the machine. It knows simulated worlds only. Made by

    {COMMAND}

from {worlds} worlds of {names} ({options.peers} peers, {FILES} files of {options.size} each), with
the clients {" and ".join(CLIENTS)}, under {" and ".join(GATHERED_BY)}, {EXPLORATION:.0%} of the
decisions by lot. The same code writes the same bytes. A model of other features is refused: make it
anew whenever they change. Licence: the repository's.

## In worlds it has never seen

{options.judge} worlds of `{JUDGED}`, {options.peers} peers, files {JUDGED_FROM} to {FILES}; medians
over the worlds. Stretch: time over the physical bound. Gap closed: share of the p99 between
`dragonfly`'s and the bound.
"""
    deeper = [f"#{line}" if line.startswith("#") else line for line in card.splitlines()]
    return "\n".join([about, *table, "", *deeper, ""])


def _line(row: Row) -> str:
    low, high = row.p99_spread
    closed = sorted(row.gap_closed)
    gap = f"{closed[len(closed) // 2]:.0%}" if closed and row.policy != "dragonfly" else ""
    return (
        f"| {row.client} | {row.policy} | {row.middle('stretch_p50'):.2f} "
        f"| {row.middle('stretch_p99'):.2f} | {low:.2f} to {high:.2f} | {gap} |"
    )


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=SAMPLE_BUNDLE)
    parser.add_argument("--peers", type=int, default=60)
    parser.add_argument("--size", default="128MiB", help="of each file")
    parser.add_argument("--gather", type=int, default=2, help="worlds of each kind to learn from")
    parser.add_argument("--judge", type=int, default=3, help="worlds to judge in")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
