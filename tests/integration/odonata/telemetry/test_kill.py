"""Power cuts for programs: whatever is killed at whatever moment, what was written is there, once.

A writer says how many of its records reached its segments; it is killed at a random moment after
that, and so are conversions. The next writer works in the same folder, among what the dead left.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from support import record as make
from support import telemetry_process
from support.program import wait_until

from odonata.telemetry.convert import convert
from odonata.telemetry.folder import parts
from odonata.telemetry.parquet import read_table
from odonata.telemetry.segment import Origin, SegmentHeader, encode_header, encode_record

PATIENCE_S = 60
KILLS = [9, pytest.param(60, marks=pytest.mark.long)]
"""Each takes two seconds."""
LIFE_S = 0.5
SEGMENTS = 80
SEGMENT_PIECES = 50
CONVERSION_KILLS = 8


def start(folder: Path, run: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        words = [sys.executable, telemetry_process.__file__, str(folder), f"run{run}"]
        return subprocess.Popen(words, stdout=out)


def told(log: Path) -> int:
    """How many were written for certain: by the last whole line."""
    lines = log.read_bytes().split(b"\n")[:-1]
    return int(lines[-1]) if lines else 0


def converter(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "odonata.telemetry.convert", str(folder)])


def lay_segments(folder: Path, first: int) -> None:
    """SEGMENTS new segments with the pieces `first`, `first + 1`, ... of run0."""
    header = SegmentHeader(origin=Origin(host="h"), clock_offset_s=0.0, created_at_s=0.0)
    for start_at in range(first, first + SEGMENTS * SEGMENT_PIECES, SEGMENT_PIECES):
        pieces = (make.piece(start_at + i) for i in range(SEGMENT_PIECES))
        records = (msgspec.structs.replace(piece, task_id="run0") for piece in pieces)
        frames = b"".join(map(encode_record, records))
        (folder / f"{start_at:06}.part").write_bytes(encode_header(header) + frames)


def kill_at_work(folder: Path, segments: int) -> None:
    """Kill a conversion as soon as it is done with so many segments, however fast it is."""
    left = len(parts(folder)) - segments
    process = converter(folder)
    try:
        wait_until(lambda: len(parts(folder)) <= left, f"{segments} segments", PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def check(folder: Path, written: dict[str, int]) -> None:
    """Each run's numbers are 0, 1, 2, ... without a gap, none twice, at least as many as told."""
    table = read_table([folder], "piece")
    found: dict[str, list[int]] = {run: [] for run in written}
    for run, number in zip(table["task_id"].to_pylist(), table["number"].to_pylist(), strict=True):
        found[run].append(number)
    for run, count in written.items():
        assert sorted(found[run]) == list(range(len(found[run]))), run
        assert len(found[run]) >= count, run


@pytest.mark.parametrize("kills", KILLS)
def test_what_was_written_is_there_once_whoever_dies(tmp_path: Path, kills: int) -> None:
    folder, log = tmp_path / "telemetry", tmp_path / "log"
    rng = random.Random(20261124)
    written: dict[str, int] = {}
    for run in range(kills):
        writer = start(folder, run, log)
        other = converter(folder) if run % 3 == 2 else None
        try:
            wait_until(lambda: told(log), "records", PATIENCE_S)
            time.sleep(rng.uniform(0, LIFE_S))
            if other is not None:
                other.kill()
        finally:
            writer.kill()
            writer.wait()
        written[f"run{run}"] = told(log)
        if run % 6 == 5:
            check(folder, written)  # while conversions that the dead started may go on
        if other is not None:
            other.wait()
    check(folder, written)
    # The last conversions that writers began end by themselves; then all that is left is ours.
    wait_until(lambda: convert(folder).failures == 0 and not parts(folder), "Parquet", PATIENCE_S)
    check(folder, written)
    assert sum(written.values()) > kills * telemetry_process.BURST


def test_a_conversion_killed_at_any_moment_is_made_up_for(tmp_path: Path) -> None:
    rng = random.Random(7)
    laid = killed_at_work = 0
    for _ in range(CONVERSION_KILLS):
        lay_segments(tmp_path, laid)  # else a fast conversion leaves nothing for the next to do
        laid += SEGMENTS * SEGMENT_PIECES
        kill_at_work(tmp_path, rng.randrange(1, SEGMENTS))
        killed_at_work += bool(parts(tmp_path))
        check(tmp_path, {"run0": laid})
    assert killed_at_work, "no conversion was killed at work: more segments are needed"
    assert convert(tmp_path).failures == 0
    assert parts(tmp_path) == []
    check(tmp_path, {"run0": laid})
