"""A data set: one row per decision and candidate, with what came of it, and a card.

A data set is a folder: `rows.parquet` and `dataset.json`, the card that says where the rows come
from, what was left out and why, and the checksum of the rows. `COLUMNS` is what the rows hold; this
module reads, checks and writes them. It joins and labels nothing (`join`, `label`, `dataset`).

Every column is either known when the decision was made or belongs to the outcome, and features are
exactly those of `models.features`: `check` refuses rows with any other `feature_` column, so that
nothing from after the decision can pass for a feature.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pandas as pd

from models.facts import FACTS, CandidateBatch, FloatArray
from models.features import FEATURES, schema_hash
from odonata.errors import CallerError, NotFoundError
from odonata.wire.message import Value

ROWS_FILE = "rows.parquet"
CARD_FILE = "dataset.json"
FORMAT = 1
"""Of the folder; raised when a column changes its meaning or goes."""
FEATURE_PREFIX = "feature_"

STR, INT, UINT, FLOAT, BOOL = "str", "int64", "uint64", "float64", "bool"


class Column(Value, frozen=True, kw_only=True):
    """One column of the rows. `is_outcome`: it is known only after the decision."""

    name: str
    dtype: str
    unit: str
    about: str
    is_outcome: bool = False


def _known(name: str, dtype: str, about: str, unit: str = "1") -> Column:
    return Column(name=name, dtype=dtype, unit=unit, about=about)


def _outcome(name: str, dtype: str, about: str, unit: str = "1") -> Column:
    return Column(name=name, dtype=dtype, unit=unit, about=about, is_outcome=True)


DECISION_COLUMNS: tuple[Column, ...] = (
    _known("decision_id", STR, "the decision, the group of a ranker; `<child peer id>#<n>`"),
    _known("at_s", FLOAT, "when it was made, since 1970, by the scheduler's clock", "s"),
    _known("task_id", STR, "what the child downloads"),
    _known("child_id", STR, "peer that asked"),
    _known("child_host_id", STR, "its host"),
    _known("outcome", STR, "parents or source: what the child was told"),
    _known("policy", STR, "ranker that was asked"),
    _known("ranked_by", STR, "ranker that ranked: another one if the first could not"),
    _known("fallback", STR, "why another one ranked; empty if none did"),
    _known("model_version", STR, "of the model that ranked; empty: no model"),
    _known("exploration", FLOAT, "probability with which this decision would have explored"),
    _known("explored", BOOL, "whether it did"),
    _known("draw_seed", UINT, "of the generator of this decision's chances"),
)
CANDIDATE_COLUMNS: tuple[Column, ...] = (
    _known("row", INT, "place among the candidates as they were ranked, from 0"),
    _known("peer_id", STR, "the candidate"),
    _known("host_id", STR, "its host"),
    _known("score", FLOAT, "of the ranker, higher is better"),
    _known("slot", INT, "place in the answer from 0; -1: not chosen"),
    _known("chosen", BOOL, "whether it is in the answer"),
    _known("propensity", FLOAT, "probability of being in the answer, given who was eligible"),
    _known("bad", BOOL, "left out as a bad parent"),
)
FACT_COLUMNS: tuple[Column, ...] = tuple(
    _known(fact.name, FLOAT, fact.about, fact.unit) for fact in FACTS
)
FEATURE_SPECS: tuple[Column, ...] = tuple(
    _known(FEATURE_PREFIX + feature.spec.name, FLOAT, feature.spec.about, feature.spec.unit)
    for feature in FEATURES
)
OUTCOME_COLUMNS: tuple[Column, ...] = (
    _outcome("observed", BOOL, "whether any try says how good this parent was for this child"),
    _outcome("piece_count", INT, "pieces that came from it under this decision", "pieces"),
    _outcome("bytes", INT, "of those pieces", "B"),
    _outcome("busy_s", FLOAT, "time with at least one try in flight (union of intervals)", "s"),
    _outcome("failed_count", INT, "tries that failed or timed out, refusals aside", "pieces"),
    _outcome("refused_count", INT, "tries refused for want of an upload slot", "pieces"),
    _outcome("late_count", INT, "tries given up as too slow, or outrun by a later one", "pieces"),
    _outcome("neutral_count", INT, "tries stopped for no fault of the parent", "pieces"),
    _outcome("is_failed", BOOL, "failed more often than not, or only refused"),
    _outcome("is_censored", BOOL, "brought nothing in time: the label is its goodput at best"),
    _outcome("is_thin", BOOL, "observed by fewer than 2 tries and less than 8 MB"),
    _outcome("label_log_goodput", FLOAT, "ln(bytes / busy_s); NaN: unobserved or failed", "ln B/s"),
)

COLUMNS: tuple[Column, ...] = (
    *DECISION_COLUMNS,
    *CANDIDATE_COLUMNS,
    *FACT_COLUMNS,
    *FEATURE_SPECS,
    *OUTCOME_COLUMNS,
)
COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
FACT_NAMES: tuple[str, ...] = tuple(column.name for column in FACT_COLUMNS)
FEATURE_COLUMNS: tuple[str, ...] = tuple(column.name for column in FEATURE_SPECS)
"""Names of the feature columns, in the order of `models.features.FEATURES`."""
OUTCOME_NAMES: tuple[str, ...] = tuple(column.name for column in OUTCOME_COLUMNS)


# --- the card -----------------------------------------------------------------------------------


class DecisionCounts(Value, frozen=True, kw_only=True):
    """What became of the decision records: those from `repeated` to `kept` add up to `read`."""

    read: int = 0
    repeated: int = 0
    """Copies of one record: delivered or read more than once."""
    ambiguous: int = 0
    """Different decisions under one id: nobody can tell whose the pieces are."""
    other_record_schema: int = 0
    """Written under another version of the records."""
    other_facts: int = 0
    """Other features than today's, and not all of today's facts to make them from."""
    without_choice: int = 0
    """Sent to the source when there was no candidate: nothing to make rows of."""
    without_candidates: int = 0
    """Rows of candidates are lost: without the whole group no feature is right."""
    kept: int = 0
    recomputed: int = 0
    """Of the kept: features made anew from the facts, for they were logged under another schema, or
    not at all (of a ranker that looks at none)."""
    to_source: int = 0
    """Of the kept: the child was sent to the source."""


class PieceCounts(Value, frozen=True, kw_only=True):
    """What became of the piece records: each is in exactly one of the others; they add up."""

    read: int = 0
    repeated: int = 0
    """Copies of one record: delivered or read more than once."""
    twice_written: int = 0
    """The scheduler's record of a try that the peer recorded too."""
    from_source: int = 0
    """Of no parent, hence of no decision."""
    other_record_schema: int = 0
    """Written under another version of the records."""
    length_unknown: int = 0
    """Arrived, but the writer did not know how many bytes."""
    without_decision: int = 0
    """Names no decision: nobody told the child of this parent, or the writer does not know it."""
    decision_lost: int = 0
    """Names a decision that is not in the telemetry."""
    decision_left_out: int = 0
    """Names a decision that was left out (ambiguous, or under another schema)."""
    not_a_candidate: int = 0
    """Names a decision that had no such candidate."""
    not_chosen: int = 0
    """Names a decision that did not put this candidate into its answer: somebody miscounted."""
    joined: int = 0
    """Counts in the outcome of one row."""


class DownloadCounts(Value, frozen=True, kw_only=True):
    """What peers say of their whole downloads, and what is recorded of the same downloads.

    What is missing was dropped on the way, or is in a folder that was not read.
    """

    read: int = 0
    repeated: int = 0
    failed: int = 0
    decisions_told: int = 0
    """Answers with parents that they got."""
    decisions_recorded: int = 0
    pieces_told: int = 0
    """Pieces that they stored."""
    pieces_recorded: int = 0


class Hosts(Value, frozen=True, kw_only=True):
    """Distinct hosts, by what they were."""

    children: int = 0
    candidates: int = 0
    observed: int = 0


class Source(Value, frozen=True, kw_only=True):
    """One telemetry folder and how many rows it held, copies included."""

    directory: str
    decisions: int = 0
    candidates: int = 0
    pieces: int = 0
    downloads: int = 0


class Card(Value, frozen=True, kw_only=True):
    """What a data set is made of. `rows_sha256` is "" as long as it is in memory only."""

    format: int = FORMAT
    rows_sha256: str = ""
    row_count: int = 0
    decision_count: int = 0
    observed_count: int = 0
    first_at_s: float = 0.0
    last_at_s: float = 0.0
    record_schema: int = 0
    feature_schema: str = ""
    hosts: Hosts = Hosts()
    decisions: DecisionCounts = DecisionCounts()
    pieces: PieceCounts = PieceCounts()
    downloads: DownloadCounts = DownloadCounts()
    failures: dict[str, int] = {}
    """Joined tries that brought nothing, by result and reason ("failed: timeout")."""
    lost_decisions: int = 0
    """Distinct decisions that pieces name and nobody recorded."""
    orphan_candidates: int = 0
    """Candidate rows whose decision is not recorded."""
    sources: tuple[Source, ...] = ()


# --- the data set -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Rows with the columns of `COLUMNS`, in the order (at_s, decision_id, row), and their card."""

    frame: pd.DataFrame
    card: Card


def feature_values(frame: pd.DataFrame) -> FloatArray:
    """The features of all rows, shape (n, len(FEATURES)), float64: what a ranker is fitted on."""
    return frame[list(FEATURE_COLUMNS)].to_numpy(dtype=np.float64)


def candidate_batch(decision: pd.DataFrame) -> CandidateBatch:
    """The facts of the rows as the scheduler handed them to a ranker.

    Give the rows of exactly one decision: features that compare candidates need the whole group.
    """
    return CandidateBatch(decision[list(FACT_NAMES)].to_numpy(dtype=np.float64, copy=True))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Only the columns of `COLUMNS`, in that order and with their types."""
    return frame[list(COLUMN_NAMES)].astype({column.name: column.dtype for column in COLUMNS})


def check(frame: pd.DataFrame, origin: str = "the rows") -> None:
    """Refuse rows that are not what `COLUMNS` says. CallerError names the first thing wrong."""
    strange = [name for name in _names(frame) if name not in COLUMN_NAMES]
    missing = [name for name in COLUMN_NAMES if name not in _names(frame)]
    if strange:
        leak = " (a feature that models.features does not make)" if _is_feature(strange[0]) else ""
        raise CallerError(f"{origin}: column {strange[0]!r} does not belong there{leak}; drop it")
    if missing:
        raise CallerError(f"{origin}: column {missing[0]!r} is missing; build the data set anew")
    for column in COLUMNS:
        dtype = str(frame[column.name].dtype)
        if dtype != column.dtype:
            raise CallerError(
                f"{origin}: column {column.name!r} is {dtype} in place of {column.dtype}; "
                "build the data set anew"
            )
    _check_values(frame, origin)


def load(path: Path) -> DataSet:
    """Read and check a data set: its folder, or the rows.parquet in it.

    NotFoundError if there is none; CallerError if it was damaged, or built by another version, so
    that its features are not today's.
    """
    folder = path.parent if path.name == ROWS_FILE else path
    if not folder.is_dir():
        raise NotFoundError(f"{path}: there is no such folder; `odonata dataset build` makes one")
    card = read_card(folder)
    rows = folder / ROWS_FILE
    if not rows.is_file():
        raise CallerError(f"{folder}: {ROWS_FILE} is missing; build the data set anew")
    if file_sha256(rows) != card.rows_sha256:
        raise CallerError(
            f"{rows}: its checksum is not the one in {CARD_FILE}; build the data set anew"
        )
    frame = pd.read_parquet(rows, engine="pyarrow")
    check(frame, str(rows))
    return DataSet(frame=frame, card=card)


def read_card(folder: Path) -> Card:
    """The card of the data set in `folder`. CallerError if there is none that can be used."""
    path = folder / CARD_FILE
    if not path.is_file():
        raise CallerError(
            f"{folder} is no data set: it has no {CARD_FILE}; `odonata dataset build` makes one"
        )
    try:
        card = msgspec.json.decode(path.read_bytes(), type=Card)
    except msgspec.DecodeError as error:
        raise CallerError(f"{path}: {error}; build the data set anew") from error
    if card.format != FORMAT:
        raise CallerError(f"{path}: format {card.format}, this program reads {FORMAT}; build anew")
    if card.feature_schema != schema_hash():
        raise CallerError(
            f"{path}: built with features {card.feature_schema!r}, this program has "
            f"{schema_hash()!r}; build the data set anew from its telemetry"
        )
    return card


def save(dataset: DataSet, folder: Path) -> Card:
    """Write the data set and return its card, with the checksum of the rows.

    The same rows give the same bytes. The card is written last and names the checksum, so that an
    interrupted write is no data set. CallerError if the rows are not right, or `folder` can't be.
    """
    check(dataset.frame)
    if folder.exists() and not folder.is_dir():
        raise CallerError(f"{folder} is a file; name a folder for the data set")
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / ROWS_FILE
    part = folder / f".{ROWS_FILE}.part"
    dataset.frame.to_parquet(part, engine="pyarrow", compression="zstd", index=False)
    card = msgspec.structs.replace(dataset.card, rows_sha256=file_sha256(part))
    (folder / CARD_FILE).unlink(missing_ok=True)
    part.replace(rows)
    text = msgspec.json.format(msgspec.json.encode(card, order="deterministic"), indent=2)
    _write_whole(folder / CARD_FILE, text + b"\n")
    return card


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _names(frame: pd.DataFrame) -> Sequence[str]:
    return [str(name) for name in cast("Sequence[Any]", frame.columns)]


def _is_feature(name: str) -> bool:
    return name.startswith(FEATURE_PREFIX)


def _check_values(frame: pd.DataFrame, origin: str) -> None:
    labelled = frame["label_log_goodput"].notna()
    wrong = {
        "a candidate stands twice in one decision": frame.duplicated(["decision_id", "peer_id"]),
        "chosen and slot disagree": frame["chosen"] != (frame["slot"] >= 0),
        "an outcome without a try": frame["is_failed"] & ~frame["observed"],
        "label and outcome disagree": labelled != (frame["observed"] & ~frame["is_failed"]),
    }
    for what, where in wrong.items():
        if bool(where.any()):
            first = frame.loc[where, "decision_id"].iloc[0]
            raise CallerError(f"{origin}: {what} (decision {first}); build the data set anew")
