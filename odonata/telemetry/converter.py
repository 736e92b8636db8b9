"""The conversion process as its parent sees it: started, asked how it went, ended if it hangs.

One at a time for each writer. Nothing here waits but `wait`. What the process does is `convert`'s.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from odonata.telemetry.outcome import EXIT_NO_PYARROW, Outcome
from odonata.wire.message import Value

# -P: never look for modules in the working folder, which may be anybody's.
COMMAND: Final = (sys.executable, "-P", "-m", "odonata.telemetry.convert")

TIMEOUT_S: Final = 150.0
"""It ends itself after 120 s (`convert.ALARM_S`); this is for one that can't even do that."""

_STDERR_CHARS_MAX = 500


class Ended(Value, frozen=True, kw_only=True):
    """How a conversion ended: with an outcome, without pyarrow, or by a failure."""

    outcome: Outcome = Outcome()
    is_pyarrow_missing: bool = False
    failure: str = ""


class Converter:
    """Starts and watches conversions of `directory`."""

    def __init__(self, directory: Path, command: Sequence[str] = COMMAND) -> None:
        self._words = [*command, str(directory)]
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline_s = 0.0

    @property
    def is_running(self) -> bool:
        """Whether one was started and not yet collected by `poll` or `wait`."""
        return self._process is not None

    def start(self) -> None:
        """Start one. OSError if the system won't."""
        assert self._process is None, "one at a time"
        self._process = subprocess.Popen(  # noqa: S603  # our own words and a path from settings
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C in a terminal is for the parent
        )
        self._deadline_s = time.monotonic() + TIMEOUT_S

    def poll(self) -> Ended | None:
        """How it ended, once; None while it runs."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            if time.monotonic() < self._deadline_s:
                return None
            process.kill()
        return self._collect(process)

    def wait(self, timeout_s: float) -> Ended | None:
        """Wait for its end, and end it if that takes too long. None: none was running."""
        process = self._process
        if process is None:
            return None
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
        return self._collect(process)

    def _collect(self, process: subprocess.Popen[bytes]) -> Ended:
        # Both fit into the pipes, so a process that ended has said all of it.
        out, err = process.communicate()
        self._process = None
        if process.returncode == EXIT_NO_PYARROW:
            return Ended(is_pyarrow_missing=True)
        if process.returncode:
            words = err.decode(errors="replace").strip()[-_STDERR_CHARS_MAX:]
            return Ended(failure=words or f"ended with {process.returncode}")
        try:
            return Ended(outcome=msgspec.json.decode(out, type=Outcome))
        except msgspec.DecodeError as error:
            return Ended(failure=f"said nothing of use: {error}")
