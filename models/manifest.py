"""What a bundle says of itself: its manifest, and why a bundle was not taken.

    {"format": 1, "name": "parent-ranker", "version": "7", "created_at_s": 1.7e9,
     "fact_names": [...], "feature_names": [...], "feature_schema": "1f2e...",
     "files": {"model.txt": "<sha256>", "goodput.txt": "<sha256>"},
     "weights": {"rank": 0.5, "goodput": 0.5},
     "golden": [{"facts": [[1e9, 0.0, null, ...], ...], "scores": [0.3, -0.3]}],
     "card": {"rows": 12345, "regret_at_1": 0.04, ...}}

`golden` are the facts of a few small decisions with the scores that whoever trained has seen; a
scheduler that computes other scores has other features or another library, and does not serve the
model. Unknown facts (NaN) are null. No file is opened here: see `models.bundle`.
"""

from __future__ import annotations

import re
from math import isfinite, nan
from typing import ClassVar, Final, Literal

import msgspec
import numpy as np

from models.facts import FACT_NAMES, CandidateBatch, FloatArray
from models.features import FEATURE_NAMES, schema_hash
from odonata.errors import OdonataError
from odonata.wire.message import Value

FORMAT: Final = 1
MODEL_FILE: Final = "model.txt"
GOODPUT_FILE: Final = "goodput.txt"
MANIFEST_FILE: Final = "manifest.json"
HEAD_FILES: Final = (MODEL_FILE, GOODPUT_FILE)

GOLDEN_TOLERANCE = 1e-9
"""Scores are sums of a few hundred doubles around 1: another order of adding them up moves the
14th digit, another model or feature the second."""
GOLDEN_GROUP_LIMIT = 32
GOLDEN_ROW_LIMIT = 128
"""Rows of one golden group: no decision has more candidates."""
CARD_LIMIT = 200
"""Lines of a card, which people read."""
WEIGHT_LIMIT = 100.0
"""Of both heads' weights together; only their ratio matters."""
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""A version or name becomes the name of a folder and the label of a metric."""

BundleReason = Literal[
    "missing", "unreadable", "manifest", "checksum", "schema", "no_lightgbm", "model", "golden"
]

CardValue = bool | int | float | str


class BundleError(OdonataError):
    """A bundle can't be served. `reason` is short and stable: metrics and records carry it.

    `missing` (no such file), `unreadable`, `manifest` (broken or of another format), `checksum`,
    `schema` (made for other features), `no_lightgbm` (not installed), `model` (does not parse),
    `golden` (scores other than promised). They are found out in this order.
    """

    code: ClassVar[str] = "bad_bundle"

    def __init__(self, reason: BundleReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class BlendWeights(Value, frozen=True, kw_only=True):
    """How much the within-group z-score of each head counts."""

    rank: float = 0.5
    goodput: float = 0.5


class GoldenGroup(Value, frozen=True, kw_only=True):
    """One decision: facts of n candidates in the order of the manifest's names, n scores."""

    facts: tuple[tuple[float | None, ...], ...]
    scores: tuple[float, ...]

    def batch(self) -> CandidateBatch:
        """The candidates as a ranker gets them."""
        return CandidateBatch.of_rows(
            [[nan if fact is None else fact for fact in row] for row in self.facts]
        )


class Manifest(Value, frozen=True, kw_only=True):
    """See the module. `created_at_s` is in seconds since 1970; `card` is for people."""

    format: int
    name: str
    version: str
    created_at_s: float
    fact_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    feature_schema: str
    files: dict[str, str]
    weights: BlendWeights
    golden: tuple[GoldenGroup, ...]
    card: dict[str, CardValue] = {}


class _Format(Value, frozen=True, kw_only=True):
    format: int


def golden_group(batch: CandidateBatch, scores: FloatArray) -> GoldenGroup:
    """A golden group of facts (which must be finite or NaN) and their scores."""
    facts = tuple(
        tuple(None if np.isnan(fact) else float(fact) for fact in row) for row in batch.facts
    )
    return GoldenGroup(facts=facts, scores=tuple(float(score) for score in scores))


def encode(manifest: Manifest) -> bytes:
    """The manifest as it stands in its file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(text: bytes) -> Manifest:
    """Read a manifest. BundleError "manifest" names what is wrong with it."""
    try:
        found = msgspec.json.decode(text, type=_Format).format
        if found != FORMAT:
            raise BundleError(
                "manifest", f"{MANIFEST_FILE} is of format {found}; this program knows {FORMAT}"
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleError("manifest", f"{MANIFEST_FILE} is broken: {error}") from None
    problem = _problem(manifest)
    if problem:
        raise BundleError("manifest", f"{MANIFEST_FILE}: {problem}")
    return manifest


def check_schema(manifest: Manifest) -> None:
    """Return if the model was made for this code's features; else BundleError "schema"."""
    for what, theirs, ours in (
        ("facts", manifest.fact_names, FACT_NAMES),
        ("features", manifest.feature_names, FEATURE_NAMES),
    ):
        if theirs != ours:
            strange = sorted(set(theirs) ^ set(ours)) or ["their order"]
            raise BundleError(
                "schema", f"made for other {what} ({', '.join(strange)} differ): train it again"
            )
    if manifest.feature_schema != schema_hash():
        raise BundleError(
            "schema",
            f"made for features {manifest.feature_schema}, and this program has {schema_hash()}: "
            "train it again",
        )


def _problem(manifest: Manifest) -> str:
    weights = (manifest.weights.rank, manifest.weights.goodput)
    checks = {
        f"version {manifest.version!r} is no plain word": not VERSION.fullmatch(manifest.version),
        f"name {manifest.name!r} is no plain word": not VERSION.fullmatch(manifest.name),
        "created_at_s is no time": not isfinite(manifest.created_at_s),
        "files are not " + " and ".join(HEAD_FILES): set(manifest.files) != set(HEAD_FILES),
        "weights are not shares": not all(0 <= weight <= 1 for weight in weights)
        or not any(weights),
        f"card has more than {CARD_LIMIT} lines": len(manifest.card) > CARD_LIMIT,
    }
    return next((problem for problem, holds in checks.items() if holds), _golden_problem(manifest))


def _golden_problem(manifest: Manifest) -> str:
    if not 1 <= len(manifest.golden) <= GOLDEN_GROUP_LIMIT:
        return f"golden has {len(manifest.golden)} groups: 1 to {GOLDEN_GROUP_LIMIT}"
    width = len(manifest.fact_names)
    for group in manifest.golden:
        if not 1 <= len(group.facts) == len(group.scores) <= GOLDEN_ROW_LIMIT:
            return f"golden: {len(group.facts)} rows with {len(group.scores)} scores"
        if any(len(row) != width for row in group.facts):
            return f"golden: a row has not {width} facts"
    return ""
