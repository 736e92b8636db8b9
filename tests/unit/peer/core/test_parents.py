"""Book-keeping of parents: counts of holders, rates, and who must not come back."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.download import PIECE, parent_of, piece_of

from peer.core.limits import DownloadLimits
from peer.core.parents import Parents, ParentState

LENGTH = 6 * PIECE


def admitted(parents: Parents, name: str, *, seed: bool = False) -> ParentState:
    state = parents.admit(parent_of(name, seed=seed), 0.0)
    assert state is not None
    return state


def test_rate_is_unknown_then_measured_and_told() -> None:
    state = admitted(Parents(DownloadLimits()), "a")
    assert state.rate is None
    state.told_load(100.0, 20.0, 0.0)
    assert state.rate == pytest.approx(80.0)
    state.measure(2000, 1.0, 0.5)
    assert state.rate == pytest.approx((2000 * 80) ** 0.5)
    state.measure(1000, 1.0, 0.5)
    assert state.goodput == pytest.approx(1500.0)


def test_a_full_parent_still_counts_a_little() -> None:
    state = admitted(Parents(DownloadLimits()), "a")
    state.told_load(100.0, 500.0, 0.0)
    assert state.rate == pytest.approx(10.0)
    state.told_load(0.0, 0.0, 0.0)  # says nothing
    assert state.rate == pytest.approx(10.0)


def test_blamed_parents_are_remembered_up_to_a_bound() -> None:
    parents = Parents(DownloadLimits(max_parent_memory=3))
    for i in range(5):
        parents.blame(f"p{i}", "lies")
    assert [parents.is_blamed(f"p{i}") for i in range(5)] == [False, False, True, True, True]


def test_gone_is_told_once() -> None:
    parents = Parents(DownloadLimits())
    admitted(parents, "a")
    parents.remove("a")
    parents.remove("ghost")
    assert parents.take_gone() == ("a",)
    assert parents.take_gone() == ()


def test_a_flock_of_seeds_has_no_peers() -> None:
    parents = Parents(DownloadLimits())
    admitted(parents, "s", seed=True)
    assert not parents.has_peers
    admitted(parents, "p")
    assert parents.has_peers


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["offer", "forget", "everywhere", "remove"]),
            st.sampled_from("abS"),
            st.integers(0, 5),
        ),
        max_size=60,
    )
)
def test_counts_of_holders_agree_with_the_offers(steps: list[tuple[str, str, int]]) -> None:
    parents = Parents(DownloadLimits())
    for action, name, number in steps:
        state = parents.get(name) or admitted(parents, name, seed=name == "S")
        match action:
            case "offer":
                parents.offer(state, piece_of(number, LENGTH), 0.0)
            case "forget":
                parents.forget(state, number)
            case "everywhere":
                parents.forget_everywhere(number)
            case _:
                parents.remove(name)
        for n in range(6):
            holders = [p for p in parents if n in p.offers]
            assert parents.holders(n) == len(holders)
            assert parents.near_holders(n) == sum(not p.is_seed for p in holders)
            is_dear_only = bool(holders) and all(p.is_seed for p in holders)
            assert (n in parents.dear_only) == is_dear_only


def test_what_is_given_to_others_is_remembered_from_the_first_word_on() -> None:
    parents = Parents(DownloadLimits())
    state = admitted(parents, "seed", seed=True)
    parents.offer(state, piece_of(0, LENGTH), 0.0)
    for now in (10.0, 11.0):
        state.told_given([0, 5], now, 0.5)
    assert [state.is_given(0, now) for now in (11.0, 11.4, 11.5)] == [True, True, False]
    assert (state.given_for_s(0, 14.0), state.given_for_s(1, 14.0)) == (4.0, 0.0)
    assert not state.is_given(5, 11.0)  # it does not offer that one
    parents.forget_everywhere(0)
    assert not state.given


def test_a_refusal_does_not_shorten_a_longer_pause() -> None:
    """Who is past hope is left alone for long, whatever it says meanwhile."""
    parents = Parents(DownloadLimits())
    state = admitted(parents, "a")
    state.avoid_until = 10.0
    state.has_refused(1.0, DownloadLimits(), Random(1))
    assert state.avoid_until == 10.0
