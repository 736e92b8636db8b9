"""Data sets on disk: what is written is read back, and what is not right is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from support.telemetry import small_world

from models.facts import FACTS
from models.features import FEATURES, feature_matrix, schema_hash
from odonata.errors import CallerError, NotFoundError
from odonata.telemetry.parquet import write_tables
from training import rows
from training.dataset import assemble
from training.rows import Card, DataSet, load, save


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    place = tmp_path_factory.mktemp("telemetry")
    write_tables(small_world(5, hosts=10, tasks=2, children=5), place, "a")
    return assemble([place])


def test_columns_are_told_apart_by_name_and_by_when_they_are_known() -> None:
    assert len(set(rows.COLUMN_NAMES)) == len(rows.COLUMNS)
    assert len(rows.FACT_NAMES) == len(FACTS)
    assert tuple(f"feature_{f.spec.name}" for f in FEATURES) == rows.FEATURE_COLUMNS
    assert all(column.about and column.unit for column in rows.COLUMNS)
    late = {column.name for column in rows.COLUMNS if column.is_outcome}
    assert late == set(rows.OUTCOME_NAMES)
    assert not any(name.startswith(rows.FEATURE_PREFIX) for name in late)


def test_what_is_saved_is_loaded(dataset: DataSet, tmp_path: Path) -> None:
    card = save(dataset, tmp_path / "deep" / "out")
    again = load(tmp_path / "deep" / "out")
    pd.testing.assert_frame_equal(again.frame, dataset.frame)
    assert again.card == card
    assert card == msgspec.structs.replace(dataset.card, rows_sha256=card.rows_sha256)
    assert card.feature_schema == schema_hash()
    assert load(tmp_path / "deep" / "out" / "rows.parquet").card == card
    left = sorted(path.name for path in (tmp_path / "deep" / "out").iterdir())
    assert left == ["dataset.json", "rows.parquet"]


def test_saving_again_replaces_and_gives_the_same_bytes(dataset: DataSet, tmp_path: Path) -> None:
    first = save(dataset, tmp_path)
    content = (tmp_path / "rows.parquet").read_bytes()
    assert save(dataset, tmp_path) == first
    assert (tmp_path / "rows.parquet").read_bytes() == content


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="odonata dataset build"):
        load(tmp_path / "nowhere")


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"no data set: it has no dataset\.json"):
        load(tmp_path)


def test_a_file_in_the_way(dataset: DataSet, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("something")
    with pytest.raises(CallerError, match="is a file; name a folder"):
        save(dataset, tmp_path / "out")


def rewrite(folder: Path, change: Callable[[Card], Card]) -> None:
    path = folder / "dataset.json"
    card = msgspec.json.decode(path.read_bytes(), type=Card)
    path.write_bytes(msgspec.json.encode(change(card)))


def test_damage_is_noticed(dataset: DataSet, tmp_path: Path) -> None:
    save(dataset, tmp_path)
    path = tmp_path / "rows.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CallerError, match="checksum"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(CallerError, match=r"rows\.parquet is missing"):
        load(tmp_path)


def test_a_broken_card(dataset: DataSet, tmp_path: Path) -> None:
    save(dataset, tmp_path)
    (tmp_path / "dataset.json").write_text('{"row_count": "many"}')
    with pytest.raises(CallerError, match=r"row_count.*build the data set anew"):
        load(tmp_path)


def test_another_format_and_other_features(dataset: DataSet, tmp_path: Path) -> None:
    save(dataset, tmp_path)
    rewrite(tmp_path, lambda card: msgspec.structs.replace(card, feature_schema="beef"))
    with pytest.raises(CallerError, match=r"features 'beef'.*anew from its telemetry"):
        load(tmp_path)
    rewrite(tmp_path, lambda card: msgspec.structs.replace(card, format=99))
    with pytest.raises(CallerError, match="format 99"):
        load(tmp_path)


Change = Callable[[pd.DataFrame], pd.DataFrame]


WRONG: list[tuple[Change, str]] = [
    (lambda f: f.assign(feature_rate_to_come=1.0), "'feature_rate_to_come' does not belong"),
    (lambda f: f.assign(surprise=1), "'surprise' does not belong"),
    (lambda f: f.drop(columns="busy_s"), "'busy_s' is missing"),
    (lambda f: f.assign(slot=f["slot"].astype("float64")), "'slot' is float64 in place of"),
    (lambda f: pd.concat([f, f.iloc[:1]]), "a candidate stands twice"),
    (lambda f: f.assign(chosen=~f["chosen"]), "chosen and slot disagree"),
    (lambda f: f.assign(label_log_goodput=1.0), "label and outcome disagree"),
    (lambda f: f.assign(is_failed=True), "an outcome without a try"),
]


@pytest.mark.parametrize(("change", "complaint"), WRONG)
def test_rows_that_are_not_right_are_refused(
    dataset: DataSet, tmp_path: Path, change: Change, complaint: str
) -> None:
    rows.check(dataset.frame)
    wrong = DataSet(change(dataset.frame), dataset.card)
    with pytest.raises(CallerError, match=complaint):
        save(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_decisions_rows_are_the_batch_it_was_made_of(dataset: DataSet) -> None:
    frame = dataset.frame
    for _, decision in frame.groupby("decision_id"):
        batch = rows.candidate_batch(decision)
        assert batch["child_count"].tolist() == decision["child_count"].tolist()
        logged = rows.feature_values(decision)
        assert np.array_equal(feature_matrix(batch), logged, equal_nan=True)
