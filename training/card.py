"""What is said of a model: the card in its manifest, the same for people, and figures as JSON.

The card holds what somebody needs who finds the model later: what it was made of, by which command,
how it did on what it had not seen (with intervals), and what it is not good for. Plain values only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from models.features import FEATURES
from models.manifest import CardValue
from training.evaluate import LEARNED, SLICES, Evaluation, Figure
from training.fit import Fitted
from training.metric import METRICS
from training.rows import Card

LIMITS = (
    "It sorts parents that were eligible; it says nothing about who may be one.",
    "It knows hosts by what they served lately: of a host nobody has asked yet it knows the claim.",
    "It was judged on parents that were tried; what untried ones would have brought is unknown.",
    "A network unlike the one it was trained on (other uplinks, other clients) needs a new one.",
)
FEATURES_SHOWN = 10


def manifest_card(
    fitted: Fitted, evaluation: Evaluation, data: Card, command: str
) -> dict[str, CardValue]:
    """The card for a bundle's manifest."""
    card: dict[str, CardValue] = {
        "command": command,
        **data_lines(data),
        **fit_lines(fitted),
    }
    for part in evaluation.parts:
        for ranker in rankers(evaluation):
            cell = evaluation.figure(ranker, part=part)
            if cell is not None:
                card[f"{part}_regret_at_1_{ranker}"] = interval_text(cell)
    card["limits"] = " ".join(LIMITS)
    return card


def data_lines(data: Card) -> dict[str, CardValue]:
    """Where the rows come from, for cards and runs."""
    return {
        "data_sha256": data.rows_sha256,
        "data_rows": data.row_count,
        "data_decisions": data.decision_count,
        "data_observed": data.observed_count,
        "data_hosts": data.hosts.candidates,
        "data_first": _day(data.first_at_s),
        "data_last": _day(data.last_at_s),
        "feature_schema": data.feature_schema,
    }


def fit_lines(fitted: Fitted) -> dict[str, CardValue]:
    """How large the fit is, for cards and runs."""
    return {
        "seed": fitted.config.seed,
        "fit_decisions": fitted.decisions,
        "fit_parents": fitted.parents,
        "fit_failed": fitted.failed,
        "trees": fitted.size.trees,
        "leaves": fitted.size.leaves,
        "leaf_rows": fitted.size.leaf_rows,
        "weight_rank": fitted.config.weights.rank,
        "weight_goodput": fitted.config.weights.goodput,
    }


def markdown(card: Mapping[str, CardValue], fitted: Fitted, evaluation: Evaluation) -> str:
    """The card as a page."""
    lines = ["# parent-ranker", "", "Ranks the candidates of a scheduling decision.", ""]
    lines += ["| | |", "|---|---|"]
    shown = {name: value for name, value in card.items() if "regret" not in name}
    lines += [f"| {name} | {value} |" for name, value in shown.items() if name != "limits"]
    lines += ["", "## On what it has not seen", ""]
    lines += ["Means with 95 % intervals. Lower regret is better, higher values of the others.", ""]
    for part in evaluation.parts:
        lines += [f"### {part}", "", *_markdown_table(evaluation, part), ""]
    lines += [f"- {note}" for note in evaluation.notes]
    lines += ["", "## Features by share of gain", "", "| feature | rank head | goodput head |"]
    lines += ["|---|---|---|"]
    lines += [
        f"| {name} | {rank:.1%} | {goodput:.1%} |"
        for name, (rank, goodput) in most_important(fitted)[:FEATURES_SHOWN]
    ]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in LIMITS), ""]
    return "\n".join(lines)


def most_important(fitted: Fitted) -> list[tuple[str, tuple[float, float]]]:
    """Features with their shares of the gain in both heads, the greatest sum first."""
    known = {feature.spec.name for feature in FEATURES}
    shares = {name: share for name, share in fitted.importance.items() if name in known}
    return sorted(shares.items(), key=lambda item: (-sum(item[1]), item[0]))


def rankers(evaluation: Evaluation) -> tuple[str, ...]:
    """Names of the judged rankers, in their order."""
    return tuple(dict.fromkeys(cell.ranker for cell in evaluation.figures))


def interval_text(cell: Figure) -> str:
    """A figure with its interval, three digits."""
    value = cell.value
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """Every figure by a plain name, such as `time.all.learned.regret_at_1`, for a run."""
    found: dict[str, float] = {}
    for cell in evaluation.figures:
        name = f"{cell.part}.{cell.slice}.{cell.ranker}.{cell.metric.replace('@', '_at_')}"
        found[name] = cell.value.mean
        if cell.slice == "all":
            found |= {f"{name}.low": cell.value.low, f"{name}.high": cell.value.high}
    for curve in evaluation.calibrations:
        found[f"{curve.part}.goodput.bias"] = curve.bias
        found[f"{curve.part}.goodput.spread"] = curve.spread
    return {name: value for name, value in found.items() if math.isfinite(value)}


def as_plain(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON's own types; what is unknown (NaN) is null."""
    # msgspec writes NaN as null, which JSON's own module would not.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(evaluation))
    return plain


def _markdown_table(evaluation: Evaluation, part: str) -> list[str]:
    lines = [f"| slice | decisions | ranker | {' | '.join(METRICS)} |", "|---" * 8 + "|"]
    for name in SLICES:
        for ranker in rankers(evaluation):
            cells = [
                evaluation.figure(ranker, metric, part=part, slice_name=name) for metric in METRICS
            ]
            known = [cell for cell in cells if cell is not None]
            if known:
                texts = " | ".join(interval_text(cell) for cell in known)
                mark = "**" if ranker == LEARNED else ""
                lines.append(f"| {name} | {known[0].groups} | {mark}{ranker}{mark} | {texts} |")
    return lines


def _day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
