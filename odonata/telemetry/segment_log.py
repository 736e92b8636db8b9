"""Appends records to one segment after the other, and outlives whatever the disk does.

A full disk, a missing folder, one that may not be written: the records of that time are dropped and
counted, with one warning when it begins and one line when it is over. Blocking; for one thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from odonata.errors import describe
from odonata.telemetry.folder import PART, stem_of
from odonata.telemetry.record import Record
from odonata.telemetry.segment import Origin, RecordError, SegmentHeader, encode_record
from odonata.telemetry.segment_file import SegmentFile
from odonata.telemetry.settings import TelemetrySettings

RETRY_S: Final = 5.0
"""After an error of the disk. An operator makes room within minutes; trying costs two system
calls."""

NAMES_MAX: Final = 3
"""A name is never used twice, but somebody may lock a new file just before its writer does."""

_log = structlog.get_logger(__name__)
_numbers = itertools.count(1)  # of this process: programs in it may share a folder


class SegmentLog:
    """The segments of one program. `clock` is the records' clock, `unix_time` that of 1970."""

    def __init__(
        self,
        settings: TelemetrySettings,
        origin: Origin,
        clock: Callable[[], float],
        unix_time: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._origin = origin
        self._clock = clock
        self._unix_time = unix_time
        self._segment: SegmentFile | None = None
        self._opened_at_s = 0.0
        self._retry_at_s: float | None = None
        self._dropped_before = 0
        self._complained_of_record = False
        self.written = 0
        self.written_bytes = 0
        self.dropped = 0
        self.finished = 0
        """Segments."""

    def append(self, records: Sequence[Record]) -> None:
        """Write them all together, or drop and count them."""
        now_s = self._clock()
        if self._retry_at_s is not None and now_s < self._retry_at_s:
            self.dropped += len(records)
            return
        frames = [frame for record in records if (frame := self._encoded(record)) is not None]
        if not frames:
            return
        try:
            segment = self._segment or self._open(now_s)
            segment.append(b"".join(frames))
        except OSError as error:
            self._stop(error, len(frames), now_s)
        else:
            self.written += len(frames)
            self.written_bytes += sum(map(len, frames))
            self._resume()

    def finish_if_due(self) -> None:
        """Close the segment if it is large or old enough."""
        segment = self._segment
        if segment is None:
            return
        old = self._clock() - self._opened_at_s >= self._settings.max_segment_age_s
        if old or segment.size >= self._settings.max_segment_bytes:
            self.finish()

    def finish(self) -> None:
        """Close the segment, if there is one."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None
            self.finished += 1

    def _encoded(self, record: Record) -> bytes | None:
        try:
            return encode_record(record)
        except RecordError as error:
            self.dropped += 1
            if not self._complained_of_record:  # a bug of ours: it would come with every record
                self._complained_of_record = True
                _log.error("record_refused", error=error.detail)
            return None

    def _open(self, now_s: float) -> SegmentFile:
        directory = Path(self._settings.dir)
        directory.mkdir(parents=True, exist_ok=True)
        unix_s = self._unix_time()
        header = SegmentHeader(
            origin=self._origin, clock_offset_s=unix_s - self._clock(), created_at_s=unix_s
        )
        last: OSError | None = None
        for number in itertools.islice(_numbers, NAMES_MAX):
            stem = stem_of(self._origin, unix_s, os.getpid(), number)
            try:
                self._segment = SegmentFile(directory / f"{stem}{PART}", header)
            except (BlockingIOError, FileExistsError) as error:
                last = error
            else:
                self._opened_at_s = now_s
                self.written_bytes += self._segment.size
                return self._segment
        assert last is not None
        raise last

    def _stop(self, error: OSError, count: int, now_s: float) -> None:
        if self._retry_at_s is None:
            self._dropped_before = self.dropped
            _log.warning(
                "telemetry_stopped",
                path=str(self._settings.dir),
                error=describe(error),
                wait_s=RETRY_S,
            )
        self.dropped += count
        self._retry_at_s = now_s + RETRY_S
        self.finish()

    def _resume(self) -> None:
        if self._retry_at_s is not None:
            self._retry_at_s = None
            _log.info("telemetry_resumed", count=self.dropped - self._dropped_before)
