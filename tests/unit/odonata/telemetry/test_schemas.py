"""datasets/schemas says what the tables are: written from the code, and true of real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import telemetry_schema
from support.record import decision, download, piece

from models.facts import FACT_NAMES
from models.features import FEATURE_NAMES
from odonata.telemetry.folder import KINDS
from odonata.telemetry.parquet import read_table, write_tables

ROOT = Path(__file__).parents[4]
SCHEMAS = ROOT / "datasets" / "schemas"


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_fresh(kind: str, request: pytest.FixtureRequest) -> None:
    path = SCHEMAS / f"{kind}.json"
    if request.config.getoption("--rewrite"):
        path.write_text(telemetry_schema.text(kind))
    assert path.read_text() == telemetry_schema.text(kind), "stale: run this test with --rewrite"
    assert json.loads(path.read_text()) == telemetry_schema.schema(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_as_their_schema_says(kind: str, tmp_path: Path) -> None:
    real = decision(fact_names=FACT_NAMES, feature_names=FEATURE_NAMES)
    write_tables([real, piece(), download()], tmp_path, "a")
    found: list[dict[str, Any]] = [
        {"name": field.name, "type": str(field.type), "nullable": field.nullable}
        for field in read_table([tmp_path], kind).schema
    ]
    columns: list[dict[str, Any]] = telemetry_schema.schema(kind)["columns"]
    assert found == [
        {key: column[key] for key in ("name", "type", "nullable")} for column in columns
    ]


def test_every_column_says_what_it_means() -> None:
    for kind in KINDS:
        for column in telemetry_schema.schema(kind)["columns"]:
            assert column["about"].endswith("."), (kind, column)
            assert (column["unit"] is None) == (column["type"] in {"string", "bool"})


def test_facts_take_no_name_of_another_column() -> None:
    names = [column["name"] for column in telemetry_schema.schema("candidate")["columns"]]
    assert len(set(names)) == len(names)
