"""The telemetry tables written out for people and other tools: what lies in datasets/schemas.

The meaning of a column is the docstring of the record's field, read from the source.
"""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any

from models.facts import FACTS
from models.features import FEATURES
from odonata.telemetry import record
from odonata.telemetry.record import SCHEMA_VERSION
from odonata.telemetry.table import COLUMNS, FEATURE_PREFIX, MOMENTS, Column

RECORDS = {"decision": "DecisionRecord", "piece": "PieceRecord", "download": "DownloadRecord"}
ABOUT = {
    "decision": "One row for each scheduling decision.",
    "candidate": "One row for each candidate of each decision: all eligible ones, chosen or not.",
    "piece": "One row for each try to fetch one piece, failed and stopped ones too.",
    "download": "One row for each download of one peer.",
}
UNITS = {"_bytes": "B", "length": "B", "_s": "s", "_count": "1"}


def schema(kind: str) -> dict[str, Any]:
    """The table `kind`, as a JSON document."""
    columns = [_plain(kind, column) for column in COLUMNS[kind]]
    if kind == "candidate":
        columns += [
            _double(fact.name, fact.unit, f"Fact: {fact.about}.", fact.unknown) for fact in FACTS
        ]
        for spec in (feature.spec for feature in FEATURES):
            name = f"{FEATURE_PREFIX}{spec.name}"
            columns.append(_double(name, spec.unit, f"Feature: {spec.about}.", spec.default))
    return {
        "kind": kind,
        "schema_version": SCHEMA_VERSION,
        "about": ABOUT[kind],
        "columns": columns,
    }


def text(kind: str) -> str:
    """The same as text, a column on each line."""
    document = schema(kind)
    lines = ",\n    ".join(json.dumps(column, ensure_ascii=False) for column in document["columns"])
    rest = {key: value for key, value in document.items() if key != "columns"}
    head = json.dumps(rest, indent=2, ensure_ascii=False).removesuffix("\n}")
    return f'{head},\n  "columns": [\n    {lines}\n  ]\n}}\n'


def _plain(kind: str, column: Column) -> dict[str, Any]:
    about = column.about or _docstrings(RECORDS[kind])[column.name]
    unit = "s since 1970" if column.name in MOMENTS else _unit(column)
    return {
        "name": column.name,
        "type": column.type,
        "unit": unit,
        "nullable": column.nullable,
        "about": about,
    }


def _unit(column: Column) -> str | None:
    if column.type in {"string", "bool"}:
        return None
    return next((unit for end, unit in UNITS.items() if column.name.endswith(end)), "1")


def _double(name: str, unit: str, about: str, unknown: float) -> dict[str, Any]:
    return {
        "name": name,
        "type": "double",
        "unit": unit,
        "nullable": True,  # another version may not have it
        "about": about,
        "unknown": "NaN" if unknown != unknown else unknown,  # noqa: PLR0124  # only NaN is not
    }


def _docstrings(class_name: str) -> dict[str, str]:
    """By field, on one line."""
    tree = ast.parse(inspect.getsource(record))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for field, after in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                ):
                    found[field.target.id] = " ".join(str(after.value.value).split())
    return found
