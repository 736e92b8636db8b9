"""Tables: bit for bit what was recorded, each row once, and clear words for what can't be read."""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import record as make
from support.record_strategy import records as records_strategy

from odonata.errors import CallerError, StorageError
from odonata.telemetry.convert import convert
from odonata.telemetry.folder import KINDS, parquet_path
from odonata.telemetry.parquet import describe_file, read_table, tables_in, tables_of, write_tables
from odonata.telemetry.record import SCHEMA_VERSION, DecisionRecord, Record
from odonata.telemetry.segment import Origin, SegmentHeader, encode_header, encode_record
from odonata.telemetry.table import COLUMNS, MOMENTS, ORIGIN_COLUMNS, kind_of

HERE = Origin(host="host1", program="daemon")
SOME: list[Record] = [make.decision(1), make.piece(1), make.decision(2), make.download()]


def write_part(path: Path, records: list[Record], offset_s: float = 0.0) -> None:
    header = SegmentHeader(origin=HERE, clock_offset_s=offset_s, created_at_s=0.0)
    path.write_bytes(encode_header(header) + b"".join(map(encode_record, records)))


def same(left: object, right: object) -> bool:
    """Equal; doubles bit for bit, except that all NaN are one."""
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left):
            return math.isnan(right)
        return struct.pack("<d", left) == struct.pack("<d", right)
    return left == right


def unpack(form: str, data: bytes) -> list[Any]:
    return [value for (value,) in struct.iter_unpack(f"<{form}", data)]


def check_row(row: dict[str, Any], record: Record, kind: str) -> None:
    for column in COLUMNS[kind]:
        if column not in ORIGIN_COLUMNS:
            expected = getattr(record, column.name)
            expected = expected + 0.0 if column.name in MOMENTS else expected
            assert same(row[column.name], expected), column.name


def check_candidates(rows: list[dict[str, Any]], record: DecisionRecord) -> None:
    width, depth = len(record.fact_names), len(record.feature_names)
    facts, features = unpack("d", record.facts), unpack("d", record.features)
    for i, row in enumerate(rows):
        assert row["decision_id"] == record.decision_id
        assert (row["peer_id"], row["host_id"]) == (record.peer_ids[i], record.host_ids[i])
        assert row["row"] == i
        assert same(row["score"], unpack("d", record.scores)[i])
        assert same(row["propensity"], unpack("d", record.propensities)[i])
        assert row["slot"] == unpack("i", record.slots)[i]
        assert row["bad"] is bool(record.bad[i])
        for k, name in enumerate(record.fact_names):
            assert same(row[name], facts[i * width + k])
        for k, name in enumerate(record.feature_names):
            assert same(row[f"feature_{name}"], features[i * depth + k])


@given(st.lists(records_strategy, max_size=10))
@settings(deadline=None, max_examples=40)  # it writes files
def test_tables_hold_what_was_recorded(records: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_tables(records, Path(folder), "a", origin=HERE)
        tables = {kind: read_table([Path(folder)], kind).to_pylist() for kind in KINDS}
    for kind in ("decision", "piece", "download"):
        own = [record for record in records if kind_of(record) == kind]
        assert len(tables[kind]) == len(own)
        for row, record in zip(tables[kind], own, strict=True):
            check_row(row, record, kind)
            assert (row["written_by_host"], row["schema_version"]) == ("host1", SCHEMA_VERSION)
    rows = iter(tables["candidate"])
    for record in records:
        if isinstance(record, DecisionRecord):
            check_candidates([next(rows) for _ in record.peer_ids], record)
    assert next(rows, None) is None


def test_many_chunks_make_one_table(tmp_path: Path) -> None:
    records = (make.piece(number) for number in range(10_000))
    write_tables(records, tmp_path, "a")
    assert read_table([tmp_path], "piece")["number"].to_pylist() == list(range(10_000))


def test_moments_are_moved_to_1970_and_durations_are_not(tmp_path: Path) -> None:
    write_tables(SOME, tmp_path, "a", clock_offset_s=1.5e9)
    (row,) = read_table([tmp_path], "download").to_pylist()
    assert (row["started_at_s"], row["at_s"]) == (1.5e9, 1.5e9 + 10)
    (row,) = read_table([tmp_path], "piece").to_pylist()
    assert (row["at_s"], row["total_s"]) == (1.5e9 + 1, 0.5)
    assert set(read_table([tmp_path], "candidate")["at_s"].to_pylist()) == {1.5e9 + 1, 1.5e9 + 2}


def test_only_kinds_that_occur_are_written(tmp_path: Path) -> None:
    assert write_tables([make.piece()], tmp_path, "a") == [parquet_path(tmp_path, "piece", "a")]
    assert write_tables([], tmp_path, "b") == []
    alone = write_tables([make.decision(candidates=0)], tmp_path, "c")
    assert alone == [parquet_path(tmp_path, "decision", "c")]


def test_an_empty_folder_gives_an_empty_table_with_its_columns(tmp_path: Path) -> None:
    for kind in KINDS:
        table = read_table([tmp_path], kind)
        assert table.num_rows == 0
        assert table.column_names == [column.name for column in COLUMNS[kind]]


def test_several_folders_are_one_table_and_the_same_twice_is_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_tables([make.piece(1)], one, "a")
    write_tables([make.piece(2)], two, "a")
    assert read_table([one, two, one / "..", one], "piece")["number"].to_pylist() == [1, 2]


def test_columns_that_another_version_lacks_are_null(tmp_path: Path) -> None:
    write_tables([make.decision(1, 1, fact_names=("old", "both"))], tmp_path, "a")
    write_tables([make.decision(2, 1, fact_names=("both", "new"))], tmp_path, "b")
    rows = read_table([tmp_path], "candidate").to_pylist()
    assert [(row["old"], row["both"], row["new"]) for row in rows] == [(0, 1, None), (None, 0, 1)]


def test_a_part_is_read_until_its_parquet_file_stands(tmp_path: Path) -> None:
    write_part(tmp_path / "a.part", SOME, offset_s=100.0)
    assert read_table([tmp_path], "piece")["at_s"].to_pylist() == [101.0]
    # A conversion that died after the first of its files.
    write_tables([make.piece(1)], tmp_path, "a", clock_offset_s=100.0)
    assert {kind: read_table([tmp_path], kind).num_rows for kind in KINDS} == {
        "decision": 2,
        "candidate": 6,
        "piece": 1,
        "download": 1,
    }


def test_rows_that_move_while_they_are_read_are_seen_once(tmp_path: Path) -> None:
    write_tables([make.piece(0)], tmp_path, "0")
    for number in (1, 2):
        write_part(tmp_path / f"{number}.part", [make.piece(number)])
    tables = tables_in(tmp_path, "piece")
    found = next(tables)["number"].to_pylist()
    assert found == [1]  # from its part
    assert convert(tmp_path).segments == 2
    for table in tables:
        found += table["number"].to_pylist()
    assert sorted(found) == [0, 1, 2]


def test_parts_that_hold_nothing_readable_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"")
    (tmp_path / "b.part").write_bytes(b"\x89ODN")
    write_part(tmp_path / "c.part", [make.piece(1)])
    with (tmp_path / "c.part").open("ab") as file:
        file.write(encode_record(make.piece(2))[:-1])
    assert read_table([tmp_path], "piece")["number"].to_pylist() == [1]


def test_a_newer_part_is_no_silence(tmp_path: Path) -> None:
    newer = SegmentHeader(
        schema_version=SCHEMA_VERSION + 1, origin=HERE, clock_offset_s=0, created_at_s=0
    )
    (tmp_path / "a.part").write_bytes(encode_header(newer))
    with pytest.raises(StorageError, match=r"a\.part: written as 2.*update Odonata"):
        read_table([tmp_path], "piece")


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = parquet_path(tmp_path, "piece", "a")
    path.parent.mkdir()
    path.write_bytes(b"not Parquet")
    for reading in (lambda: read_table([tmp_path], "piece"), lambda: describe_file(path)):
        with pytest.raises(StorageError, match=r"a\.parquet: can't be read"):
            reading()


def test_a_caller_is_told_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="'pieces' is no kind of table"):
        read_table([tmp_path], "pieces")
    with pytest.raises(CallerError, match="nowhere is no folder"):
        read_table([tmp_path / "nowhere"], "piece")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": b"\0" * 7}, "scores has 7 bytes, not 24"),
        ({"slots": b""}, "slots has 0 bytes, not 12"),
        ({"bad": b"\0"}, "bad has 1 bytes, not 3"),
        ({"facts": b""}, "facts has 0 bytes, not 48"),
        ({"host_ids": ("h",)}, "3 peers, but 1 hosts"),
        ({"fact_names": ("score", "x")}, "score is no name for a fact"),
        ({"draw_seed": -1}, "draw_seed -1 is no uint64"),
        ({"peer_count": 2**63}, "is no int64"),
    ],
)
def test_a_record_without_a_place_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CallerError, match=words):
        tables_of([msgspec.structs.replace(make.decision(), **change)])


def test_a_file_tells_its_rows_and_time_span(tmp_path: Path) -> None:
    (path,) = write_tables([make.piece(3), make.piece(1)], tmp_path, "a", clock_offset_s=10.0)
    facts = describe_file(path)
    assert facts is not None
    assert (facts.rows, facts.first_at_s, facts.last_at_s) == (2, 11.0, 13.0)
    assert facts.bytes == path.stat().st_size
    path.unlink()
    assert describe_file(path) is None


def test_the_same_records_make_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tables(SOME, tmp_path / name, "a", origin=HERE)
    for path in (tmp_path / "one").rglob("*.parquet"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()
