"""Our rule: what it prefers, what it is indifferent to, and that nothing unknown unsettles it."""

from __future__ import annotations

from math import inf, log, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.facts import FACT_NAMES, FACTS, CandidateBatch
from models.rule import RuleRanker, expected_rate, rule_score

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
    "max_tx_bits_per_s": 1,
    "same_idc": 1,
    "location_affinity": 1,
    "finished_piece_count": 1,
    "is_finished": 1,
}


@given(data=st.data(), name=st.sampled_from(sorted(BETTER)))
def test_better_is_never_worse(data: st.DataObject, name: str) -> None:
    share = name in ("same_idc", "location_affinity", "is_finished")
    values = st.floats(0, 1 if share else 1e9)
    lower, upper = sorted([data.draw(values), data.draw(values)])
    rest = {
        "served_rate_bytes_per_s": data.draw(st.floats(1, 1e9)),
        "served_piece_count": data.draw(st.floats(0, 1e6)),
        "swarm_rate_bytes_per_s": data.draw(st.floats(1, 1e9)),
        "total_piece_count": data.draw(st.floats(0, 1e6)),
        "max_tx_bits_per_s": data.draw(st.floats(0, 1e12)),
        "child_count": data.draw(st.floats(0, 100)),
    }
    columns = {key: [value, value] for key, value in rest.items()}
    scores = rule_score(batch(**{**columns, name: [lower, upper]}))
    better, worse = (scores[1], scores[0]) if BETTER[name] > 0 else (scores[0], scores[1])
    if name == "max_tx_bits_per_s" and lower == 0:
        return  # to say nothing is thought to be as fast as the others, which a claim may be below
    assert better >= worse - 1e-9


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
