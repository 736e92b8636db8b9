"""Upload slots: few at once, rare pieces first, nobody forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.core.upload import PASSED_ON_MAX, UploadQueue


def asked(queue: UploadQueue, piece: str, now_s: float = 0.0) -> int:
    ticket = queue.ask(piece, now_s)
    assert ticket is not None
    return ticket


def test_as_many_go_as_there_are_slots() -> None:
    queue = UploadQueue(2)
    first, second, third = (asked(queue, piece) for piece in "abc")
    assert [queue.goes(ticket) for ticket in (first, second, third)] == [True, True, False]
    assert queue.leave(second, 1.0) == third
    assert queue.goes(third)
    assert not queue.goes(second)


def test_the_piece_sent_least_often_goes_first() -> None:
    queue = UploadQueue(1)
    first = asked(queue, "a")
    again, other = asked(queue, "a"), asked(queue, "b")
    assert queue.leave(first, 1.0) == other
    assert queue.leave(other, 2.0) == again


def test_among_equals_the_first_comer_goes_first() -> None:
    queue = UploadQueue(1)
    first = asked(queue, "a")
    tickets = [asked(queue, piece) for piece in ("b", "c", "d")]
    served = [queue.leave(leaving, 1.0) for leaving in (first, *tickets)]
    assert served == [*tickets, None]


def test_whoever_waited_long_enough_goes_before_rarer_pieces() -> None:
    queue = UploadQueue(1, patience_s=5.0)
    first = asked(queue, "a", now_s=0.0)
    patient = asked(queue, "a", now_s=0.0)
    rare = asked(queue, "b", now_s=4.0)
    assert queue.leave(first, 5.0) == patient
    assert queue.leave(patient, 5.0) == rare


def test_a_full_queue_refuses() -> None:
    queue = UploadQueue(1, waiting_max=1)
    first, waiting = asked(queue, "a"), asked(queue, "b")
    assert queue.ask("c", 0.0) is None
    assert queue.leave(waiting, 0.0) is None  # it gave up
    assert queue.ask("c", 0.0) is not None
    assert queue.goes(first)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=80),
)
def test_slots_are_never_exceeded_and_never_idle(
    slots: int, script: list[tuple[bool, int]]
) -> None:
    """Whatever comes and goes: at most `slots` go, and nobody waits beside a free one."""
    queue = UploadQueue(slots, waiting_max=20)
    here: list[int] = []
    for now_s, (arrives, which) in enumerate(script):
        if arrives:
            ticket = queue.ask(which, float(now_s))
            if ticket is not None:
                here.append(ticket)
        elif here:
            queue.leave(here.pop(which % len(here)), float(now_s))
        assert queue.sending + queue.waiting == len(here)
        assert queue.sending == min(slots, len(here))
        assert sum(queue.goes(ticket) for ticket in here) == queue.sending


def test_a_child_with_fewer_slots_goes_before_one_with_more() -> None:
    queue = UploadQueue(2)
    greedy = [queue.ask(piece, 0.0, child="greedy") for piece in "abcd"]
    modest = queue.ask("a", 0.0, child="modest")
    assert greedy[0] is not None
    assert queue.leave(greedy[0], 1.0) == modest  # although it came last, for a piece sent before


def test_a_child_that_is_not_patient_is_refused_where_another_waits() -> None:
    queue = UploadQueue(1)
    first = queue.ask("a", 0.0, is_patient=False)
    assert first is not None
    assert queue.goes(first)
    assert queue.ask("b", 0.0, is_patient=False) is None
    waits = queue.ask("c", 0.0)
    assert waits is not None
    assert queue.leave(first, 1.0) == waits


def test_a_piece_on_its_way_to_one_child_is_given_to_the_others() -> None:
    queue = UploadQueue(2)
    assert queue.given("a", "second", 0.0) == []
    ticket = queue.ask("a", 0.0, child="first")
    queue.ask("b", 0.0, child="second")
    assert ticket is not None
    assert queue.given("a", "second", 0.1) == ["a"]
    assert queue.given("b", "second", 0.1) == []
    assert queue.given("a", "third", 0.1) == ["a", "b"]
    assert queue.given("c", "third", 0.1) == []
    queue.leave(ticket, 0.2, is_whole=False)
    assert queue.given("a", "third", 0.2) == []


def test_what_a_child_waits_for_is_as_good_as_given() -> None:
    queue = UploadQueue(1)
    queue.ask("a", 0.0, child="first")
    ticket = queue.ask("b", 0.0, child="second")
    assert ticket is not None
    assert queue.given("b", "first", 0.0) == ["b"]
    queue.leave(ticket, 0.1)
    assert queue.given("b", "first", 0.1) == []


def test_with_nothing_else_to_do_a_piece_is_given_once_more() -> None:
    queue = UploadQueue(slots=2)
    ticket = queue.ask("a", 0.0, child="first")
    assert ticket is not None
    assert queue.given("a", "second", 1.0) == ["a"]
    queue.leave(ticket, 1.0)
    assert queue.given("a", "second", 1.0) == []
    again = queue.ask("a", 1.0, child="second")
    assert again is not None
    assert queue.given("a", "third", 1.0) == ["a"]  # one at a time


def test_a_piece_is_passed_on_to_two_children_and_takes_no_slot() -> None:
    queue = UploadQueue(1)
    assert [queue.pass_on("a") for _ in range(3)] == [True, True, False]
    assert queue.sending == 0
    queue.passed_on("a")
    assert queue.pass_on("a")


def test_so_many_are_passed_on_in_all() -> None:
    queue = UploadQueue(1)
    assert sum(queue.pass_on(number) for number in range(20)) == PASSED_ON_MAX
    queue.passed_on(0)
    assert queue.pass_on("another")
