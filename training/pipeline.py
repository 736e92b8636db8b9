"""From a data set to a bundle with its card and figures, and what a gate says of it.

    judge the recipe on held-out decisions and hosts  ->  fit it on everything  ->  bundle

What is judged and what is shipped are the same recipe, not the same trees: the judged ones were
fitted without the decisions that judge them, the shipped one also knows the newest. Only the clock
time in a bundle's version and manifest differs between two trainings on the same rows and seed; the
models are the same bytes. Where it is kept is `registry`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from models.bundle import Manifest, write_bundle
from models.facts import CandidateBatch
from models.manifest import GOLDEN_ROW_LIMIT
from training.card import as_plain, data_lines, fit_lines, manifest_card, markdown, metrics
from training.evaluate import (
    BY_HOSTS,
    BY_TIME,
    LEARNED,
    Difference,
    Evaluation,
    cross_evaluate,
)
from training.fit import FitConfig, Fitted, fit
from training.plot import save_plots
from training.registry import MODEL_NAME, RunRecord
from training.rows import DataSet, candidate_batch

CARD_PAGE = "card.md"
EVALUATION_FILE = "evaluation.json"
DATASET_FILE = "dataset.json"
PLOT_FOLDER = "plots"

GOLDEN_GROUPS = 8
"""Decisions whose scores a scheduler checks before it serves the model: spread over the data."""
GATE_METRIC = "regret@1"
GATE_RIVAL = "rule"

Tell = Callable[[str], None]
"""Hears what is being done."""


def _say_nothing(_stage: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether a model may serve, and what was compared to find out."""

    is_open: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What one training has made; the bundle and the files lie in `folder`."""

    folder: Path
    manifest: Manifest
    fitted: Fitted
    evaluation: Evaluation
    gate: Gate
    files: tuple[Path, ...]


def train(
    dataset: DataSet,
    config: FitConfig,
    folder: Path,
    *,
    created_at_s: float,
    command: str,
    tell: Tell = _say_nothing,
) -> Trained:
    """Judge, fit and write everything into `folder`. CallerError if the data is too small."""
    rows = dataset.frame
    tell("fitting")
    fitted = fit(rows, config)  # first, so that too little data is said at once
    tell("judging on held-out decisions and hosts")
    evaluation = cross_evaluate(rows, config)
    tell("writing")
    card = manifest_card(fitted, evaluation, dataset.card, command)
    manifest = write_bundle(
        folder,
        name=MODEL_NAME,
        version=bundle_version(fitted, created_at_s),
        created_at_s=float(int(created_at_s)),
        model=fitted.rank_text,
        goodput=fitted.goodput_text,
        golden=golden_batches(rows),
        weights=config.weights,
        card=card,
    )
    figures = json.dumps(as_plain(evaluation), indent=1)
    texts = {
        CARD_PAGE: markdown(card, fitted, evaluation),
        EVALUATION_FILE: figures + "\n",
        DATASET_FILE: msgspec.json.format(msgspec.json.encode(dataset.card)).decode() + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    plots = save_plots(evaluation, folder / PLOT_FOLDER, fitted)
    return Trained(
        folder=folder,
        manifest=manifest,
        fitted=fitted,
        evaluation=evaluation,
        gate=gate(evaluation),
        files=(*(folder / name for name in texts), *plots),
    )


def bundle_version(fitted: Fitted, created_at_s: float) -> str:
    """When it was made, so that versions sort, and what it is: `20260131T120000-1f2e3d4c5b6a`."""
    moment = datetime.fromtimestamp(created_at_s, UTC).strftime("%Y%m%dT%H%M%S")
    content = hashlib.sha256(f"{fitted.rank_text}\n{fitted.goodput_text}".encode()).hexdigest()
    return f"{moment}-{content[:12]}"


def golden_batches(rows: pd.DataFrame) -> list[CandidateBatch]:
    """A few whole decisions, evenly spread over the data: proofs that a loaded model is this one.

    CallerError (of `write_bundle`) follows if there is none with two candidates.
    """
    size = rows.groupby("decision_id", sort=False).size()
    fitting = size.index[((size >= 2) & (size <= GOLDEN_ROW_LIMIT)).to_numpy()]
    if not len(fitting):
        return []
    places = np.unique(np.linspace(0, len(fitting) - 1, GOLDEN_GROUPS).astype(int))
    return [
        candidate_batch(rows.loc[rows["decision_id"] == fitting[place]].sort_values("row"))
        for place in places
    ]


def gate(evaluation: Evaluation) -> Gate:
    """Open if the learned ranker's regret@1 is not above the rule's where neither has learned.

    The newest decisions decide, or the held-out hosts if there was no splitting by time; the other
    part may only be worse within its interval.
    """
    found = [
        difference
        for part in (BY_TIME, BY_HOSTS)
        if (difference := evaluation.difference(GATE_RIVAL, GATE_METRIC, part=part)) is not None
    ]
    if not found:
        return Gate(
            is_open=False, reason="nothing was held out, so nothing could be compared with the rule"
        )
    first, *others = found
    is_open = first.value.mean <= 0.0 and all(other.value.low <= 0.0 for other in others)
    compared = "; ".join(_compared(evaluation, each) for each in found)
    word = "not worse" if is_open else "worse"
    return Gate(is_open=is_open, reason=f"{LEARNED} is {word} than the {GATE_RIVAL}: {compared}")


def _compared(evaluation: Evaluation, difference: Difference) -> str:
    part = difference.part
    values = [evaluation.figure(ranker, GATE_METRIC, part=part) for ranker in (LEARNED, GATE_RIVAL)]
    ours, theirs = (float("nan") if cell is None else cell.value.mean for cell in values)
    change = f"{difference.value.low:+.3f} to {difference.value.high:+.3f}"
    return (
        f"by {part} {GATE_METRIC} {ours:.3f} against {theirs:.3f} "
        f"({difference.groups} decisions, difference {change})"
    )


def run_record(trained: Trained, dataset: DataSet, source: str) -> RunRecord:
    """A training as MLflow keeps it."""
    card = dataset.card
    return RunRecord(
        name=trained.manifest.version,
        created_at_s=trained.manifest.created_at_s,
        params={**fit_lines(trained.fitted), **data_lines(card)},
        metrics=metrics(trained.evaluation),
        tags=_tags(trained, card.rows_sha256),
        bundle=trained.folder,
        files=trained.files,
        data_digest=card.rows_sha256,
        data_source=source,
    )


def _tags(trained: Trained, rows_sha256: str) -> dict[str, str]:
    return {
        "data_sha256": rows_sha256,
        "feature_schema": trained.manifest.feature_schema,
        "gate": trained.gate.reason,
        "gate_open": str(trained.gate.is_open).lower(),
    }


def plain(trained: Trained) -> dict[str, Any]:
    """What a training has made, as JSON's own types."""
    return {
        "version": trained.manifest.version,
        "folder": str(trained.folder),
        "fit": fit_lines(trained.fitted),
        "gate": {"is_open": trained.gate.is_open, "reason": trained.gate.reason},
        "evaluation": as_plain(trained.evaluation),
    }


def judged_before(manifest: Manifest, dataset: DataSet) -> Sequence[str]:
    """Warn whoever judges a finished model that it may have learned from these rows."""
    data = dataset.card
    if manifest.card.get("data_sha256") == data.rows_sha256:
        return ["the model has learned from these very rows: this shows memory, not skill"]
    last = manifest.card.get("data_last")
    first = datetime.fromtimestamp(data.first_at_s, UTC).isoformat(timespec="seconds")
    if isinstance(last, str) and first <= last:
        return [f"the rows begin before the model's own data ends ({last}): it may know some"]
    return []
