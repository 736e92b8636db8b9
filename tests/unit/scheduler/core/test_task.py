"""What a task learns, and when its hopes end."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.scheduler_world import PIECE_LENGTH, World, download, host

from odonata.wire.dragonfly import parent_from_wire, parent_to_wire
from odonata.wire.message import Download, Parent, Piece
from scheduler.core.lifecycle import IllegalTransitionError, TaskTrigger
from scheduler.core.task import SeedFlight, Task


def task() -> Task:
    world = World()
    world.announce(host("h1"))
    world.register("p1", "h1")
    return world.task()


def piece(number: int, length: int = PIECE_LENGTH, offset: int | None = None) -> Piece:
    at = number * PIECE_LENGTH if offset is None else offset
    return Piece(number=number, offset=at, length=length)


def test_a_later_register_fills_in_the_size() -> None:
    known = task()
    assert known.facts().content_length is None
    known.learn(download(size=2 * PIECE_LENGTH + 1))
    assert known.facts().content_length == 2 * PIECE_LENGTH + 1
    assert known.facts().piece_count == 3
    known.learn(download(size=5))
    assert known.content_length == 2 * PIECE_LENGTH + 1


def test_a_short_last_piece_gives_the_size() -> None:
    known = task()
    known.learn_from_piece(piece(3))
    assert known.piece_length == PIECE_LENGTH
    assert known.facts().content_length is None
    known.learn_from_piece(piece(7, length=10))
    assert known.facts().content_length == 7 * PIECE_LENGTH + 10
    assert known.piece_count == 8


def test_a_first_piece_alone_proves_nothing() -> None:
    known = task()
    known.learn_from_piece(piece(0, length=10))
    assert known.content_length is None


def test_a_piece_out_of_place_proves_nothing() -> None:
    known = task()
    known.learn_from_piece(piece(1))
    known.learn_from_piece(piece(2, length=10, offset=5))
    known.learn_from_piece(piece(2, length=0))
    assert known.content_length is None


def test_a_refused_content_is_forgotten() -> None:
    known = task()
    known.learn(download(size=100))
    known.forget_content()
    assert known.facts().content_length is None
    assert known.piece_count == 0


def test_hopes_end_at_their_deadlines() -> None:
    known = task()
    known.to_source.clear()
    known.starting.update({"a": 1.0, "b": 3.0})
    known.to_source["c"] = 2.0
    assert known.next_deadline_s() == 1.0
    assert known.expire(2.0)
    assert known.starting == {"b": 3.0}
    assert not known.to_source
    assert not known.expire(2.5)
    assert known.next_deadline_s() == 3.0


def test_an_overdue_seed_is_no_hope_and_no_alarm() -> None:
    known = task()
    known.to_source.clear()
    flight = known.seed_flights["s"] = SeedFlight(host_id="s", started_at_s=0.0, deadline_s=5.0)
    assert known.next_deadline_s() == 5.0
    assert known.expire(5.0)
    assert flight.is_overdue
    assert known.next_deadline_s() is None
    assert not known.expire(6.0)


def test_illegal_step_tells_the_story() -> None:
    known = task()
    with pytest.raises(IllegalTransitionError, match="Pending -> Running"):
        known.move(TaskTrigger.DOWNLOAD, 1.0)


@pytest.mark.parametrize(
    "claims",
    [
        [Download(url="u", actual_content_length=2**63 - 1, actual_piece_length=PIECE_LENGTH)],
        [Download(url="u", actual_content_length=2**62, actual_piece_length=1)],
        [Download(url="u", actual_piece_count=2**32 - 1)],
    ],
)
def test_whatever_a_peer_claims_children_can_be_told(claims: list[Download]) -> None:
    known = task()
    for claim in claims:
        known.learn(claim)
    parent = Parent(peer_id="p", host=host("h"), state="Running", task=known.facts())
    assert parent_from_wire(parent_to_wire(parent)).task == known.facts()


@given(
    st.lists(
        st.builds(
            Piece,
            number=st.integers(0, 2**20 - 1),
            offset=st.integers(0, 2**64 - 1) | st.integers(0, 3),
            length=st.integers(0, 2**64 - 1) | st.integers(0, 3),
        ),
        max_size=4,
    )
)
@example([Piece(number=1, offset=2**64 - 1, length=0), Piece(number=1, offset=2**64 - 1, length=9)])
@example([Piece(number=1, offset=1, length=1), Piece(number=0, offset=0, length=1)])
def test_whatever_pieces_a_peer_claims_children_can_be_told(pieces: list[Piece]) -> None:
    known = task()
    for one in pieces:
        known.learn_from_piece(one)
    parent = Parent(peer_id="p", host=host("h"), state="Running", task=known.facts())
    parent_to_wire(parent)
