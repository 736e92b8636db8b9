"""The writer as programs use it: a real thread, a real disk, a real conversion process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support import record as make
from support import telemetry_process
from support.program import wait_until

from odonata.telemetry import converter as conversion
from odonata.telemetry.backlog import Backlog
from odonata.telemetry.convert import convert
from odonata.telemetry.converter import Converter
from odonata.telemetry.folder import parts
from odonata.telemetry.outcome import EXIT_NO_PYARROW
from odonata.telemetry.parquet import read_table, write_tables
from odonata.telemetry.record import NoRecorder, TelemetryStats
from odonata.telemetry.segment import Origin
from odonata.telemetry.settings import TelemetrySettings
from odonata.telemetry.writer import TelemetryWriter, open_recorder

PATIENCE_S = 60.0
ORIGIN = Origin(host="host1", program="daemon")
Open = Callable[..., TelemetryWriter]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    """Makes writers into `folder`, and closes them."""
    writers: list[TelemetryWriter] = []

    def make_one(
        backlog: Backlog | None = None, converter: Converter | None = None, **settings: float
    ) -> TelemetryWriter:
        chosen = TelemetrySettings.model_validate({"dir": folder, **settings})
        writer = TelemetryWriter(
            chosen,
            ORIGIN,
            time.monotonic,
            backlog=backlog,
            converter=converter,
            close_convert_s=PATIENCE_S,
        )
        writers.append(writer)
        return writer

    yield make_one
    for writer in writers:
        writer.close()


def numbers(folder: Path) -> list[int]:
    return sorted(read_table([folder], "piece")["number"].to_pylist())


def python(code: str) -> list[str]:
    """A command in place of the conversion; the folder is its argument."""
    return [sys.executable, "-c", code]


def test_records_become_parquet_when_it_closes(folder: Path, opened: Open) -> None:
    before_s = time.time()
    writer = opened()
    record = make.decision()
    for number in range(1000):
        writer.write(make.piece(number))
    writer.write(record)
    writer.write(make.download())
    writer.close()
    stats = writer.stats()
    assert (stats.written, stats.dropped, stats.files) == (1002, 0, 4)
    assert (stats.convert_failures, stats.removed_files) == (0, 0)
    assert parts(folder) == []
    assert numbers(folder) == list(range(1000))
    table = read_table([folder], "decision")
    assert table["decision_id"].to_pylist() == [record.decision_id]
    (at_s,) = table["at_s"].to_pylist()
    offset_s = before_s - time.monotonic() + record.at_s
    assert abs(at_s - offset_s) < PATIENCE_S  # on the clock of 1970, not since the boot
    assert not [one for one in threading.enumerate() if one.name == "telemetry"]


def test_records_can_be_read_while_it_writes(folder: Path, opened: Open) -> None:
    writer = opened()
    writer.write(make.piece(1))
    wait_until(lambda: writer.stats().written == 1, "the thread")
    assert numbers(folder) == [1]
    assert convert(folder).segments == 0  # a live segment is nobody else's
    writer.write(make.piece(2))
    wait_until(lambda: writer.stats().written == 2, "the thread")
    assert numbers(folder) == [1, 2]


def test_full_segments_are_converted_while_it_writes(folder: Path, opened: Open) -> None:
    writer = opened(max_segment_bytes=64 * 1024)
    for number in range(1000):
        writer.write(make.piece(number))
    wait_until(lambda: writer.stats().files >= 1, "a conversion")
    assert numbers(folder) == list(range(1000))
    writer.close()
    assert parts(folder) == []
    assert numbers(folder) == list(range(1000))


def test_old_segments_are_converted_though_nothing_comes(folder: Path, opened: Open) -> None:
    writer = opened(max_segment_age_s=1.0)
    writer.write(make.piece(1))
    wait_until(lambda: writer.stats().files == 1, "a conversion")
    assert parts(folder) == []


def test_what_a_killed_program_left_is_converted_at_start(folder: Path, opened: Open) -> None:
    words = [sys.executable, telemetry_process.__file__, str(folder), "run"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        told = int(killed.stdout.readline())
        killed.kill()
    left = set(parts(folder))
    assert left
    writer = opened()
    wait_until(lambda: not left & set(parts(folder)), "a conversion")
    wait_until(lambda: writer.stats().files >= 1, "its outcome")
    assert numbers(folder)[:told] == list(range(told))


def test_what_has_no_room_is_dropped_and_counted(folder: Path, opened: Open) -> None:
    with capture_logs() as events:
        writer = opened(backlog=Backlog(records_max=0))
        for number in range(5000):
            writer.write(make.piece(number))
        wait_until(lambda: [e for e in events if e["event"] == "records_dropped"], "a warning")
        writer.close()
    assert (writer.stats().written, writer.stats().dropped) == (0, 5000)
    told = [event for event in events if event["event"] == "records_dropped"]
    assert len(told) == 1  # at a bounded rate
    assert not folder.exists()


def test_every_record_is_either_written_or_counted(folder: Path, opened: Open) -> None:
    writer = opened(backlog=Backlog(records_max=100))
    for number in range(20_000):
        writer.write(make.piece(number))
    writer.close()
    stats = writer.stats()
    assert stats.written + stats.dropped == 20_000
    assert stats.written >= 100
    found = numbers(folder)
    assert len(found) == len(set(found)) == stats.written


def test_what_comes_after_the_end_is_counted(opened: Open) -> None:
    writer = opened()
    writer.close()
    writer.write(make.piece())
    writer.close()
    assert writer.stats() == TelemetryStats(dropped=1)


def test_a_quiet_program_makes_no_files(folder: Path, opened: Open) -> None:
    opened().close()
    assert not folder.exists()


def test_the_oldest_files_make_room(folder: Path, opened: Open) -> None:
    old = write_tables([make.piece(-number) for number in range(1, 9)], folder, "old")
    ballast = folder / "ballast.broken"
    ballast.write_bytes(bytes(200 * 1024))
    writer = opened(max_segment_bytes=64 * 1024, max_total_bytes=128 * 1024)
    writer.write(make.piece(1))
    writer.close()
    assert not ballast.exists()
    assert writer.stats().removed_files in {1, 1 + len(old)}  # which was older, the clock says
    assert 1 in numbers(folder)


def test_without_pyarrow_segments_stay_and_one_warning_says_so(folder: Path, opened: Open) -> None:
    missing = Converter(folder, python(f"import sys; sys.exit({EXIT_NO_PYARROW})"))
    with capture_logs() as events:
        writer = opened(converter=missing, max_segment_bytes=64 * 1024)
        for number in range(2000):
            writer.write(make.piece(number))
        wait_until(lambda: [e for e in events if "pyarrow" in e.get("reason", "")], "a warning")
        for number in range(2000, 4000):
            writer.write(make.piece(number))
        writer.close()
    assert len([e for e in events if e["event"] == "telemetry_not_converted"]) == 1
    assert len(parts(folder)) > 1
    assert (writer.stats().written, writer.stats().convert_failures) == (4000, 0)
    assert numbers(folder) == list(range(4000))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('no luck')", "no luck"),
        ("import os; os.abort()", "ended with -6"),
        ("print('hello')", "said nothing of use"),
    ],
)
def test_a_conversion_that_fails_costs_nothing_but_a_count(
    folder: Path, opened: Open, code: str, words: str
) -> None:
    with capture_logs() as events:
        writer = opened(converter=Converter(folder, python(code)))
        writer.write(make.piece(1))
        writer.close()
    (told,) = [event for event in events if event["event"] == "telemetry_not_converted"]
    assert words in told["reason"]
    assert (writer.stats().convert_failures, writer.stats().written) == (1, 1)
    assert numbers(folder) == [1]


def test_a_conversion_that_cannot_be_started_is_counted(folder: Path, opened: Open) -> None:
    with capture_logs() as events:
        writer = opened(converter=Converter(folder, ["/nowhere/python"]))
        writer.write(make.piece(1))
        writer.close()
    assert "telemetry_not_converted" in [event["event"] for event in events]
    assert writer.stats().convert_failures == 1


def test_a_conversion_that_hangs_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forever = python("import threading; threading.Event().wait()")
    one = Converter(folder, forever)
    one.start()
    assert one.poll() is None
    ended = one.wait(0.05)
    assert ended is not None
    assert ended.failure == "ended with -9"
    assert not one.is_running
    monkeypatch.setattr(conversion, "TIMEOUT_S", 0.05)
    one.start()
    ended = wait_until(one.poll, "its end")
    assert ended is not None
    assert ended.failure == "ended with -9"


def test_off_means_nothing(folder: Path) -> None:
    off = open_recorder(TelemetrySettings(enable=False, dir=folder), ORIGIN, time.monotonic)
    assert isinstance(off, NoRecorder)
    off.write(make.piece())
    off.close()
    assert off.stats() == TelemetryStats()
    assert not folder.exists()


def test_the_process_that_writes_never_imports_pyarrow(folder: Path) -> None:
    words = [sys.executable, telemetry_process.__file__, str(folder), "run", "--count=2000"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["modules"] == []
    assert (said["written"], said["convert_failures"]) == (2000, 0)
    assert said["files"] > 0
    assert numbers(folder) == list(range(2000))
