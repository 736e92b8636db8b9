"""What is on its way: counted, told apart, and stopped."""

from __future__ import annotations

from support.download import parent_of

from peer.core.flights import Flights
from peer.core.parents import Flight, ParentState


def parent(peer_id: str) -> ParentState:
    return ParentState(parent=parent_of(peer_id), heard_at=0.0)


def flight(number: int, *, is_passed_on: bool = False) -> Flight:
    return Flight(number=number, asked_at=0.0, deadline=9.0, is_passed_on=is_passed_on)


def test_copies_are_counted_and_kinds_told_apart() -> None:
    flights, a, b = Flights(), parent("a"), parent("b")
    flights.begin(a, flight(0))
    flights.begin(b, flight(0, is_passed_on=True))
    assert (flights.count, flights.full, flights.passed_on) == (2, 1, 1)
    assert (flights.copies(0), 0 in flights, 1 in flights) == (2, True, False)
    landed = flights.land(b, 0)
    assert landed is not None
    assert landed.is_passed_on
    assert (flights.count, flights.passed_on, 0 in flights) == (1, 0, True)
    assert flights.land(b, 0) is None


def test_the_answer_to_a_stopped_one_is_known_once() -> None:
    flights, a = Flights(), parent("a")
    flights.begin(a, flight(0))
    assert flights.stop(a, 0)
    assert not flights.stop(a, 0)
    assert flights.was_stopped("a", 0)
    assert not flights.was_stopped("a", 0)


def test_who_leaves_owes_no_answer() -> None:
    flights, a = Flights(), parent("a")
    flights.begin(a, flight(0))
    flights.stop(a, 0)
    flights.begin(a, flight(1))
    flights.leave(a)
    assert flights.count == 0
    assert not a.in_flight
    assert not flights.was_stopped("a", 0)
