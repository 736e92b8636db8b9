"""Piece records as the joining and labelling steps of training see them: frames of plain rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from odonata.telemetry.record import SCHEMA_VERSION
from training.telemetry import PIECE

MB = 1_000_000


def one_try(**fields: Any) -> dict[str, Any]:
    """A piece of 4 MB that parent `p` brought child `c` under `c#1` in one second, ended at 10."""
    row: dict[str, Any] = {
        "at_s": 10.0,
        "decision_id": "c#1",
        "child_id": "c",
        "parent_id": "p",
        "traffic": "remote_peer",
        "number": 0,
        "length": 4 * MB,
        "total_s": 1.0,
        "result": "ok",
        "reason": "",
        "written_by": "peer",
        "schema_version": SCHEMA_VERSION,
    }
    assert set(fields) <= set(row), "a misspelt column would test nothing"
    return row | fields


def tries(*rows: dict[str, Any]) -> pd.DataFrame:
    """Rows of `one_try` as a frame with the types of telemetry."""
    return pd.DataFrame(list(rows), columns=list(PIECE)).astype(PIECE)
