"""From telemetry to rows: the same for any order, and nothing left out that is not counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.telemetry import small_world

from models.facts import FACT_NAMES, CandidateBatch
from models.features import FEATURE_NAMES, feature_matrix, schema_hash
from odonata.errors import CallerError, NotFoundError
from odonata.telemetry.parquet import write_tables
from odonata.telemetry.record import DecisionRecord, PieceRecord, Record
from training import rows as data
from training import telemetry
from training.dataset import assemble, build, from_telemetry
from training.rows import FEATURE_COLUMNS, OUTCOME_NAMES, load
from training.telemetry import Telemetry

WORLD = small_world(3, hosts=14, tasks=3, children=8)


def folder(path: Path, records: Sequence[Record], stem: str = "a") -> Path:
    path.mkdir(exist_ok=True)
    write_tables(records, path, stem)
    return path


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Telemetry:
    return telemetry.read(folder(tmp_path_factory.mktemp("world"), WORLD))


def changed(
    change: Callable[[DecisionRecord], DecisionRecord], records: Sequence[Record] = WORLD
) -> list[Record]:
    return [change(r) if isinstance(r, DecisionRecord) else r for r in records]


def add_up(counts: msgspec.Struct, *, but: tuple[str, ...] = ()) -> bool:
    found: dict[str, int] = msgspec.to_builtins(counts)
    whole = found.pop("read")
    return whole == sum(value for name, value in found.items() if name not in but)


# --- golden -------------------------------------------------------------------------------------


def golden_records() -> list[Record]:
    """Child c gets p and q of three candidates: p brings two pieces, q fails once, nobody asks r.

    The second answer names p again, which brings the third piece.
    """
    batch = CandidateBatch.of_columns({"child_count": [0.0, 3.0, 5.0]})
    first = DecisionRecord(
        decision_id="c#1", at_s=100.0, task_id="t", child_id="c", child_host_id="hc",
        outcome="parents", reason="", policy="rule", ranked_by="rule", draw_seed=2**64 - 1,
        feature_schema=schema_hash(), fact_names=FACT_NAMES, feature_names=FEATURE_NAMES,
        peer_ids=("p", "q", "r"), host_ids=("hp", "hq", "hr"),
        scores=np.array([3.0, 2.0, 1.0]).tobytes(), slots=np.array([0, 1, -1], "<i4").tobytes(),
        propensities=np.array([1.0, 1.0, 0.0]).tobytes(), bad=b"\0\0\1",
        facts=batch.facts.tobytes(), features=feature_matrix(batch).tobytes(),
    )  # fmt: skip
    alone = CandidateBatch.of_columns({"child_count": [1.0]})
    second = msgspec.structs.replace(
        first, decision_id="c#2", at_s=101.0, peer_ids=("p",), host_ids=("hp",),
        scores=np.array([3.0]).tobytes(), slots=np.array([0], "<i4").tobytes(), bad=b"\0",
        propensities=np.array([1.0]).tobytes(), facts=alone.facts.tobytes(),
        features=feature_matrix(alone).tobytes(),
    )  # fmt: skip
    piece = PieceRecord(
        at_s=100.5, decision_id="c#1", task_id="t", child_id="c", child_host_id="hc",
        parent_id="p", parent_host_id="hp", traffic="remote_peer", number=0, length=4_000_000,
        total_s=0.5, result="ok", written_by="peer",
    )  # fmt: skip
    change = msgspec.structs.replace
    return [
        first,
        second,
        piece,
        change(piece, number=1, at_s=101.0),
        change(piece, number=2, at_s=101.1, parent_id="q", result="failed", reason="unreachable"),
        change(piece, number=2, at_s=102.0, decision_id="c#2", total_s=0.8),
        change(piece, number=3, at_s=103.0, parent_id="", decision_id="", traffic="back_to_source"),
    ]


def test_golden(tmp_path: Path) -> None:
    dataset = assemble([folder(tmp_path / "t", golden_records())])
    frame = dataset.frame
    names = ["decision_id", "peer_id", "slot", "chosen", "bad", "observed", "is_failed"]
    assert frame[names].to_numpy().tolist() == [
        ["c#1", "p", 0, True, False, True, False],
        ["c#1", "q", 1, True, False, True, True],
        ["c#1", "r", -1, False, True, False, False],
        ["c#2", "p", 0, True, False, True, False],
    ]
    assert frame["piece_count"].tolist() == [2, 0, 0, 1]
    assert frame["bytes"].tolist() == [8_000_000, 0, 0, 4_000_000]
    assert frame["busy_s"].tolist() == pytest.approx([1.0, 0.5, 0.0, 0.8], abs=1e-6)
    assert frame["is_thin"].tolist() == [False, True, False, True]
    labels = frame["label_log_goodput"].tolist()
    assert labels[0] == pytest.approx(log(8_000_000))
    assert labels[3] == pytest.approx(log(5_000_000))
    assert frame["label_log_goodput"].isna().tolist() == [False, True, True, False]
    assert frame["draw_seed"].tolist() == [2**64 - 1] * 4
    assert frame["feature_children"].tolist() == np.log1p([0.0, 3.0, 5.0, 1.0]).tolist()
    assert frame["feature_children_rank"].tolist() == [0.0, 0.5, 1.0, 0.5]
    card = dataset.card
    assert card.pieces == data.PieceCounts(read=5, joined=4, from_source=1)
    assert card.decisions == data.DecisionCounts(read=2, kept=2)
    assert card.failures == {"failed: unreachable": 1}
    assert card.hosts == data.Hosts(children=1, candidates=3, observed=2)
    assert (card.first_at_s, card.last_at_s) == (100.0, 101.0)


# --- the same rows whatever the order -----------------------------------------------------------


def test_same_telemetry_gives_the_same_file(tmp_path: Path) -> None:
    whole = folder(tmp_path / "whole", WORLD)
    backwards = folder(tmp_path / "parts", WORLD[300:][::-1], "b")
    folder(backwards, WORLD[:350], "a")  # fifty records in both
    cards = [build([whole], tmp_path / "1"), build([backwards, whole], tmp_path / "2")]
    files = [(tmp_path / out / "rows.parquet").read_bytes() for out in "12"]
    assert files[0] == files[1]
    assert (
        cards[0].rows_sha256
        == cards[1].rows_sha256
        == data.file_sha256(tmp_path / "1/rows.parquet")
    )
    assert cards[1].pieces.repeated > cards[0].pieces.repeated == 0
    assert cards[0].pieces.joined == cards[1].pieces.joined
    assert build([whole, whole], tmp_path / "1").rows_sha256 == cards[0].rows_sha256


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_permuting_and_duplicating_changes_nothing(read: Telemetry, seed: int) -> None:
    def stirred(frame: pd.DataFrame) -> pd.DataFrame:
        more = pd.concat([frame, frame.sample(frac=0.3, random_state=seed)])
        return more.sample(frac=1.0, random_state=seed + 1 & 0xFFFFFFFF).reset_index(drop=True)

    plain = from_telemetry(read)
    again = from_telemetry(
        Telemetry(
            decisions=stirred(read.decisions),
            candidates=stirred(read.candidates),
            pieces=stirred(read.pieces),
            downloads=stirred(read.downloads),
        )
    )
    pd.testing.assert_frame_equal(plain.frame, again.frame)
    assert add_up(again.card.decisions, but=("recomputed", "to_source"))
    assert add_up(again.card.pieces)


# --- what is lost is counted --------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_dropped_telemetry_is_counted(read: Telemetry, random: Any) -> None:
    lost = {name for name in read.decisions["decision_id"] if random.random() < 0.4}
    if len(lost) == len(read.decisions):
        return
    left = read.decisions[~read.decisions["decision_id"].isin(lost)]
    card = from_telemetry(replace(read, decisions=left)).card
    pieces = read.pieces["decision_id"].isin(lost)
    assert card.pieces.decision_lost == pieces.sum()
    assert card.pieces.joined == (~pieces).sum()
    assert card.lost_decisions == read.pieces["decision_id"][pieces].nunique()
    assert card.orphan_candidates == read.candidates["decision_id"].isin(lost).sum()
    told, recorded = card.downloads.decisions_told, card.downloads.decisions_recorded
    assert told - recorded == len(lost)
    assert add_up(card.pieces)


def test_an_id_used_twice_is_used_for_nothing(tmp_path: Path) -> None:
    records = golden_records()
    other = msgspec.structs.replace(records[0], at_s=500.0, task_id="another")
    card = assemble([folder(tmp_path / "t", [*records, other])]).card
    assert card.decisions == data.DecisionCounts(read=3, ambiguous=2, kept=1)
    assert card.pieces == data.PieceCounts(read=5, decision_left_out=3, joined=1, from_source=1)


def test_a_decision_without_all_its_candidates_is_left_out(read: Telemetry) -> None:
    victim = read.decisions["decision_id"].iloc[-1]
    gone = (read.candidates["decision_id"] == victim) & (read.candidates["row"] == 0)
    assert gone.sum() == 1
    dataset = from_telemetry(replace(read, candidates=read.candidates[~gone]))
    assert victim not in set(dataset.frame["decision_id"])
    assert dataset.card.decisions.without_candidates == 1
    assert add_up(dataset.card.decisions, but=("recomputed", "to_source"))


def test_decisions_for_the_source_have_rows_without_outcome(tmp_path: Path) -> None:
    records = golden_records()
    assert isinstance(records[0], DecisionRecord)
    to_source = msgspec.structs.replace(
        records[0], decision_id="c#source1", at_s=200.0, outcome="source",
        slots=np.full(3, -1, "<i4").tobytes(),
    )  # fmt: skip
    empty = msgspec.structs.replace(
        to_source, decision_id="c#source2", peer_ids=(), host_ids=(), scores=b"", slots=b"",
        propensities=b"", bad=b"", facts=b"", features=b"",
    )  # fmt: skip
    dataset = assemble([folder(tmp_path / "t", [*records, to_source, empty])])
    assert dataset.card.decisions == data.DecisionCounts(
        read=4, kept=3, without_choice=1, to_source=1
    )
    rows = dataset.frame[dataset.frame["outcome"] == "source"]
    assert len(rows) == 3
    assert not rows["observed"].any()


# --- one kind of features -----------------------------------------------------------------------


def old_features(record: DecisionRecord) -> DecisionRecord:
    """As another version would have logged it: other features, the same facts."""
    doubled = np.frombuffer(record.features).reshape(-1, len(FEATURE_NAMES))[:, :3] * 2
    return msgspec.structs.replace(
        record, feature_schema="another", feature_names=FEATURE_NAMES[:3],
        features=np.ascontiguousarray(doubled).tobytes(),
    )  # fmt: skip


def old_facts(record: DecisionRecord) -> DecisionRecord:
    facts = np.frombuffer(record.facts).reshape(-1, len(FACT_NAMES))[:, :-1]
    return msgspec.structs.replace(
        old_features(record),
        fact_names=FACT_NAMES[:-1],
        facts=np.ascontiguousarray(facts).tobytes(),
    )


def half(change: Callable[[DecisionRecord], DecisionRecord]) -> list[Record]:
    count = 0

    def every_other(record: DecisionRecord) -> DecisionRecord:
        nonlocal count
        count += 1
        return change(record) if count % 2 else record

    return changed(every_other)


def test_other_features_are_made_anew_from_the_facts(tmp_path: Path) -> None:
    today = assemble([folder(tmp_path / "today", WORLD)])
    mixed = assemble([folder(tmp_path / "mixed", half(old_features))])
    pd.testing.assert_frame_equal(today.frame, mixed.frame)
    assert today.card.decisions.recomputed == 0
    assert mixed.card.decisions.recomputed == (mixed.card.decision_count + 1) // 2


def test_other_facts_are_left_out_and_counted(tmp_path: Path) -> None:
    today = assemble([folder(tmp_path / "today", WORLD)])
    mixed = assemble([folder(tmp_path / "mixed", half(old_facts))])
    counts = mixed.card.decisions
    assert counts.other_facts == (today.card.decision_count + 1) // 2
    assert counts.kept == today.card.decision_count - counts.other_facts
    kept = today.frame[today.frame["decision_id"].isin(mixed.frame["decision_id"])]
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), mixed.frame)
    assert mixed.card.pieces.decision_left_out > 0
    assert add_up(mixed.card.pieces)


def test_nothing_but_other_facts_is_an_error(tmp_path: Path) -> None:
    place = folder(tmp_path / "old", changed(old_facts))
    with pytest.raises(CallerError, match=r"none of .* under other features and facts"):
        build([place], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_records_of_another_version_are_left_out(read: Telemetry) -> None:
    old = read.decisions.assign(schema_version=[99, *read.decisions["schema_version"][1:]])
    card = from_telemetry(replace(read, decisions=old)).card
    assert card.decisions.other_record_schema == 1
    card = from_telemetry(replace(read, pieces=read.pieces.assign(schema_version=99))).card
    assert card.pieces.other_record_schema == len(read.pieces)
    assert card.observed_count == 0


# --- no leak ------------------------------------------------------------------------------------


def test_nothing_from_after_the_decision_reaches_a_feature(read: Telemetry) -> None:
    """Other outcomes, other pieces, none at all: every column but the outcome stays, bit by bit."""
    plain = from_telemetry(read).frame
    canaries = [
        read.pieces.assign(total_s=1e6, result="failed", reason="canary"),
        read.pieces.assign(length=1),
        read.pieces.iloc[:0],
    ]
    known = [name for name in data.COLUMN_NAMES if name not in OUTCOME_NAMES]
    for pieces in canaries:
        frame = from_telemetry(replace(read, pieces=pieces)).frame
        pd.testing.assert_frame_equal(plain[known], frame[known])
        assert not plain[list(OUTCOME_NAMES)].equals(frame[list(OUTCOME_NAMES)])


def test_a_strange_feature_in_telemetry_does_not_get_in(read: Telemetry, tmp_path: Path) -> None:
    canary = read.candidates.assign(feature_canary=1.0)
    dataset = from_telemetry(replace(read, candidates=canary))
    assert "feature_canary" not in dataset.frame
    leaky = data.DataSet(dataset.frame.assign(feature_canary=1.0), dataset.card)
    with pytest.raises(CallerError, match="feature_canary"):
        data.save(leaky, tmp_path / "out")
    assert not set(OUTCOME_NAMES) & set(FEATURE_COLUMNS)


# --- errors and what the world teaches ----------------------------------------------------------


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        build([tmp_path / "nowhere"], tmp_path / "out")


def test_no_folder_named(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="name at least one"):
        build([], tmp_path / "out")


def test_a_folder_without_decisions(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CallerError, match=r"no decisions in .*empty"):
        build([tmp_path / "empty"], tmp_path / "out")
    pieces = [record for record in golden_records() if isinstance(record, PieceRecord)]
    with pytest.raises(CallerError, match="no decisions"):
        build([folder(tmp_path / "peers", pieces)], tmp_path / "out")


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    place = folder(tmp_path / "t", half(old_features))
    assemble([place], lambda stage, done, total: told.append((stage, done, total)))
    assert {stage for stage, _, _ in told} == {"reading", "recomputing", "joining"}
    last = {stage: (done, total) for stage, done, total in told}
    assert all(done == total for done, total in last.values())


def test_labels_know_the_slow_hosts(tmp_path: Path) -> None:
    """In the made-up world what a host served before tells how good it will be."""
    place = folder(tmp_path / "t", small_world(1, tasks=9))
    frame = build_and_load(place, tmp_path / "out")
    known = frame[frame["observed"] & ~frame["is_failed"] & (frame["feature_served_pieces"] > 1)]
    assert known["feature_served_to_swarm"].corr(known["label_log_goodput"]) > 0.4


def build_and_load(place: Path, out: Path) -> pd.DataFrame:
    build([place], out)
    return load(out).frame
