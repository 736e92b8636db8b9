"""The token bucket: rate, burst, fairness, and what a bad clock can't do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from peer.core.quota import BURST_S, TokenBucket


def test_unlimited_never_waits() -> None:
    bucket = TokenBucket(None)
    assert bucket.reserve(10**12, 0.0) == 0.0
    assert bucket.rate_bytes_per_s is None
    bucket.give_back(5, 0.0)
    assert bucket.reserve(10**12, 0.0) == 0.0


def test_burst_passes_at_once_then_the_rate_decides() -> None:
    bucket = TokenBucket(1000, burst_bytes=100)
    assert bucket.reserve(100, 0.0) == 0.0
    assert bucket.reserve(50, 0.0) == pytest.approx(0.05)
    assert bucket.reserve(50, 0.0) == pytest.approx(0.10)  # behind the one before


def test_default_burst_is_a_quarter_second() -> None:
    bucket = TokenBucket(1000)
    assert bucket.reserve(int(1000 * BURST_S), 0.0) == 0.0
    assert bucket.reserve(1, 0.0) > 0.0


def test_reservation_larger_than_the_burst_is_granted_later() -> None:
    assert TokenBucket(1000, burst_bytes=0).reserve(4000, 0.0) == pytest.approx(4.0)


def test_idle_time_fills_no_more_than_the_burst() -> None:
    bucket = TokenBucket(1000, burst_bytes=100)
    bucket.reserve(100, 0.0)
    assert bucket.reserve(200, 3600.0) == pytest.approx(0.1)


def test_given_back_bytes_serve_the_next() -> None:
    bucket = TokenBucket(1000, burst_bytes=0)
    bucket.reserve(1000, 0.0)
    bucket.give_back(1000, 0.0)
    assert bucket.reserve(100, 0.0) == pytest.approx(0.1)


def test_clock_that_jumps_back_gives_nothing() -> None:
    bucket = TokenBucket(1000, burst_bytes=100)
    bucket.reserve(100, 10.0)
    assert bucket.reserve(10, 5.0) == pytest.approx(0.01)
    assert bucket.reserve(0, 5.01) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("rate", [0, -1])
def test_rate_must_be_positive(rate: float) -> None:
    with pytest.raises(CallerError, match="above 0 bytes/s"):
        TokenBucket(rate)
    bucket = TokenBucket(5)
    with pytest.raises(CallerError, match="above 0 bytes/s"):
        bucket.set_rate(rate, 0.0)
    assert bucket.rate_bytes_per_s == 5


def test_another_rate_counts_from_its_moment_and_what_is_owed_stays_owed() -> None:
    bucket = TokenBucket(1000, burst_bytes=0)
    assert bucket.reserve(2000, 0.0) == pytest.approx(2.0)
    bucket.set_rate(100, 1.0)  # 1,000 bytes have passed by now
    assert bucket.rate_bytes_per_s == 100
    assert bucket.owed_s(1.0) == pytest.approx(10.0)
    bucket.set_rate(1_000_000, 2.0)
    assert bucket.owed_s(2.0) == pytest.approx(0.0009)
    assert bucket.owed_s(3.0) == 0.0


def test_the_burst_follows_the_rate_unless_it_was_given() -> None:
    following, given = TokenBucket(1000), TokenBucket(1000, burst_bytes=100)
    for bucket in (following, given):
        bucket.set_rate(100, 0.0)
    assert following.reserve(int(100 * BURST_S), 0.0) == 0.0
    assert following.reserve(1, 0.0) > 0.0
    assert given.reserve(100, 0.0) == 0.0


def test_no_limit_can_become_one() -> None:
    bucket = TokenBucket(None)
    assert bucket.owed_s(0.0) == 0.0
    bucket.set_rate(100, 1.0)
    assert bucket.reserve(100, 1.0) == pytest.approx(1.0)


def test_counts_must_not_be_negative() -> None:
    with pytest.raises(CallerError, match="-1"):
        TokenBucket(1).reserve(-1, 0.0)
    with pytest.raises(CallerError, match="burst"):
        TokenBucket(1, burst_bytes=-1)


@given(
    rate=st.integers(1, 10**9),
    burst=st.integers(0, 10**7),
    steps=st.lists(st.tuples(st.integers(0, 10**7), st.floats(0.0, 5.0)), min_size=1, max_size=60),
)
def test_never_more_than_burst_plus_rate_times_time(
    rate: int, burst: int, steps: list[tuple[int, float]]
) -> None:
    """Whatever is asked when: bytes let through by any moment <= burst + rate x time, in order."""
    bucket = TokenBucket(rate, burst_bytes=burst)
    now = passed = 0.0
    last_grant = 0.0
    for n_bytes, pause_s in steps:
        now += pause_s
        granted_at = now + bucket.reserve(n_bytes, now)
        passed += n_bytes
        slack = 1e-6 * (passed + rate)
        assert passed <= burst + rate * granted_at + slack
        assert granted_at >= last_grant - 1e-6  # first come, first served
        last_grant = granted_at
