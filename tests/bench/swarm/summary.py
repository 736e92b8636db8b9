"""What all runs say together: a table for people and JSON for programs. Arithmetic, no I/O.

Each figure is the median over the runs of a policy in a scenario that count, with the lowest and
the highest beside it. Rejected runs are counted and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec
from bench.swarm.outcome import FIGURES, RunOutcome, figures_of
from rich.box import SIMPLE_HEAD
from rich.table import Table

from odonata.wire.message import Value


class Spread(Value, frozen=True, kw_only=True):
    """None: at least half of the runs (the median), or one (the ends), never got there."""

    middle: float | None
    lowest: float | None
    highest: float | None


class Row(Value, frozen=True, kw_only=True):
    """A policy in a scenario. `runs`: that count; `failures`: hosts without the content in them."""

    scenario: str
    policy: str
    bound_s: float
    runs: int
    rejected: int
    failures: int
    figures: dict[str, Spread]


def rows_of(runs: Sequence[RunOutcome]) -> list[Row]:
    """One for each scenario and policy, in the order in which they first ran."""
    groups: dict[tuple[str, str], list[RunOutcome]] = {}
    for run in runs:
        groups.setdefault((run.scenario, run.policy), []).append(run)
    order = {key: place for place, key in enumerate(dict.fromkeys(key[0] for key in groups))}
    keys = sorted(groups, key=lambda key: order[key[0]])
    return [_row(groups[key]) for key in keys]


def _row(runs: Sequence[RunOutcome]) -> Row:
    good = [run for run in runs if not run.rejected]
    figures = [figures_of(run) for run in good]
    return Row(
        scenario=runs[0].scenario,
        policy=runs[0].policy,
        bound_s=median(run.bound_s for run in good or runs),
        runs=len(good),
        rejected=len(runs) - len(good),
        failures=sum(one.failures for one in figures),
        figures={name: spread([getattr(one, name) for one in figures]) for name in FIGURES},
    )


def spread(values: Sequence[float | None]) -> Spread:
    """Median, lowest and highest, where None is above everything."""
    if not values:
        return Spread(middle=None, lowest=None, highest=None)
    ordered = sorted(float("inf") if value is None else value for value in values)
    return Spread(
        middle=_finite(median(ordered)), lowest=_finite(ordered[0]), highest=_finite(ordered[-1])
    )


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def tables_of(rows: Sequence[Row]) -> list[Table]:
    """One for each scenario: a column for each policy, a line for each figure."""
    tables: list[Table] = []
    for group in _by_scenario(rows):
        table = Table(title=f"{group[0].scenario}: medians (lowest to highest)", box=SIMPLE_HEAD)
        table.add_column("")
        for row in group:
            table.add_column(row.policy, justify="right")
        for line in _lines(group):
            table.add_row(*line)
        tables.append(table)
    return tables


def markdown_of(rows: Sequence[Row]) -> str:
    """The same for a document."""
    texts: list[str] = []
    for group in _by_scenario(rows):
        head = [group[0].scenario, *(row.policy for row in group)]
        lines = [head, ["---" for _ in head], *_lines(group)]
        texts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(texts)


def matrix_of(rows: Sequence[Row]) -> str:
    """Many policies for a document: a line for each, a column for each scenario.

    A cell: p50 and p99 of the stretch, copies from the seed, and with two sites those that crossed.
    """
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    cells = {(row.policy, row.scenario): _brief(row) for row in rows}
    head = ["", *scenarios]
    lines = [head, ["---" for _ in head]]
    policies = dict.fromkeys(row.policy for row in rows)
    lines += [[one, *(cells.get((one, name), "") for name in scenarios)] for one in policies]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _brief(row: Row) -> str:
    if not row.runs:
        return "rejected"
    names = ("stretch_p50", "stretch_p99", "seed_copies", "cross_copies")
    p50, p99, seed, cross = (row.figures[name].middle for name in names)
    stretch = "/".join("-" if one is None else f"{one:.2f}" for one in (p50, p99))
    copies = [f"{one:.1f}" for one in (seed,) if one is not None]
    copies += [f"{one:.2f} across" for one in (cross,) if one is not None]
    return ", ".join([stretch, *copies])


def _by_scenario(rows: Sequence[Row]) -> list[list[Row]]:
    names = dict.fromkeys(row.scenario for row in rows)
    return [[row for row in rows if row.scenario == name] for name in names]


def _lines(group: Sequence[Row]) -> list[list[str]]:
    """The heading of a line, then its cell for each policy."""
    facts = [
        ["runs", *(_count(row) for row in group)],
        ["hosts that failed", *(str(row.failures) for row in group)],
        ["bound s", *(f"{row.bound_s:.1f}" for row in group)],
    ]
    figures = [
        [heading, *(_cell(name, row.figures[name]) for row in group)]
        for name, heading in FIGURES.items()
        if any(row.figures[name].middle is not None for row in group)
    ]
    return facts + figures


def _count(row: Row) -> str:
    return f"{row.runs} ({row.rejected} rejected)" if row.rejected else str(row.runs)


def _cell(name: str, of: Spread) -> str:
    if of.middle is None:
        return "-"
    text = _number(name, of.middle)
    if of.lowest == of.highest or of.lowest is None:
        return text
    high = "-" if of.highest is None else _number(name, of.highest)
    return f"{text} ({_number(name, of.lowest)}-{high})"


def _number(name: str, value: float) -> str:
    if name in ("extra_share", "idle"):
        return f"{value:.1%}" if name == "extra_share" else f"{value:.0%}"
    if name.startswith("file_"):
        return f"{value:.3f}"
    return f"{value:.1f}" if name in ("p50_s", "p99_s", "max_s", "cpu_s_per_gb") else f"{value:.2f}"


def document_of(runs: Sequence[RunOutcome], facts: dict[str, Any]) -> bytes:
    """All of it as JSON: what was asked for, the rows, and each run as it was seen."""
    whole = {
        **facts,
        "rows": rows_of(runs),
        "runs": [{"figures": figures_of(run), "outcome": run} for run in runs],
    }
    return msgspec.json.format(msgspec.json.encode(whole)) + b"\n"
