"""What a study leaves behind: every run as Parquet, and a picture. Needs pyarrow and matplotlib.

The same study writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

if TYPE_CHECKING:
    from simulator.study import WorldOutcome

arrow: Any = pa
parquet: Any = pq

RUNS: Final = "runs.parquet"
PICTURE: Final = "completion.png"

_WIDTH_INCHES, _HEIGHT_INCHES, _DOTS_PER_INCH = 8.0, 4.5, 120


def write_runs(outcomes: Sequence[WorldOutcome], folder: Path) -> Path:
    """Write `runs.parquet`: one row per world, file and host, times in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    table = arrow.Table.from_pylist(list(_rows(outcomes)))
    parquet.write_table(table, folder / RUNS, compression="zstd")
    return folder / RUNS


def draw(outcomes: Sequence[WorldOutcome], title: str, folder: Path) -> Path:
    """Draw `completion.png`: which share of the hosts was done after how many times the bound."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: Any = import_module("matplotlib.figure")  # its types are partial: used as Any
    backend: Any = import_module("matplotlib.backends.backend_agg")
    figure = figures.Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    backend.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for label, stretches in _curves(outcomes).items():
        shares = [(i + 1) / len(stretches) for i in range(len(stretches))]
        axes.step(stretches, shares, where="post", label=label)
    axes.axvline(1.0, color="black", linestyle="--", linewidth=1, label="bound")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("time to the whole content, as a multiple of the physical bound")
    axes.set_ylabel("share of the hosts")
    axes.set_title(title, fontsize="medium", wrap=True)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(folder / PICTURE, dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return folder / PICTURE


def _curves(outcomes: Sequence[WorldOutcome]) -> dict[str, list[float]]:
    """Stretches of all judged files and worlds, ascending, by policy and client."""
    curves: dict[str, list[float]] = {}
    clients = {outcome.client for outcome in outcomes}
    for outcome in outcomes:
        label = outcome.policy if len(clients) == 1 else f"{outcome.policy}, {outcome.client}"
        curve = curves.setdefault(label, [])
        for file in outcome.judged:
            curve += file.stretches
    return {label: sorted(curve) for label, curve in curves.items() if curve}


def _rows(outcomes: Sequence[WorldOutcome]) -> Iterator[dict[str, Any]]:
    for outcome in outcomes:
        for file in outcome.files:
            of_file = {
                "scenario": outcome.scenario,
                "policy": outcome.policy,
                "client": outcome.client,
                "seed": outcome.seed,
                "file": file.number,
                "is_judged": file.number >= outcome.judged_from,
                "bound_s": file.bound_s,
                "source_copies": file.source_copies,
                "seed_copies": file.seed_copies,
                "source_requests": file.source_requests,
            }
            for host in file.hosts:
                yield of_file | msgspec.structs.asdict(host)
