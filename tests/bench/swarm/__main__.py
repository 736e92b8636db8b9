"""How near to the physical bound a real swarm on real (emulated) links comes, policy by policy.

    ./run bench swarm flash fastseed --policy rule --policy dragonfly --runs 5 --json out.json

Origin, seed, scheduler and peers are processes, each on a host of its own: as root a network
namespace whose uplink and downlink have their rates, otherwise (or with --loopback) an address of
the loopback, where daemons keep rates by themselves. Links are calibrated before each world, idle
CPU is recorded, and a run in which less than 10 % were idle does not count. Everything is removed
at the end, also after Ctrl-C, and what a killed run left is removed at the start of the next.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[3]
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench.swarm import namespaces  # noqa: E402
from bench.swarm.campaign import Wish, chosen, run_all  # noqa: E402
from bench.swarm.outcome import RunOutcome, figures_of  # noqa: E402
from bench.swarm.picture import draw  # noqa: E402
from bench.swarm.policy import ABLATIONS, POLICIES, policy_named  # noqa: E402
from bench.swarm.summary import document_of, markdown_of, matrix_of, rows_of, tables_of  # noqa: E402
from bench.swarm.world import Scale  # noqa: E402
from rich.console import Console  # noqa: E402  # after the path
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from odonata.errors import OdonataError  # noqa: E402
from odonata.units import parse_rate, parse_size  # noqa: E402
from simulator.scenario_file import scenario_names  # noqa: E402

DEFAULT_POLICIES = ("rule", "dragonfly", "direct")


class Show:
    """The live progress: all runs, and the pieces of the one that runs."""

    def __init__(self, console: Console, wish: Wish) -> None:
        self.progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._runs = self.progress.add_task("runs", total=wish.n_total)
        self._bytes = self.progress.add_task("", total=wish.scale.peers * wish.scale.size)
        self._n_failed = 0

    def stage(self, text: str) -> None:
        self.progress.reset(self._bytes, description=text)

    def piece(self, _name: str, length: int) -> None:
        self.progress.advance(self._bytes, length)

    def run(self, run: RunOutcome) -> None:
        self.progress.advance(self._runs)
        figures = figures_of(run)
        both = (figures.stretch_p50, figures.stretch_p99)
        p50, p99 = ("-" if one is None else f"{one:.2f}" for one in both)
        line = f"{run.scenario} {run.world} {run.policy}: stretch {p50}/{p99}"
        line += f", bound {run.bound_s:.1f} s, idle {run.usage.idle:.0%}"
        self.progress.print(line)
        for host in run.hosts:
            if host.failure:
                self.progress.print(f"  {host.name}: {host.failure}")
        if run.rejected:
            self.progress.print(f"  [red]rejected[/]: {run.rejected}")


def parsed() -> argparse.Namespace:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="./run bench swarm", description=about)
    known = ", ".join(scenario_names())
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO", help=f"{known}, or a file")
    choices = (*sorted(POLICIES), *sorted(ABLATIONS))
    parser.add_argument("--policy", action="append", choices=choices, help="repeatable")
    parser.add_argument(
        "--ablation", action="store_true", help="`rule`, and it with each rule switched off in turn"
    )
    parser.add_argument("--runs", type=int, default=5, help="worlds of each scenario (5)")
    parser.add_argument("--first", type=int, default=1, help="number of the first world (1)")
    parser.add_argument("--peers", type=int, default=16)
    parser.add_argument("--size", default="32MiB", help="of the content")
    parser.add_argument("--piece-length", default="128KiB")
    parser.add_argument("--rate", default="5Mbit/s", help="of a peer's link; others in proportion")
    parser.add_argument("--loopback", action="store_true", help="without network namespaces")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="what all processes say, by run")
    parser.add_argument("--picture", type=Path, metavar="OUT", help="SVG of the first scenario")
    parser.add_argument("--markdown", action="store_true", help="print the table for a document")
    return parser.parse_args()


def wish_of(args: argparse.Namespace, console: Console) -> Wish:
    why_not = namespaces.why_not()
    if why_not and not args.loopback:
        console.print(f"{why_not}: on loopback instead, where daemons keep rates by themselves")
    names = list(args.policy or (() if args.ablation else DEFAULT_POLICIES))
    if args.ablation:
        names = list(dict.fromkeys([*names, "rule", *ABLATIONS]))
    return Wish(
        scenarios=tuple(args.scenarios),
        policies=tuple(policy_named(name) for name in names),
        n_runs=args.runs,
        scale=Scale(
            peers=args.peers,
            size=parse_size(args.size),
            piece_length=parse_size(args.piece_length),
            peer_rate=float(parse_rate(args.rate)),
        ),
        shaped=not (args.loopback or why_not),
        first_world=args.first,
        logs=args.logs,
    )


def end(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends it as Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


def main() -> int:
    args, console = parsed(), Console()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    signal.signal(signal.SIGTERM, end)
    runs: list[RunOutcome] = []
    status = 0
    try:
        wish = wish_of(args, console)
        show = Show(console, wish)

        def take(run: RunOutcome) -> None:
            runs.append(run)
            show.run(run)

        with show.progress:
            run_all(wish, show.stage, show.piece, take)
    except KeyboardInterrupt:
        console.print("stopped; what was measured until then:")
        status = 130
    except OdonataError as error:
        console.print(f"[red]{error.detail}[/]")
        status = 1
    if runs:
        tell(runs, args, console)
    return status


def tell(runs: list[RunOutcome], args: argparse.Namespace, console: Console) -> None:
    rows = rows_of(runs)
    if args.markdown:
        text = matrix_of(rows) if args.ablation else markdown_of(rows)
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    for table in () if args.markdown else tables_of(rows):
        console.print(table)
    if args.json:
        facts = {"command": sys.argv[1:], "cores": os.cpu_count()}
        args.json.write_bytes(document_of(runs, facts))
    shown = chosen(runs, runs[0].scenario)
    if args.picture and shown:
        draw(shown, args.picture)


if __name__ == "__main__":
    sys.exit(main())
