"""Records as Parquet files, and Parquet files and segments as one table.

The only place with pyarrow: a program that serves never imports this module. Files are written
beside their place and renamed into it, so that a reader finds whole files only. Compression is
zstd; the file's metadata says the schema version, the kind and who wrote the records.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from odonata.errors import CallerError, StorageError
from odonata.telemetry.folder import (
    KINDS,
    parquet_files,
    parquet_path,
    parts,
    sync_folder,
    unfinished_path,
)
from odonata.telemetry.record import SCHEMA_VERSION, DecisionRecord, Record
from odonata.telemetry.segment import NewerSegmentError, Origin, SegmentError, SegmentReader
from odonata.telemetry.table import (
    COLUMNS,
    FEATURE_PREFIX,
    MOMENTS,
    ORIGIN_COLUMNS,
    Column,
    complaint,
    kind_of,
)
from odonata.wire.message import Value

arrow: Any = pa
parquet: Any = pq
Table: TypeAlias = Any
"""A `pyarrow.Table`."""

CHUNK_RECORDS: Final = 4096
"""Records are Python objects only so many at a time: a kilobyte each, a tenth of it in columns."""

NO_ORIGIN: Final = Origin()

_ARROW_TYPES: Final[dict[str, Any]] = {
    "string": arrow.string(),
    "double": arrow.float64(),
    "int64": arrow.int64(),
    "uint64": arrow.uint64(),
    "bool": arrow.bool_(),
}


class TableFile(Value, frozen=True, kw_only=True):
    """What the end of a Parquet file says of it. Times: seconds since 1970; None: no rows."""

    rows: int
    bytes: int
    first_at_s: float | None
    last_at_s: float | None


def use_one_thread() -> None:
    """Leave the other cores to those who serve: for the process that converts."""
    arrow.set_cpu_count(1)
    arrow.set_io_thread_count(1)


# --- records to tables ---------------------------------------------------------------------------


def tables_of(
    records: Iterable[Record], *, clock_offset_s: float = 0.0, origin: Origin = NO_ORIGIN
) -> dict[str, Table]:
    """One table for each kind that occurs; rows in the records' order.

    `clock_offset_s` is added to the moments. CallerError for a record without a place (see
    `table.complaint`).
    """
    found: dict[str, list[Table]] = {}
    stream = iter(records)
    while chunk := list(islice(stream, CHUNK_RECORDS)):
        for kind, table in _chunk_tables(chunk, clock_offset_s, origin):
            found.setdefault(kind, []).append(table)
    return {kind: _joined(tables) for kind, tables in found.items()}


def _chunk_tables(
    records: list[Record], clock_offset_s: float, origin: Origin
) -> Iterator[tuple[str, Table]]:
    rows: dict[str, list[Record]] = {}
    for record in records:
        wrong = complaint(record)
        if wrong is not None:
            raise CallerError(wrong)
        rows.setdefault(kind_of(record), []).append(record)
    for kind, own in rows.items():
        columns = [column for column in COLUMNS[kind] if column not in ORIGIN_COLUMNS]
        values = {
            column.name: [getattr(record, column.name) for record in own] for column in columns
        }
        yield kind, _table(kind, values, len(own), clock_offset_s, origin)
    decisions = [record for record in records if isinstance(record, DecisionRecord)]
    for batch in _alike(decisions):
        yield "candidate", _candidates(batch, clock_offset_s, origin)


def _alike(decisions: list[DecisionRecord]) -> Iterator[list[DecisionRecord]]:
    """Runs of decisions with candidates and with the same columns."""
    batch: list[DecisionRecord] = []
    for decision in decisions:
        if not decision.peer_ids:
            continue
        if batch and _names(batch[0]) != _names(decision):
            yield batch
            batch = []
        batch.append(decision)
    if batch:
        yield batch


def _names(decision: DecisionRecord) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return decision.fact_names, decision.feature_names


def _candidates(batch: list[DecisionRecord], clock_offset_s: float, origin: Origin) -> Table:
    counts = [len(decision.peer_ids) for decision in batch]
    fact_names, feature_names = _names(batch[0])
    slots = np.frombuffer(b"".join(decision.slots for decision in batch), dtype="<i4")
    bad = np.frombuffer(b"".join(decision.bad for decision in batch), dtype=np.uint8)
    values: dict[str, Any] = {
        "decision_id": _repeated([decision.decision_id for decision in batch], counts),
        "at_s": np.repeat([decision.at_s for decision in batch], counts),
        "peer_id": [peer_id for decision in batch for peer_id in decision.peer_ids],
        "host_id": [host_id for decision in batch for host_id in decision.host_ids],
        "row": np.concatenate([np.arange(count, dtype=np.int64) for count in counts]),
        "score": _doubles([decision.scores for decision in batch], 1)[:, 0],
        "slot": slots.astype(np.int64),
        "propensity": _doubles([decision.propensities for decision in batch], 1)[:, 0],
        "bad": bad != 0,
    }
    facts = _doubles([decision.facts for decision in batch], len(fact_names))
    features = _doubles([decision.features for decision in batch], len(feature_names))
    more = dict(zip(fact_names, facts.T, strict=True))
    more |= {
        f"{FEATURE_PREFIX}{name}": column
        for name, column in zip(feature_names, features.T, strict=True)
    }
    return _table("candidate", values, sum(counts), clock_offset_s, origin, more)


def _repeated(texts: list[str], counts: list[int]) -> list[str]:
    return [text for text, count in zip(texts, counts, strict=True) for _ in range(count)]


def _doubles(blocks: list[bytes], width: int) -> Any:
    """Rows of `width` doubles; shape (n, width), also if there are no columns."""
    flat = np.frombuffer(b"".join(blocks), dtype="<f8")
    return flat.reshape(-1, width) if width else flat.reshape(0, 0)


def _table(
    kind: str,
    values: dict[str, Any],
    count: int,
    clock_offset_s: float,
    origin: Origin,
    more: dict[str, Any] | None = None,
) -> Table:
    """`more` are columns of doubles besides those that every table of `kind` has."""
    stamp = {"schema_version": [SCHEMA_VERSION] * count, "written_by_host": [origin.host] * count}
    arrays: list[Any] = []
    for column in COLUMNS[kind]:
        given = stamp[column.name] if column in ORIGIN_COLUMNS else values[column.name]
        if column.name in MOMENTS:
            given = np.asarray(given, dtype=np.float64) + clock_offset_s
        arrays.append(arrow.array(given, type=_ARROW_TYPES[column.type]))
    extra = more or {}
    arrays += [arrow.array(np.ascontiguousarray(column)) for column in extra.values()]
    return arrow.Table.from_arrays(arrays, schema=_schema(kind, tuple(extra)))


def _schema(kind: str, extra: Sequence[str] = ()) -> Any:
    fields = [_field(column) for column in COLUMNS[kind]]
    # A fact or a feature may be unknown to another version, and is null there.
    fields += [arrow.field(name, arrow.float64()) for name in extra]
    return arrow.schema(fields)


def _field(column: Column) -> Any:
    return arrow.field(column.name, _ARROW_TYPES[column.type], nullable=column.nullable)


def _joined(tables: Sequence[Table]) -> Table:
    return arrow.concat_tables(tables, promote_options="permissive")


# --- tables to files -----------------------------------------------------------------------------


def write_tables(
    records: Iterable[Record],
    directory: Path,
    stem: str,
    *,
    clock_offset_s: float = 0.0,
    origin: Origin = NO_ORIGIN,
) -> list[Path]:
    """Write `<directory>/<kind>/<stem>.parquet` for each kind that occurs; the files.

    Each appears whole or not at all, and replaces one of that name. CallerError for a record
    without a place, OSError from the folder.
    """
    tables = tables_of(records, clock_offset_s=clock_offset_s, origin=origin)
    return [_write(tables[kind], directory, kind, stem, origin) for kind in KINDS if kind in tables]


def _write(table: Table, directory: Path, kind: str, stem: str, origin: Origin) -> Path:
    path, unfinished = parquet_path(directory, kind, stem), unfinished_path(directory, kind, stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "odonata.kind": kind,
        "odonata.schema_version": str(SCHEMA_VERSION),
        "odonata.host": origin.host,
        "odonata.program": origin.program,
    }
    try:
        with unfinished.open("wb") as file:
            parquet.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:  # a full disk does not get fuller by it
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return path


# --- files to tables -----------------------------------------------------------------------------


def read_table(directories: Sequence[Path], kind: str) -> Table:
    """All rows of `kind` in the folders: of Parquet files, and of segments not yet converted.

    Each row once, whatever writers and converters do meanwhile. Columns that a file does not have
    are null. CallerError for a kind or a folder that is none, StorageError for a file that can't be
    read.
    """
    if kind not in KINDS:
        raise CallerError(f"{kind!r} is no kind of table: choose one of {', '.join(KINDS)}")
    tables = [_schema(kind).empty_table()]
    for directory in dict.fromkeys(path.resolve() for path in directories):
        if not directory.is_dir():
            raise CallerError(f"{directory} is no folder: name one that telemetry was written to")
        tables += tables_in(directory, kind)
    return _joined(tables)


def tables_in(directory: Path, kind: str) -> Iterator[Table]:
    """The tables of `kind` in one folder, file by file; rows may move between files meanwhile."""
    # Parts first: one that is gone when its turn comes has its Parquet files in place already.
    from_parts: set[str] = set()
    for part in parts(directory):
        if parquet_path(directory, kind, part.stem).exists():
            continue
        table = _read_part(part, kind)
        if table is not None:
            from_parts.add(part.stem)
            yield table
    for path in parquet_files(directory, kind):
        if path.stem not in from_parts:
            table = _read_file(path)
            if table is not None:
                yield table


def _read_part(part: Path, kind: str) -> Table | None:
    """None: it is gone or has no whole header."""
    try:
        with part.open("rb") as file:
            reader = SegmentReader(file)
            source = "decision" if kind == "candidate" else kind
            own = (record for record in reader if kind_of(record) == source)
            tables = tables_of(
                (record for record in own if complaint(record) is None),
                clock_offset_s=reader.header.clock_offset_s,
                origin=reader.header.origin,
            )
    except NewerSegmentError as error:
        raise StorageError(f"{part}: {error.detail}") from None
    except (SegmentError, FileNotFoundError):
        return None
    return tables.get(kind, _schema(kind).empty_table())


def _read_file(path: Path) -> Table | None:
    """None: it went to make room."""
    try:
        with path.open("rb") as file:
            return parquet.ParquetFile(file).read().replace_schema_metadata(None)
    except FileNotFoundError:
        return None
    except arrow.ArrowException as error:
        raise StorageError(f"{path}: can't be read as Parquet: {error}; remove it") from None


def describe_file(path: Path) -> TableFile | None:
    """Rows and time span of a Parquet file, without reading its rows. None: it is gone."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            facts = parquet.ParquetFile(file).metadata
    except FileNotFoundError:
        return None
    except arrow.ArrowException as error:
        raise StorageError(f"{path}: can't be read as Parquet: {error}; remove it") from None
    column = facts.schema.names.index("at_s")
    found = [facts.row_group(i).column(column).statistics for i in range(facts.num_row_groups)]
    spans = [span for span in found if span is not None and span.has_min_max]
    return TableFile(
        rows=facts.num_rows,
        bytes=size,
        first_at_s=min((span.min for span in spans), default=None),
        last_at_s=max((span.max for span in spans), default=None),
    )
