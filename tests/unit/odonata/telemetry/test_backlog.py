"""The queue to the disk: in order, and never more than its bounds."""

from __future__ import annotations

from collections import deque

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support import record as make
from support.record_strategy import records as records_strategy

from odonata.telemetry.backlog import Backlog, weight
from odonata.telemetry.record import Record

MANY = 10**9


def test_it_gives_back_in_order_what_it_took() -> None:
    backlog = Backlog()
    for number in range(5):
        assert backlog.put(make.piece(number))
    assert backlog.take(3, MANY) == [make.piece(0), make.piece(1), make.piece(2)]
    assert backlog.take(3, MANY) == [make.piece(3), make.piece(4)]
    assert backlog.take(3, MANY) == []


def test_it_takes_so_many_records_and_no_more() -> None:
    backlog = Backlog(records_max=2)
    assert [backlog.put(make.piece(i)) for i in range(4)] == [True, True, False, False]
    backlog.take(1, MANY)
    assert [backlog.put(make.piece(i)) for i in range(2)] == [True, False]


def test_it_takes_so_many_bytes_and_no_more() -> None:
    large = make.decision(candidates=100)
    backlog = Backlog(bytes_max=2 * weight(large) + weight(make.piece()))
    assert [backlog.put(large) for _ in range(3)] == [True, True, False]
    assert backlog.put(make.piece())
    assert not backlog.put(make.piece())


def test_it_gives_so_many_bytes_at_a_time_but_never_nothing() -> None:
    backlog = Backlog()
    for number in range(5):
        backlog.put(make.piece(number))
    assert len(backlog.take(5, 2 * weight(make.piece()))) == 2
    assert len(backlog.take(5, 1)) == 1
    assert len(backlog.take(5, MANY)) == 2


def test_it_asks_to_be_emptied_when_half_full() -> None:
    for backlog in (Backlog(records_max=4), Backlog(bytes_max=4 * weight(make.piece()))):
        seen: list[bool] = []
        for _ in range(3):
            backlog.put(make.piece())
            seen.append(backlog.is_half_full)
        backlog.take(3, MANY)
        assert [*seen, backlog.is_half_full] == [False, True, True, False]


@given(st.lists(st.one_of(records_strategy, st.integers(0, 5)), max_size=40))
def test_whatever_comes_and_goes_the_bounds_hold(steps: list[Record | int]) -> None:
    backlog = Backlog(records_max=4, bytes_max=3000)
    held: deque[Record] = deque()
    for step in steps:
        if isinstance(step, int):
            assert backlog.take(step, MANY) == [held.popleft() for _ in range(min(step, len(held)))]
            continue
        fits = len(held) < 4 and sum(map(weight, held)) + weight(step) <= 3000
        assert backlog.put(step) is fits
        if fits:
            held.append(step)


def test_the_weight_of_a_decision_is_about_what_it_holds() -> None:
    for count in (0, 1, 50, 500):
        record = make.decision(candidates=count, fact_names=tuple("abcdefgh"))
        written = len(msgspec.msgpack.encode(record))
        assert written / 4 < weight(record) < written * 4
