"""What the ends of a stream tell each other in metadata."""

import pytest

from odonata.wire.dragonfly.feature import (
    FEATURES_KEY,
    MAX_SHARE_COUNT,
    SHARE_KEY,
    TAKES_NEWS,
    UNSIZED_REGISTER,
    WRITES_PIECES,
    features_in,
    share_in,
    share_to_metadata,
)
from odonata.wire.message import SourceShare


def test_names_are_read_from_one_entry_or_several() -> None:
    both = frozenset((TAKES_NEWS, WRITES_PIECES))
    assert features_in([(FEATURES_KEY, f"{TAKES_NEWS}, {WRITES_PIECES}")]) == both
    assert features_in([(FEATURES_KEY, TAKES_NEWS), (FEATURES_KEY, WRITES_PIECES)]) == both


def test_other_metadata_says_nothing() -> None:
    assert features_in(None) == frozenset()
    assert features_in([("user-agent", UNSIZED_REGISTER), ("x-bin", b"\xff")]) == frozenset()


def test_a_share_comes_back_as_it_went() -> None:
    share = SourceShare(index=2, count=MAX_SHARE_COUNT)
    assert share_in((("user-agent", "x"), *share_to_metadata(share))) == share
    assert share_to_metadata(None) == ()
    assert share_in(None) is None


@pytest.mark.parametrize("said", ["2/2", "0/1", "1", "-1/2", "0/17", "a/b", "0/2/3", b"\xff", ""])
def test_a_share_that_can_not_be_is_not_believed(said: str | bytes) -> None:
    assert share_in([(SHARE_KEY, said)]) is None
