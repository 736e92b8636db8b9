"""Telemetry of several versions becomes frames with the same columns and types."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from support.telemetry import small_world

from models.facts import FACT_NAMES
from odonata.errors import NotFoundError
from odonata.telemetry.parquet import write_tables
from odonata.telemetry.record import DecisionRecord, PieceRecord
from training import telemetry
from training.telemetry import CANDIDATE, DECISION, DOWNLOAD, PIECE

WORLD = small_world(4, hosts=8, tasks=2, children=4)


def types(frame: pd.DataFrame, columns: dict[str, str]) -> dict[str, str]:
    return {name: str(frame[name].dtype) for name in columns}


def test_types_are_as_promised_with_and_without_rows(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_tables(WORLD, tmp_path / "full", "a")
    for place in ("empty", "full"):
        read = telemetry.read(tmp_path / place)
        for frame, columns in (
            (read.decisions, DECISION),
            (read.candidates, CANDIDATE),
            (read.pieces, PIECE),
            (read.downloads, DOWNLOAD),
        ):
            assert types(frame, columns) == columns
            assert bool(len(frame)) == (place == "full")
    both = telemetry.together([telemetry.read(tmp_path / place) for place in ("empty", "full")])
    assert types(both.pieces, PIECE) == PIECE
    assert len(both.pieces) == sum(isinstance(record, PieceRecord) for record in WORLD)


def test_moments_are_since_1970(tmp_path: Path) -> None:
    write_tables(WORLD, tmp_path, "a", clock_offset_s=1000.0)
    first = min(record.at_s for record in WORLD if isinstance(record, DecisionRecord))
    assert telemetry.read(tmp_path).decisions["at_s"].min() == first + 1000.0


def test_an_unrecorded_fact_is_not_an_unknown_one(tmp_path: Path) -> None:
    """NaN in a fact is what the scheduler knew; null is that its version had no such fact."""
    decisions = [record for record in WORLD if isinstance(record, DecisionRecord)]
    today, old = decisions[0], decisions[1]
    facts = np.frombuffer(old.facts).reshape(-1, len(FACT_NAMES))[:, 1:]
    old = msgspec.structs.replace(
        old, fact_names=FACT_NAMES[1:], facts=np.ascontiguousarray(facts).tobytes()
    )
    write_tables([today, old], tmp_path / "both", "a")
    write_tables([old], tmp_path / "old", "a")
    both = telemetry.read(tmp_path / "both").candidates
    assert both["served_rate_bytes_per_s"].isna().any(), "there is an unknown fact to confuse"
    whole = both.groupby("decision_id")["facts_whole"].mean().to_dict()
    assert whole == {today.decision_id: 1.0, old.decision_id: 0.0}
    assert not telemetry.read(tmp_path / "old").candidates["facts_whole"].any()


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        telemetry.read(tmp_path / "nowhere")
