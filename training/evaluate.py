"""Which ranker would have chosen best: all of them on the same decisions, from the recorded facts.

`evaluate` judges rankers that are given. `cross_evaluate` judges the *recipe*: it fits the learned
ranker and the linear baseline without what they are judged on (`split`), by time and by hosts, and
compares them there with the rules. That is what a gate may look at; a ranker that is judged on rows
it has learned from only shows how well it remembers.

Every ranker gets the whole group of candidates as facts, exactly as a scheduler hands them over,
and only then are the parents looked at whose outcome is known. A parent that a ranker calls bad
comes after all others.

Slices: `all`; `cold` - decisions with a parent whose host had hardly served before; `cross-idc` -
decisions with parents inside and outside of the child's data centre; `thick` - without outcomes of
a single small piece. Metrics and their intervals are `metric`'s; what is printed is `report`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import pandas as pd

from models.dragonfly import DragonflyRanker
from models.facts import FACT_NAMES, BoolArray, CandidateBatch, FloatArray
from models.learned import LearnedRanker
from models.prior import PRIOR_PIECES
from models.random import RandomRanker
from models.ranker import Ranker, Ranking
from models.rule_ranker import RuleRanker
from odonata.errors import CallerError
from training.baseline import fit_linear
from training.fit import FitConfig, Fitted, fit, log_goodput_ratio
from training.metric import (
    CLUSTERS_MIN,
    LOWER_IS_BETTER,
    METRICS,
    Groups,
    IntArray,
    Interval,
    intervals,
    judge,
)
from training.rows import feature_values
from training.split import Split, host_folds, time_split

DECISIONS_MAX = 4000
"""Judged decisions of one part: more narrow an interval of a few percent by little, and each costs
1.3 ms for four rankers (measured). Beyond, that many are drawn by the seed."""
CALIBRATION_BINS = 10

LEARNED, LINEAR = "learned", "linear"
BY_TIME, BY_HOSTS = "time", "hosts"


def rules() -> dict[str, Ranker]:
    """The rankers that learn nothing."""
    return {ranker.name: ranker for ranker in (DragonflyRanker(), RuleRanker(), RandomRanker())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One cell of the table: a metric of a ranker on a slice of a part."""

    part: str
    slice: str
    ranker: str
    metric: str
    value: Interval
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference: `metric` of `ranker` minus that of `other`, on the same decisions."""

    part: str
    slice: str
    ranker: str
    other: str
    metric: str
    value: Interval
    groups: int

    @property
    def is_better(self) -> bool:
        """Whether the mean speaks for `ranker`, however wide the interval."""
        return self.value.mean < 0 if self.metric in LOWER_IS_BETTER else self.value.mean > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the goodput head predicted for held-out parents against what they delivered.

    Both as ln(goodput / swarm's rate), means of bins of equal size by prediction; failed parents
    are left out. `bias` is prediction minus delivery, `spread` its standard deviation.
    """

    part: str
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    bias: float
    spread: float
    parents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures, in the order of parts, slices, rankers and metrics."""

    figures: tuple[Figure, ...] = ()
    differences: tuple[Difference, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    notes: tuple[str, ...] = ()

    def figure(
        self, ranker: str, metric: str = "regret@1", *, part: str, slice_name: str = "all"
    ) -> Figure | None:
        """One figure; None if there was nothing to judge."""
        wanted = (part, slice_name, ranker, metric)
        for cell in self.figures:
            if (cell.part, cell.slice, cell.ranker, cell.metric) == wanted:
                return cell
        return None

    def difference(
        self, other: str, metric: str = "regret@1", *, part: str, slice_name: str = "all"
    ) -> Difference | None:
        """The learned ranker against another one; None if there was nothing to judge."""
        wanted = (part, slice_name, other, metric)
        for cell in self.differences:
            if (cell.part, cell.slice, cell.other, cell.metric) == wanted:
                return cell
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts with figures, in order."""
        return tuple(dict.fromkeys(figure.part for figure in self.figures))

    def __add__(self, other: Evaluation) -> Evaluation:
        """Both, one after the other."""
        return Evaluation(
            figures=self.figures + other.figures,
            differences=self.differences + other.differences,
            calibrations=self.calibrations + other.calibrations,
            notes=self.notes + other.notes,
        )


def evaluate(
    rows: pd.DataFrame,
    rankers: Mapping[str, Ranker],
    *,
    part: str = "all",
    seed: int = 0,
    decisions_max: int = DECISIONS_MAX,
) -> Evaluation:
    """Judge the given rankers on all rows. CallerError if no decision can be judged."""
    judged = rows["observed"].to_numpy(dtype=bool)
    scored = _scored(rows, judged, rankers, seed, decisions_max)
    evaluation = _summed(scored, part, seed)
    if not evaluation.figures:
        raise CallerError(
            "no decision can be judged: none has two parents with an outcome, one of which "
            "delivered; record more downloads"
        )
    return evaluation


def cross_evaluate(rows: pd.DataFrame, config: FitConfig | None = None) -> Evaluation:
    """Judge the recipe on newer decisions, and on hosts it has not seen.

    What the data is too small for is left out, with a note that says so.
    """
    config = config or FitConfig()
    return _by_time(rows, config) + _by_hosts(rows, config)


def _by_time(rows: pd.DataFrame, config: FitConfig) -> Evaluation:
    try:
        split = time_split(rows)
        fitted = fit(rows.loc[split.train], config)
    except CallerError as error:
        return Evaluation(notes=(f"by time: not judged: {error.detail}",))
    scored = _held_out(rows, split, fitted, config.seed)
    evaluation = _summed(scored, BY_TIME, config.seed)
    calibrations = _calibration(BY_TIME, *_predicted(rows, split, fitted))
    return evaluation + Evaluation(
        calibrations=calibrations, notes=(f"by time: {split.note}", *_nothing(evaluation, "time"))
    )


def _by_hosts(rows: pd.DataFrame, config: FitConfig) -> Evaluation:
    notes: list[str] = []
    taught: list[int] = []
    parts: list[_Scored] = []
    predictions: list[tuple[FloatArray, FloatArray]] = []
    try:
        splits = host_folds(rows, seed=config.seed)
    except CallerError as error:
        return Evaluation(notes=(f"by hosts: not judged: {error.detail}",))
    for split in splits:
        try:
            fitted = fit(rows.loc[split.train], config)
        except CallerError as error:
            notes.append(f"by {split.name}: not judged: {error.detail}")
            continue
        parts.append(_held_out(rows, split, fitted, config.seed, share=len(splits)))
        predictions.append(_predicted(rows, split, fitted))
        taught.append(fitted.decisions)
    if not parts:
        return Evaluation(notes=tuple(notes))
    notes.append(
        f"by hosts: {splits[0].note}; {len(parts)} of {len(splits)} folds judged, "
        f"{min(taught)} to {max(taught)} decisions teach"
    )
    evaluation = _summed(_joined(parts), BY_HOSTS, config.seed)
    predicted, measured = (np.concatenate(both) for both in zip(*predictions, strict=True))
    return evaluation + Evaluation(
        calibrations=_calibration(BY_HOSTS, predicted, measured),
        notes=(*notes, *_nothing(evaluation, "hosts")),
    )


def _nothing(evaluation: Evaluation, part: str) -> tuple[str, ...]:
    if evaluation.figures:
        return ()
    return (f"by {part}: nothing to judge: no decision there has two parents with an outcome",)


def _held_out(
    rows: pd.DataFrame, split: Split, fitted: Fitted, seed: int, share: int = 1
) -> _Scored:
    rankers: dict[str, Ranker] = {
        **rules(),
        LINEAR: fit_linear(rows.loc[split.train]),
        LEARNED: LearnedRanker(fitted.model()),
    }
    return _scored(rows, split.judged, rankers, seed, DECISIONS_MAX // share)


# --- scores -------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Scored:
    """Judged parents, row by row, with the place that each ranker gave them (higher is better)."""

    rows: pd.DataFrame
    places: dict[str, FloatArray] = field(default_factory=dict[str, FloatArray])


def _joined(parts: Sequence[_Scored]) -> _Scored:
    """Several folds as one; a decision that is judged in two of them counts as two."""
    frames = [
        part.rows.assign(decision_id=part.rows["decision_id"] + f"/{number}")
        for number, part in enumerate(parts)
    ]
    names = parts[0].places
    places = {name: np.concatenate([part.places[name] for part in parts]) for name in names}
    return _Scored(rows=pd.concat(frames, ignore_index=True), places=places)


def _scored(
    rows: pd.DataFrame,
    judged: BoolArray,
    rankers: Mapping[str, Ranker],
    seed: int,
    limit: int,
) -> _Scored:
    """Rank whole decisions and keep the places of their judged parents."""
    wanted = _drawn(rows, judged, seed, limit)
    member = rows["decision_id"].isin(wanted).to_numpy(dtype=bool)
    order = ["at_s", "decision_id", "row"]
    rows = rows.assign(judged=judged).loc[member].sort_values(order, kind="stable")
    facts = rows[list(FACT_NAMES)].to_numpy(dtype=np.float64)
    places = {name: np.zeros(len(rows)) for name in rankers}
    for decision, start, end in _spans(rows):
        batch = CandidateBatch(facts[start:end])
        lot = crc32(f"{seed}:{decision}".encode())
        for name, ranker in rankers.items():
            places[name][start:end] = _places(ranker.rank(batch, lot))
    kept: BoolArray = rows["judged"].to_numpy(dtype=np.bool_)
    judged_rows: pd.DataFrame = rows.loc[kept]
    return _Scored(
        rows=judged_rows.reset_index(drop=True),
        places={name: values[kept] for name, values in places.items()},
    )


def _drawn(rows: pd.DataFrame, judged: BoolArray, seed: int, limit: int) -> list[str]:
    """Decisions with two judged parents, at most `limit` of them, drawn by the seed."""
    count = rows.loc[judged].groupby("decision_id", sort=True).size()
    names = [str(name) for name in count.index[count.to_numpy() >= 2]]
    if len(names) <= limit:
        return names
    taken = np.random.default_rng(seed).choice(len(names), size=limit, replace=False)
    return [names[number] for number in np.sort(taken)]


def _spans(rows: pd.DataFrame) -> list[tuple[str, int, int]]:
    names = rows["decision_id"].to_numpy()
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist()] if len(names) else []
    ends = [*starts[1:], len(names)]
    return [(str(names[start]), start, end) for start, end in zip(starts, ends, strict=False)]


def _places(ranking: Ranking) -> FloatArray:
    """0 for the last, equal for equal scores; whoever is bad comes after all others."""
    place = np.unique(ranking.scores, return_inverse=True)[1].astype(np.float64)
    return place - np.where(ranking.bad, float(len(place)), 0.0)


# --- figures ------------------------------------------------------------------------------------


def _is_cold(rows: pd.DataFrame) -> BoolArray:
    cold = rows["served_piece_count"] < PRIOR_PIECES
    return cold.groupby(rows["decision_id"]).transform("any").to_numpy(dtype=bool)


def _is_cross_idc(rows: pd.DataFrame) -> BoolArray:
    group = rows["same_idc"].groupby(rows["decision_id"])
    return (group.transform("min") < group.transform("max")).to_numpy(dtype=bool)


SLICES: dict[str, Callable[[pd.DataFrame], BoolArray]] = {
    "all": lambda rows: np.ones(len(rows), dtype=np.bool_),
    "cold": _is_cold,
    "cross-idc": _is_cross_idc,
    "thick": lambda rows: ~rows["is_thin"].to_numpy(dtype=bool),
}
"""Which judged parents belong to a slice."""


def _summed(scored: _Scored, part: str, seed: int) -> Evaluation:
    evaluation = Evaluation()
    whole = 0
    for name, choose in SLICES.items():
        mask = choose(scored.rows)
        judged = _judged_slice(scored, mask, seed)
        groups = len(judged.clusters)
        if groups and (name == "all" or groups < whole):
            evaluation += _slice_figures(judged, part, name, seed)
        whole = groups if name == "all" else whole
    return evaluation


@dataclass(slots=True, eq=False)
class _Judged:
    """Metrics of each group by ranker, (g, m), and what is resampled together, (g,)."""

    metrics: dict[str, FloatArray]
    clusters: IntArray
    unit: str


def _judged_slice(scored: _Scored, mask: BoolArray, seed: int) -> _Judged:
    rows = scored.rows.loc[mask]
    group = pd.factorize(rows["decision_id"])[0].astype(np.int64)
    place = np.asarray(rows.groupby("decision_id", sort=False).cumcount(), dtype=np.int64)
    shape = (int(group.max(initial=-1)) + 1, int(place.max(initial=0)) + 1)
    groups = Groups(_padded(_goodput(rows), group, place, shape, np.nan))
    counts = groups.counts
    first = np.flatnonzero(place == 0)[counts]
    clusters, unit = _clusters(rows.iloc[first])
    values = {
        name: judge(
            Groups(groups.goodput[counts]),
            _padded(places[mask], group, place, shape, 0.0)[counts],
            seed=seed,
        )
        for name, places in scored.places.items()
    }
    return _Judged(metrics=values, clusters=clusters, unit=unit)


def _goodput(rows: pd.DataFrame) -> FloatArray:
    """B/s; what failed delivered nothing."""
    goodput = np.exp(rows["label_log_goodput"].to_numpy(dtype=np.float64))
    return np.where(rows["is_failed"].to_numpy(dtype=bool), 0.0, goodput)


def _padded(
    values: FloatArray, group: IntArray, place: IntArray, shape: tuple[int, int], fill: float
) -> FloatArray:
    matrix = np.full(shape, fill)
    matrix[group, place] = values
    return matrix


def _clusters(decisions: pd.DataFrame) -> tuple[IntArray, str]:
    """What is resampled together: tasks, or, where they are few, children, else decisions."""
    for column, unit in (("task_id", "task"), ("child_id", "child")):
        number = pd.factorize(decisions[column])[0].astype(np.int64)
        if number.max(initial=-1) + 1 >= CLUSTERS_MIN:
            return number, unit
    return np.arange(len(decisions), dtype=np.int64), "decision"


def _slice_figures(judged: _Judged, part: str, name: str, seed: int) -> Evaluation:
    groups = len(judged.clusters)
    figures: list[Figure] = []
    differences: list[Difference] = []
    for ranker, values in judged.metrics.items():
        bounds = intervals(values, judged.clusters, seed=seed)
        figures += [
            Figure(part=part, slice=name, ranker=ranker, metric=metric, value=bound, groups=groups)
            for metric, bound in zip(METRICS, bounds, strict=True)
        ]
        differences += _differences(judged, ranker, part, name, seed)
    tasks = len(np.unique(judged.clusters))
    notes = (
        (f"by {part}: {groups} decisions judged; intervals resample {tasks} by {judged.unit}",)
        if name == "all"
        else ()
    )
    return Evaluation(figures=tuple(figures), differences=tuple(differences), notes=notes)


def _differences(judged: _Judged, other: str, part: str, name: str, seed: int) -> list[Difference]:
    if other == LEARNED or LEARNED not in judged.metrics:
        return []
    change = judged.metrics[LEARNED] - judged.metrics[other]
    bounds = intervals(change, judged.clusters, seed=seed)
    return [
        Difference(
            part=part,
            slice=name,
            ranker=LEARNED,
            other=other,
            metric=metric,
            value=bound,
            groups=len(judged.clusters),
        )
        for metric, bound in zip(METRICS, bounds, strict=True)
    ]


# --- calibration --------------------------------------------------------------------------------


def _predicted(rows: pd.DataFrame, split: Split, fitted: Fitted) -> tuple[FloatArray, FloatArray]:
    """The goodput head's prediction and what came, for judged parents that delivered."""
    swarm = rows["swarm_rate_bytes_per_s"].to_numpy(dtype=np.float64)
    delivered: BoolArray = split.judged & ~rows["is_failed"].to_numpy(dtype=bool) & (swarm > 0)
    if not delivered.any():
        return np.empty(0), np.empty(0)
    rows = rows.loc[delivered]
    return fitted.model().log_goodput(feature_values(rows)), log_goodput_ratio(rows)


def _calibration(part: str, predicted: FloatArray, measured: FloatArray) -> tuple[Calibration, ...]:
    if len(predicted) < CALIBRATION_BINS:
        return ()
    bins = np.array_split(np.argsort(predicted, kind="stable"), CALIBRATION_BINS)
    off = predicted - measured
    return (
        Calibration(
            part=part,
            predicted=tuple(float(predicted[members].mean()) for members in bins),
            measured=tuple(float(measured[members].mean()) for members in bins),
            bias=float(off.mean()),
            spread=float(off.std()),
            parents=len(predicted),
        ),
    )
