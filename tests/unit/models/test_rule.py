"""Our rule: what it prefers, what it is indifferent to, and that nothing unknown unsettles it."""

from __future__ import annotations

from math import inf, log, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.facts import FACT_NAMES, FACTS, CandidateBatch, column_of
from models.rule import DEPTH_WEIGHT, SLOT_WEIGHT, expected_rate, rule_score, terms, unable
from models.rule_ranker import RuleRanker

MIB = 1024.0 * 1024.0

# What nobody knows, and what a broken host might say.
NUMBERS = st.one_of(
    st.floats(0, 1e12), st.sampled_from([nan, 0.0, -1.0, inf, -inf, 1e-300, 1.7e308])
)
ROWS = st.lists(st.lists(NUMBERS, min_size=len(FACTS), max_size=len(FACTS)), min_size=1, max_size=6)


def batch(**columns: list[float]) -> CandidateBatch:
    return CandidateBatch.of_columns(columns)


def served(*rates_mib: float, pieces: float = 1000.0, **columns: list[float]) -> CandidateBatch:
    count = len(rates_mib)
    return batch(
        served_rate_bytes_per_s=[rate * MIB for rate in rates_mib],
        served_piece_count=[pieces] * count,
        swarm_rate_bytes_per_s=[10 * MIB] * count,
        **columns,
    )


def test_a_stranger_among_strangers_is_as_good_as_any_other() -> None:
    unknown = batch(child_count=[0.0, 0.0, 0.0])
    assert len(set(rule_score(unknown).tolist())) == 1


def test_all_that_is_unknown_gives_finite_scores_and_nobody_is_bad() -> None:
    ranking = RuleRanker().rank(batch(**{name: [nan, nan] for name in FACT_NAMES}), 0)
    assert np.isfinite(ranking.scores).all()
    assert ranking.bad.tolist() == [True, True]  # a NaN is no claim that it can serve
    assert not RuleRanker().rank(batch(child_count=[0.0]), 0).bad.any()


@given(ROWS)
def test_scores_are_finite_whatever_stands_in_the_facts(rows: list[list[float]]) -> None:
    ranking = RuleRanker().rank(CandidateBatch.of_rows(rows), 0)
    assert ranking.scores.shape == ranking.bad.shape == (len(rows),)
    assert np.isfinite(ranking.scores).all()
    assert ranking.ranked_by == "rule"


COMMON = column_of("cost_window")
"""From here on a fact is the same for all candidates."""


@given(ROWS)
def test_candidate_by_candidate_and_over_columns_it_says_the_same(rows: list[list[float]]) -> None:
    told = CandidateBatch.of_rows([row[:COMMON] + rows[0][COMMON:] for row in rows])
    ranking = RuleRanker().rank(told, 0)
    assert ranking.scores == pytest.approx(rule_score(told), rel=1e-9, abs=1e-9)
    assert ranking.bad.tolist() == unable(told).tolist()


@given(ROWS)
def test_equals_have_equal_scores(rows: list[list[float]]) -> None:
    ranking = RuleRanker().rank(CandidateBatch.of_rows([rows[0], *rows, rows[0]]), 0)
    assert ranking.scores[0] == ranking.scores[1] == ranking.scores[-1]


def test_bad_is_only_who_cannot_serve() -> None:
    ranking = RuleRanker().rank(
        batch(can_serve=[1.0, 0.0], cost_count=[9.0, 9.0], cost_last_s=[1e6, 0.0]), 0
    )
    assert ranking.bad.tolist() == [False, True]


def test_one_more_child_on_each_side_halves_what_is_left() -> None:
    scores = rule_score(batch(child_count=[0.0, 1.0, 3.0]))
    assert scores[0] - scores[1] == pytest.approx(log(2))
    assert scores[1] - scores[2] == pytest.approx(log(2))


def test_a_host_twice_as_fast_is_worth_twice_the_children() -> None:
    scores = rule_score(served(20.0, 10.0, pieces=1e9, child_count=[1.0, 0.0]))
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_history_counts_half_with_four_pieces() -> None:
    rates = expected_rate(served(40.0, pieces=4.0))
    assert rates.tolist() == pytest.approx([0.5 * log(4)])


def test_a_claim_counts_half_and_only_beside_other_claims() -> None:
    rates = expected_rate(batch(max_tx_bits_per_s=[4e9, 1e9, 0.0]))
    assert rates[0] - rates[1] == pytest.approx(0.5 * log(4))
    assert rates[2] == 0
    assert expected_rate(batch(max_tx_bits_per_s=[1e9])).tolist() == [0.0]


def test_what_was_served_beats_what_was_claimed() -> None:
    scores = rule_score(served(1.0, 20.0, max_tx_bits_per_s=[100e9, 1e9]))
    assert scores[1] > scores[0]


def test_the_swarms_speed_itself_does_not_matter() -> None:
    slow = served(5.0, 20.0)
    fast = slow.facts.copy()
    for name in ("served_rate_bytes_per_s", "swarm_rate_bytes_per_s"):
        fast[:, FACT_NAMES.index(name)] *= 1024
    assert rule_score(CandidateBatch(fast)) == pytest.approx(rule_score(slow))


BETTER = {
    "child_count": -1,
    "served_failure_count": -1,
    "served_rate_bytes_per_s": 1,
    "pair_rate_bytes_per_s": 1,
    "max_tx_bits_per_s": 1,
    "reported_tx_bits_per_s": -1,
    "upload_slots": 1,
    "depth": -1,
    "same_idc": 1,
    "location_affinity": 1,
    "finished_piece_count": 1,
    "is_finished": 1,
}
ZERO_IS_UNKNOWN = (
    "max_tx_bits_per_s",
    "reported_tx_bits_per_s",
    "upload_slots",
    "served_rate_bytes_per_s",
    "pair_rate_bytes_per_s",
)
"""To say nothing is thought to be as good as the others, which a claim may be below."""


@given(data=st.data(), name=st.sampled_from(sorted(BETTER)))
def test_better_is_never_worse(data: st.DataObject, name: str) -> None:
    is_share = name in ("same_idc", "location_affinity", "is_finished")
    values = st.floats(0, 1 if is_share else 1e9)
    lower, upper = sorted([data.draw(values), data.draw(values)])
    rest = {
        "served_rate_bytes_per_s": data.draw(st.floats(1, 1e9)),
        "served_piece_count": data.draw(st.floats(0, 1e6)),
        "swarm_rate_bytes_per_s": data.draw(st.floats(1, 1e9)),
        "pair_rate_bytes_per_s": data.draw(st.floats(1, 1e9)),
        "pair_piece_count": data.draw(st.floats(0, 1e6)),
        "pairs_rate_bytes_per_s": data.draw(st.floats(1, 1e9)),
        "total_piece_count": data.draw(st.floats(0, 1e6)),
        "max_tx_bits_per_s": data.draw(st.floats(0, 1e12)),
        "reported_tx_bits_per_s": data.draw(st.floats(0, 1e12)),
        "reported_child_count": data.draw(st.integers(0, 30).map(float)),
        "report_age_s": data.draw(st.floats(0, 100)),
        "upload_slots": data.draw(st.sampled_from((0.0, 4.0, 16.0))),
        "child_count": data.draw(st.integers(0, 100).map(float)),
    }
    columns = {key: [value, value] for key, value in rest.items()}
    scores = rule_score(batch(**{**columns, name: [lower, upper]}))
    better, worse = (scores[1], scores[0]) if BETTER[name] > 0 else (scores[0], scores[1])
    if name in ZERO_IS_UNKNOWN and lower < 1:
        return
    assert better >= worse - 1e-9


# --- what a host reports of its uplink ----------------------------------------------------------


def reported(
    used: float, *, now: float, then: float, age_s: float = 0.0, uplink: float = 1e9
) -> float:
    """The share of one more child, by a host with `now` children that had `then` at its report."""
    found = terms(
        batch(
            max_tx_bits_per_s=[uplink],
            reported_tx_bits_per_s=[used * uplink],
            report_age_s=[age_s],
            child_count=[now],
            reported_child_count=[then],
        )
    )
    return float(np.exp(found.share[0]))


def test_what_a_host_has_to_spare_goes_to_the_next_child() -> None:
    assert reported(0.25, now=3, then=3) == pytest.approx(0.75)  # and not a quarter


def test_children_since_the_report_share_what_was_to_spare_then() -> None:
    assert reported(0.4, now=5, then=3) == pytest.approx(0.6 / 3)


def test_children_from_before_the_report_are_not_counted_twice() -> None:
    assert reported(0.5, now=8, then=8) == pytest.approx(0.5)
    assert reported(0.5, now=9, then=8) == pytest.approx(0.25)


def test_a_full_uplink_still_gives_an_equal_part() -> None:
    assert reported(1.0, now=3, then=3) == pytest.approx(1 / 4)


def test_traffic_of_others_makes_no_room() -> None:
    assert reported(0.8, now=0, then=0) == pytest.approx(0.2)
    assert reported(1.0, now=0, then=0) == pytest.approx(0.1)


def test_an_old_report_gives_way_to_the_count() -> None:
    fresh, older, old = (reported(0.5, now=3, then=3, age_s=age) for age in (0, 20, 2000))
    assert fresh == pytest.approx(0.5)
    assert older == pytest.approx((0.5 * 0.25) ** 0.5)  # half way, on a log scale
    assert old == pytest.approx(0.25)


def test_a_report_without_an_uplink_to_compare_it_with_says_nothing() -> None:
    assert reported(0.5, now=3, then=3, uplink=0.0) == pytest.approx(0.25)


# --- slots, depth, pairs --------------------------------------------------------------------------


def test_beyond_the_slots_the_score_falls_on_and_has_no_step() -> None:
    counts = [float(count) for count in range(12)]
    scores = rule_score(batch(child_count=counts, upload_slots=[4.0] * 12))
    falls = -np.diff(scores)
    assert (falls > 0).all()
    assert falls[:3].tolist() == pytest.approx([log(2), log(3 / 2), log(4 / 3)])
    assert falls[3:].tolist() == pytest.approx(
        [(1 + SLOT_WEIGHT) * log((count + 2) / (count + 1)) for count in range(3, 11)]
    )


def test_a_hop_more_costs_a_little() -> None:
    scores = rule_score(batch(depth=[0.0, 1.0, 2.0]))
    assert (-np.diff(scores)).tolist() == pytest.approx([DEPTH_WEIGHT] * 2)


def paired(rate: float, pieces: float, **columns: list[float]) -> CandidateBatch:
    return batch(
        pair_rate_bytes_per_s=[rate],
        pair_piece_count=[pieces],
        pairs_rate_bytes_per_s=[MIB],
        **columns,
    )


def test_a_stranger_is_as_fast_as_its_pair_of_data_centres() -> None:
    assert expected_rate(paired(4 * MIB, 1e9)).tolist() == pytest.approx([log(4)])
    assert expected_rate(paired(4 * MIB, 32)).tolist() == pytest.approx([log(4) / 2])
    assert expected_rate(paired(4 * MIB, 0)).tolist() == [0.0]


def test_of_a_host_that_is_known_the_pair_counts_half() -> None:
    known = {
        "served_rate_bytes_per_s": [MIB],
        "served_piece_count": [1e9],
        "swarm_rate_bytes_per_s": [MIB],
    }
    found = expected_rate(paired(4 * MIB, 1e9, **known))
    assert found.tolist() == pytest.approx([log(4) / 2], abs=1e-6)


def test_who_has_the_whole_content_is_preferred_to_who_has_none() -> None:
    scores = rule_score(
        batch(
            total_piece_count=[10.0, 10.0, 10.0, 0.0],
            finished_piece_count=[10.0, 5.0, 0.0, 7.0],
        )
    )
    assert scores[0] > scores[1] > scores[2]
    assert scores[3] == scores[2]  # of a task of unknown size nothing is claimed


def test_of_a_host_of_which_everything_fails_little_is_expected() -> None:
    scores = rule_score(batch(served_failure_count=[0.0, 1e6], served_piece_count=[0.0, 0.0]))
    assert scores[1] < scores[0] - 5
