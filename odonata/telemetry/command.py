"""`odonata telemetry`: what was recorded, and its conversion to Parquet by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from odonata.cli import print_json
from odonata.errors import OdonataError, SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from odonata.telemetry.inventory import Inventory

_FOLDERS = click.argument(
    "folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path)
)

_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("kind", "left"),
    ("files", "right"),
    ("rows", "right"),
    ("first", "left"),
    ("spans", "right"),
    ("size", "right"),
)


@click.group()
def telemetry() -> None:
    """Look at recorded decisions, pieces and downloads, and turn them into Parquet.

    FOLDER is where a scheduler or a daemon writes (telemetry.dir); default: the one that they write
    to when nobody says.
    """


@telemetry.command("ls")
@_FOLDERS
@click.option("--json", "json_form", is_flag=True, help="As JSON, with each segment.")
def ls(folders: tuple[Path, ...], json_form: bool) -> None:
    """Show what is there: rows, time span and size of each kind, and what waits for conversion."""
    _require_pyarrow()
    from odonata.telemetry.inventory import take_inventory

    found = [take_inventory(folder) for folder in _named(folders)]
    if json_form:
        print_json(found)
        return
    from rich.console import Console

    console = Console()
    for inventory in found:
        console.print(_table(inventory))


@telemetry.command("convert")
@_FOLDERS
@click.option("--json", "json_form", is_flag=True, help="As JSON.")
def convert(folders: tuple[Path, ...], json_form: bool) -> None:
    """Turn segments that nobody writes to any more into Parquet.

    Programs do so by themselves, ten minutes after they began a segment and at their end; this is
    for what a killed one left.
    """
    _require_pyarrow()
    from odonata.errors import describe
    from odonata.telemetry.convert import convert as convert_folder

    failures: list[str] = []
    told: list[dict[str, object]] = []
    for folder in _named(folders):
        try:
            outcome = convert_folder(folder)
        except OSError as error:
            raise OdonataError(describe(error)) from None
        told.append(
            {
                "folder": str(folder),
                "segments": outcome.segments,
                "records": outcome.records,
                "files": outcome.files,
                "lost_bytes": outcome.lost_bytes,
            }
        )
        failures += outcome.messages
        if json_form:
            continue
        lost = f", {outcome.lost_bytes} torn bytes left out" if outcome.lost_bytes else ""
        click.echo(
            f"{folder}: {outcome.segments} segments with {outcome.records} records "
            f"-> {outcome.files} Parquet files{lost}"
        )
    if json_form:
        print_json({"folders": told})
    if failures:
        raise OdonataError("\n".join(failures))


def _require_pyarrow() -> None:
    import importlib.util

    if importlib.util.find_spec("pyarrow") is None:
        raise SettingsError("Parquet needs pyarrow, which is not installed: pip install pyarrow")


def _named(folders: Sequence[Path]) -> Sequence[Path]:
    import os

    from odonata.telemetry.settings import default_dir

    return folders or (default_dir(os.environ, os.geteuid()),)


def _table(inventory: Inventory) -> Table:
    from rich.table import Table

    from odonata.telemetry.inventory import span
    from odonata.units import format_size

    table = Table(title=inventory.folder, title_justify="left")
    for name, justify in _COLUMNS:
        table.add_column(name, justify=justify, no_wrap=True)
    for kind in inventory.kinds:
        table.add_row(
            kind.kind,
            str(kind.files),
            str(kind.rows),
            *_times(kind.first_at_s, kind.last_at_s),
            format_size(kind.bytes),
        )
    for label, live in (("live segments", True), ("segments", False)):
        parts = [part for part in inventory.parts if part.is_live is live]
        if parts:
            first, last = span(
                moment for part in parts for moment in (part.first_at_s, part.last_at_s)
            )
            table.add_row(
                label,
                str(len(parts)),
                str(sum(part.records for part in parts)),
                *_times(first, last),
                format_size(sum(part.bytes for part in parts)),
            )
    return table


def _times(first_at_s: float | None, last_at_s: float | None) -> tuple[str, str]:
    """When it begins, in UTC as the logs, and how long it lasts."""
    from datetime import UTC, datetime

    from odonata.units import format_duration

    if first_at_s is None or last_at_s is None:
        return "", ""
    first = datetime.fromtimestamp(first_at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return first, format_duration(last_at_s - first_at_s)
