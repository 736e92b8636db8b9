"""`odonata train`, `evaluate` and `model` as a user runs them, on a real registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from support.learning_world import World, saved_dataset
from support.model_registry import registry_at, uri_of

from models.bundle import current_version, load_bundle
from odonata.errors import CallerError, NotFoundError, OdonataError, PreconditionError
from training.learn_command import evaluate, model, train

WORLD = World(decisions=150, decision_gap_s=20.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "rows"
    saved_dataset(folder, WORLD)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    registry_at(tmp_path)
    return tmp_path


def run(home: Path, command: click.Command, *arguments: str | Path) -> Result:
    options = ["--tracking-uri", uri_of(home)]
    words = [str(argument) for argument in arguments]
    name = words[:1] if isinstance(command, click.Group) else []
    place = ["--place", str(home / "place")] if name in (["promote"], ["rollback"]) else []
    rest = words[len(name) :]
    result = CliRunner().invoke(command, [*name, *rest, *options, *place])
    if isinstance(result.exception, OdonataError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def output(result: Result) -> Any:
    return json.loads(result.stdout)


def test_train_then_promote_then_roll_back(home: Path, dataset: Path) -> None:
    result = run(home, train, dataset, "--out", home / "out")
    for word in (
        "Newest decisions",
        "Held-out hosts",
        "dragonfly",
        "gate:",
        "challenger",
        "mlflow",
    ):
        assert word in result.stdout
    version = load_bundle(home / "out").version
    listed = output(run(home, model, "ls", "--json"))
    assert [(each["version"], each["bundle_version"]) for each in listed] == [(1, version)]
    run(home, model, "promote", "1")
    assert current_version(home / "place") == version
    second = output(
        run(home, train, dataset, "--seed", "2", "--json", "--promote", "--force", "--place",
            home / "place")
    )  # fmt: skip
    assert second["promoted"] is True
    assert current_version(home / "place") == second["version"]
    assert second["evaluation"]["figures"]
    assert "version 1" in run(home, model, "rollback").stdout
    assert current_version(home / "place") == version
    shown = run(home, model, "show").stdout
    assert "champion, last_good" in shown
    assert "data_sha256" in shown
    assert "rolled back" in run(home, model, "ls").stdout


def test_training_twice_gives_the_same_model_files(home: Path, dataset: Path) -> None:
    for name in ("a", "b"):
        run(home, train, dataset, "--out", home / name)
    for file in ("model.txt", "goodput.txt"):
        assert (home / "a" / file).read_bytes() == (home / "b" / file).read_bytes()


def test_evaluate_judges_a_folder_and_a_registered_version(home: Path, dataset: Path) -> None:
    run(home, train, dataset, "--out", home / "out")
    newer = home / "newer"
    saved_dataset(newer, World(decisions=60), seed=5)
    result = run(home, evaluate, newer, "--model", home / "out", "--plots", home / "plots")
    assert "learned - rule" in result.stdout
    assert (home / "plots" / "rankers.png").is_file()
    found = output(run(home, evaluate, dataset, "--model", "challenger", "--json"))
    assert "these very rows" in found["warnings"][0]
    assert {figure["part"] for figure in found["figures"]} == {"all"}


def test_what_can_not_be_is_said(home: Path, dataset: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        run(home, train, home / "nowhere")
    with pytest.raises(NotFoundError, match="champion"):
        run(home, evaluate, dataset)
    with pytest.raises(NotFoundError, match="no such folder"):
        run(home, evaluate, dataset, "--model", home / "nowhere")
    with pytest.raises(PreconditionError, match="last_good"):
        run(home, model, "rollback")
    assert "no version yet" in run(home, model, "ls").stdout
    small = home / "small"
    saved_dataset(small, World(decisions=5))
    with pytest.raises(CallerError, match="too little to learn from"):
        run(home, train, small)


def test_gate_keeps_out_what_could_not_be_compared(home: Path) -> None:
    """One short session on hosts that all know each other: nothing can be held out."""
    short = home / "short"
    saved_dataset(short, World(decisions=30, decision_gap_s=0.001, hosts=13))
    place = home / "place"
    with pytest.raises(PreconditionError, match="nothing was held out"):
        run(home, train, short, "--promote", "--place", place)
    assert current_version(place) is None
    assert len(output(run(home, model, "ls", "--json"))) == 1, "it is kept all the same"


def test_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys; from training.learn_command import train; "
        "heavy = {'pandas', 'mlflow', 'lightgbm', 'sklearn', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
