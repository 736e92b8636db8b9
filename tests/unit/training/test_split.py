"""What is held out: nothing of a judging decision is ever trained on, by time or by host."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.learning_world import World, world_rows

from models.facts import BoolArray
from odonata.errors import CallerError
from training.split import EMBARGO_MARGIN, Split, host_folds, time_split

LONG = World(decisions=300, decision_gap_s=20.0)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return world_rows(LONG)


def decisions(rows: pd.DataFrame, mask: BoolArray) -> set[str]:
    return set(rows.loc[mask, "decision_id"])


def assert_whole_decisions_apart(rows: pd.DataFrame, split: Split) -> None:
    taught, judging = decisions(rows, split.train), decisions(rows, split.test)
    assert taught
    assert judging
    assert not taught & judging
    assert not decisions(rows, ~split.train) & taught, "a decision is trained on in part"
    assert not (split.judged & ~split.test).any()


def test_newest_decisions_judge_after_an_embargo(rows: pd.DataFrame) -> None:
    split = time_split(rows)
    assert_whole_decisions_apart(rows, split)
    last_taught = rows.loc[split.train, "at_s"].max()
    first_judging = rows.loc[split.test, "at_s"].min()
    longest_s = rows["busy_s"].max()  # each child has one decision here
    assert first_judging - last_taught >= EMBARGO_MARGIN * longest_s
    assert len(decisions(rows, split.test)) == pytest.approx(75, abs=1)
    assert "embargo" in split.note
    assert (split.judged == (split.test & rows["observed"])).all()


def test_short_session_is_split_by_each_downloads_own_end() -> None:
    short = world_rows(World(decisions=300, decision_gap_s=1.0))
    split = time_split(short)
    assert_whole_decisions_apart(short, split)
    ends = (short["at_s"] + short["busy_s"]).loc[split.train]
    assert ends.max() < short.loc[split.test, "at_s"].min()
    assert "own end" in split.note


def test_task_on_both_sides_judges_only_where_there_is_enough_else(rows: pd.DataFrame) -> None:
    split = time_split(rows)
    tasks = [set(rows.loc[mask, "task_id"]) for mask in (split.train, split.test)]
    assert not tasks[0] & tasks[1]
    one_task = rows.assign(task_id="the-only-one")
    assert "tasks lie on both sides" in time_split(one_task).note


def test_too_little_time_is_said() -> None:
    rows = world_rows(World(decisions=4, decision_gap_s=0.001))
    with pytest.raises(CallerError, match="record for longer"):
        time_split(rows)
    with pytest.raises(CallerError, match="can't be split by time"):
        time_split(rows.iloc[:12])  # one decision


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0.05, 0.9))
def test_no_split_trains_on_what_it_judges(seed: int, share: float) -> None:
    rows = world_rows(World(decisions=60, hosts=24, decision_gap_s=60.0), seed=seed)
    assert_whole_decisions_apart(rows, time_split(rows, test_share=share))
    for split in host_folds(rows, seed=seed, folds=4):
        assert not decisions(rows, split.train) & decisions(rows, split.test)


def test_held_out_hosts_touch_no_training_decision(rows: pd.DataFrame) -> None:
    held: list[set[str]] = []
    for split in host_folds(rows, seed=1):
        assert_whole_decisions_apart(rows, split)
        judged_hosts = set(rows.loc[split.judged, "host_id"])
        taught = rows.loc[split.train]
        assert not judged_hosts & set(taught["child_host_id"])
        assert not judged_hosts & set(taught.loc[taught["observed"], "host_id"])
        pairs = rows.loc[split.judged].groupby("decision_id").size()
        assert (pairs >= 2).all()
        assert rows.loc[split.judged, "observed"].all()
        held.append(judged_hosts)
    together = [host for hosts in held for host in hosts]
    assert len(together) == len(set(together)), "a host is held out twice"


def test_seeds_are_never_held_out(rows: pd.DataFrame) -> None:
    seeds = set(rows.loc[rows["is_seed"] > 0, "host_id"])
    assert seeds
    for split in host_folds(rows, seed=3):
        assert not seeds & set(rows.loc[split.judged, "host_id"])


def test_folds_depend_on_the_seed_alone(rows: pd.DataFrame) -> None:
    again = [np.flatnonzero(split.judged).tolist() for split in host_folds(rows, seed=1)]
    assert again == [np.flatnonzero(split.judged).tolist() for split in host_folds(rows, seed=1)]
    assert again != [np.flatnonzero(split.judged).tolist() for split in host_folds(rows, seed=2)]


def test_few_hosts_make_fewer_folds_or_none() -> None:
    few = world_rows(World(hosts=6, candidates=5, decisions=80, has_seed=False))
    assert len(host_folds(few, seed=1)) == 3
    three = few.assign(host_id="host-1", child_host_id="host-2")
    with pytest.raises(CallerError, match="can't be held out"):
        host_folds(three, seed=1)
