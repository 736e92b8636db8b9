"""`odonata dataset` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from support.telemetry import small_world

from odonata import cli
from odonata.telemetry.parquet import write_tables
from training.describe import Description
from training.rows import Card, load


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("telemetry")
    write_tables(small_world(9, hosts=12, tasks=3, children=6), place, "a")
    return place


def run(*args: object) -> Result:
    """As the console script does, errors and exit codes included."""
    return CliRunner().invoke(cli.root, ["dataset", *map(str, args)])


def test_build_and_describe(telemetry: Path, tmp_path: Path) -> None:
    built = run("build", telemetry, "--out", tmp_path / "out")
    assert built.exit_code == 0, built.output
    card = load(tmp_path / "out").card
    assert f"{card.row_count:,} candidates of {card.decision_count:,} decisions" in built.stdout
    assert card.rows_sha256 in built.stdout
    shown = run("describe", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    for text in ("Goodput per decision and parent", "Who ranked", "bit for bit", "rule", "p99"):
        assert text in shown.stdout


def test_json_is_the_card_and_the_description(telemetry: Path, tmp_path: Path) -> None:
    built = run("build", telemetry, telemetry, "--out", tmp_path / "out", "--json")
    card = msgspec.json.decode(built.stdout, type=Card)
    assert card == load(tmp_path / "out").card
    shown = run("describe", tmp_path / "out" / "rows.parquet", "--json")
    description = msgspec.json.decode(shown.stdout, type=Description)
    assert description.card == card
    assert description.skew.is_clean


def test_telemetry_is_described_without_writing(telemetry: Path) -> None:
    before = sorted(telemetry.rglob("*"))
    shown = run("describe", telemetry, "--json")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["card"]["rows_sha256"] == ""
    assert sorted(telemetry.rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "complaint", "code"),
    [
        (("describe", "nowhere"), "there is no such folder", 1),
        (("describe", "nowhere/rows.parquet"), "there is no such folder", 1),
        (("describe", "."), "no decisions in .", 2),
        (("build", "nowhere", "--out", "out"), "there is no such folder", 1),
        (("build", ".", "--out", "out"), "no decisions in .", 2),
        (("build", "."), "Missing option '--out'", 2),
        (("build", "--out", "out"), "Missing argument", 2),
    ],
)
def test_errors_name_the_fix(
    args: tuple[str, ...],
    complaint: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == code, result.output
    assert complaint in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
