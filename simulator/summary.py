"""What a study found: one row per policy and client, over its worlds. Arithmetic, table and JSON.

Everything counts hosts that completed the judged files of a world, as multiples of the physical
bound; a row tells the median over the worlds, and their spread as lowest and highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from odonata.wire.message import Value
from simulator.report import percentile

if TYPE_CHECKING:
    from simulator.study import WorldOutcome

BASELINE = "dragonfly"
"""The policy whose distance to the bound others close."""


class WorldFigures(Value, frozen=True, kw_only=True):
    """Figures of one world: times in virtual seconds, stretches as multiples of the bound."""

    seed: int
    p50_s: float
    p99_s: float
    max_s: float
    stretch_mean: float
    stretch_p50: float
    stretch_p99: float
    stretch_max: float
    source_copies: float
    """Mean of the judged files."""
    seed_copies: float
    failures: int


class Row(Value, frozen=True, kw_only=True):
    """One policy and client over all worlds."""

    policy: str
    client: str
    worlds: tuple[WorldFigures, ...]
    gap_closed: tuple[float, ...] = ()
    """Per world, the share of the p99 between the baseline's and the bound that this policy closes;
    negative: it is worse. Empty without a baseline."""

    def middle(self, figure: str) -> float:
        """Median over the worlds of one of `WorldFigures`."""
        return float(median(getattr(world, figure) for world in self.worlds))

    @property
    def failures(self) -> int:
        """Hosts that did not get a judged file, in all worlds, though they lived."""
        return sum(world.failures for world in self.worlds)

    @property
    def p99_spread(self) -> tuple[float, float]:
        """Lowest and highest p99 stretch of a world."""
        stretches = [world.stretch_p99 for world in self.worlds]
        return min(stretches), max(stretches)


def summarise(outcomes: Sequence[WorldOutcome]) -> list[Row]:
    """One row per policy and client, in the order in which they come first."""
    groups: dict[tuple[str, str], list[WorldFigures]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.policy, outcome.client), []).append(_figures(outcome))
    rows: list[Row] = []
    for (policy, client), worlds in groups.items():
        base = {world.seed: world for world in groups.get((BASELINE, client), [])}
        closed = [
            (base[w.seed].stretch_p99 - w.stretch_p99) / (base[w.seed].stretch_p99 - 1.0)
            for w in worlds
            if w.seed in base and base[w.seed].stretch_p99 > 1.0
        ]
        rows.append(
            Row(policy=policy, client=client, worlds=tuple(worlds), gap_closed=tuple(closed))
        )
    return rows


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal of 80 columns; who failed only if somebody did."""
    found = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    names = ["policy", *(["client"] if len({row.client for row in rows}) > 1 else [])]
    for heading in names:
        found.add_column(heading, no_wrap=True)
    headings = [
        "seconds\np50/p99/max",
        "stretch\np50/p99",
        "p99 of\nworlds",
        "gap\nclosed",
        "copies\nsource/seeds",
    ]
    if any(row.failures for row in rows):
        headings.append("failed\nhosts")
    for heading in headings:
        found.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [*(getattr(row, name) for name in names), *_cells(row), str(row.failures)]
        found.add_row(*cells[: len(names) + len(headings)])
    return found


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row.p99_spread
    closed = f"{median(row.gap_closed):.0%}" if row.gap_closed and row.policy != BASELINE else "-"
    return (
        "/".join(f"{row.middle(figure):.0f}" for figure in ("p50_s", "p99_s", "max_s")),
        f"{row.middle('stretch_p50'):.2f}/{row.middle('stretch_p99'):.2f}",
        f"{low:.2f}-{high:.2f}",
        closed,
        f"{row.middle('source_copies'):.2f}/{row.middle('seed_copies'):.1f}",
    )


def _figures(outcome: WorldOutcome) -> WorldFigures:
    judged = outcome.judged
    times = sorted(h.took_s for file in judged for h in file.hosts if h.took_s is not None)
    stretches = sorted(stretch for file in judged for stretch in file.stretches)
    return WorldFigures(
        seed=outcome.seed,
        p50_s=percentile(times, 50),
        p99_s=percentile(times, 99),
        max_s=times[-1] if times else 0.0,
        stretch_mean=sum(stretches) / max(1, len(stretches)),
        stretch_p50=percentile(stretches, 50),
        stretch_p99=percentile(stretches, 99),
        stretch_max=stretches[-1] if stretches else 0.0,
        source_copies=sum(file.source_copies for file in judged) / len(judged),
        seed_copies=sum(file.seed_copies for file in judged) / len(judged),
        failures=sum(file.failures for file in judged),
    )
