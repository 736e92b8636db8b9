"""Conversion: every finished segment once, whatever died before, and nothing that is somebody's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support import record as make

from odonata.telemetry.convert import convert
from odonata.telemetry.folder import KINDS, held, parquet_files, unfinished_path
from odonata.telemetry.outcome import MESSAGES_MAX, Outcome
from odonata.telemetry.parquet import read_table, write_tables
from odonata.telemetry.record import SCHEMA_VERSION, Record
from odonata.telemetry.segment import MAGIC, Origin, SegmentHeader, encode_header, encode_record

SOME: list[Record] = [make.decision(1), make.piece(1), make.decision(2), make.download()]
ROWS = {"decision": 2, "candidate": 6, "piece": 1, "download": 1}


def segment(records: list[Record], version: int = SCHEMA_VERSION) -> bytes:
    header = SegmentHeader(
        schema_version=version,
        origin=Origin(host="host1", program="daemon"),
        clock_offset_s=100.0,
        created_at_s=0.0,
    )
    return encode_header(header) + b"".join(map(encode_record, records))


def rows(folder: Path) -> dict[str, int]:
    return {kind: read_table([folder], kind).num_rows for kind in KINDS}


def test_segments_become_files_named_after_them(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(segment(SOME))
    (tmp_path / "b.part").write_bytes(segment([make.piece(2)]) + b"torn")
    assert convert(tmp_path) == Outcome(segments=2, records=5, files=5, lost_bytes=4)
    assert not list(tmp_path.glob("*.part"))
    assert [path.stem for path in parquet_files(tmp_path, "piece")] == ["a", "b"]
    table = read_table([tmp_path], "piece")
    assert table["at_s"].to_pylist() == [101.0, 102.0]
    assert set(table["written_by_host"].to_pylist()) == {"host1"}
    assert convert(tmp_path) == Outcome()


def test_a_conversion_that_died_is_done_again_without_double_rows(tmp_path: Path) -> None:
    """At every point where it can die: any number of its files in place, one of them half done."""
    for done in range(len(KINDS) + 1):
        folder = tmp_path / str(done)
        folder.mkdir()
        files = write_tables(SOME, folder, "a", clock_offset_s=100.0)
        for path in files[done:]:
            path.unlink()
        if done < len(KINDS):
            unfinished_path(folder, KINDS[done], "a").write_bytes(b"half")
        (folder / "a.part").write_bytes(segment(SOME))
        assert rows(folder) == ROWS
        assert convert(folder).segments == 1
        assert rows(folder) == ROWS
        assert len([path for path in folder.rglob("*") if path.is_file()]) == len(KINDS)


def test_a_segment_that_is_written_is_left_alone(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(segment(SOME))
    with held(part):
        assert convert(tmp_path) == Outcome()
        assert part.exists()
    assert convert(tmp_path).segments == 1


def test_an_empty_segment_goes(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(segment([]))
    assert convert(tmp_path) == Outcome(segments=1)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", MAGIC[:3], MAGIC, segment([])[:-1]])
def test_a_torn_header_held_no_records(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.part").write_bytes(data)
    assert convert(tmp_path) == Outcome(lost_bytes=len(data))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"somebody's notes", MAGIC + bytes(5000)])
def test_what_is_no_segment_is_set_aside(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.part").write_bytes(data)
    outcome = convert(tmp_path)
    assert outcome.failures == 1
    assert "a.part: no header" in outcome.messages[0]
    assert (tmp_path / "a.broken").read_bytes() == data
    assert convert(tmp_path) == Outcome()


def test_a_newer_segment_waits_for_a_newer_program(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(segment(SOME, SCHEMA_VERSION + 1))
    (tmp_path / "b.part").write_bytes(segment(SOME))
    outcome = convert(tmp_path)
    assert (outcome.segments, outcome.failures) == (1, 1)
    assert (tmp_path / "a.part").exists()
    assert not (tmp_path / "b.part").exists()


def test_a_record_without_a_place_does_not_hold_up_the_others(tmp_path: Path) -> None:
    bad = msgspec.structs.replace(make.decision(9), scores=b"")
    (tmp_path / "a.part").write_bytes(segment([make.piece(1), bad, make.piece(2)]))
    outcome = convert(tmp_path)
    assert (outcome.records, outcome.unusable, outcome.failures) == (2, 1, 0)


def test_a_folder_that_cannot_be_written_fails_one_segment(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(segment([make.piece(1)]))
    (tmp_path / "b.part").write_bytes(segment([make.download()]))
    (tmp_path / "piece").write_text("a file where a folder should be")
    outcome = convert(tmp_path)
    assert (outcome.segments, outcome.failures) == (1, 1)
    assert (tmp_path / "a.part").exists()


def test_outcomes_add_up_and_stay_short() -> None:
    one = Outcome(segments=1, records=2, files=3, failures=1, messages=("why",))
    total = Outcome()
    for _ in range(MESSAGES_MAX + 3):
        total = total.plus(one)
    assert total.records == 2 * (MESSAGES_MAX + 3)
    assert total.messages == ("why",) * MESSAGES_MAX
