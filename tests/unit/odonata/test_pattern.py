"""Patterns of operators against text of strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.pattern import PATTERN_LENGTH_MAX, Pattern


def test_a_pattern_is_looked_for_anywhere() -> None:
    assert Pattern("blobs/sha256:[0-9a-f]+").found_in("http://r/v2/x/blobs/sha256:0a?ns=y")
    assert not Pattern("^blobs").found_in("http://r/v2/x/blobs")
    assert Pattern("é+$").found_in("http://r/café")


def test_a_text_made_to_make_it_backtrack_costs_nothing() -> None:
    # Python's own engine would try 2^65536 ways.
    assert not Pattern("(a+)+$").found_in("a" * 65_536 + "b")


@pytest.mark.parametrize(
    "text", ["(", "[z-a]", "(?=a)", r"(a)\1", "(a{1000}){1000}", "x{1001}", "\\p{Nothing}"]
)
def test_what_is_no_pattern_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(CallerError) as caught:
        Pattern(text)
    assert repr(text) in caught.value.detail
    assert "RE2" in caught.value.detail


def test_a_pattern_has_a_greatest_length() -> None:
    Pattern("a" * PATTERN_LENGTH_MAX)
    with pytest.raises(CallerError, match="4097 characters is too long: at most 4096"):
        Pattern("a" * (PATTERN_LENGTH_MAX + 1))


def test_a_pattern_that_needs_too_much_memory_is_refused() -> None:
    with pytest.raises(CallerError, match="RE2"):
        Pattern(r"(\pL{500}){2}\pL{500}(\pN{900}|\pS{900})")


@given(st.text(), st.text())
def test_no_text_of_a_stranger_makes_it_fail(before: str, after: str) -> None:
    assert Pattern("needle").found_in(f"{before}needle{after}")
    Pattern("a|[^b]+c").found_in(before)
