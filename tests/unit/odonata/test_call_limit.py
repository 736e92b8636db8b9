"""The token bucket of calls, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.call_limit import CallLimit
from odonata.errors import CapacityError


def taken(limit: CallLimit, now: float) -> bool:
    try:
        limit.take(now)
    except CapacityError:
        return False
    return True


def test_one_seconds_worth_may_come_at_once_and_no_more() -> None:
    limit = CallLimit(4, now=100.0)
    assert [taken(limit, 100.0) for _ in range(5)] == [True] * 4 + [False]


def test_the_bucket_fills_at_its_rate_and_never_over_the_brim() -> None:
    limit = CallLimit(4, now=0.0)
    for _ in range(4):
        limit.take(0.0)
    assert [taken(limit, 0.25), taken(limit, 0.25)] == [True, False]
    assert [taken(limit, 1000.0) for _ in range(5)] == [True] * 4 + [False]


def test_the_refusal_names_the_rate_and_the_setting() -> None:
    limit = CallLimit(1, now=0.0)
    limit.take(0.0)
    with pytest.raises(CapacityError, match=r"more than 1 calls a second.*requestRateLimit"):
        limit.take(0.0)


@given(st.integers(1, 50), st.lists(st.floats(0, 0.5), max_size=200))
def test_no_window_sees_more_than_burst_and_rate(rate: int, gaps: list[float]) -> None:
    limit = CallLimit(rate, now=0.0)
    now, granted = 0.0, 0
    for gap in gaps:
        now += gap
        granted += taken(limit, now)
    assert granted <= rate + rate * now + 1e-6


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    limit = CallLimit(1, now=10.0)
    limit.take(10.0)
    assert not taken(limit, 5.0)
    assert not taken(limit, 5.5)
