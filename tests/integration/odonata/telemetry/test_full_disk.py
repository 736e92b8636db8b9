"""A disk that is full, or gives no more: records are lost and counted, everything else goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support import record as make
from support import telemetry_process

from odonata.telemetry.convert import convert
from odonata.telemetry.folder import parts
from odonata.telemetry.parquet import read_table
from odonata.telemetry.segment import Origin
from odonata.telemetry.segment_log import RETRY_S, SegmentLog
from odonata.telemetry.settings import TelemetrySettings

PATIENCE_S = 60.0
VOLUME_BYTES = 512 * 1024
BATCH = 100


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of our own; only root may mount one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a tmpfs")
    path = tmp_path / "volume"
    path.mkdir()
    options = ["-o", f"size={VOLUME_BYTES}", "-t", "tmpfs", "none", str(path)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def numbers(folder: Path) -> list[int]:
    return sorted(read_table([folder], "piece")["number"].to_pylist())


def test_a_full_volume_costs_records_until_there_is_room(volume: Path) -> None:
    now_s = 0.0
    ballast = volume / "ballast"
    ballast.write_bytes(bytes(VOLUME_BYTES // 2))
    settings = TelemetrySettings(dir=volume / "telemetry", max_segment_bytes=128 * 1024)
    log = SegmentLog(settings, Origin(host="h", program="daemon"), lambda: now_s, lambda: now_s)
    kept: list[int] = []

    def append(number: int) -> None:
        before = log.written
        log.append([make.piece(number * BATCH + i) for i in range(BATCH)])
        log.finish_if_due()
        assert log.written - before in {0, BATCH}  # a batch is there as a whole, or not at all
        kept.extend(range(number * BATCH, number * BATCH + log.written - before))

    with capture_logs() as events:
        for number in range(40):
            append(number)
            now_s += RETRY_S
        assert log.dropped > 0
        assert [event["event"] for event in events] == ["telemetry_stopped"]
        assert "No space left" in events[0]["error"]
        assert numbers(settings.dir) == kept
        # There is no room for Parquet either: what is there stays as it is.
        convert(settings.dir)
        assert numbers(settings.dir) == kept
        ballast.unlink()
        append(40)
        log.finish()
    assert [event["event"] for event in events] == ["telemetry_stopped", "telemetry_resumed"]
    assert log.written + log.dropped == 41 * BATCH
    assert numbers(settings.dir) == kept
    assert kept[-1] == 41 * BATCH - 1
    assert convert(settings.dir).failures == 0
    assert parts(settings.dir) == []
    assert numbers(settings.dir) == kept


def test_a_program_outlives_a_limit_on_its_files(tmp_path: Path) -> None:
    """Every segment fails at 100 KB, in the middle of a write."""
    folder = tmp_path / "telemetry"
    words = [
        sys.executable,
        telemetry_process.__file__,
        str(folder),
        "run",
        "--file-bytes-max=100000",
        f"--segment-bytes={16 << 20}",
        "--count=5000",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    stats = json.loads(done.stdout.splitlines()[-1])
    assert stats["written"] + stats["dropped"] == 5000
    assert stats["written"] > 0
    assert stats["dropped"] > 0
    found = numbers(folder)
    assert len(found) == len(set(found)) == stats["written"]
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["event"] for event in events] == ["telemetry_stopped"]
    assert "File too large" in events[0]["error"]
