"""The telemetry that training reads, as frames with fixed columns and types, kind by kind.

Files of several versions and writers lie side by side, so a column may be missing in some: here it
gets its default, and `facts_whole` says of each candidate whether all of today's facts were
recorded (an unrecorded fact must not pass for an unknown one). Reading Parquet and segments is
`odonata.telemetry.parquet`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.facts import FACTS, BoolArray
from odonata.errors import CallerError, NotFoundError
from odonata.telemetry.parquet import Table, read_table
from training.rows import BOOL, FEATURE_COLUMNS, FLOAT, INT, STR, UINT

DECISION = {
    "decision_id": STR, "at_s": FLOAT, "task_id": STR, "child_id": STR,
    "child_host_id": STR, "outcome": STR, "policy": STR, "ranked_by": STR,
    "fallback": STR, "model_version": STR, "exploration": FLOAT, "explored": BOOL,
    "draw_seed": UINT, "feature_schema": STR, "schema_version": INT,
}  # fmt: skip
CANDIDATE = {
    "decision_id": STR, "row": INT, "peer_id": STR, "host_id": STR, "score": FLOAT,
    "slot": INT, "propensity": FLOAT, "bad": BOOL,
}  # fmt: skip
PIECE = {
    "at_s": FLOAT, "decision_id": STR, "child_id": STR, "parent_id": STR, "traffic": STR,
    "number": INT, "length": INT, "total_s": FLOAT, "result": STR, "reason": STR, "written_by": STR,
    "schema_version": INT,
}  # fmt: skip
DOWNLOAD = {
    "at_s": FLOAT, "child_id": STR, "piece_count": INT, "decision_count": INT,
    "result": STR,
}  # fmt: skip
"""The columns that are used of each kind, and their types."""

_NOTHING: dict[str, str | int | bool] = {STR: "", INT: 0, UINT: 0, BOOL: False}


@dataclass(frozen=True, slots=True)
class Telemetry:
    """All rows of one or several folders, copies included; candidates have `facts_whole` too."""

    decisions: pd.DataFrame
    candidates: pd.DataFrame
    pieces: pd.DataFrame
    downloads: pd.DataFrame


def read(directory: Path) -> Telemetry:
    """Everything in one telemetry folder. NotFoundError if there is none."""
    if not directory.is_dir():
        raise NotFoundError(f"{directory}: there is no such folder; name one with telemetry in it")
    candidates = read_table([directory], "candidate")
    facts = {fact.name: FLOAT for fact in FACTS}
    features = dict.fromkeys(FEATURE_COLUMNS, FLOAT)
    frame = _frame(candidates, {**CANDIDATE, **facts, **features}, frozenset([*facts, *features]))
    return Telemetry(
        decisions=_frame(read_table([directory], "decision"), DECISION),
        candidates=frame.assign(facts_whole=_facts_whole(candidates)),
        pieces=_frame(read_table([directory], "piece"), PIECE),
        downloads=_frame(read_table([directory], "download"), DOWNLOAD),
    )


def together(parts: Sequence[Telemetry]) -> Telemetry:
    """The rows of several folders under each other."""
    return Telemetry(
        decisions=pd.concat([part.decisions for part in parts], ignore_index=True),
        candidates=pd.concat([part.candidates for part in parts], ignore_index=True),
        pieces=pd.concat([part.pieces for part in parts], ignore_index=True),
        downloads=pd.concat([part.downloads for part in parts], ignore_index=True),
    )


def _frame(
    table: Table, columns: dict[str, str], optional: frozenset[str] = frozenset()
) -> pd.DataFrame:
    """The named columns with their types; what is missing or null becomes "", 0, False or NaN."""
    names = set(table.column_names)
    missing = [name for name in columns if name not in names and name not in optional]
    if missing:
        raise CallerError(
            f"telemetry without the column {missing[0]!r}: it was written by another version"
        )
    frame: pd.DataFrame = table.select([name for name in columns if name in names]).to_pandas()
    for name, dtype in columns.items():
        if name not in names:
            frame[name] = np.nan
        elif dtype != FLOAT and bool(frame[name].isna().any()):
            known = frame[name].notna()
            frame[name] = frame[name].astype("object").where(known, _NOTHING[dtype])
    return pd.DataFrame(frame, columns=list(columns)).astype(columns)


def _facts_whole(table: Table) -> BoolArray:
    count: int = table.num_rows
    whole = np.ones(count, dtype=np.bool_)
    for fact in FACTS:
        if fact.name not in table.column_names:
            return np.zeros(len(whole), dtype=np.bool_)
        column = table.column(fact.name)
        if column.null_count:
            valid: BoolArray = column.is_valid().to_numpy()
            whole &= valid
    return whole
