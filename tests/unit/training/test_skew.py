"""Skew is found to the last bit, and features without a signal are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.telemetry import small_world

from models.features import FEATURE_NAMES
from odonata.telemetry.parquet import write_tables
from training.dataset import assemble
from training.skew import liveness, recompute, skew


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    place: Path = tmp_path_factory.mktemp("telemetry")
    write_tables(small_world(7, hosts=12, tasks=3, children=6), place, "a")
    return assemble([place]).frame


def test_what_was_logged_is_what_is_recomputed(rows: pd.DataFrame) -> None:
    seen: list[int] = []
    report = skew(rows, seen.append)
    assert report.is_clean
    assert report.row_count == len(rows)
    assert report.decision_count == rows["decision_id"].nunique() == sum(seen)


def test_one_bit_in_one_row_is_found(rows: pd.DataFrame) -> None:
    changed = rows.copy()
    at = changed.index[changed["feature_children"] > 0][4]
    logged = np.nextafter(changed.loc[at, "feature_children"], np.inf)
    changed.loc[at, "feature_children"] = logged
    (mismatch,) = skew(changed).mismatches
    assert mismatch.feature == "children"
    assert mismatch.count == 1
    assert mismatch.decision_id == rows.loc[at, "decision_id"]
    assert mismatch.peer_id == rows.loc[at, "peer_id"]
    assert mismatch.logged == logged != mismatch.recomputed
    assert mismatch.recomputed == rows.loc[at, "feature_children"]


def test_unknown_against_known_is_a_mismatch(rows: pd.DataFrame) -> None:
    changed = rows.assign(feature_report_age=np.nan, feature_is_seed=-0.0)
    found = {mismatch.feature: mismatch.count for mismatch in skew(changed).mismatches}
    assert found == {"is_seed": len(rows), "report_age": len(rows)}, "0.0 and -0.0 differ"


def test_ranks_are_of_the_whole_decision(rows: pd.DataFrame) -> None:
    """Without some candidates the others' ranks come out differently: groups must be whole."""
    group = rows.groupby("decision_id")["row"].transform("size")
    torn = rows[(group > 2) & (rows["row"] > 0)]
    assert {m.feature for m in skew(torn).mismatches} <= {
        "children_rank",
        "served_rank",
        "uplink_to_group",
        "rule_to_group",
    }
    assert not skew(torn).is_clean


def test_facts_that_changed_after_the_decision_are_found(rows: pd.DataFrame) -> None:
    """The classical fault: a row that holds what was known when the download ended."""
    later = rows.assign(child_count=rows["child_count"] + 1)
    assert "children" in {mismatch.feature for mismatch in skew(later).mismatches}


def test_recomputing_changes_no_rows(rows: pd.DataFrame) -> None:
    before = rows.copy()
    assert recompute(rows).shape == (len(rows), len(FEATURE_NAMES))
    pd.testing.assert_frame_equal(rows, before)


def test_no_rows_have_no_skew(rows: pd.DataFrame) -> None:
    report = skew(rows.iloc[:0])
    assert (report.row_count, report.decision_count, report.is_clean) == (0, 0, True)


def test_constant_features_are_named(rows: pd.DataFrame) -> None:
    assert liveness(rows) == ()
    dead = rows.assign(feature_served_age=np.nan, feature_parents=3.0)
    assert liveness(dead) == ("served_age", "parents")
    assert liveness(rows.iloc[:1]) == (), "one row says nothing"
    half_known = rows["feature_served_age"].where(rows.index > 0)
    assert "served_age" not in liveness(rows.assign(feature_served_age=half_known))
