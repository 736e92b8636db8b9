"""Segments follow each other by size and age, and a disk that fails costs records only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from support import record as make

from odonata.telemetry.folder import held, parts
from odonata.telemetry.record import Record
from odonata.telemetry.segment import Origin, SegmentReader, encode_record
from odonata.telemetry.segment_log import RETRY_S, SegmentLog
from odonata.telemetry.settings import TelemetrySettings

SEGMENT_BYTES = 64 * 1024
FRAME_BYTES = len(encode_record(make.piece(1)))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


class Log(SegmentLog):
    """One whose clock stands at 50 s when it is 1,000,000,050 s since 1970."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        settings = TelemetrySettings(
            dir=folder, max_segment_bytes=SEGMENT_BYTES, max_segment_age_s=60.0
        )
        origin = Origin(host="host1", program="daemon")
        super().__init__(settings, origin, clock, lambda: clock() + 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def records_of(folder: Path) -> list[Record]:
    found: list[Record] = []
    for part in parts(folder):
        with part.open("rb") as file:
            found += SegmentReader(file)
    return found


def pieces(first: int, count: int) -> list[Record]:
    return [make.piece(number) for number in range(first, first + count)]


def test_records_are_readable_as_soon_as_they_are_appended(tmp_path: Path, clock: Clock) -> None:
    log = Log(tmp_path / "not" / "there" / "yet", clock)
    log.append(pieces(0, 3))
    log.append(pieces(3, 1))
    (part,) = parts(tmp_path / "not" / "there" / "yet")
    assert part.name.startswith("daemon-host1-20010909T01473")
    assert records_of(part.parent) == pieces(0, 4)
    assert (log.written, log.dropped, log.written_bytes) == (4, 0, part.stat().st_size)
    with part.open("rb") as file:
        header = SegmentReader(file).header
    assert (header.clock_offset_s, header.created_at_s) == (1e9, 1e9 + 50)
    log.finish()


def test_a_segment_is_locked_until_it_is_finished(tmp_path: Path, clock: Clock) -> None:
    log = Log(tmp_path, clock)
    log.append(pieces(0, 1))
    (part,) = parts(tmp_path)
    with held(part) as mine:
        assert mine is None
    log.finish()
    with held(part) as mine:
        assert mine is not None
    log.finish()
    assert log.finished == 1


def test_a_segment_of_its_size_is_followed_by_another(tmp_path: Path, clock: Clock) -> None:
    log = Log(tmp_path, clock)
    number = 0
    while log.finished < 3:
        log.append(pieces(number, 10))
        log.finish_if_due()
        number += 10
    assert len(parts(tmp_path)) == 3
    for part in parts(tmp_path):
        assert SEGMENT_BYTES <= part.stat().st_size < SEGMENT_BYTES + 11 * FRAME_BYTES
    assert sorted(records_of(tmp_path), key=lambda record: record.at_s) == pieces(0, number)


def test_a_segment_of_its_age_is_finished_also_if_nothing_comes(
    tmp_path: Path, clock: Clock
) -> None:
    log = Log(tmp_path, clock)
    log.append(pieces(0, 1))
    clock.now_s += 59
    log.finish_if_due()
    assert log.finished == 0
    clock.now_s += 1
    log.finish_if_due()
    assert log.finished == 1
    clock.now_s += 1000
    log.finish_if_due()  # none is begun for nothing
    assert (log.finished, len(parts(tmp_path))) == (1, 1)


def test_programs_that_share_a_folder_do_not_share_segments(tmp_path: Path, clock: Clock) -> None:
    one, two = Log(tmp_path, clock), Log(tmp_path, clock)
    for number in range(4):
        (one, two)[number % 2].append(pieces(number, 1))
    assert len(parts(tmp_path)) == 2
    one.finish()
    two.finish()


def test_a_folder_that_cannot_be_used_costs_records_and_one_warning(
    tmp_path: Path, clock: Clock
) -> None:
    folder = tmp_path / "telemetry"
    folder.write_text("a file where the folder should be")  # root may write anywhere else
    log = Log(folder, clock)
    with capture_logs() as events:
        for _ in range(10):
            log.append(pieces(0, 2))
            clock.now_s += RETRY_S / 3
    assert [event["event"] for event in events] == ["telemetry_stopped"]
    assert str(folder) in events[0]["error"]
    assert (log.written, log.dropped) == (0, 20)

    folder.unlink()
    clock.now_s += RETRY_S
    with capture_logs() as events:
        log.append(pieces(5, 1))
        log.append(pieces(6, 1))
    assert [(event["event"], event["count"]) for event in events] == [("telemetry_resumed", 20)]
    assert records_of(folder) == pieces(5, 2)
    log.finish()

    folder.joinpath("piece").mkdir()  # another episode is told again
    for part in parts(folder):
        part.unlink()
    folder.joinpath("piece").rmdir()
    folder.rmdir()
    folder.write_text("again")
    with capture_logs() as events:
        log.append(pieces(7, 1))
    assert [event["event"] for event in events] == ["telemetry_stopped"]
    assert log.dropped == 21


def test_a_record_that_cannot_be_written_does_not_hold_up_the_others(
    tmp_path: Path, clock: Clock
) -> None:
    log = Log(tmp_path, clock)
    bad = msgspec.structs.replace(make.piece(9), reason="\ud800")
    with capture_logs() as events:
        log.append([make.piece(1), bad, make.piece(2)])
        log.append([bad])
    assert [event["event"] for event in events] == ["record_refused"]
    assert (log.written, log.dropped) == (2, 2)
    assert records_of(tmp_path) == [make.piece(1), make.piece(2)]
    log.finish()
