"""What a user sees while a file comes: a bar on a terminal, lines elsewhere, nothing if asked so.

Counts bytes by where they came from (peers, source, this disk). Knows no daemon.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

from odonata.units import format_rate, format_size
from odonata.wire.dragonfly import TaskStarted
from odonata.wire.dragonfly.parent import content_length_from_wire
from odonata.wire.message import Piece, TrafficType

LINE_INTERVAL_S = 2.0
"""Between two lines where there is no terminal: a log should tell that it lives, not fill up."""


class Progress(Protocol):
    """Told what happens."""

    def started(self, content: TaskStarted) -> None: ...
    def arrived(self, piece: Piece) -> None: ...
    def done(self, path: Path) -> None: ...


class Tally:
    """Bytes by where they came from."""

    def __init__(self) -> None:
        self.total: int | None = None
        self._bytes = dict.fromkeys(TrafficType, 0)
        self._began_s = time.monotonic()

    def start(self, content: TaskStarted) -> None:
        length = content_length_from_wire(content.content_length, len(content.pieces))
        self.total = length

    def add(self, piece: Piece) -> None:
        self._bytes[piece.traffic_type] += piece.length

    @property
    def arrived(self) -> int:
        """Bytes so far."""
        return sum(self._bytes.values())

    def origin(self) -> str:
        """Such as "peers 75 %, source 25 %"; empty before the first byte."""
        named = (
            ("peers", TrafficType.REMOTE_PEER),
            ("source", TrafficType.BACK_TO_SOURCE),
            ("this disk", TrafficType.LOCAL_PEER),
        )
        arrived = max(1, self.arrived)
        parts = [(name, 100 * self._bytes[kind] / arrived) for name, kind in named]
        return ", ".join(f"{name} {share:.0f} %" for name, share in parts if share)

    def rate_bytes_per_s(self) -> float:
        """Mean since the start."""
        return self.arrived / max(1e-6, time.monotonic() - self._began_s)


class Quiet:
    """Says nothing."""

    def started(self, content: TaskStarted) -> None: ...
    def arrived(self, piece: Piece) -> None: ...
    def done(self, path: Path) -> None: ...


class Lines:
    """A line now and then, and one at the end."""

    def __init__(self, out: TextIO, name: str) -> None:
        self._out = out
        self._name = name
        self._tally = Tally()
        self._said_s = time.monotonic()

    def started(self, content: TaskStarted) -> None:
        self._tally.start(content)

    def arrived(self, piece: Piece) -> None:
        self._tally.add(piece)
        if time.monotonic() - self._said_s >= LINE_INTERVAL_S:
            self._said_s = time.monotonic()
            total = self._tally.total
            of = "" if total is None else f" of {format_size(total)}"
            self._say(f"{self._name}: {format_size(self._tally.arrived)}{of}, {self._facts()}")

    def done(self, path: Path) -> None:
        self._say(f"{path}: {format_size(self._tally.arrived)}, {self._facts()}")

    def _facts(self) -> str:
        rate = format_rate(int(self._tally.rate_bytes_per_s()))
        return ", ".join(part for part in (rate, self._tally.origin()) if part)

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class Live:
    """A bar with bytes, rate, remaining time and origin."""

    def __init__(self, bar: Bar, task: TaskID, last: Lines) -> None:
        self._bar = bar
        self._task = task
        self._last = last
        self._tally = Tally()

    def started(self, content: TaskStarted) -> None:
        self._tally.start(content)
        self._last.started(content)
        self._bar.update(self._task, total=self._tally.total)

    def arrived(self, piece: Piece) -> None:
        self._tally.add(piece)
        self._last.arrived(piece)
        self._bar.update(self._task, completed=self._tally.arrived, origin=self._tally.origin())

    def done(self, path: Path) -> None:
        self._bar.stop()
        self._last.done(path)


class _OnlyTheLast(Lines):
    """Under a bar only the last line is said."""

    def arrived(self, piece: Piece) -> None:
        self._tally.add(piece)


@contextmanager
def make_progress(name: str, *, quiet: bool) -> Generator[Progress]:
    """What fits where stderr goes."""
    if quiet:
        yield Quiet()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(sys.stderr, name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[origin]}"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None, origin="")
        yield Live(bar, task, _OnlyTheLast(sys.stderr, name))
