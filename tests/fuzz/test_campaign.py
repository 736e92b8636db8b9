"""The campaign itself: it finds what there is to find, says how to find it again, and ends."""

from __future__ import annotations

import time

import pytest
from hypothesis import strategies as st
from support.fuzzing import Campaign, cut_up, damage

KINDS = ("flip", "cut", "insert", "overwrite", "repeat", "drop")


def test_the_same_examples_each_time() -> None:
    seen: list[list[int]] = [[], []]
    for drawn in seen:
        Campaign(is_long=False).run(drawn.append, st.integers(), examples=20)
    assert len(seen[0]) == 20
    assert seen[0] == seen[1]


def test_a_long_one_finds_what_is_rare_and_names_its_seed() -> None:
    def check(number: int) -> None:
        assert number < 10_000

    with pytest.raises(AssertionError) as failure:
        Campaign(is_long=True).run(check, st.integers(0, 2**20), examples=1)
    assert any(note.startswith("hypothesis seed ") for note in failure.value.__notes__)


def test_a_long_one_ends_when_its_time_is_over() -> None:
    began_s = time.monotonic()
    drawn: list[int] = []
    Campaign(is_long=True, long_s=0.2).run(drawn.append, st.integers(), examples=1)
    assert drawn
    assert time.monotonic() - began_s < 20


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_damage_changes_something(kind: str) -> None:
    assert damage(b"0123456789", [(kind, 3, b"ab")]) != b"0123456789"


def test_parts_make_the_whole() -> None:
    assert b"".join(cut_up(b"0123456789", [3, 1])) == b"0123456789"
    assert cut_up(b"abc", []) == [b"abc"]
