"""Pictures of one run of each policy: how far every host was when, and who fed whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from bench.swarm.fleet import UNKNOWN
from bench.swarm.outcome import RunOutcome, edges
from bench.swarm.world import ORIGIN

mpl.use("Agg")
from matplotlib import pyplot as plt  # after its backend

mpl.rcParams["svg.hashsalt"] = "odonata"  # the same runs make the same file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

INCH_WIDE = 4.2
INCH_HIGH = 7.0
DOTS_PER_INCH = 110


def draw(runs: Sequence[RunOutcome], path: Path) -> None:
    """One column for each run: progress above, the matrix of givers and takers below."""
    figure, places = plt.subplots(
        2,
        len(runs),
        squeeze=False,
        figsize=(INCH_WIDE * len(runs), INCH_HIGH),
        layout="constrained",
    )
    longest_s = max(_end_s(run) for run in runs)
    for column, run in enumerate(runs):
        _progress(places[0][column], run, longest_s)
        _matrix(places[1][column], run)
    drawn: Any = figure  # the stub of its savefig leaves types open
    drawn.savefig(path, dpi=DOTS_PER_INCH, metadata=_undated(path))
    plt.close(figure)


def _undated(path: Path) -> dict[str, None]:
    """Metadata of a file that does not say when it was made."""
    return {"Date": None} if path.suffix == ".svg" else {}


def _end_s(run: RunOutcome) -> float:
    return max([run.bound_s, *(piece.at_s for host in run.hosts for piece in host.pieces)])


def _progress(place: Any, run: RunOutcome, longest_s: float) -> None:
    for host in run.hosts:
        times = [host.arrived_at_s, *(piece.at_s for piece in host.pieces)]
        shares = np.cumsum([0, *(piece.length for piece in host.pieces)]) / run.size
        place.step(times, shares, where="post", linewidth=0.8, alpha=0.7)
    place.axvline(run.bound_s, color="black", linestyle=":", linewidth=1)
    place.set_xlim(0, longest_s * 1.02)
    place.set_ylim(0, 1.02)
    place.set_title(f"{run.scenario}: {run.policy}")
    place.set_xlabel("s (dotted: the bound)")
    place.set_ylabel("share of the content")


def _matrix(place: Any, run: RunOutcome) -> None:
    takers = [host.name for host in run.hosts]
    givers = [ORIGIN, *run.uplinks]
    fed = edges(run.hosts)
    if any(giver == UNKNOWN for giver, _ in fed):
        place.set_axis_off()
        place.text(0.5, 0.5, "who fed whom is not told", ha="center", transform=place.transAxes)
        return
    copies = np.array([[fed[giver, taker] / run.size for taker in takers] for giver in givers])
    image = place.imshow(copies, cmap="viridis", aspect="auto", vmin=0)
    place.set_yticks(range(len(givers)), givers, fontsize=6)
    place.set_xticks(range(len(takers)), takers, fontsize=6, rotation=90)
    place.set_ylabel("gave")
    place.set_xlabel("took")
    place.figure.colorbar(image, ax=place, label="copies")
