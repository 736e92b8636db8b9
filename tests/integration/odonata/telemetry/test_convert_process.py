"""The conversion as a process: what it says, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
from support import record as make

from odonata.telemetry.outcome import EXIT_NO_PYARROW, Outcome
from odonata.telemetry.parquet import read_table
from odonata.telemetry.segment import Origin, SegmentHeader, encode_header, encode_record

PATIENCE_S = 60
WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None  # importing it fails, as if it were not installed
from odonata.telemetry.convert import main
sys.exit(main(sys.argv[1:]))
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def lay_segment(folder: Path) -> Path:
    header = SegmentHeader(origin=Origin(host="host1"), clock_offset_s=0.0, created_at_s=0.0)
    part = folder / "a.part"
    part.write_bytes(encode_header(header) + encode_record(make.decision()))
    return part


def test_it_says_one_line_of_json(tmp_path: Path) -> None:
    lay_segment(tmp_path)
    done = run("-m", "odonata.telemetry.convert", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert msgspec.json.decode(line, type=Outcome) == Outcome(segments=1, records=1, files=2)
    assert read_table([tmp_path], "candidate").num_rows == 3


def test_it_names_a_folder_that_is_none(tmp_path: Path) -> None:
    done = run("-m", "odonata.telemetry.convert", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nowhere: No such file or directory" in done.stderr


def test_without_pyarrow_it_touches_nothing(tmp_path: Path) -> None:
    part = lay_segment(tmp_path)
    before = part.read_bytes()
    done = run("-c", WITHOUT_PYARROW, str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_NO_PYARROW, "", "")
    assert part.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.part"]
