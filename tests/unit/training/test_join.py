"""Which try belongs to which decision; copies and second opinions count once."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tries import one_try, tries

from training import join
from training.label import outcomes, with_kinds

KNOWN = {"c#1", "c#2", "c#old"}


def candidates() -> pd.DataFrame:
    """Decisions c#1 and c#2 are used; both named p, only the first named q; r was passed over."""
    return pd.DataFrame(
        [("c#1", "p", 0), ("c#1", "q", 1), ("c#1", "r", -1), ("c#2", "p", 0)],
        columns=["decision_id", "peer_id", "slot"],
    )


def places(*rows: dict[str, Any]) -> list[str]:
    return join.places(tries(*rows), candidates(), KNOWN).tolist()


def test_every_bucket() -> None:
    found = {
        "joined": one_try(),
        "from_source": one_try(traffic="back_to_source", parent_id="", decision_id=""),
        "other_record_schema": one_try(schema_version=99),
        "length_unknown": one_try(length=0),
        "without_decision": one_try(decision_id=""),
        "decision_lost": one_try(decision_id="c#7"),
        "decision_left_out": one_try(decision_id="c#old"),
        "not_a_candidate": one_try(parent_id="stranger"),
        "not_chosen": one_try(parent_id="r"),
    }
    assert places(*found.values()) == list(found)


def test_a_giver_nobody_knows_is_not_the_source() -> None:
    assert places(one_try(parent_id="", decision_id="")) == ["without_decision"]


def test_a_failure_needs_no_length() -> None:
    assert places(one_try(result="failed", length=0)) == ["joined"]


def test_pieces_belong_to_the_latest_decision_that_named_the_parent() -> None:
    """The peer counts: p was named again by c#2, q was not and stays with c#1."""
    frame = tries(
        one_try(number=0, decision_id="c#1"),
        one_try(number=1, decision_id="c#2"),
        one_try(number=2, decision_id="c#1", parent_id="q"),
    )
    assert (join.places(frame, candidates(), KNOWN) == "joined").all()
    found = outcomes(with_kinds(frame)).set_index(["decision_id", "peer_id"])
    counted = found["piece_count"]
    assert counted.to_dict() == {("c#1", "p"): 1, ("c#1", "q"): 1, ("c#2", "p"): 1}


def test_copies_of_a_record_are_one() -> None:
    found = join.distinct_tries(tries(one_try(), one_try(), one_try(number=1)))
    assert (len(found.frame), found.repeated, found.twice_written) == (2, 1, 0)


def test_a_second_try_of_one_piece_is_no_copy() -> None:
    found = join.distinct_tries(
        tries(
            one_try(result="failed", reason="unreachable", at_s=3.0),
            one_try(result="failed", reason="unreachable", at_s=4.0),
            one_try(at_s=5.0),
        )
    )
    assert (len(found.frame), found.repeated) == (3, 0)


def test_the_peers_own_record_stands_for_what_the_scheduler_heard() -> None:
    """Clocks differ, and the scheduler takes a late try for a failed one."""
    found = join.distinct_tries(
        tries(
            one_try(at_s=10.0, total_s=1.0),
            one_try(at_s=10.3, total_s=0.9, written_by="scheduler"),
            one_try(number=1, at_s=12.0, result="cancelled", reason="late"),
            one_try(number=1, at_s=12.3, result="failed", written_by="scheduler", length=0),
        )
    )
    assert found.frame["written_by"].tolist() == ["peer", "peer"]
    assert found.frame["result"].tolist() == ["ok", "cancelled"]
    assert (found.repeated, found.twice_written) == (0, 2)


def test_what_only_the_scheduler_heard_stays() -> None:
    """Of two failures of one piece the peer's first record was dropped: two tries all the same."""
    found = join.distinct_tries(
        tries(
            one_try(at_s=5.0, result="failed", reason="timeout"),
            one_try(at_s=4.1, result="failed", written_by="scheduler"),
            one_try(at_s=5.1, result="failed", written_by="scheduler"),
            one_try(number=8, written_by="scheduler"),
        )
    )
    assert len(found.frame) == 3
    assert found.twice_written == 1


def test_a_failure_without_number_counts_only_if_the_peer_is_silent() -> None:
    heard = one_try(number=-1, result="failed", written_by="scheduler", length=0)
    assert len(join.distinct_tries(tries(heard)).frame) == 1
    both = join.distinct_tries(tries(heard, one_try(result="failed")))
    assert both.frame["written_by"].tolist() == ["peer"]
    assert both.twice_written == 1


def test_every_candidate_keeps_its_row_and_only_tried_ones_an_outcome() -> None:
    rows = join.attach(candidates(), outcomes(with_kinds(tries(one_try()))))
    assert rows["peer_id"].tolist() == ["p", "q", "r", "p"]
    assert rows["observed"].tolist() == [True, False, False, False]
    assert rows["piece_count"].tolist() == [1, 0, 0, 0]
    assert rows["label_log_goodput"].isna().tolist() == [False, True, True, True]


def test_no_outcomes_at_all() -> None:
    rows = join.attach(candidates(), outcomes(with_kinds(tries())))
    assert not rows["observed"].any()
    assert rows["busy_s"].eq(0.0).all()


def test_two_rows_for_one_candidate_would_be_a_bug() -> None:
    twice = pd.concat([candidates(), candidates()])
    with pytest.raises(pd.errors.MergeError):
        join.attach(twice, outcomes(with_kinds(tries(one_try()))))


# --- properties ---------------------------------------------------------------------------------

records = st.fixed_dictionaries(
    {
        "at_s": st.integers(1, 4).map(float),
        "decision_id": st.sampled_from(["c#1", "c#2", "c#old", "c#lost", ""]),
        "parent_id": st.sampled_from(["p", "q", "r", "stranger", ""]),
        "traffic": st.sampled_from(["remote_peer", "seed_peer", "back_to_source"]),
        "number": st.integers(-1, 2),
        "length": st.sampled_from([0, 4_000_000]),
        "total_s": st.sampled_from([0.0, 0.5, 1.0]),
        "result": st.sampled_from(["ok", "failed", "cancelled"]),
        "reason": st.sampled_from(["", "late", "hedged", "refused", "timeout"]),
        "written_by": st.sampled_from(["peer", "scheduler"]),
    }
).map(lambda fields: one_try(**fields))
batches = st.lists(records, max_size=14)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_every_record_ends_in_exactly_one_place(rows: list[dict[str, Any]]) -> None:
    read = tries(*rows)
    found = join.distinct_tries(read)
    place = join.places(found.frame, candidates(), KNOWN)
    assert len(place) == len(found.frame)
    assert len(found.frame) + found.repeated + found.twice_written == len(read)
    joined = with_kinds(found.frame)[place == "joined"]
    counted = outcomes(joined)
    counts = ["piece_count", "failed_count", "refused_count", "late_count", "neutral_count"]
    assert counted[counts].to_numpy().sum() == len(joined)
    attached = join.attach(candidates(), counted)
    assert len(attached) == len(candidates()), "a join never multiplies rows"
    assert attached[counts].to_numpy().sum() == len(joined), "and loses no outcome"


@settings(max_examples=60, deadline=None)
@given(batches, st.randoms(use_true_random=False))
def test_order_and_copies_change_nothing(rows: list[dict[str, Any]], random: Any) -> None:
    more = rows + [row for row in rows if random.random() < 0.5]
    random.shuffle(more)
    once, again = join.distinct_tries(tries(*rows)), join.distinct_tries(tries(*more))
    pd.testing.assert_frame_equal(once.frame, again.frame)
    assert again.repeated - once.repeated == len(more) - len(rows)
