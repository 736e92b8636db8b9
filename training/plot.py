"""Pictures of an evaluation, as PNG files.

How rankers compare, what the model looks at, and whether its goodput can be believed. No window is
opened (matplotlib's Agg); the same figures give the same bytes. Nothing is computed here.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from training.card import most_important, rankers
from training.evaluate import Calibration, Evaluation
from training.fit import Fitted

RANKERS_FILE = "rankers.png"
FEATURES_FILE = "features.png"
CALIBRATION_FILE = "calibration.png"

DPI = 110
FEATURES_SHOWN = 12
COMPARED_METRICS = ("regret@1", "hit@1", "ndcg@4")
BAR_COLOURS = {"learned": "#0b7285", "rule": "#e8590c", "dragonfly": "#868e96"}
OTHER_COLOUR = "#ced4da"


def save_plots(evaluation: Evaluation, folder: Path, fitted: Fitted | None = None) -> list[Path]:
    """Write the pictures there is something to draw for into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = [_save(folder / RANKERS_FILE, _draw_rankers(evaluation))] if evaluation.parts else []
    if fitted is not None:
        saved.append(_save(folder / FEATURES_FILE, _draw_features(fitted)))
    if evaluation.calibrations:
        saved.append(_save(folder / CALIBRATION_FILE, _draw_calibration(evaluation.calibrations)))
    return saved


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes, (rows, columns). matplotlib's types are partial: it is used as Any."""
    figures: Any = import_module("matplotlib.figure")
    backend: Any = import_module("matplotlib.backends.backend_agg")
    figure = figures.Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    backend.FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(path: Path, figure: Any) -> Path:
    figure.savefig(path, metadata={"Software": None})  # else it names matplotlib's version
    return path


def _draw_rankers(evaluation: Evaluation) -> Any:
    parts, metrics = evaluation.parts, COMPARED_METRICS
    figure, axes = _figure(len(parts), len(metrics), 4.0 * len(metrics), 2.6 * len(parts))
    for row, part in enumerate(parts):
        for column, metric in enumerate(metrics):
            _draw_bars(axes[row][column], evaluation, part, metric)
    return figure


def _draw_bars(axis: Any, evaluation: Evaluation, part: str, metric: str) -> None:
    names = rankers(evaluation)
    cells = [evaluation.figure(name, metric, part=part) for name in names]
    values = [0.0 if cell is None else cell.value.mean for cell in cells]
    # A bootstrap quantile may lie on the other side of a mean of few groups.
    below = [0.0 if cell is None else max(0.0, cell.value.mean - cell.value.low) for cell in cells]
    above = [0.0 if cell is None else max(0.0, cell.value.high - cell.value.mean) for cell in cells]
    colours = [BAR_COLOURS.get(name, OTHER_COLOUR) for name in names]
    axis.bar(names, values, yerr=[below, above], color=colours, capsize=3)
    axis.set_title(f"{metric}, {part}")
    axis.tick_params(axis="x", labelrotation=30)
    axis.set_ylim(bottom=0.0)


def _draw_features(fitted: Fitted) -> Any:
    shown = most_important(fitted)[:FEATURES_SHOWN][::-1]
    figure, axes = _figure(1, 1, 7.0, 0.4 * len(shown) + 1.0)
    axis = axes[0][0]
    places = list(range(len(shown)))
    heads = (("rank head", 0, 0.2, "#0b7285"), ("goodput head", 1, -0.2, "#e8590c"))
    for label, number, shift, colour in heads:
        shares = [share[number] for _, share in shown]
        axis.barh([place + shift for place in places], shares, 0.4, label=label, color=colour)
    axis.set_yticks(places, [name for name, _ in shown])
    axis.set_xlabel("share of the gain")
    axis.legend()
    return figure


def _draw_calibration(curves: tuple[Calibration, ...]) -> Any:
    figure, axes = _figure(1, len(curves), 4.2 * len(curves), 4.0)
    for axis, curve in zip(axes[0], curves, strict=True):
        ends = [min(*curve.predicted, *curve.measured), max(*curve.predicted, *curve.measured)]
        axis.plot(ends, ends, color=OTHER_COLOUR, linewidth=1)
        axis.plot(curve.predicted, curve.measured, marker="o", color=BAR_COLOURS["learned"])
        axis.set_title(
            f"goodput, {curve.part}: off by {curve.bias:+.2f}, spread {curve.spread:.2f}"
        )
        axis.set_xlabel("predicted ln(goodput / swarm's rate)")
        axis.set_ylabel("delivered")
    return figure
