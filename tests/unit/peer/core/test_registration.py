"""What a Register says, and when none is sent."""

from __future__ import annotations

import pytest
from support.download import PIECE, URL

from odonata.wire.message import ByteRange, Download
from peer.core.content import Content
from peer.core.registration import introduction, why_not_register

PLAIN = Download(url=URL)


def content_of(length: int | None) -> Content:
    content = Content(piece_length=None, wanted=None)
    if length is not None:
        content.learn(length, PIECE, {})
    return content


def test_nothing_known_nothing_told() -> None:
    assert introduction(PLAIN, content_of(None), metadata_only=False) == PLAIN


def test_what_is_known_is_told() -> None:
    told = introduction(PLAIN, content_of(PIECE + 1), metadata_only=True)
    assert told.metadata_only
    assert told.actual_content_length == PIECE + 1
    assert (told.actual_piece_length, told.actual_piece_count) == (PIECE, 2)
    assert told.url == URL


@pytest.mark.parametrize("length", [None, 0, 1, 100 * PIECE])
def test_our_scheduler_is_always_asked(length: int | None) -> None:
    assert why_not_register(PLAIN, length, needs_size=False, small_bytes=PIECE) == ""


@pytest.mark.parametrize(
    ("download", "length", "asked"),
    [
        (PLAIN, PIECE, False),
        (PLAIN, PIECE + 1, True),
        (PLAIN, None, False),
        (Download(url=URL, range=ByteRange(start=0, length=PIECE)), 9 * PIECE, False),
        (Download(url=URL, range=ByteRange(start=0, length=PIECE + 1)), 9 * PIECE, True),
        (Download(url=URL, need_back_to_source=True), 1, True),
        (Download(url=URL, need_back_to_source=True), None, False),
    ],
)
def test_other_schedulers_are_asked_for_what_is_worth_it(
    download: Download, length: int | None, *, asked: bool
) -> None:
    why_not = why_not_register(download, length, needs_size=True, small_bytes=PIECE)
    assert (why_not == "") is asked
