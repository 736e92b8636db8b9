"""`odonata dataset`: make a data set of telemetry, and say what it is like."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from odonata.invocation import command

if TYPE_CHECKING:
    from training.dataset import Progress
    from training.rows import DataSet

FOLDER = click.Path(path_type=Path)


@click.group()
def dataset() -> None:
    """Make data sets of telemetry, and look at them."""


@dataset.command()
@click.argument("telemetry", nargs=-1, required=True, type=FOLDER, metavar="TELEMETRY_DIR...")
@click.option("--out", required=True, type=FOLDER, help="Folder for the data set.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
def build(telemetry: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Join decisions with what came of them, and label the outcomes.

    Give the telemetry folders of schedulers and of peers, in any order; what stands in two of them
    counts once. The data set is OUT/rows.parquet with OUT/dataset.json, its card.
    """
    import msgspec

    from training.dataset import build as build_dataset

    with _progress() as progress:
        card = build_dataset(telemetry, out, progress)
    if as_json:
        click.echo(msgspec.json.encode(card))
        return
    counts = card.decisions
    left_out = counts.read - counts.repeated - counts.without_choice - counts.kept
    click.echo(
        f"{out}: {card.row_count:,} candidates of {card.decision_count:,} decisions, "
        f"{card.observed_count:,} observed; {left_out:,} decisions left out, "
        f"{card.lost_decisions:,} lost"
    )
    more = f"{command('odonata')} dataset describe {shlex.quote(str(out))}"
    click.echo(f"rows sha256 {card.rows_sha256}; `{more}` says more")


@dataset.command()
@click.argument("place", type=FOLDER, metavar="DIR|DATASET")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def describe(place: Path, as_json: bool) -> None:
    """Say what a data set, or a telemetry folder, is like.

    How much was observed, how good it was, who ranked, what was lost, and whether the features can
    be trusted: recomputed from the facts they must equal those that were logged.
    """
    import msgspec
    from rich.console import Console

    from training.describe import describe as describe_dataset
    from training.describe import render

    with _progress() as progress:
        found = _open(place, progress)
        total, done = found.card.decision_count, 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("comparing features", done, total)

        figures = describe_dataset(found, advance)
    if as_json:
        click.echo(msgspec.json.encode(figures))
    else:
        Console().print(render(figures))


def _open(place: Path, progress: Progress) -> DataSet:
    """A data set, or telemetry made into one in memory."""
    from training.dataset import assemble
    from training.rows import CARD_FILE, ROWS_FILE, load

    if place.name == ROWS_FILE or (place / CARD_FILE).is_file():
        return load(place)
    return assemble([place], progress)


@contextmanager
def _progress() -> Generator[Progress]:
    """A bar for each stage on standard error, gone when all is done."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    bars = Bars(console=Console(stderr=True), transient=True)
    stages: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in stages:
            stages[stage] = bars.add_task(stage)
        bars.update(stages[stage], completed=done, total=total)

    with bars:
        yield show
