"""Range headers, held against what slicing gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.wire.message import ByteRange
from peer.core.proxy_range import (
    RangeWish,
    content_range,
    content_range_unsatisfied,
    multipart,
    parse_range,
    parse_ranges,
    parts_within,
)

LENGTHS = st.integers(min_value=0, max_value=2**40)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("bytes=0-0", RangeWish(start=0, end=1)),
        ("bytes=0-499", RangeWish(start=0, end=500)),
        ("Bytes=5-", RangeWish(start=5)),
        ("bytes=-7", RangeWish(suffix=7)),
        ("bytes=-0", RangeWish(suffix=0)),
        (" bytes= 5-9 ", RangeWish(start=5, end=10)),
        ("bytes=,5-9,", RangeWish(start=5, end=10)),
        ("bytes=007-9", RangeWish(start=7, end=10)),
        ("bytes=0-" + "9" * 5000, RangeWish(start=0, end=10**18)),
    ],
)
def test_one_range_is_read(text: str, wish: RangeWish) -> None:
    assert parse_range(text) == wish


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=9-5",
        "bytes=0-1,5-6",
        "bytes=a-b",
        "bytes=1-2-3",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=\u0661-\u0662",
        "items=0-5",
        "0-5",
    ],
)
def test_what_is_no_single_range_of_bytes_means_everything(text: str | None) -> None:
    assert parse_range(text) is None


@pytest.mark.parametrize(
    ("text", "length", "part"),
    [
        ("bytes=0-", 10, ByteRange(start=0, length=10)),
        ("bytes=0-99", 10, ByteRange(start=0, length=10)),
        ("bytes=9-9", 10, ByteRange(start=9, length=1)),
        ("bytes=10-", 10, None),
        ("bytes=10-20", 10, None),
        ("bytes=-3", 10, ByteRange(start=7, length=3)),
        ("bytes=-30", 10, ByteRange(start=0, length=10)),
        ("bytes=-0", 10, None),
        ("bytes=0-", 0, None),
        ("bytes=0-5", 0, None),
        ("bytes=-5", 0, None),
    ],
)
def test_the_part_of_a_content(text: str, length: int, part: ByteRange | None) -> None:
    wish = parse_range(text)
    assert wish is not None
    assert wish.within(length) == part


@given(start=LENGTHS, size=st.integers(min_value=1, max_value=2**40), length=LENGTHS)
def test_a_closed_range_is_what_slicing_gives(start: int, size: int, length: int) -> None:
    wish = parse_range(f"bytes={start}-{start + size - 1}")
    assert wish is not None
    assert wish.closed == ByteRange(start=start, length=size)
    _assert_slice(wish, range(length)[start : start + size], length)


@given(start=LENGTHS, length=LENGTHS)
def test_an_open_range_is_what_slicing_gives(start: int, length: int) -> None:
    wish = parse_range(f"bytes={start}-")
    assert wish is not None
    assert wish.closed is None
    _assert_slice(wish, range(length)[start:], length)


@given(suffix=st.integers(min_value=1, max_value=2**41), length=LENGTHS)
def test_a_suffix_is_what_slicing_gives(suffix: int, length: int) -> None:
    wish = parse_range(f"bytes=-{suffix}")
    assert wish is not None
    assert wish.closed is None
    _assert_slice(wish, range(length)[-suffix:], length)


@given(text=st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    wish = parse_range(f"bytes={text}")
    if wish is not None:
        wish.within(100)


def test_headers_of_the_answer() -> None:
    assert content_range(ByteRange(start=5, length=10), 100) == "bytes 5-14/100"
    assert content_range_unsatisfied(100) == "bytes */100"


def _assert_slice(wish: RangeWish, expected: range, length: int) -> None:
    part = wish.within(length)
    if not expected:
        assert part is None
    else:
        assert part == ByteRange(start=expected.start, length=len(expected))


# --- several --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("bytes=0-1,5-6", (RangeWish(start=0, end=2), RangeWish(start=5, end=7))),
        ("bytes = 0-1 , -5 ,, 9-", (RangeWish(end=2), RangeWish(suffix=5), RangeWish(start=9))),
        ("bytes=0-1", ()),
        ("bytes=0-1,", ()),
        ("bytes=0-1,x", ()),
        ("bytes=0-1,9-5", ()),
        ("items=0-1,2-3", ()),
        ("bytes=" + "0-0," * 17, ()),
        ("", ()),
        (None, ()),
    ],
)
def test_several_ranges_are_read_or_none(text: str | None, wishes: tuple[RangeWish, ...]) -> None:
    assert parse_ranges(text) == wishes


def test_parts_that_are_longer_together_than_the_content_are_not_sent_as_parts() -> None:
    wishes = parse_ranges("bytes=0-9,5-14,90-200")
    assert parts_within(wishes, 100) == [
        ByteRange(start=0, length=10),
        ByteRange(start=5, length=10),
        ByteRange(start=90, length=10),
    ]
    assert parts_within(wishes, 12) is None
    assert parts_within(wishes, 4) == [ByteRange(start=0, length=4)]
    assert parts_within(parse_ranges("bytes=9-10,11-12"), 5) == []


@given(st.lists(st.integers(0, 99), min_size=2, max_size=5), st.sampled_from([None, "text/x"]))
def test_the_length_is_what_is_sent(starts: list[int], kind: str | None) -> None:
    content = bytes(range(100))
    parts = [ByteRange(start=start, length=min(7, 100 - start)) for start in starts]
    body = multipart(parts, 100, kind, "b0")
    sent = b"".join(
        head + content[part.start : part.start + part.length] for head, part in body.parts
    )
    assert len(sent + body.end) == body.length
    assert body.content_type == "multipart/byteranges; boundary=b0"
