"""`python -m odonata.telemetry.convert FOLDER`: turns finished segments into Parquet, and ends.

A process of its own, so that no serving process pays for pyarrow, with low priority and an alarm
that ends it. It may be killed at any moment: a segment goes only when all its Parquet files stand,
they are named after it, and converting it again writes the same files again. It logs nothing; one
line of JSON on stdout (`Outcome`) tells what was done. What is not here: when to convert (`writer`,
`command`) and what to keep (`folder`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from odonata.errors import describe
from odonata.telemetry.folder import BROKEN, held, parts, sweep, sync_folder
from odonata.telemetry.outcome import EXIT_NO_PYARROW, Outcome
from odonata.telemetry.record import Record
from odonata.telemetry.segment import MAGIC, NewerSegmentError, SegmentError, SegmentReader
from odonata.telemetry.table import complaint

ALARM_S: Final = 120
"""A segment takes about a second; on a busy machine, at low priority, some more. What is not done
by then is done next time."""

NICENESS: Final = 15
"""Behind everything that serves, before what waits for an idle machine."""

HEADER_BYTES_MAX: Final = 4096
"""A file that begins like a segment and is no longer than this can only be a torn header."""


def convert(directory: Path) -> Outcome:
    """Turn every part that nobody holds into Parquet. OSError if the folder can't be listed."""
    outcome = Outcome()
    for part in parts(directory):
        with held(part) as file:
            if file is None:
                continue
            try:
                outcome = outcome.plus(_convert_part(part, file))
            except (NewerSegmentError, OSError) as error:
                why = f"{part}: {describe(error)}"
                outcome = outcome.plus(Outcome(failures=1, messages=(why,)))
    sweep(directory, time.time())
    return outcome


class _Counter:
    """Lets records pass that have a place."""

    def __init__(self) -> None:
        self.passed = 0
        self.stopped = 0

    def usable(self, records: SegmentReader) -> Iterator[Record]:
        for record in records:
            if complaint(record) is None:
                self.passed += 1
                yield record
            else:
                self.stopped += 1


def _convert_part(part: Path, file: BinaryIO) -> Outcome:
    from odonata.telemetry.parquet import write_tables  # noqa: PLC0415  # may not be installed

    try:
        reader = SegmentReader(file)
    except NewerSegmentError:
        raise
    except SegmentError as error:
        return _set_aside(part, file, error)
    counter = _Counter()
    files = write_tables(
        counter.usable(reader),
        part.parent,
        part.stem,
        clock_offset_s=reader.header.clock_offset_s,
        origin=reader.header.origin,
    )
    part.unlink()
    sync_folder(part.parent)
    return Outcome(
        segments=1,
        records=counter.passed,
        files=len(files),
        lost_bytes=reader.lost_bytes,
        unusable=counter.stopped,
    )


def _set_aside(part: Path, file: BinaryIO, error: SegmentError) -> Outcome:
    """No header: a writer died at once, and nothing is lost, or this was never a segment."""
    file.seek(0)
    start = file.read(HEADER_BYTES_MAX + 1)
    if len(start) <= HEADER_BYTES_MAX and start[: len(MAGIC)] == MAGIC[: len(start)]:
        part.unlink()
        return Outcome(lost_bytes=len(start))
    part.rename(part.with_suffix(BROKEN))
    return Outcome(failures=1, messages=(f"{part}: {error.detail}",))


def main(arguments: Sequence[str]) -> int:
    """The process: exit code 0, 1 (the folder can't be used) or EXIT_NO_PYARROW."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for whoever started this
    signal.alarm(ALARM_S)
    with suppress(OSError):
        os.nice(NICENESS)
    try:
        from odonata.telemetry import parquet  # noqa: PLC0415  # light until here
    except ModuleNotFoundError:
        return EXIT_NO_PYARROW
    parquet.use_one_thread()
    try:
        outcome = convert(Path(arguments[0]))
    except OSError as error:
        sys.stderr.write(f"{describe(error)}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
