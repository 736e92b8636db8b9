"""Clocks: how far apart is bad, and that the time a question takes is not counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.doctor.finding import Level
from peer.doctor.scheduler import clock_of, judge_clock

times = st.floats(0, 4e9)
waits = st.floats(0, 10)


@given(now_s=times, ahead_s=st.floats(-1e6, 1e6), there_s=waits, back_s=waits)
def test_the_true_difference_is_within_the_doubt(
    now_s: float, ahead_s: float, there_s: float, back_s: float
) -> None:
    clock = clock_of(now_s, now_s + there_s + ahead_s, now_s + there_s + back_s)
    assert abs(clock.ahead_s - ahead_s) <= clock.doubt_s + 1e-5


@pytest.mark.parametrize(
    ("ahead_s", "took_s", "level"),
    [
        (0.0, 0.0, Level.OK),
        (1.9, 0.0, Level.OK),
        (-2.1, 0.0, Level.WARNING),
        (2.1, 0.0, Level.WARNING),
        (3.0, 3.0, Level.OK),  # 1.5 s of doubt
        (-301.0, 0.0, Level.FAILURE),
        (86400.0, 1.0, Level.FAILURE),
    ],
)
def test_where_it_is_too_far(ahead_s: float, took_s: float, level: Level) -> None:
    finding = judge_clock(clock_of(1e9, 1e9 + took_s / 2 + ahead_s, 1e9 + took_s), "s:8002")
    assert finding.level is level
    if level is not Level.OK:
        assert ("ahead of" in finding.detail) is (ahead_s > 0)
