"""What the ends of a stream tell each other in metadata."""

from odonata.wire.dragonfly.feature import (
    FEATURES_KEY,
    TAKES_NEWS,
    UNSIZED_REGISTER,
    WRITES_PIECES,
    features_in,
)


def test_names_are_read_from_one_entry_or_several() -> None:
    both = frozenset((TAKES_NEWS, WRITES_PIECES))
    assert features_in([(FEATURES_KEY, f"{TAKES_NEWS}, {WRITES_PIECES}")]) == both
    assert features_in([(FEATURES_KEY, TAKES_NEWS), (FEATURES_KEY, WRITES_PIECES)]) == both


def test_other_metadata_says_nothing() -> None:
    assert features_in(None) == frozenset()
    assert features_in([("user-agent", UNSIZED_REGISTER), ("x-bin", b"\xff")]) == frozenset()
