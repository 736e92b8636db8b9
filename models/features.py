"""What a learned ranker sees of each candidate, computed from the facts.

One code serves one row live, a batch, and a data set.

Every feature has a unit, a range it is clipped to, a default for what nobody knows, and the
direction in which a parent can only get better (`monotone`), which the model is held to. None of
them names a host: a model must do well on hosts it has never seen. Speeds are natural logarithms of
ratios to the swarm's own speed, so that a model learned on one network holds on a faster one.

A batch is the group of candidates of one decision: the features that compare a candidate with the
others of its group are only right if the whole group is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import msgspec
import numpy as np

from models.facts import CandidateBatch, FloatArray
from models.prior import PRIOR_FAILURES, PRIOR_PIECES, PRIOR_SUCCESSES
from models.rule import Terms, terms
from odonata.wire.message import Value

LOCATION_SEPARATOR = "|"
"""Between the elements of a location, widest first: "area|country|city"."""
LOCATION_DEPTH = 5
"""Elements of a location that count (Dragonfly's default)."""

LONG_AGO_S = 3600.0
"""Ages are not told apart beyond an hour."""


class FeatureSpec(Value, frozen=True, kw_only=True):
    """What a feature means. It is part of the schema: another spec, another model.

    Values are clipped to `low`..`high`; `default` stands for the unknown (NaN: the model decides).
    `monotone`: 1 more is never worse, -1 more is never better, 0 either.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float
    monotone: int
    about: str


class Seen:
    """A batch and what the hand-written rule makes of it, computed once for several features."""

    def __init__(self, batch: CandidateBatch) -> None:
        self._batch = batch
        self.terms: Terms = terms(batch)
        self.is_true = batch.is_true

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self._batch)

    def __getitem__(self, name: str) -> FloatArray:
        """Return the column of fact `name`, shape (n,)."""
        return self._batch[name]


@dataclass(frozen=True, slots=True)
class Feature:
    """A spec and how it is computed: facts of n candidates -> shape (n,), NaN where unknown."""

    spec: FeatureSpec
    compute: Callable[[Seen], FloatArray]


def feature_matrix(batch: CandidateBatch) -> FloatArray:
    """All features of a batch, shape (n, len(FEATURES)), float64, in the order of `FEATURES`."""
    matrix = np.empty((len(batch), len(FEATURES)), dtype=np.float64)
    seen = Seen(batch)
    with np.errstate(divide="ignore", invalid="ignore"):
        for number, feature in enumerate(FEATURES):
            matrix[:, number] = feature.compute(seen)
    np.clip(matrix, _LOWS, _HIGHS, out=matrix)  # all at once: by columns it takes longer
    return np.where(np.isnan(matrix), _DEFAULTS, matrix)


def schema_hash() -> str:
    """Sixteen hex digits that change when any feature's spec or place changes."""
    specs = msgspec.json.encode([feature.spec for feature in FEATURES])
    return hashlib.sha256(specs).hexdigest()[:16]


# --- the pair, computed where names are known ---------------------------------------------------


def same_idc(child: str, parent: str) -> float:
    """1 if both name the same data centre (case ignored), else 0; an empty name matches nothing."""
    return 1.0 if child and child.casefold() == parent.casefold() else 0.0


def location_affinity(child: str, parent: str) -> float:
    """Share of `LOCATION_DEPTH` leading elements that agree, 0..1; 1 for equal locations."""
    if not child or not parent:
        return 0.0
    ours, theirs = child.casefold(), parent.casefold()
    if ours == theirs:
        return 1.0
    agreed = 0
    pairs = zip(ours.split(LOCATION_SEPARATOR), theirs.split(LOCATION_SEPARATOR), strict=False)
    for our, their in list(pairs)[:LOCATION_DEPTH]:
        if our != their:
            break
        agreed += 1
    return agreed / LOCATION_DEPTH


# --- how each feature is computed ---------------------------------------------------------------


def _free_uplink(batch: Seen) -> FloatArray:
    most = batch["max_tx_bits_per_s"]
    used = np.maximum(batch["booked_tx_bits_per_s"], batch["reported_tx_bits_per_s"])
    return np.where(most > 0, 1.0 - used / most, nan)


def _uplink(batch: Seen) -> FloatArray:
    most = batch["max_tx_bits_per_s"] / 8
    return np.where(most > 0, np.log(most / batch["swarm_rate_bytes_per_s"]), nan)


def _uplink_to_group(batch: Seen) -> FloatArray:
    most = batch["max_tx_bits_per_s"]
    known = most > 0
    if not known.any():
        return np.full(len(batch), nan)
    log_uplink = np.log(np.where(known, most, 1.0))
    return np.where(known, log_uplink - log_uplink[known].mean(), nan)


def _rule_to_group(batch: Seen) -> FloatArray:
    """The model corrects the rule where data says so, and need not learn again what sharing is."""
    score = batch.terms.score
    return score - float(score.mean())


def _history_weight(batch: Seen) -> FloatArray:
    count = batch["served_piece_count"]
    return count / (count + PRIOR_PIECES)


def _served(batch: Seen) -> FloatArray:
    ratio = np.log(batch["served_rate_bytes_per_s"] / batch["swarm_rate_bytes_per_s"])
    return _history_weight(batch) * ratio


def _served_recently(batch: Seen) -> FloatArray:
    ratio = batch["served_recent_rate_bytes_per_s"] / batch["served_rate_bytes_per_s"]
    return _history_weight(batch) * np.log(ratio)


def _failure_rate(batch: Seen) -> FloatArray:
    failed = batch["served_failure_count"] + PRIOR_FAILURES
    return failed / (failed + batch["served_piece_count"] + PRIOR_SUCCESSES)


def _own_speed(batch: Seen) -> FloatArray:
    known = (batch["cost_count"] >= 2) & (batch["piece_length"] > 0)
    rate = batch["piece_length"] / batch["cost_mean_s"]
    return np.where(known, np.log(rate / batch["swarm_rate_bytes_per_s"]), nan)


def _finished_share(batch: Seen) -> FloatArray:
    total = batch["total_piece_count"]
    share = np.where(total > 0, batch["finished_piece_count"] / total, nan)
    return np.where(batch.is_true("is_finished"), 1.0, share)


def _child_speed(batch: Seen) -> FloatArray:
    return np.log(batch["child_rate_bytes_per_s"] / batch["swarm_rate_bytes_per_s"])


def _rank(values: FloatArray) -> FloatArray:
    """Share of the others in the group that are smaller, ties half; 0.5 alone. O(n log n)."""
    count = len(values)
    if count == 1:
        return np.full(1, 0.5)
    order = np.sort(values)
    below = np.searchsorted(order, values, side="left")
    upto = np.searchsorted(order, values, side="right")
    return (below + upto - 1) / 2 / (count - 1)


def _children_rank(batch: Seen) -> FloatArray:
    return _rank(batch["child_count"])


def _served_rank(batch: Seen) -> FloatArray:
    return _rank(np.nan_to_num(_served(batch)))


def _log1p(name: str) -> Callable[[Seen], FloatArray]:
    def compute(batch: Seen) -> FloatArray:
        return np.log1p(batch[name])

    return compute


def _plain(name: str) -> Callable[[Seen], FloatArray]:
    def compute(batch: Seen) -> FloatArray:
        return batch[name]

    return compute


def _feature(
    name: str,
    compute: Callable[[Seen], FloatArray],
    *,
    unit: str,
    span: tuple[float, float],
    default: float,
    monotone: int,
    about: str,
) -> Feature:
    spec = FeatureSpec(
        name=name,
        unit=unit,
        low=span[0],
        high=span[1],
        default=default,
        monotone=monotone,
        about=about,
    )
    return Feature(spec, compute)


_RATIO = (-7.0, 7.0)  # e^7 is a thousand times: farther apart is as good as infinitely far
_COUNT = (0.0, 16.0)

FEATURES: tuple[Feature, ...] = (
    _feature(
        "free_uplink_share",
        _free_uplink,
        unit="1",
        span=(-4.0, 1.0),
        default=nan,
        monotone=1,
        about="share of the announced uplink that is neither booked nor in use",
    ),
    _feature(
        "uplink_to_swarm",
        _uplink,
        unit="ln",
        span=_RATIO,
        default=nan,
        monotone=0,  # an announced uplink is a claim: a hidden slow host makes it too
        about="announced uplink over the swarm's served rate",
    ),
    _feature(
        "uplink_to_group",
        _uplink_to_group,
        unit="ln",
        span=_RATIO,
        default=nan,
        monotone=0,
        about="announced uplink over the geometric mean of the candidates'",
    ),
    _feature(
        "rule_to_group",
        _rule_to_group,
        unit="ln",
        span=_RATIO,
        default=0.0,
        monotone=1,
        about="the hand-written rule's estimate of the child's rate over the candidates' mean",
    ),
    _feature(
        "share_left",
        lambda batch: batch.terms.share,
        unit="ln",
        span=_RATIO,
        default=0.0,
        monotone=1,
        about="part of the host's rate for one more child, by its report and the children since",
    ),
    _feature(
        "slot_load",
        lambda batch: batch.terms.overload,
        unit="ln",
        span=(0.0, 7.0),
        default=0.0,
        monotone=-1,
        about="children over upload slots, as far as there are more",
    ),
    _feature(
        "children",
        _log1p("child_count"),
        unit="ln(1+n)",
        span=_COUNT,
        default=0.0,
        monotone=-1,
        about="children on the host now, by this scheduler's own count",
    ),
    _feature(
        "children_rank",
        _children_rank,
        unit="1",
        span=(0.0, 1.0),
        default=0.5,
        monotone=-1,
        about="share of the other candidates with fewer children",
    ),
    _feature(
        "served_to_swarm",
        _served,
        unit="ln",
        span=_RATIO,
        default=0.0,
        monotone=1,
        about="rate the host has served at over the swarm's, shrunk towards 0 while seldom seen",
    ),
    _feature(
        "served_rank",
        _served_rank,
        unit="1",
        span=(0.0, 1.0),
        default=0.5,
        monotone=1,
        about="share of the other candidates whose hosts have served slower",
    ),
    _feature(
        "served_trend",
        _served_recently,
        unit="ln",
        span=_RATIO,
        default=0.0,
        monotone=1,
        about="the latest 10 s or so of serving over the latest 10 min, shrunk alike",
    ),
    _feature(
        "served_pieces",
        _log1p("served_piece_count"),
        unit="ln(1+n)",
        span=_COUNT,
        default=0.0,
        monotone=0,
        about="how much is known of the host",
    ),
    _feature(
        "served_age",
        lambda batch: np.log1p(np.minimum(batch["served_age_s"], LONG_AGO_S)),
        unit="ln(1+s)",
        span=(0.0, 9.0),
        default=nan,
        monotone=0,
        about="how old the latest of that is",
    ),
    _feature(
        "failure_rate",
        _failure_rate,
        unit="1",
        span=(0.0, 1.0),
        default=PRIOR_FAILURES / (PRIOR_FAILURES + PRIOR_SUCCESSES),
        monotone=-1,
        about="share of its pieces that failed or were given up as late, smoothed",
    ),
    _feature(
        "same_idc",
        _plain("same_idc"),
        unit="1",
        span=(0.0, 1.0),
        default=0.0,
        monotone=1,
        about="child and host are in the same data centre",
    ),
    _feature(
        "location_affinity",
        _plain("location_affinity"),
        unit="1",
        span=(0.0, 1.0),
        default=0.0,
        monotone=1,
        about="share of location elements that agree",
    ),
    _feature(
        "pair_to_swarm",
        lambda batch: batch.terms.pair_rate,
        unit="ln",
        span=_RATIO,
        default=0.0,
        monotone=1,
        about="rate of pieces between the two data centres over all pieces', shrunk alike",
    ),
    _feature(
        "is_seed",
        _plain("is_seed"),
        unit="1",
        span=(0.0, 1.0),
        default=0.0,
        monotone=0,
        about="the host is a seed peer",
    ),
    _feature(
        "finished_share",
        _finished_share,
        unit="1",
        span=(0.0, 1.0),
        default=nan,
        monotone=1,
        about="share of the content that the candidate holds",
    ),
    _feature(
        "own_speed_to_swarm",
        _own_speed,
        unit="ln",
        span=_RATIO,
        default=nan,
        monotone=0,
        about="how fast the candidate itself receives pieces, over the swarm's rate",
    ),
    _feature(
        "parents",
        _log1p("parent_count"),
        unit="ln(1+n)",
        span=_COUNT,
        default=0.0,
        monotone=0,
        about="parents of the candidate itself",
    ),
    _feature(
        "depth",
        _plain("depth"),
        unit="hops",
        span=_COUNT,
        default=0.0,
        monotone=-1,
        about="hops between the candidate and whoever needs no parent",
    ),
    _feature(
        "report_age",
        lambda batch: np.log1p(np.minimum(batch["report_age_s"], LONG_AGO_S)),
        unit="ln(1+s)",
        span=(0.0, 9.0),
        default=nan,
        monotone=0,
        about="since the host announced itself",
    ),
    _feature(
        "child_speed_to_swarm",
        _child_speed,
        unit="ln",
        span=_RATIO,
        default=nan,
        monotone=0,
        about="how fast the child's host has received before, over the swarm's rate",
    ),
    _feature(
        "task_pieces",
        _log1p("total_piece_count"),
        unit="ln(1+n)",
        span=_COUNT,
        default=0.0,
        monotone=0,
        about="size of the task in pieces",
    ),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.spec.name for feature in FEATURES)

_LOWS = np.array([feature.spec.low for feature in FEATURES])
_HIGHS = np.array([feature.spec.high for feature in FEATURES])
_DEFAULTS = np.array([feature.spec.default for feature in FEATURES])
