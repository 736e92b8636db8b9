"""What a daemon learns of beginnings, and the budget that follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.core.budget import (
    BUDGET_MAX_S,
    BUDGET_MIN_S,
    HALF_LIFE_S,
    HOSTS_MAX,
    SOURCE_PRIOR_S,
    Budget,
    Times,
)

HOST = "registry.test:5000"


def taught(took_s: float, times: int, now: float = 0.0) -> Budget:
    """A budget whose peers began after `took_s`, so many times."""
    budget = Budget()
    for _ in range(times):
        budget.peers_began(took_s, now)
    return budget


def test_without_experience_the_prior_speaks() -> None:
    assert Budget().budget_s(HOST, 0.0) == pytest.approx(0.447, abs=0.001)
    assert Budget().source_s(HOST, 0.0) == SOURCE_PRIOR_S


def test_one_slow_beginning_moves_it_a_little_many_move_it_to_them() -> None:
    none, one, many = (taught(4.0, n).budget_s(HOST, 0.0) for n in (0, 1, 60))
    assert none < one < 2 * none
    assert 4.0 < many < 6.0


def test_quick_peers_bring_it_down_to_its_floor_and_slow_ones_up_to_its_ceiling() -> None:
    assert taught(0.01, 60).budget_s(HOST, 0.0) == BUDGET_MIN_S
    assert taught(60.0, 60).budget_s(HOST, 0.0) == BUDGET_MAX_S


def test_never_less_than_the_origin_takes_to_answer() -> None:
    budget = taught(0.01, 60)
    for _ in range(60):
        budget.source_answered(HOST, 3.0, 0.0)
    assert budget.budget_s(HOST, 0.0) == pytest.approx(2.5, abs=0.5)
    assert budget.budget_s("elsewhere.test", 0.0) == BUDGET_MIN_S


def test_what_was_learned_is_forgotten() -> None:
    budget = taught(5.0, 60)
    fresh, stale = budget.budget_s(HOST, 0.0), budget.budget_s(HOST, 20 * HALF_LIFE_S)
    assert fresh > 5.0
    assert stale == pytest.approx(Budget().budget_s(HOST, 0.0), rel=0.05)


def test_a_daemon_that_was_moved_learns_anew_soon() -> None:
    budget = taught(0.05, 10_000)
    for _ in range(200):
        budget.peers_began(2.0, 0.0)
    assert budget.budget_s(HOST, 0.0) > 2.0


def test_origins_are_forgotten_one_by_one() -> None:
    budget = Budget()
    for number in range(HOSTS_MAX + 1):
        budget.source_answered(f"host{number}", 2.0, 0.0)
    assert budget.source_s("host0", 0.0) == SOURCE_PRIOR_S
    assert budget.source_s("host1", 0.0) > SOURCE_PRIOR_S


@given(st.lists(st.floats(0.0, 1e6), max_size=100), st.lists(st.floats(0.0, 1e6), max_size=3))
def test_whatever_is_learned_the_budget_keeps_its_bounds(
    took: list[float], moments: list[float]
) -> None:
    budget = Budget()
    for number, took_s in enumerate(took):
        now = moments[number % len(moments)] if moments else 0.0
        budget.peers_began(took_s, now)
        budget.source_answered(HOST, took_s, now)
        assert BUDGET_MIN_S <= budget.budget_s(HOST, now) <= BUDGET_MAX_S


def test_mean_and_spread_are_those_of_the_logarithms() -> None:
    times = Times(1.0)
    for took_s in (1.0, 10.0, 100.0):
        times.add(took_s, 0.0)
    assert times.mean == pytest.approx(2.302585)
    assert times.squares == pytest.approx(2 * 2.302585**2)
