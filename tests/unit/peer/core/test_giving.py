"""What counts as given: while it is sent, until it has spread, and never for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.core.giving import (
    GIFTS_MAX,
    GIVEN_FACTOR,
    GIVEN_MAX_S,
    GIVEN_MIN_S,
    NOTHING_NEW_S,
    Giving,
)


def sent(giving: Giving, took_s: float, *, at_s: float = 0.0) -> None:
    """Somebody was sent a piece, which taught how long that takes."""
    giving.begin(99, "other", "x", at_s)
    giving.end(99, at_s + took_s, is_whole=True)


def test_what_is_on_its_way_is_given_to_others_only() -> None:
    giving = Giving()
    giving.begin(1, "a", "child", 0.0)
    assert giving.to_others("child", 0.1) == []
    assert giving.to_others("another", 0.1) == ["a"]


def test_what_has_arrived_counts_until_it_has_spread() -> None:
    giving = Giving()
    sent(giving, 3.0)
    giving.begin(1, "a", "child", 100.0)
    giving.end(1, 103.0, is_whole=True)
    assert giving.to_others("another", 100.0 + 3.0 * GIVEN_FACTOR - 0.1) == ["a"]
    assert giving.to_others("another", 100.0 + 3.0 * GIVEN_FACTOR) == []


def test_a_sending_that_broke_off_gave_nothing() -> None:
    giving = Giving()
    giving.begin(1, "a", "dies", 0.0)
    giving.end(1, 0.5, is_whole=False)
    assert giving.to_others("another", 0.5) == []


def test_one_of_two_sendings_that_broke_off_leaves_the_other() -> None:
    giving = Giving()
    giving.begin(1, "a", "dies", 0.0)
    giving.begin(2, "a", "lives", 0.0)
    giving.end(1, 0.5, is_whole=False)
    assert giving.to_others("another", 0.5) == ["a"]


def test_a_child_that_hangs_holds_nobody_up_for_long() -> None:
    giving = Giving()
    giving.begin(1, "a", "hangs", 0.0)
    assert giving.to_others("another", GIVEN_MIN_S - 0.1) == ["a"]
    assert giving.to_others("another", GIVEN_MIN_S) == []
    giving.end(1, 50.0, is_whole=False)


@given(st.lists(st.floats(0.0, 10_000.0), max_size=20))
def test_how_long_a_gift_counts_is_bounded(took: list[float]) -> None:
    giving = Giving()
    for took_s in took:
        sent(giving, took_s)
    assert GIVEN_MIN_S <= giving.counts_for_s <= GIVEN_MAX_S


def test_usual_is_what_the_last_sendings_took() -> None:
    giving = Giving()
    sent(giving, 1.0)
    assert giving.counts_for_s == pytest.approx(GIVEN_FACTOR)
    for _ in range(30):
        sent(giving, 3.0)
    assert giving.counts_for_s == pytest.approx(3.0 * GIVEN_FACTOR, rel=0.01)


def test_no_more_gifts_are_remembered_than_the_bound() -> None:
    giving = Giving()
    for number in range(GIFTS_MAX + 10):
        giving.begin(number, number, "a", 0.0)
    assert len(giving.to_others("b", 0.0)) == GIFTS_MAX
    assert 9 not in giving.to_others("b", 0.0), "the oldest go first"
    assert giving.to_others("b", GIVEN_MAX_S) == []


def test_an_uplink_is_needed_while_something_is_sent() -> None:
    giving = Giving()
    giving.begin(1, "a", "child", 0.0)
    assert giving.is_needed(10.0)
    giving.end(1, 10.0, is_whole=True)
    assert not giving.is_needed(10.0)


def test_an_uplink_is_needed_for_a_while_after_something_new() -> None:
    giving = Giving()
    sent(giving, 0.01, at_s=100.0)
    assert giving.is_needed(100.0 + NOTHING_NEW_S - 0.1)
    assert not giving.is_needed(100.0 + NOTHING_NEW_S)


def test_a_second_copy_is_nothing_new() -> None:
    giving = Giving()
    giving.begin(1, "a", "child", 0.0)
    giving.end(1, 0.1, is_whole=True)
    giving.begin(2, "a", "another", 1.0)
    giving.end(2, 1.1, is_whole=True)
    assert not giving.is_needed(1.1)


def test_a_host_that_sent_nothing_yet_is_not_needed() -> None:
    assert not Giving().is_needed(0.0)
