"""What is on a block list."""

from __future__ import annotations

import pytest

from odonata.block_list import BlockList, Blocks
from odonata.errors import CallerError
from odonata.wire.message import Download

BLOCKS = Blocks(
    BlockList(
        applications=("miner",), urls=("/private/", "^ftp:"), tags=("old",), priorities=(2, 3)
    )
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"application": "miner"}, "application 'miner'"),
        ({"application": "Miner"}, None),
        ({"tag": "old"}, "tag 'old'"),
        ({"tag": "older"}, None),
        ({"priority": 3}, "priority 3"),
        ({"priority": 0}, None),
        ({"url": "http://origin.test/private/x?token=abc"}, "its URL, by the pattern '/private/'"),
        ({"url": "ftp://origin.test/x"}, "its URL, by the pattern '^ftp:'"),
    ],
)
def test_why(fields: dict[str, object], expected: str | None) -> None:
    download = Download(**{"url": "http://origin.test/file", **fields})  # type: ignore[arg-type]
    assert BLOCKS.why(download) == expected


def test_an_empty_list_blocks_nothing_not_even_what_says_nothing() -> None:
    assert Blocks(BlockList()).why(Download(url="http://origin.test/file")) is None


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(CallerError, match="RE2"):
        Blocks(BlockList(urls=("(?=x)",)))
