"""From a data set to a bundle with its card: the same models each time, a gate that compares."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from support.learning_world import World, world_dataset

from models.bundle import load_bundle
from odonata.errors import CallerError
from training.evaluate import BY_HOSTS, BY_TIME, Difference, Evaluation, Figure
from training.fit import FitConfig
from training.metric import Interval
from training.pipeline import Trained, gate, judged_before, plain, run_record, train
from training.report import verdict
from training.rows import DataSet

CREATED_AT_S = 1_800_000_000.0


@pytest.fixture(scope="module")
def dataset() -> DataSet:
    made = world_dataset(World(decisions=150, decision_gap_s=20.0))
    card = msgspec.structs.replace(made.card, rows_sha256="ab" * 32)
    return DataSet(frame=made.frame, card=card)


@pytest.fixture(scope="module")
def trained(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(dataset, tmp_path_factory.mktemp("trained"))


def run(dataset: DataSet, folder: Path, created_at_s: float = CREATED_AT_S) -> Trained:
    return train(
        dataset, FitConfig(), folder, created_at_s=created_at_s, command="odonata train rows"
    )


def test_bundle_loads_and_says_what_it_is(trained: Trained, dataset: DataSet) -> None:
    model = load_bundle(trained.folder)
    card = model.manifest.card
    assert model.version == trained.manifest.version
    assert model.version.startswith("20270115T080000-")
    assert card["command"] == "odonata train rows"
    assert card["data_sha256"] == dataset.card.rows_sha256
    assert card["fit_decisions"] == 150
    assert str(card["time_regret_at_1_learned"]).count("to") == 1
    assert "hosts_regret_at_1_rule" in card
    assert "limits" in card


def test_same_data_and_seed_give_the_same_files(
    trained: Trained, dataset: DataSet, tmp_path: Path
) -> None:
    again = run(dataset, tmp_path)
    for file in ("model.txt", "goodput.txt", "manifest.json", "evaluation.json", "card.md"):
        assert (tmp_path / file).read_bytes() == (trained.folder / file).read_bytes(), file
    for plot in sorted((tmp_path / "plots").iterdir()):
        assert plot.read_bytes() == (trained.folder / "plots" / plot.name).read_bytes(), plot.name
    assert again.evaluation == trained.evaluation


def test_files_are_whole(trained: Trained) -> None:
    names = {path.name for path in trained.files}
    assert names == {
        "card.md", "evaluation.json", "dataset.json",
        "rankers.png", "features.png", "calibration.png",
    }  # fmt: skip
    for path in trained.files:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG") if path.suffix == ".png" else content
    figures = json.loads((trained.folder / "evaluation.json").read_text())["figures"]
    assert {figure["part"] for figure in figures} == {BY_TIME, BY_HOSTS}
    page = (trained.folder / "card.md").read_text()
    assert "| **learned** |" in page
    assert "## Limits" in page


def test_run_keeps_what_can_be_compared_later(trained: Trained, dataset: DataSet) -> None:
    record = run_record(trained, dataset, "rows")
    assert record.name == trained.manifest.version
    assert record.metrics["time.all.rule.regret_at_1"] > 0
    assert record.params["seed"] == 1
    assert record.tags["gate_open"] in {"true", "false"}
    assert json.dumps(plain(trained))
    assert all("nan" not in str(value) for value in record.metrics.values())


def test_too_little_data_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="too little to learn from"):
        run(world_dataset(World(decisions=5)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_judging_a_model_on_its_own_rows_is_warned_of(trained: Trained, dataset: DataSet) -> None:
    assert "these very rows" in judged_before(trained.manifest, dataset)[0]
    older = msgspec.structs.replace(dataset.card, rows_sha256="other")
    assert "may know some" in judged_before(trained.manifest, DataSet(dataset.frame, older))[0]
    newer = msgspec.structs.replace(older, first_at_s=dataset.card.last_at_s + 1000)
    assert not judged_before(trained.manifest, DataSet(dataset.frame, newer))


def compared(part: str, change: float, spread: float) -> Evaluation:
    value = Interval(mean=change, low=change - spread, high=change + spread)
    difference = Difference(
        part=part,
        slice="all",
        ranker="learned",
        other="rule",
        metric="regret@1",
        value=value,
        groups=7,
    )
    figures = tuple(
        Figure(
            part=part,
            slice="all",
            ranker=ranker,
            metric="regret@1",
            value=Interval(mean=mean, low=0.0, high=1.0),
            groups=7,
        )
        for ranker, mean in (("learned", 0.3 + change), ("rule", 0.3))
    )
    return Evaluation(figures=figures, differences=(difference,))


@pytest.mark.parametrize(
    ("evaluation", "is_open"),
    [
        (compared(BY_TIME, -0.1, 0.2), True),
        (compared(BY_TIME, 0.0, 0.2), True),
        (compared(BY_TIME, 0.01, 0.2), False),
        (compared(BY_HOSTS, -0.1, 0.2), True),
        (compared(BY_TIME, -0.1, 0.2) + compared(BY_HOSTS, 0.1, 0.2), True),
        (compared(BY_TIME, -0.1, 0.2) + compared(BY_HOSTS, 0.3, 0.2), False),
        (Evaluation(), False),
    ],
)
def test_gate_opens_for_what_is_not_worse_than_the_rule(
    evaluation: Evaluation, is_open: bool
) -> None:
    found = gate(evaluation)
    assert found.is_open == is_open
    assert found.reason


def test_gate_says_what_it_compared() -> None:
    found = gate(compared(BY_TIME, -0.1, 0.2) + compared(BY_HOSTS, 0.3, 0.2))
    assert "by time regret@1 0.200 against 0.300 (7 decisions" in found.reason
    assert "by hosts regret@1 0.600 against 0.300" in found.reason
    assert "nothing was held out" in gate(Evaluation()).reason


@pytest.mark.parametrize(
    ("change", "word"), [(-0.3, "better"), (0.3, "worse"), (-0.1, "no clear difference")]
)
def test_verdict_claims_no_more_than_the_interval(change: float, word: str) -> None:
    difference = compared(BY_TIME, change, 0.2).differences[0]
    assert verdict(difference).endswith(word)
