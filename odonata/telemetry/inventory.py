"""What lies in a telemetry folder: files and rows of each kind, and segments not yet converted.

Reads the ends of Parquet files and all of each segment. It needs pyarrow, as `parquet` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from odonata.errors import CallerError
from odonata.telemetry.folder import KINDS, held, parquet_files, parts
from odonata.telemetry.parquet import describe_file
from odonata.telemetry.segment import SegmentError, SegmentReader
from odonata.wire.message import Value


class KindFacts(Value, frozen=True, kw_only=True):
    """All Parquet files of one kind. Times: seconds since 1970; None: there are no rows."""

    kind: str
    files: int
    rows: int
    bytes: int
    first_at_s: float | None
    last_at_s: float | None


class PartFacts(Value, frozen=True, kw_only=True):
    """A segment that is not yet converted."""

    name: str
    records: int
    bytes: int
    lost_bytes: int
    """Behind the last whole record; of a live segment, what is being written."""
    first_at_s: float | None = None
    last_at_s: float | None = None
    host: str = ""
    program: str = ""
    is_live: bool = False
    """Somebody writes or converts it now."""
    problem: str = ""
    """Why it can't be read; "" if it can."""


class Inventory(Value, frozen=True, kw_only=True):
    """One folder. Files that come or go meanwhile may be counted or not."""

    folder: str
    kinds: tuple[KindFacts, ...]
    parts: tuple[PartFacts, ...]


def take_inventory(folder: Path) -> Inventory:
    """Look into `folder`. CallerError if it is none, StorageError for a file that can't be read."""
    if not folder.is_dir():
        raise CallerError(f"{folder} is no folder: name one that telemetry was written to")
    found = (_part_facts(path) for path in parts(folder))
    return Inventory(
        folder=str(folder),
        kinds=tuple(_kind_facts(folder, kind) for kind in KINDS),
        parts=tuple(part for part in found if part is not None),
    )


def _kind_facts(folder: Path, kind: str) -> KindFacts:
    files = rows = size = 0
    moments: list[float | None] = []
    for path in parquet_files(folder, kind):
        facts = describe_file(path)
        if facts is not None:
            files += 1
            rows += facts.rows
            size += facts.bytes
            moments += [facts.first_at_s, facts.last_at_s]
    first, last = span(moments)
    return KindFacts(
        kind=kind, files=files, rows=rows, bytes=size, first_at_s=first, last_at_s=last
    )


def _part_facts(path: Path) -> PartFacts | None:
    """None: it is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        size = os.fstat(file.fileno()).st_size
        try:
            reader = SegmentReader(file)
        except SegmentError as error:
            return PartFacts(
                name=path.name, records=0, bytes=size, lost_bytes=size, problem=error.detail
            )
        moments = [record.at_s + reader.header.clock_offset_s for record in reader]
    first, last = span(moments)
    with held(path) as own:
        is_live = own is None
    return PartFacts(
        name=path.name,
        records=len(moments),
        bytes=size,
        lost_bytes=reader.lost_bytes,
        first_at_s=first,
        last_at_s=last,
        host=reader.header.origin.host,
        program=reader.header.origin.program,
        is_live=is_live,
    )


def span(moments: Iterable[float | None]) -> tuple[float | None, float | None]:
    """The first and the last of those that are known."""
    known = [moment for moment in moments if moment is not None]
    return min(known, default=None), max(known, default=None)
