"""`odonata simulate` and `odonata sim`: swarms of the production cores on virtual time.

`simulate` compares policies over many worlds of a scenario; `sim` shows one swarm, peer by peer, or
searches thousands of worlds for one in which faults do harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from odonata.cli import print_json
from odonata.errors import CallerError, OdonataError
from odonata.units import parse_duration_s, parse_rate, parse_size

if TYPE_CHECKING:
    from simulator.report import SwarmReport
    from simulator.study import Order, WorldOutcome

SEED_HOSTS_MAX = 100
DEFAULT_POLICIES = ("dragonfly", "rule")


class Quantity(click.ParamType[float]):
    """Text with a unit, such as 128MiB, 40Mbit/s or 5ms."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if not isinstance(value, str):
            return float(value) if isinstance(value, int | float) else 0.0
        try:
            return float(self._parse(value))
        except CallerError as error:
            self.fail(error.detail, param, ctx)


SIZE = Quantity("size", parse_size)
RATE = Quantity("rate", parse_rate)
TIME = Quantity("time", parse_duration_s)


@click.command()
@click.option("--peers", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option(
    "--seeds",
    type=click.IntRange(0, 1_000_000),
    help="Seed hosts, 1 by default; with --faults: random seeds to try, 2000 by default.",
)
@click.option("--size", type=SIZE, default="128MiB", show_default=True, help="Of the content.")
@click.option("--peer-rate", type=RATE, default="40Mbit/s", show_default=True, help="Up and down.")
@click.option("--seed-rate", type=RATE, default="400Mbit/s", show_default=True, help="Uplink.")
@click.option("--source-rate", type=RATE, default="200Mbit/s", show_default=True, help="Uplink.")
@click.option("--delay", type=TIME, default="1ms", show_default=True, help="One way.")
@click.option("--arrival", type=TIME, default="0s", show_default=True, help="Peers come in this.")
@click.option("--random-seed", type=int, default=1, show_default=True, help="Same seed, same run.")
@click.option("--crash", multiple=True, metavar="HOST:PIECES", help="seed1:8 dies holding 8.")
@click.option("--bad-digest", multiple=True, metavar="HOST", help="Sends wrong bytes. Repeatable.")
@click.option("--lose-scheduler", type=TIME, help="It dies then.")
@click.option("--source-dies-after", type=SIZE, help="Bytes it lives to send.")
@click.option("--log", "show_log", is_flag=True, help="Print every event first.")
@click.option("--json", "json_form", is_flag=True, help="As JSON. Not with --faults.")
@click.option("--faults", is_flag=True, help="Search worlds full of faults for one that fails.")
@click.option("--first", type=int, default=1, show_default=True, help="--faults: the first seed.")
@click.option("--jobs", type=click.IntRange(1, 256), help="--faults: at a time; default: cores.")
@click.option("--seed", "one_seed", type=int, help="--faults: this one alone, explained.")
@click.option("--explain", is_flag=True, help="--faults --seed: tell the whole story; implied.")
@click.option("--only", metavar="N,N,...", help="--faults --seed: with these faults of its plan.")
def sim(
    peers: int,
    seeds: int | None,
    size: float,
    peer_rate: float,
    seed_rate: float,
    source_rate: float,
    delay: float,
    arrival: float,
    random_seed: int,
    crash: tuple[str, ...],
    bad_digest: tuple[str, ...],
    lose_scheduler: float | None,
    source_dies_after: float | None,
    show_log: bool,
    json_form: bool,
    faults: bool,
    first: int,
    jobs: int | None,
    one_seed: int | None,
    explain: bool,
    only: str | None,
) -> None:
    """Simulate a swarm: the real scheduler and real downloads, in virtual time.

    Hosts are called seed1, seed2, ... and peer1, peer2, ...; the same random seed gives the same
    run, event by event.

    With --faults the worlds are drawn, with crashes, partitions, liars and more in them, one for
    each random seed. Each must end with all bytes right or an honest error, and nobody stuck; the
    options that describe one swarm have no effect then.
    """
    if faults and json_form:
        raise CallerError("--json tells of one swarm: leave out --faults, or --json")
    if faults:
        _search(first, seeds, jobs, one_seed, only)
        return
    if one_seed is not None or explain or only is not None:
        raise CallerError("--seed, --explain and --only go with --faults: add it")
    if seeds is not None and seeds > SEED_HOSTS_MAX:
        raise CallerError(f"--seeds {seeds} are too many: a swarm has at most {SEED_HOSTS_MAX}")
    from simulator.scenario import Faults, Scenario
    from simulator.swarm import Swarm

    scenario = Scenario(
        size=int(size),
        peers=peers,
        seeds=1 if seeds is None else seeds,
        peer_up=peer_rate,
        peer_down=peer_rate,
        seed_up=seed_rate,
        source_up=source_rate,
        delay_s=delay,
        arrival_s=arrival,
        faults=Faults(
            bad_digest=bad_digest,
            crash_at_pieces=dict(_crash(text) for text in crash),
            scheduler_lost_at_s=lose_scheduler,
            source_dies_after_bytes=None if source_dies_after is None else int(source_dies_after),
        ),
    )
    swarm = Swarm(scenario, seed=random_seed, keep_log=show_log)
    report = swarm.run()
    _tell(report, swarm.world.log if show_log else None, json_form=json_form)
    _check(report.failures)


def _tell(report: SwarmReport, log: Sequence[str] | None, *, json_form: bool) -> None:
    if json_form:
        print_json(report.figures() | {"log": log})
        return
    from rich.console import Console

    for line in log or ():
        click.echo(line)
    Console().print(report.render())


def _search(
    first: int, count: int | None, jobs: int | None, one_seed: int | None, only: str | None
) -> None:
    from simulator.fault.command import SEEDS, campaign, explain

    if one_seed is not None:
        explain(one_seed, only)
    elif only is not None:
        raise CallerError("--only chooses among the faults of one seed: name it with --seed")
    else:
        campaign(first=first, count=count or SEEDS, jobs=jobs or os.cpu_count() or 1)


def _crash(text: str) -> tuple[str, int]:
    host, _, pieces = text.rpartition(":")
    if not host or not pieces.isdigit():
        raise CallerError(f"--crash {text!r} is not HOST:PIECES: write for instance seed1:8")
    return host, int(pieces)


def _check(failures: tuple[str, ...]) -> None:
    """A swarm that did not bring everything to everybody who lived is a failure."""
    if failures:
        raise OdonataError(f"{len(failures)} downloads failed: {'; '.join(failures[:3])}")


@click.command()
@click.argument("scenario")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="dragonfly, rule, random or learned. Repeatable; default: dragonfly and rule.",
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    type=click.Choice(["own", "stock"]),
    help="Whose rules peers follow: ours or Dragonfly's. Repeatable; default: own.",
)
@click.option("--peers", type=click.IntRange(1, 1000), help="Instead of the scenario's.")
@click.option("--files", type=click.IntRange(1, 100), help="One after the other in each world.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Worlds.")
@click.option("--first-seed", type=int, default=1, show_default=True, help="Of the first world.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As in the file.")
@click.option("--exploration", type=click.FloatRange(0, 1), default=0.0, show_default=True)
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Bundle of `learned`; default: the published one, else the checkout's.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of runs.parquet and completion.png; default: simulations/SCENARIO.",
)
@click.option("--telemetry", is_flag=True, help="Keep what scheduler and peers recorded, too.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Worlds at a time; default: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def simulate(
    scenario: str,
    policies: tuple[str, ...],
    clients: tuple[str, ...],
    peers: int | None,
    files: int | None,
    seeds: int,
    first_seed: int,
    settings: tuple[str, ...],
    exploration: float,
    model: Path | None,
    out: Path | None,
    telemetry: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """What if? Run worlds of SCENARIO under one scheduling policy or another.

    SCENARIO is one of datasets/scenarios (flash, fastseed, lognormal, degrade, churn, image, ...)
    or a file of your own. The same seed draws the same world for every policy and client; the same
    command writes the same files, whatever the number of jobs.
    """
    from simulator.policy import policy_named
    from simulator.scenario_file import load_scenario
    from simulator.study import Order

    overrides = dict(_setting(text) for text in settings)
    if peers is not None:
        overrides["peers"] = str(peers)
    if files is not None:
        overrides |= {"files": str(files)}
        overrides.setdefault("judgedFrom", str(1 + files // 2))
    world = load_scenario(scenario, overrides=overrides)
    name = Path(scenario).stem
    folder = out or Path("simulations") / name
    records = folder / "telemetry" if telemetry else None
    orders = [
        Order(
            name=name,
            scenario=world,
            policy=policy_named(policy, model=model, exploration=exploration),
            client=client,
            seed=seed,
            telemetry=records,
        )
        for seed in range(first_seed, first_seed + seeds)
        for client in dict.fromkeys(clients or ("own",))
        for policy in dict.fromkeys(policies or DEFAULT_POLICIES)
    ]
    outcomes = _run(orders, jobs or os.cpu_count() or 1)
    _show(outcomes, world.question, folder, as_json=as_json)


def _run(orders: list[Order], jobs: int) -> list[WorldOutcome]:
    """Run them under a bar on the terminal's other stream, so that stdout holds results alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    from simulator.study import run_worlds

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("worlds", total=len(orders))
        return run_worlds(orders, jobs=jobs, on_done=lambda _: progress.advance(bar))


def _show(outcomes: list[WorldOutcome], question: str, folder: Path, *, as_json: bool) -> None:
    from rich.console import Console

    from simulator.study_files import draw, write_runs
    from simulator.summary import summarise, table

    rows = summarise(outcomes)
    written = (write_runs(outcomes, folder), draw(outcomes, question, folder))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    seeds = len({outcome.seed for outcome in outcomes})
    first, files = outcomes[0].judged_from, len(outcomes[0].files)
    what = f"file{'' if first == files else f's {first} to'} {files}" if files > 1 else "one file"
    console = Console()
    console.print(question)
    console.print(table(rows))
    console.print(f"Medians over {seeds} worlds, {what}. Stretch: multiples of the physical bound.")
    console.print("Gap closed: share of the p99 between dragonfly's and the bound.")
    for file in written:
        console.print(f"Written: {file}", soft_wrap=True)


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise CallerError(f"--set {text!r} is not KEY=VALUE: write for instance seedUplink=1Gbit/s")
    return key.strip(), value.strip()
