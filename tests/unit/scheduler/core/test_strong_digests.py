"""Whose word on the pieces of a task is believed."""

from __future__ import annotations

import pytest

from odonata.digest import STRONG_DIGEST_BYTES
from odonata.wire.digest_list import unpack
from scheduler.core.strong_digests import CHANGES_MAX, MAX_PIECES, TELLERS_MAX, Rank, StrongDigests

A, B, C = (letter * STRONG_DIGEST_BYTES for letter in (b"a", b"b", b"c"))


def test_what_one_tells_is_known_until_it_is_withdrawn() -> None:
    digests = StrongDigests()
    assert digests.learn(3, A, "h", Rank.SENT) == []
    assert (digests.get(3), digests.rank(3)) == (A, Rank.SENT)
    assert (digests.get(2), digests.rank(2)) == (b"", None)
    digests.withdraw("h")
    assert (digests.get(3), digests.rank(3)) == (b"", None)
    digests.learn(3, A, "h", Rank.SEED)
    assert digests.get(3) == b"", "who has lied is not believed again"
    digests.withdraw("nobody")


@pytest.mark.parametrize("rank", [Rank.VOLUNTEER, Rank.SENT, Rank.SEED])
def test_two_of_one_rank_that_differ_are_believed_neither(rank: Rank) -> None:
    digests = StrongDigests()
    digests.learn(0, A, "x", rank)
    assert digests.learn(0, B, "y", rank) == []
    assert digests.get(0) == b""


def test_a_third_settles_it_and_contradicts_who_told_otherwise() -> None:
    digests = StrongDigests()
    digests.learn(0, A, "x", Rank.SENT)
    digests.learn(0, B, "y", Rank.SENT)
    assert digests.learn(0, C, "v", Rank.SENT) == []
    assert sorted(digests.learn(0, B, "z", Rank.SENT)) == ["v", "x"]
    assert digests.get(0) == B


def test_a_liar_can_not_settle_it_by_saying_so_again() -> None:
    digests = StrongDigests()
    digests.learn(0, A, "x", Rank.SENT)
    for _ in range(3):
        assert digests.learn(0, B, "liar", Rank.SENT) == []
    assert digests.get(0) == b""


@pytest.mark.parametrize("first_is_higher", [True, False])
def test_the_higher_rank_stands_whoever_comes_first(first_is_higher: bool) -> None:
    digests = StrongDigests()
    words = [(A, "seed", Rank.SEED), (B, "peer", Rank.SENT)]
    contradicted = [
        digests.learn(0, *word) for word in (words if first_is_higher else reversed(words))
    ]
    assert contradicted == [[], ["peer"]]
    assert (digests.get(0), digests.rank(0)) == (A, Rank.SEED)


def test_many_of_a_lower_rank_do_not_outweigh_a_seed() -> None:
    digests = StrongDigests()
    digests.learn(0, A, "seed", Rank.SEED)
    for number in range(10):
        assert digests.learn(0, B, f"p{number}", Rank.SENT) == [f"p{number}"]
    assert digests.get(0) == A


def test_a_seed_that_agrees_lends_its_rank() -> None:
    digests = StrongDigests()
    digests.learn(0, A, "peer", Rank.SENT)
    digests.learn(0, A, "seed", Rank.SEED)
    assert digests.rank(0) is Rank.SEED
    digests.withdraw("peer")
    assert digests.get(0) == A


def test_a_withdrawn_word_settles_nothing() -> None:
    digests = StrongDigests()
    digests.learn(0, A, "x", Rank.SENT)
    digests.learn(0, B, "y", Rank.SENT)
    digests.withdraw("x")
    assert digests.learn(0, C, "z", Rank.SENT) == []
    digests.learn(0, C, "w", Rank.SENT)
    assert digests.get(0) == C


def test_news_are_what_was_not_told_yet() -> None:
    digests = StrongDigests()
    digests.learn(5, A, "x", Rank.SENT)
    digests.learn(1, B, "x", Rank.SENT)
    told, since = digests.news(0, 100)
    assert unpack(told) == {5: A, 1: B}
    assert digests.news(since, 100) == (b"", since)
    digests.learn(5, C, "seed", Rank.SEED)
    digests.withdraw("x")
    told, since = digests.news(since, 100)
    assert unpack(told) == {5: C, 1: b""}
    assert since == digests.change_count


def test_news_come_in_parts_of_a_bounded_size() -> None:
    digests = StrongDigests()
    for number in range(10):
        digests.learn(number, A, "x", Rank.SENT)
    told, since = digests.news(0, 4)
    assert list(unpack(told)) == [0, 1, 2, 3]
    assert list(unpack(digests.news(since, 100)[0])) == [4, 5, 6, 7, 8, 9]


def test_clearing_takes_everything_back() -> None:
    digests = StrongDigests()
    digests.learn(5, A, "x", Rank.SENT)
    digests.learn(6, A, "x", Rank.SENT)
    digests.learn(6, B, "y", Rank.SENT)
    _, since = digests.news(0, 100)
    digests.clear()
    assert digests.get(5) == b""
    assert unpack(digests.news(since, 100)[0]) == {5: b"", 6: b""}
    assert digests.learn(6, B, "y", Rank.SENT) == []
    assert digests.get(6) == B, "it is another content"


def test_there_is_a_bound_on_what_anybody_can_make_it_remember() -> None:
    digests = StrongDigests()
    digests.learn(-1, A, "x", Rank.SENT)
    digests.learn(MAX_PIECES, A, "x", Rank.SENT)
    assert digests.change_count == 0
    for number in range(TELLERS_MAX + 5):
        digests.learn(number, A, f"h{number}", Rank.SENT)
    assert digests.change_count == TELLERS_MAX
    assert digests.get(TELLERS_MAX) == b""


def test_changes_come_to_an_end() -> None:
    digests = StrongDigests()
    for _ in range(CHANGES_MAX // MAX_PIECES + 2):
        for number in range(MAX_PIECES):
            digests.learn(number, A, "x", Rank.SENT)
        digests.clear()
    assert digests.change_count <= CHANGES_MAX + MAX_PIECES


@pytest.mark.parametrize("step", [1, 2, 3, 63, 64, 65])
def test_a_newcomer_is_told_everything_that_is_known(step: int) -> None:
    digests = StrongDigests()
    numbers = [number for number in range(300) if number % step == 0 or number % 7 == 0]
    for number in numbers:
        digests.learn(number, bytes([number % 255 + 1]) * STRONG_DIGEST_BYTES, "x", Rank.SENT)
    digests.learn(0, B, "y", Rank.SENT)  # disputed
    known = {number: digests.get(number) for number in numbers if number}
    parts = digests.everything(64)
    assert {n: one for part in parts for n, one in unpack(part).items()} == known
    assert max(len(unpack(part)) for part in parts) <= 64
    assert sum(map(len, digests.everything(1000))) <= len(known) * 40
    assert StrongDigests().everything(64) == []
