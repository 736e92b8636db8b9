"""The piece grid: Dragonfly's lengths, and that pieces cover a content exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.piece import MIB, piece_at, piece_count, piece_length_for, pieces_of_range
from odonata.wire.message import ByteRange

GIB = 1024 * MIB


# The last content length of each step, reference behaviour of Dragonfly's client 1.5.1.
@pytest.mark.parametrize(
    ("content_length", "expected_mib"),
    [
        (0, 4),
        (1, 4),
        (4 * MIB, 4),
        (2_097_152_499, 4),
        (2_097_152_500, 8),
        (4_194_304_499, 8),
        (4_194_304_500, 16),
        (8_388_608_499, 16),
        (8_388_608_500, 32),
        (16_777_216_499, 32),
        (16_777_216_500, 64),
        (10**15, 64),
    ],
)
def test_lengths_are_those_of_dragonfly(content_length: int, expected_mib: int) -> None:
    assert piece_length_for(content_length) == expected_mib * MIB


@given(st.integers(0, 2**50))
def test_the_length_is_the_next_power_of_two_within_bounds(content_length: int) -> None:
    length = piece_length_for(content_length)
    share = content_length // 500
    assert 4 * MIB <= length <= 64 * MIB
    assert length.bit_count() == 1
    assert length >= share or length == 64 * MIB
    assert length < 2 * share or length == 4 * MIB


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_pieces_tile_the_content(content_length: int, piece_length: int) -> None:
    at = 0
    for number in range(piece_count(content_length, piece_length)):
        offset, length = piece_at(number, content_length, piece_length)
        assert offset == at
        assert 1 <= length <= piece_length
        at += length
    assert at == content_length


@pytest.mark.parametrize(
    ("content_length", "pieces"),
    [
        (0, []),
        (1, [(0, 1)]),
        (4 * MIB, [(0, 4 * MIB)]),
        (4 * MIB + 1, [(0, 4 * MIB), (4 * MIB, 1)]),
    ],
)
def test_sizes_at_the_edge(content_length: int, pieces: list[tuple[int, int]]) -> None:
    count = piece_count(content_length, 4 * MIB)
    assert [piece_at(number, content_length, 4 * MIB) for number in range(count)] == pieces


@given(st.data())
def test_a_range_needs_exactly_the_pieces_that_hold_its_bytes(data: st.DataObject) -> None:
    content_length = data.draw(st.integers(0, 200))
    piece_length = data.draw(st.integers(1, 40))
    start = data.draw(st.integers(0, max(content_length - 1, 0)))
    length = data.draw(st.integers(0, 250)) if content_length else 0
    numbers = pieces_of_range(ByteRange(start=start, length=length), content_length, piece_length)
    wanted = range(start, min(start + length, content_length))
    assert set(numbers) == {position // piece_length for position in wanted}


def test_no_range_means_everything() -> None:
    assert pieces_of_range(None, 9 * MIB, 4 * MIB) == range(3)
    assert pieces_of_range(None, 0, 4 * MIB) == range(0)


@pytest.mark.parametrize(
    "wanted",
    [
        ByteRange(start=-1, length=1),
        ByteRange(start=0, length=-1),
        ByteRange(start=10, length=1),
        ByteRange(start=11, length=0),
    ],
)
def test_a_range_outside_is_refused(wanted: ByteRange) -> None:
    with pytest.raises(CallerError, match="ask for bytes between 0 and 10"):
        pieces_of_range(wanted, 10, 4)


@pytest.mark.parametrize("number", [-1, 3])
def test_a_piece_outside_is_refused(number: int) -> None:
    with pytest.raises(CallerError, match="make 3 pieces"):
        piece_at(number, 10, 4)


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(CallerError, match="content length -1"):
        piece_length_for(-1)
    with pytest.raises(CallerError, match="piece length 0"):
        piece_count(10, 0)
