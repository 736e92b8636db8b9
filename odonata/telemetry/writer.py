"""Writes records beside the work: an event loop hands them over, a thread does the rest.

    write() -> Backlog -> thread: SegmentLog -> Converter (a child process) -> Parquet
               bounded            *.part                                       prune

`write` takes a microsecond and nothing else of the caller's: no lock is held, nothing is encoded,
no file is touched. What can't be kept is dropped and counted. The thread wakes twice a second, so
a killed process loses half a second of records at most; what was written before is in its segment.
The owner sees `stats()` at any time and calls `close()`, once, outside the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from odonata.errors import describe
from odonata.telemetry.backlog import Backlog
from odonata.telemetry.converter import Converter, Ended
from odonata.telemetry.folder import has_finished_parts, prune
from odonata.telemetry.record import NoRecorder, Record, TelemetryStats
from odonata.telemetry.segment import Origin
from odonata.telemetry.segment_log import SegmentLog
from odonata.telemetry.settings import TelemetrySettings

FLUSH_INTERVAL_S: Final = 0.5
"""What a killed process may lose. Waking for nothing costs some microseconds."""

BATCH_RECORDS: Final = 256
BATCH_BYTES: Final = 256 * 1024
"""Encoded at a time, in 0.7 ms (256 pieces, measured), and written by one system call, in which the
event loop's thread has Python to itself."""

DROP_LOG_INTERVAL_S: Final = 60.0
"""A disk that can't keep up drops thousands a second: one line a minute says it."""

CLOSE_CONVERT_S: Final = 5.0
"""A program that stops converts its last segment, which takes half a second; one that takes longer
is ended, and converted at the next start."""

_log = structlog.get_logger(__name__)


class TelemetryWriter:
    """A `Recorder` into `settings.dir`. Starts its thread at once; `write` on one thread only.

    `clock` is that of the records' `at_s`; it must run as fast as the system's.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        origin: Origin,
        clock: Callable[[], float],
        *,
        backlog: Backlog | None = None,
        converter: Converter | None = None,
        close_convert_s: float = CLOSE_CONVERT_S,
    ) -> None:
        self._directory = Path(settings.dir)
        self._max_total_bytes = settings.max_total_bytes
        self._backlog = backlog or Backlog()
        # Asked once, here: a loop's clock may stand still while the loop waits, as uvloop's does.
        ahead_s = clock() - time.monotonic()
        self._segments = SegmentLog(settings, origin, lambda: time.monotonic() + ahead_s, time.time)
        self._converter = converter or Converter(self._directory)
        self._close_convert_s = close_convert_s
        self._can_convert = True
        self._convert_due = False
        self._refused = 0
        self._told_dropped = 0
        self._tell_at_s = 0.0
        self._files = 0
        self._removed_files = 0
        self._convert_failures = 0
        self._open = True
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    # --- the owner's thread ---

    def write(self, record: Record) -> None:
        """Take one record, or drop it and count it."""
        if not self._open or not self._backlog.put(record):
            self._refused += 1
        elif self._backlog.is_half_full and not self._wake.is_set():
            self._wake.set()

    def stats(self) -> TelemetryStats:
        """The counters; any thread may ask."""
        return TelemetryStats(
            written=self._segments.written,
            dropped=self._refused + self._segments.dropped,
            written_bytes=self._segments.written_bytes,
            files=self._files,
            removed_files=self._removed_files,
            convert_failures=self._convert_failures,
        )

    def close(self) -> None:
        """Write what is left and turn it into Parquet. Blocks, for 2 CLOSE_CONVERT_S at most."""
        self._open = False
        self._wake.set()
        timeout_s = 2 * self._close_convert_s
        self._thread.join(timeout_s)
        if self._thread.is_alive():  # a disk that hangs must not keep a program from ending
            _log.warning("telemetry_abandoned", path=str(self._directory), timeout_s=timeout_s)

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._convert_due = self._has_left_overs()
            while self._open:
                self._tend_converter()
                self._wake.wait(FLUSH_INTERVAL_S)
                self._wake.clear()
                self._drain()
            self._end()
        except Exception:  # noqa: BLE001  # supervises the thread: a bug must not stop the program
            self._open = False
            _log.exception("telemetry_crashed", path=str(self._directory))

    def _has_left_overs(self) -> bool:
        """Segments of programs that were killed."""
        with suppress(OSError):
            return has_finished_parts(self._directory)
        return False

    def _drain(self) -> None:
        while batch := self._backlog.take(BATCH_RECORDS, BATCH_BYTES):
            self._segments.append(batch)
            self._finish_if_due()
        self._finish_if_due()
        self._tell_of_drops()

    def _finish_if_due(self) -> None:
        before = self._segments.finished
        self._segments.finish_if_due()
        self._convert_due |= self._segments.finished > before

    def _tell_of_drops(self) -> None:
        dropped = self._refused - self._told_dropped
        now_s = time.monotonic()
        if dropped and now_s >= self._tell_at_s:
            self._told_dropped += dropped
            self._tell_at_s = now_s + DROP_LOG_INTERVAL_S
            _log.warning("records_dropped", count=dropped, reason="the queue to the disk is full")

    # --- conversion ---

    def _tend_converter(self) -> None:
        ended = self._converter.poll()
        if ended is not None:
            self._take_note(ended)
        if self._convert_due and not self._converter.is_running:
            self._convert_due = False
            self._prune()
            self._start_converter()

    def _start_converter(self) -> None:
        if not self._can_convert:
            return
        try:
            self._converter.start()
        except OSError as error:
            self._take_note(Ended(failure=describe(error)))

    def _take_note(self, ended: Ended) -> None:
        outcome = ended.outcome
        self._files += outcome.files
        self._convert_failures += outcome.failures + bool(ended.failure)
        path = str(self._directory)
        if ended.is_pyarrow_missing:
            self._can_convert = False
            reason = "pyarrow is not installed: segments stay as they are"
            _log.warning("telemetry_not_converted", path=path, reason=reason)
        elif ended.failure or outcome.failures:
            reason = ended.failure or "; ".join(outcome.messages)
            _log.warning("telemetry_not_converted", path=path, reason=reason)
        elif outcome.unusable:
            _log.error("records_refused", path=path, count=outcome.unusable)
        self._prune()

    def _prune(self) -> None:
        with suppress(OSError):
            self._removed_files += prune(self._directory, self._max_total_bytes)

    def _end(self) -> None:
        """The last words: all that was written is converted, or it waits for the next start."""
        self._drain()
        before = self._segments.finished
        self._segments.finish()
        self._convert_due |= self._segments.finished > before
        deadline_s = time.monotonic() + self._close_convert_s
        for _ in range(2):  # one that runs already, and one for the last segment
            ended = self._converter.wait(max(0.0, deadline_s - time.monotonic()))
            if ended is not None:
                self._take_note(ended)
            if self._convert_due and self._can_convert and time.monotonic() < deadline_s:
                self._convert_due = False
                self._start_converter()


def open_recorder(
    settings: TelemetrySettings, origin: Origin, clock: Callable[[], float]
) -> TelemetryWriter | NoRecorder:
    """What a program writes its records to. `clock` is that of the records' `at_s`.

    Nothing is raised for a folder that can't be used: see `SegmentLog`.
    """
    return TelemetryWriter(settings, origin, clock) if settings.enable else NoRecorder()
