"""Pieces on their way from parents: how many, of which kind, and which of them were stopped.

Book-keeping only. Each parent has its flights (`ParentState.in_flight`); here is what they come to.
"""

from __future__ import annotations

from peer.core.parents import Flight, ParentState


class Flights:
    """Of one download."""

    def __init__(self) -> None:
        self._copies: dict[int, int] = {}  # piece -> flights of it
        self._count = 0
        self._passed_on = 0
        self._stopped: dict[tuple[str, int], int] = {}  # by us, answer still to come

    @property
    def count(self) -> int:
        """All, copies counted."""
        return self._count

    @property
    def passed_on(self) -> int:
        """Of these, what its parent was being sent, too, when it was asked for."""
        return self._passed_on

    @property
    def full(self) -> int:
        """Of these, what its parent had."""
        return self._count - self._passed_on

    def __contains__(self, number: object) -> bool:
        return number in self._copies

    def copies(self, number: int) -> int:
        """Flights of this piece."""
        return self._copies.get(number, 0)

    def begin(self, state: ParentState, flight: Flight) -> None:
        """The parent was asked."""
        number = flight.number
        state.in_flight[number] = flight
        self._copies[number] = self.copies(number) + 1
        self._count += 1
        self._passed_on += flight.is_passed_on

    def land(self, state: ParentState, number: int) -> Flight | None:
        """It is over; None: there was none."""
        flight = state.in_flight.pop(number, None)
        if flight is None:
            return None
        self._copies[number] -= 1
        self._count -= 1
        if not self._copies[number]:
            del self._copies[number]
        self._passed_on -= flight.is_passed_on
        return flight

    def stop(self, state: ParentState, number: int) -> bool:
        """We stop it: its answer is still to come. False: there was none."""
        if self.land(state, number) is None:
            return False
        key = state.peer_id, number
        self._stopped[key] = self._stopped.get(key, 0) + 1
        return True

    def was_stopped(self, peer_id: str, number: int) -> bool:
        """An answer is to a fetch that we stopped: answers come in the order of the questions."""
        key = peer_id, number
        left = self._stopped.pop(key, 0) - 1
        if left > 0:
            self._stopped[key] = left
        return left >= 0

    def leave(self, state: ParentState) -> None:
        """The parent is gone, and answers nothing any more."""
        for number in list(state.in_flight):
            self.land(state, number)
        for key in [key for key in self._stopped if key[0] == state.peer_id]:
            del self._stopped[key]
