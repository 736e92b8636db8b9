"""`odonata telemetry` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import record as make

from odonata.errors import CallerError, OdonataError
from odonata.telemetry.command import telemetry
from odonata.telemetry.folder import held
from odonata.telemetry.parquet import read_table, write_tables
from odonata.telemetry.segment import Origin, SegmentHeader, encode_header, encode_record


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(telemetry, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pieces and a decision as Parquet, two pieces in a segment that a kill tore."""
    write_tables([make.piece(1), make.piece(2), make.decision(5)], tmp_path, "a")
    write_tables([make.piece(3)], tmp_path, "b")
    origin = Origin(host="host1", program="daemon")
    header = SegmentHeader(origin=origin, clock_offset_s=100.0, created_at_s=0)
    frames = b"".join(encode_record(make.piece(number)) for number in (4, 5))
    (tmp_path / "c.part").write_bytes(encode_header(header) + frames + b"torn")
    return tmp_path


def test_ls_counts_what_is_there(folder: Path) -> None:
    (found,) = json.loads(call("ls", "--json", folder).output)
    kinds = {facts.pop("kind"): facts for facts in found["kinds"]}
    assert {kind: (facts["files"], facts["rows"]) for kind, facts in kinds.items()} == {
        "decision": (1, 1),
        "candidate": (1, 3),
        "piece": (2, 3),
        "download": (0, 0),
    }
    assert (kinds["piece"]["first_at_s"], kinds["piece"]["last_at_s"]) == (1.0, 3.0)
    assert kinds["download"]["first_at_s"] is None
    sizes = sum(path.stat().st_size for path in (folder / "piece").iterdir())
    assert kinds["piece"]["bytes"] == sizes
    (part,) = found["parts"]
    assert (part["records"], part["lost_bytes"], part["is_live"]) == (2, 4, False)
    assert (part["first_at_s"], part["last_at_s"], part["host"]) == (104.0, 105.0, "host1")


def test_ls_shows_a_table_for_each_folder(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    output = call("ls", folder, empty).output
    for word in ("decision", "candidate", "download", "segments", "1970-01-01 00:00:01", "empty"):
        assert word in output
    with held(folder / "c.part"):
        assert "live segments" in call("ls", folder).output


def test_ls_names_what_it_cannot_read(folder: Path) -> None:
    (folder / "d.part").write_bytes(b"notes")
    (found,) = json.loads(call("ls", "--json", folder).output)
    assert "not a segment" in found["parts"][1]["problem"]


def test_convert_takes_what_a_kill_left(folder: Path) -> None:
    result = call("convert", folder)
    assert result.exit_code == 0
    assert "1 segments with 2 records -> 1 Parquet files, 4 torn bytes left out" in result.output
    assert read_table([folder], "piece")["number"].to_pylist() == [1, 2, 3, 4, 5]
    assert "0 segments" in call("convert", folder).output
    (told,) = json.loads(call("convert", "--json", folder).output)["folders"]
    assert told == {
        "folder": str(folder), "segments": 0, "records": 0, "files": 0, "lost_bytes": 0,
    }  # fmt: skip


def test_convert_fails_for_what_it_cannot_read(folder: Path) -> None:
    (folder / "d.part").write_bytes(b"notes")
    error = call("convert", folder).exception
    assert isinstance(error, OdonataError)
    assert "d.part: no header" in error.detail


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    error = call("ls", tmp_path / "nowhere").exception
    assert isinstance(error, CallerError)
    assert "nowhere" in error.detail
    error = call("convert", tmp_path / "nowhere").exception
    assert isinstance(error, OdonataError)
    assert "nowhere: No such file" in error.detail


def test_the_default_is_where_programs_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables([make.piece(1)], tmp_path / "odonata" / "telemetry", "a")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (found,) = json.loads(call("ls", "--json").output)
    assert found["folder"] == str(tmp_path / "odonata" / "telemetry")
