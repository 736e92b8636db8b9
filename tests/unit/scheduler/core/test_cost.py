"""The rolling window gives what the definition gives."""

from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.cost import CostWindow


def test_too_few_costs_say_nothing() -> None:
    window = CostWindow(10)
    assert window.latest_and_others() == (0.0, 0.0, 0.0)
    window.append(1.0)
    assert window.latest_and_others() == (0.0, 0.0, 0.0)
    assert len(window) == 1


def test_a_negative_cost_counts_as_none() -> None:
    window = CostWindow(10)
    window.append(-1.0)
    window.append(2.0)
    assert window.latest_and_others() == (2.0, 0.0, 0.0)


@given(
    costs=st.lists(st.integers(0, 1_800_000_000), min_size=2, max_size=60),
    limit=st.integers(2, 20),
)
def test_latest_mean_and_deviation(costs: list[int], limit: int) -> None:
    window = CostWindow(limit)
    for cost_us in costs:
        window.append(cost_us / 1e6)
    kept = [cost_us / 1e6 for cost_us in costs][-limit:]
    last, mean, deviation = window.latest_and_others()
    assert len(window) == len(kept)
    assert last == pytest.approx(kept[-1])
    assert mean == pytest.approx(fmean(kept[:-1]))
    assert deviation == pytest.approx(pstdev(kept[:-1]), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("cost_s", [1801.0, 1e300, float("inf")])
def test_no_cost_is_longer_than_a_piece_may_take(cost_s: float) -> None:
    window = CostWindow(10)
    window.append(1.0)
    window.append(cost_s)
    assert window.latest_and_others() == (1800.0, 1.0, 0.0)


def test_what_was_told_is_told_again() -> None:
    window = CostWindow(10)
    for cost_s in (0.1, 0.2, 0.4):
        window.append(cost_s)
    assert window.latest_and_others() == window.latest_and_others()
    window.append(0.7)
    assert window.latest_and_others()[0] == 0.7


def test_a_closed_window_still_tells_what_it_held() -> None:
    window = CostWindow(3)
    for cost_s in (9.0, 1.0, 3.0, 5.0):
        window.append(cost_s)
    before = window.latest_and_others()
    window.close()
    assert window.latest_and_others() == before == (5.0, 2.0, 1.0)
    assert len(window) == 3
    window.append(7.0)
    assert (len(window), window.latest_and_others()) == (1, (0.0, 0.0, 0.0))
