"""Outcomes, labels and grades, on examples that were computed by hand."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import MB, one_try, tries

from training.label import busy_shares, grades, outcomes, outrun, with_kinds


def only_outcome(*rows: dict[str, Any]) -> pd.Series:
    frame = outcomes(with_kinds(tries(*rows)))
    assert len(frame) == 1
    return frame.iloc[0]


def test_overlapping_pieces_are_not_added_up() -> None:
    # [0, 1] and [0.5, 1.5] overlap by half a second, [3, 4] stands alone: busy 1.5 + 1 s.
    outcome = only_outcome(
        one_try(number=0, at_s=1.0),
        one_try(number=1, at_s=1.5),
        one_try(number=2, at_s=4.0),
    )
    assert outcome["busy_s"] == pytest.approx(2.5)
    assert outcome["bytes"] == 12 * MB
    assert outcome["piece_count"] == 3
    assert outcome["label_log_goodput"] == pytest.approx(log(12 * MB / 2.5))
    assert outcome["observed"]
    assert not outcome["is_failed"]
    assert not outcome["is_thin"]


def test_a_piece_within_another_adds_no_time() -> None:
    outcome = only_outcome(one_try(at_s=10.0, total_s=8.0), one_try(number=1, at_s=5.0))
    assert outcome["busy_s"] == pytest.approx(8.0)


def test_parents_and_decisions_are_kept_apart() -> None:
    read = tries(
        one_try(number=0),
        one_try(number=1, parent_id="q"),
        one_try(number=2, decision_id="c#2"),
    )
    frame = outcomes(with_kinds(read))
    found = frame[["decision_id", "peer_id", "piece_count", "busy_s"]].to_numpy().tolist()
    assert found == [["c#1", "p", 1, 1.0], ["c#1", "q", 1, 1.0], ["c#2", "p", 1, 1.0]]


def test_time_of_a_late_try_counts_although_it_brought_nothing() -> None:
    outcome = only_outcome(
        one_try(at_s=1.0),
        one_try(number=1, at_s=5.0, total_s=3.0, result="cancelled", reason="late"),
    )
    assert outcome["late_count"] == 1
    assert not outcome["is_failed"]
    assert outcome["label_log_goodput"] == pytest.approx(log(4 * MB / 4.0))


@pytest.mark.parametrize(
    ("result", "reason", "counter"),
    [
        ("failed", "unreachable", "failed_count"),
        ("failed", "timeout", "failed_count"),
        ("failed", "temporary", "failed_count"),
        ("failed", "refused", "refused_count"),
        ("cancelled", "blamed", "failed_count"),
    ],
)
def test_a_parent_that_only_failed_has_failed(result: str, reason: str, counter: str) -> None:
    outcome = only_outcome(one_try(result=result, reason=reason))
    assert outcome[counter] == 1
    assert outcome["observed"]
    assert outcome["is_failed"]
    assert np.isnan(outcome["label_log_goodput"])
    assert outcome["bytes"] == 0


@pytest.mark.parametrize(
    ("result", "reason"), [("ok", "passed_on"), ("cancelled", "passed_on"), ("ok", "ahead")]
)
def test_what_took_as_long_as_somebody_else_did_is_left_out(result: str, reason: str) -> None:
    """As it came to the parent, or as the scheduler answered: the parent would look slow."""
    quick = one_try()
    slow = one_try(result=result, reason=reason, total_s=99.0)
    alone, beside = only_outcome(quick), only_outcome(quick, slow)
    assert beside["label_log_goodput"] == alone["label_log_goodput"]
    assert beside["bytes"] == alone["bytes"]
    assert outcomes(with_kinds(tries(slow))).empty


@pytest.mark.parametrize("reason", ["hedged", "source", "dropped", "ended", "failed", ""])
def test_a_try_stopped_for_no_fault_alone_says_nothing(reason: str) -> None:
    outcome = only_outcome(one_try(result="cancelled", reason=reason))
    assert outcome["neutral_count"] == 1
    assert not outcome["observed"]
    assert not outcome["is_failed"]
    assert not outcome["is_thin"]
    assert np.isnan(outcome["label_log_goodput"])


def test_a_late_try_alone_says_how_fast_the_parent_was_at_best() -> None:
    # One piece of 4 MB at best in the 8 seconds of [0, 3] and [5, 10].
    late = {"result": "cancelled", "reason": "late"}
    outcome = only_outcome(
        one_try(at_s=3.0, total_s=3.0, **late), one_try(number=1, at_s=10.0, total_s=5.0, **late)
    )
    assert outcome["observed"]
    assert outcome["is_censored"]
    assert not outcome["is_failed"]
    assert outcome["bytes"] == outcome["piece_count"] == 0
    assert outcome["label_log_goodput"] == pytest.approx(log(4 * MB / 8.0))


def test_a_piece_that_arrived_is_no_worse_than_none() -> None:
    """The same two waits of four seconds; what was stopped might have been just as slow."""
    late = one_try(at_s=4.0, total_s=4.0, result="cancelled", reason="late")
    alone = only_outcome(late, late | {"number": 1, "at_s": 8.0})
    helped = only_outcome(late, one_try(number=1, at_s=8.0, total_s=4.0))
    assert helped["label_log_goodput"] == alone["label_log_goodput"]
    assert not helped["is_censored"]


def test_late_tries_do_not_excuse_failures_nor_stand_for_unknown_lengths() -> None:
    late = one_try(result="cancelled", reason="late")
    failed = one_try(number=1, result="failed", reason="digest")
    refused = one_try(number=1, result="failed", reason="refused", total_s=0.0)
    assert only_outcome(late, failed)["is_failed"]
    assert not only_outcome(late, refused)["is_failed"]
    assert only_outcome(late | {"length": 0})["is_failed"]


def race(slow_began_s: float, fast_began_s: float) -> pd.DataFrame:
    """Piece 0 from p, stopped at 10 when q brought it; seconds at which each began."""
    return with_kinds(
        tries(
            one_try(at_s=10.0, total_s=10.0 - slow_began_s, result="cancelled", reason="hedged"),
            one_try(at_s=10.0, total_s=10.0 - fast_began_s, parent_id="q"),
        )
    )


def test_who_is_outrun_by_a_later_try_was_late() -> None:
    raced = race(2.0, 8.0)
    assert raced["kind"].tolist() == ["late", "ok"]
    slow = outcomes(raced).iloc[0]
    assert slow["peer_id"] == "p"
    assert slow["is_censored"]
    assert slow["label_log_goodput"] == pytest.approx(log(4 * MB / 8.0))


def test_who_began_the_race_later_and_lost_it_says_nothing() -> None:
    raced = race(8.0, 2.0)
    assert raced["kind"].tolist() == ["neutral", "ok"]
    slow = outcomes(raced).iloc[0]
    assert slow["peer_id"] == "p"
    assert not slow["observed"]


def test_a_race_is_run_by_one_child_for_one_piece() -> None:
    hedged = one_try(at_s=10.0, total_s=8.0, result="cancelled", reason="hedged")
    for other in ({"child_id": "d"}, {"number": 1}):
        winner = one_try(at_s=10.0, parent_id="q", **other)
        assert not outrun(tries(hedged, winner)).any()
    assert outrun(tries(hedged, one_try(at_s=10.0, parent_id="q"))).tolist() == [True, False]


def test_hedged_at_the_end_is_no_failure_of_who_brought_the_rest() -> None:
    hedged = [
        one_try(number=n, result="cancelled", reason="hedged", at_s=12.0 + n) for n in range(3)
    ]
    outcome = only_outcome(one_try(number=9), *hedged)
    assert outcome["observed"]
    assert not outcome["is_failed"]
    assert outcome["neutral_count"] == 3


def test_failing_more_often_than_not_is_failing() -> None:
    failed = [one_try(number=n, result="failed", reason="digest", at_s=20.0 + n) for n in range(3)]
    brought = [one_try(number=n, at_s=30.0 + n) for n in range(3)]
    assert not only_outcome(*failed, *brought)["is_failed"], "half and half has a goodput"
    assert only_outcome(*failed, *brought[:2])["is_failed"]


def test_refusals_are_no_failures_of_who_serves() -> None:
    refused = [
        one_try(number=n, result="failed", reason="refused", at_s=20.0 + n) for n in range(9)
    ]
    assert not only_outcome(one_try(), *refused)["is_failed"]


@pytest.mark.parametrize(
    ("rows", "thin"),
    [
        ([one_try()], True),
        ([one_try(length=8 * MB)], False),
        ([one_try(length=8 * MB - 1)], True),
        ([one_try(number=0), one_try(number=1)], False),
        ([one_try(result="failed", reason="digest")], True),
        ([one_try(), one_try(number=1, result="cancelled", reason="hedged")], True),
        ([one_try(), one_try(number=1, result="cancelled", reason="late")], False),
    ],
)
def test_thin_is_fewer_than_two_tries_and_less_than_8_mb(
    rows: list[dict[str, Any]], thin: bool
) -> None:
    assert only_outcome(*rows)["is_thin"] == thin


def test_a_time_no_clock_can_tell_makes_no_infinite_goodput() -> None:
    outcome = only_outcome(one_try(total_s=0.0))
    assert outcome["busy_s"] == 0.0
    assert outcome["label_log_goodput"] == pytest.approx(log(4 * MB / 1e-3))


def test_no_tries_make_no_outcomes() -> None:
    frame = outcomes(with_kinds(tries()))
    assert frame.empty
    assert frame["observed"].dtype == np.bool_


spans = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 15), st.sampled_from("pq")), max_size=12
)


@given(spans)
def test_busy_time_is_the_length_of_the_union(spans: list[tuple[int, int, str]]) -> None:
    """Against counting, second by second, when anything was in flight."""
    frame = tries(
        *(
            one_try(number=n, parent_id=parent, at_s=float(end), total_s=float(total))
            for n, (end, total, parent) in enumerate(spans)
        )
    )
    shares = busy_shares(frame)
    assert (shares >= 0).all()
    for parent in "pq":
        seconds = {
            second
            for end, total, own in spans
            if own == parent
            for second in range(end - total, end)
        }
        assert shares[frame["parent_id"] == parent].sum() == pytest.approx(len(seconds))


# --- grades -------------------------------------------------------------------------------------


def rows_of(*labels: tuple[str, float | str]) -> pd.DataFrame:
    """(decision, goodput relative to anything | "failed" | "unobserved")."""
    numbers = [log(value) if isinstance(value, float) else np.nan for _, value in labels]
    return pd.DataFrame(
        {
            "decision_id": [name for name, _ in labels],
            "label_log_goodput": numbers,
            "observed": [value != "unobserved" for _, value in labels],
            "is_failed": [value == "failed" for _, value in labels],
        }
    )


def test_grades_by_hand() -> None:
    # A step is a quarter: 0.8 is within the first, 0.74 and 0.57 in the second (above 9/16), 0.5 in
    # the third (9/16 to 27/64), 0.1 beyond the seventh.
    rows = rows_of(
        ("d", 1.0), ("d", 0.8), ("d", 0.74), ("d", 0.57), ("d", 0.5), ("d", 0.1),
        ("d", "failed"), ("d", "unobserved"),
    )  # fmt: skip
    assert grades(rows).tolist() == [7, 7, 6, 6, 5, 1, 0, -1]


def test_ties_groups_of_one_and_groups_without_a_label() -> None:
    rows = rows_of(
        ("tie", 3.0), ("one", 0.001), ("tie", 3.0), ("bad", "failed"), ("bad", "failed"),
        ("none", "unobserved"),
    )  # fmt: skip
    assert grades(rows).tolist() == [7, 7, 7, 0, 0, -1]


def test_grades_keep_the_index_of_the_rows() -> None:
    rows = rows_of(("d", 1.0), ("d", 0.1)).set_index(pd.Index([5, 3]))
    assert grades(rows).to_dict() == {5: 7, 3: 1}


@given(
    st.lists(
        st.one_of(st.floats(1.0, 1e9), st.sampled_from(["failed", "unobserved"])),
        min_size=1,
        max_size=8,
    )
)
def test_a_better_goodput_never_gets_a_lower_grade(values: list[float | str]) -> None:
    rows = rows_of(*(("d", value) for value in values))
    graded = grades(rows)
    assert graded.between(-1, 7).all()
    known = sorted((v, g) for v, g in zip(values, graded, strict=True) if isinstance(v, float))
    assert [g for _, g in known] == sorted(g for _, g in known)
    assert all(1 <= grade <= 7 for _, grade in known)
    if known:
        assert known[-1][1] == 7
