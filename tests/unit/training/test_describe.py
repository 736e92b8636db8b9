"""The figures of a data set, and that each is on the page."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from support.telemetry import small_world

from odonata.telemetry.parquet import write_tables
from odonata.telemetry.record import DecisionRecord, DownloadRecord, Record
from training.dataset import assemble
from training.describe import describe, render
from training.rows import DataSet


def dataset_of(place: Path, records: list[Record]) -> DataSet:
    write_tables(records, place, "a")
    return assemble([place])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Two policies; the second one fell back to the rule each time."""
    fell_back: list[Record] = [
        msgspec.structs.replace(r, policy="learned", fallback="missing", at_s=r.at_s + 1e6)
        if isinstance(r, DecisionRecord)
        else r
        for r in small_world(12, hosts=12, tasks=3, children=6)
    ]
    records = small_world(11, hosts=12, tasks=3, children=6)
    return dataset_of(tmp_path_factory.mktemp("t"), records + fell_back)


def page(dataset: DataSet) -> str:
    console = Console(width=160)
    with console.capture() as shown:
        console.print(render(describe(dataset)))
    return shown.get()


def test_figures(dataset: DataSet) -> None:
    frame, found = dataset.frame, describe(dataset)
    assert found.chosen_count == frame["chosen"].sum()
    assert found.observed_share == frame["observed"].sum() / frame["chosen"].sum()
    assert found.failed_count == frame["is_failed"].sum() > 0
    assert found.thin_count == frame["is_thin"].sum()
    assert found.lost_decision_share == found.lost_piece_share == 0.0
    quantiles = list(found.goodput_quantiles.values())
    assert quantiles == sorted(quantiles)
    assert next(iter(found.goodput_quantiles)) == "p1"
    per_decision = frame[frame["observed"]].groupby("decision_id").size()
    assert found.trainable_decision_count == (per_decision > 1).sum()


def test_each_policy_has_its_own_line(dataset: DataSet) -> None:
    learned, rule = describe(dataset).rankers
    assert (learned.policy, learned.ranked_by, learned.fallback) == ("learned", "rule", "missing")
    assert (rule.policy, rule.ranked_by, rule.fallback) == ("rule", "rule", "")
    assert learned.decision_count + rule.decision_count == dataset.card.decision_count
    assert learned.observed_count + rule.observed_count == dataset.card.observed_count
    assert 0 < rule.explored_share < 1


def test_page_says_what_is_wrong(dataset: DataSet) -> None:
    assert "bit for bit" in page(dataset)
    bent = dataset.frame.assign(
        feature_children=dataset.frame["feature_children"] + 1.0, feature_parents=1.0
    )
    text = page(DataSet(bent, dataset.card))
    assert "they differ" in text
    assert f"{len(bent):,} rows, first {bent['decision_id'].iloc[0]}" in text
    assert "parents" in text.partition("features that never change")[2]


def test_page_names_reasons_and_losses(dataset: DataSet, tmp_path: Path) -> None:
    text = page(dataset)
    for reason, count in dataset.card.failures.items():
        assert reason in text
        assert f"{count:,}" in text
    records = small_world(13, hosts=12, tasks=3, children=6)
    decisions = [r for r in records if isinstance(r, DecisionRecord)]
    lost = [r for r in records if r is not decisions[-1]]
    found = describe(dataset_of(tmp_path, lost))
    assert found.lost_decision_share == pytest.approx(1 / len(decisions))
    assert found.card.lost_decisions == 1
    assert "name a decision that is not recorded" in page(assemble([tmp_path]))


def test_without_pieces_and_downloads_nothing_is_known(tmp_path: Path) -> None:
    records: list[Record] = [
        r for r in small_world(13, hosts=12, tasks=2, children=6) if isinstance(r, DecisionRecord)
    ]
    assert not any(isinstance(r, DownloadRecord) for r in records)
    dataset = dataset_of(tmp_path, records)
    found = describe(dataset)
    assert found.observed_share == 0.0
    assert found.goodput_quantiles == {}
    assert found.lost_piece_share is None
    text = page(dataset)
    assert "nothing can be learned from this" in text
    assert "unknown: no download records" in text
