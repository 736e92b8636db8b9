"""A program that records pieces until it is killed: started as a process of its own.

    python telemetry_process.py FOLDER RUN [--file-bytes-max N] [--count N]

Run r records pieces whose task id is r, numbered from 0, and says on stdout, line by line, how many
of them were written. With --count it ends after so many, and says its counters as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import record as make  # the path comes first

from odonata import logs
from odonata.settings.log import LogSettings
from odonata.telemetry.segment import Origin
from odonata.telemetry.settings import TelemetrySettings
from odonata.telemetry.writer import TelemetryWriter

BURST = 50
PAUSE_S = 0.01  # some thousands a second: many segments in a short life, the queue never full
SEGMENT_BYTES = 64 * 1024
PATIENCE_S = 60.0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("run")
    parser.add_argument("--file-bytes-max", type=int)
    parser.add_argument("--segment-bytes", type=int, default=SEGMENT_BYTES)
    parser.add_argument("--count", type=int)
    given = parser.parse_args()
    logs.configure(LogSettings(format="json"))
    if given.file_bytes_max:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.file_bytes_max, given.file_bytes_max))
    settings = TelemetrySettings(dir=given.folder, max_segment_bytes=given.segment_bytes)
    origin = Origin(host="host1", program="daemon")
    recorder = TelemetryWriter(settings, origin, time.monotonic, close_convert_s=PATIENCE_S)
    number = told = 0
    while given.count is None or number < given.count:
        for _ in range(BURST):
            recorder.write(msgspec.structs.replace(make.piece(number), task_id=given.run))
            number += 1
        time.sleep(PAUSE_S)
        stats = recorder.stats()
        assert stats.dropped == 0 or given.file_bytes_max
        if stats.written > told:
            told = stats.written
            say(str(told))
    recorder.close()
    modules = sorted(name for name in sys.modules if name.split(".")[0] in {"pyarrow", "numpy"})
    say(json.dumps({**msgspec.structs.asdict(recorder.stats()), "modules": modules}))


if __name__ == "__main__":
    main()
