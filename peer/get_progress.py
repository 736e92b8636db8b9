"""What a user sees while a file comes: a bar on a terminal, lines elsewhere, nothing if asked so.

Counts bytes by where they came from (peers, source, this disk). Knows no daemon.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
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

from odonata.client import Progress
from odonata.units import format_rate, format_size

LINE_INTERVAL_S = 2.0
"""Between two lines where there is no terminal: a log should tell that it lives, not fill up."""


class Display(Protocol):
    """Told what happens."""

    def told(self, progress: Progress) -> None: ...
    def done(self, what: str) -> None: ...


def origin_of(progress: Progress) -> str:
    """Such as "peers 75 %, source 25 %"; empty before the first byte."""
    named = (
        ("peers", progress.from_peers),
        ("source", progress.from_source),
        ("this disk", progress.from_local),
    )
    arrived = max(1, progress.arrived)
    parts = [(name, 100 * n_bytes / arrived) for name, n_bytes in named]
    return ", ".join(f"{name} {share:.0f} %" for name, share in parts if share)


class Quiet:
    """Says nothing."""

    def told(self, progress: Progress) -> None: ...
    def done(self, what: str) -> None: ...


class Lines:
    """A line now and then, and one at the end."""

    def __init__(self, out: TextIO, name: str, *, only_the_last: bool = False) -> None:
        self._out = out
        self._name = name
        self._only_the_last = only_the_last
        self._progress = Progress()
        self._began_s = self._said_s = time.monotonic()

    def told(self, progress: Progress) -> None:
        self._progress = progress
        if self._only_the_last or time.monotonic() - self._said_s < LINE_INTERVAL_S:
            return
        self._said_s = time.monotonic()
        total = progress.content_length
        of = "" if total is None else f" of {format_size(total)}"
        self._say(f"{self._name}: {format_size(progress.arrived)}{of}, {self._facts()}")

    def done(self, what: str) -> None:
        self._say(f"{what}: {format_size(self._progress.arrived)}, {self._facts()}")

    def _facts(self) -> str:
        rate = self._progress.arrived / max(1e-6, time.monotonic() - self._began_s)
        return ", ".join(
            part for part in (format_rate(int(rate)), origin_of(self._progress)) if part
        )

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class Live:
    """A bar with bytes, rate, remaining time and origin."""

    def __init__(self, bar: Bar, task: TaskID, last: Lines) -> None:
        self._bar = bar
        self._task = task
        self._last = last

    def told(self, progress: Progress) -> None:
        self._last.told(progress)
        self._bar.update(
            self._task,
            total=progress.content_length,
            completed=progress.arrived,
            origin=origin_of(progress),
        )

    def done(self, what: str) -> None:
        self._bar.stop()
        self._last.done(what)


@contextmanager
def make_display(name: str, *, quiet: bool) -> Generator[Display]:
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
        yield Live(bar, task, Lines(sys.stderr, name, only_the_last=True))
