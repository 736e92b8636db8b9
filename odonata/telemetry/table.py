"""The tables that records become: their columns, and which records have no place in them.

    DecisionRecord -> one row of `decision`, one row of `candidate` for each candidate
    PieceRecord    -> one row of `piece`
    DownloadRecord -> one row of `download`

The columns of a record are its scalar fields, under their names; `datasets/schemas` has them with
units and meaning. This module knows no Parquet: see `parquet`.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Final, Literal, get_args

import msgspec

from odonata.telemetry.record import DecisionRecord, DownloadRecord, PieceRecord, Record
from odonata.wire.message import Value

ColumnType = Literal["string", "double", "int64", "uint64", "bool"]

MOMENTS: Final = frozenset({"at_s", "started_at_s"})
"""Columns on the writer's clock in a record, and in seconds since 1970 in a table."""

FEATURE_PREFIX: Final = "feature_"

_TYPES: Final[dict[object, ColumnType]] = {
    str: "string",
    float: "double",
    int: "int64",
    bool: "bool",
}
_UNSIGNED: Final = frozenset({"draw_seed"})  # a hash of 64 bits
_RANGES: Final = {"int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1)}
_SIZES: Final = {"scores": 8, "slots": 4, "propensities": 8, "bad": 1}


class Column(Value, frozen=True, kw_only=True):
    """One column of a table."""

    name: str
    type: ColumnType
    nullable: bool = False
    about: str = ""
    """What it means, where no record's field says it."""


def _scalars(record: type[Record]) -> tuple[Column, ...]:
    columns: list[Column] = []
    for field in msgspec.structs.fields(record):
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        name = "uint64" if field.name in _UNSIGNED else _TYPES.get(kinds[0])
        if name is not None:
            columns.append(Column(name=field.name, type=name, nullable=NoneType in kinds))
    return tuple(columns)


ORIGIN_COLUMNS: Final = (
    Column(name="schema_version", type="int64", about="Of the records; see `SCHEMA_VERSION`."),
    Column(name="written_by_host", type="string", about="Name of the host that wrote it."),
)

CANDIDATE_COLUMNS: Final = (
    Column(name="decision_id", type="string", about="The decision it was a candidate of."),
    Column(name="at_s", type="double", about="When that was made."),
    Column(name="peer_id", type="string", about="The candidate."),
    Column(name="host_id", type="string", about="Its host, as it announced itself."),
    Column(name="row", type="int64", about="Its number in the decision, from 0."),
    Column(name="score", type="double", about="By the ranker; higher is better."),
    Column(name="slot", type="int64", about="Place in the answer from 0; -1: not chosen."),
    Column(
        name="propensity",
        type="double",
        about="Probability of being in the answer, given who else was eligible.",
    ),
    Column(name="bad", type="bool", about="Left out as a bad node."),
)
"""Before the facts, which are doubles under their names, and the features, which are doubles with
`FEATURE_PREFIX`."""

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "decision": (*_scalars(DecisionRecord), *ORIGIN_COLUMNS),
    "candidate": (*CANDIDATE_COLUMNS, *ORIGIN_COLUMNS),
    "piece": (*_scalars(PieceRecord), *ORIGIN_COLUMNS),
    "download": (*_scalars(DownloadRecord), *ORIGIN_COLUMNS),
}
"""By kind of table, those that every such table has."""

_KIND_OF: Final[dict[type[Record], str]] = {
    DecisionRecord: "decision",
    PieceRecord: "piece",
    DownloadRecord: "download",
}


def kind_of(record: Record) -> str:
    """The table in which the record is one row."""
    return _KIND_OF[type(record)]


def complaint(record: Record) -> str | None:
    """Why the record has no place in its table; None: it has."""
    for column in COLUMNS[kind_of(record)]:
        low, high = _RANGES.get(column.type, (0, 0))
        value = getattr(record, column.name, 0)
        if high and not low <= value <= high:
            return f"{column.name} {value} is no {column.type}"
    return _misfit(record) if isinstance(record, DecisionRecord) else None


def _misfit(record: DecisionRecord) -> str | None:
    """The candidates' columns must be as long as there are candidates."""
    count = len(record.peer_ids)
    wanted = {name: count * size for name, size in _SIZES.items()}
    wanted["facts"] = count * len(record.fact_names) * 8
    wanted["features"] = count * len(record.feature_names) * 8
    for name, size in wanted.items():
        found = len(getattr(record, name))
        if found != size:
            return f"decision {record.decision_id}: {name} has {found} bytes, not {size}"
    if len(record.host_ids) != count:
        return f"decision {record.decision_id}: {count} peers, but {len(record.host_ids)} hosts"
    taken = {column.name for column in COLUMNS["candidate"]}
    double = taken.intersection(record.fact_names)
    return f"decision {record.decision_id}: {min(double)} is no name for a fact" if double else None
