"""Held, wanted, missing: against sets of bytes, around every boundary of the grid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from odonata.piece import MIB, PIECE_LENGTH_MIN, piece_at, piece_count, piece_length_for
from odonata.wire.message import ByteRange, Piece
from peer.core.content import Content

LENGTH = 10


def content(*, wanted: ByteRange | None = None, piece_length: int | None = 4) -> Content:
    return Content(piece_length=piece_length, wanted=wanted)


def known(length: int = LENGTH, wanted: ByteRange | None = None) -> Content:
    made = content(wanted=wanted)
    made.learn(length, None, {})
    return made


def test_nothing_is_known_at_first() -> None:
    made = content(piece_length=None)
    assert not made.complete
    assert not made.whole
    assert made.count is None
    assert made.missing() is None
    assert made.lacks(7)
    assert not made.lacks(-1)
    assert made.span(0) == (None, None)


def test_learning_tells_once() -> None:
    made = content()
    learned = made.learn(LENGTH, None, {"Etag": "x"})
    assert learned is not None
    assert (learned.content_length, learned.piece_length) == (LENGTH, 4)
    assert learned.response_header == {"Etag": "x"}
    assert made.learn(LENGTH, 4, {}) is None
    assert made.missing() == [0, 1, 2]


def test_unknown_length_then_known() -> None:
    made = content(piece_length=None)
    first = made.learn(None, None, {"A": "1"})
    assert first is not None
    assert (first.content_length, first.piece_length) == (None, PIECE_LENGTH_MIN)
    made.hold(0)
    assert made.missing() is None
    assert made.first_missing_from(0) == 1
    assert made.span(3) == (3 * PIECE_LENGTH_MIN, None)
    second = made.learn(PIECE_LENGTH_MIN, None, {})
    assert second is not None
    assert second.response_header == {"A": "1"}
    assert made.complete
    assert made.whole


def test_piece_length_of_others_counts_before_the_rule() -> None:
    made = content(piece_length=None)
    learned = made.learn(LENGTH, 8, {})
    assert learned is not None
    assert learned.piece_length == 8


def test_the_rule_begins_where_the_operator_says() -> None:
    made = Content(piece_length=None, wanted=None, least_piece_length=256 * 1024)
    made.learn(64 * MIB, None, {})
    assert (made.piece_length, made.count) == (256 * 1024, 256)
    again = Content(piece_length=None, wanted=None, least_piece_length=256 * 1024)
    again.resume(64 * MIB, None, ())
    assert again.piece_length == 256 * 1024
    large = Content(piece_length=None, wanted=None, least_piece_length=256 * 1024)
    large.learn(4 * 1024 * MIB, None, {})
    assert large.piece_length == piece_length_for(4 * 1024 * MIB)


def test_contradictions() -> None:
    made = known()
    assert made.contradiction(LENGTH, 4) is None
    assert made.contradiction(None, None) is None
    assert "content length 11" in (made.contradiction(11, None) or "")
    assert "piece length 5" in (made.contradiction(None, 5) or "")
    assert made.contradiction(-1, None) is not None
    assert made.contradiction(None, 0) is not None
    unknown = content()
    unknown.resume(None, 4, (3,))
    assert "piece 3 is held" in (unknown.contradiction(8, None) or "")
    assert unknown.contradiction(13, None) is None


def test_misfits() -> None:
    made = known()
    assert made.misfit(Piece(number=2, offset=8, length=2)) is None
    assert made.misfit(Piece(number=2, offset=8, length=4)) is not None
    assert made.misfit(Piece(number=1, offset=5, length=4)) is not None
    assert made.misfit(Piece(number=3, offset=12, length=4)) is not None
    assert made.misfit(Piece(number=-1, offset=-4, length=4)) is not None
    unknown = content()
    assert unknown.misfit(Piece(number=9, offset=36, length=3)) is None
    assert unknown.misfit(Piece(number=9, offset=36, length=5)) is not None
    assert unknown.misfit(Piece(number=9, offset=36, length=0)) is not None


def test_range_outside_the_content_wants_nothing() -> None:
    made = known(wanted=ByteRange(start=50, length=5))
    assert made.missing() == []
    assert made.complete
    assert not made.whole


def test_ranges_of_unknown_length() -> None:
    made = content(wanted=ByteRange(start=3, length=2))
    made.learn(None, None, {})
    assert made.missing() == [0, 1]
    made.hold(0)
    made.hold(1)
    assert made.complete
    made.want(None)
    assert made.missing() is None


def test_resume() -> None:
    made = content()
    made.resume(LENGTH, 4, (0, 2))
    assert made.missing() == [1]
    assert made.learn(LENGTH, 4, {}) is None
    assert not made.hold(2)
    assert made.hold(1)
    assert made.whole


@given(
    length=st.integers(0, 41),
    piece_length=st.integers(1, 9),
    ranges=st.lists(st.tuples(st.integers(0, 45), st.integers(0, 45)), max_size=3),
    held=st.sets(st.integers(0, 40)),
)
def test_missing_is_what_wanted_bytes_touch(
    length: int, piece_length: int, ranges: list[tuple[int, int]], held: set[int]
) -> None:
    wanted = [ByteRange(start=start, length=size) for start, size in ranges]
    first = wanted[0] if wanted else None
    made = Content(piece_length=piece_length, wanted=first)
    for more in wanted[1:]:
        made.want(more)
    made.learn(length, None, {})
    count = piece_count(length, piece_length)
    for number in held:
        if number < count:
            made.hold(number)
    spans = [(w.start, w.start + w.length) for w in wanted] or [(0, length)]
    naive: set[int] = set()
    for number in range(count):
        offset, size = piece_at(number, length, piece_length)
        touched = any(max(offset, a) < min(offset + size, b) for a, b in spans)
        if touched and number not in held:
            naive.add(number)
    assert set(made.missing() or ()) == naive
    assert made.complete == (not naive)
    assert all(made.lacks(n) == (n in naive) for n in range(count + 2))


def test_what_is_wanted_already_is_not_wanted_twice() -> None:
    content = Content(piece_length=PIECE_LENGTH_MIN, wanted=ByteRange(start=0, length=1))
    content.learn(4 * PIECE_LENGTH_MIN, PIECE_LENGTH_MIN, {})
    for _ in range(3):
        content.want(ByteRange(start=0, length=1))
    assert len(content.wanted) == 1
    content.want(None)
    content.want(ByteRange(start=PIECE_LENGTH_MIN, length=1))
    assert content.wanted == (None,), "everything, and whatever else is in it"
    assert content.missing() == [0, 1, 2, 3]
