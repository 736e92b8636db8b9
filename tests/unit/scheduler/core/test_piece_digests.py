"""What is known of the bytes of a task's pieces."""

from __future__ import annotations

import pytest

from scheduler.core.piece_digests import MAX_PIECES, PieceDigests, crc_of


def test_what_the_source_sent_is_remembered_by_piece() -> None:
    digests = PieceDigests()
    digests.learn(3, "crc32:7")
    assert digests.get(3) == 7
    assert digests.agrees(3, "crc32:7") is True
    assert digests.agrees(3, "crc32:8") is False
    assert digests.get(2) is digests.get(4) is digests.get(-1) is None
    assert digests.agrees(2, "crc32:7") is None
    assert digests.agrees(3, "") is None


def test_of_what_two_say_differently_nothing_is_known() -> None:
    digests = PieceDigests()
    for digest in ("crc32:7", "crc32:8", "crc32:7"):
        digests.learn(0, digest)
    assert digests.get(0) is None
    assert digests.agrees(0, "crc32:7") is None


def test_there_is_a_bound_on_what_anybody_can_make_it_remember() -> None:
    digests = PieceDigests()
    digests.learn(MAX_PIECES, "crc32:1")
    digests.learn(-1, "crc32:1")
    assert len(digests) == 0
    digests.learn(MAX_PIECES - 1, "crc32:1")
    assert len(digests) == MAX_PIECES
    digests.clear()
    assert digests.get(MAX_PIECES - 1) is None


@pytest.mark.parametrize(
    ("digest", "value"),
    [
        ("crc32:0", 0),
        ("crc32:4294967295", 2**32 - 1),
        ("crc32:4294967296", None),
        ("crc32:", None),
        ("crc32:-1", None),
        ("crc32:00000000001", None),
        ("crc32:\u0661", None),
        ("sha256:00", None),
        ("7", None),
    ],
)
def test_only_a_crc32_is_a_number(digest: str, value: int | None) -> None:
    assert crc_of(digest) == value
