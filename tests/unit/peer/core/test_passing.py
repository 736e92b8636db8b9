"""A piece that a parent is still being sent: whether it is asked for, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from support.download import PIECE, Script, kinds, of, parent_of, piece_of

from odonata.wire.message import PieceFailed
from peer.core.content import Content
from peer.core.effect import CancelPiece, CancelReason, DownloadEffect, FetchPiece
from peer.core.event import FailureReason, ParentLoad, ParentReceives, PieceProgress
from peer.core.limits import DownloadLimits
from peer.core.parents import Flight, Parents, ParentState
from peer.core.passing import choose_passed_on, tells_coming
from peer.core.selection import Choice, Situation

LENGTH = 8 * PIECE
UPLINK = 5e6


class Swarm:
    """Parents who say what their uplinks are, by hand."""

    def __init__(self, limits: DownloadLimits | None = None) -> None:
        self.limits = limits or DownloadLimits()
        self.parents = Parents(self.limits, "here")
        self.content = Content(piece_length=PIECE, wanted=None)
        self.content.learn(LENGTH, PIECE, {})
        self.taken: set[int] = set()

    def add(
        self, name: str, *coming: int, seed: bool = False, up: float | None = UPLINK, idc: str = ""
    ) -> ParentState:
        state = self.parents.admit(parent_of(name, seed=seed, idc=idc), 0.0)
        assert state is not None
        state.told_up = up
        state.coming = {number: piece_of(number, LENGTH) for number in coming}
        return state

    def choose(self, seed: int = 0, now: float = 0.0) -> Choice | None:
        situation = Situation(
            content=self.content,
            parents=self.parents,
            limits=self.limits,
            taken=self.taken.__contains__,
            reader=None,
            flights=0,
            dry_since=0.0,
        )
        return choose_passed_on(situation, Random(seed), now)

    def chosen(self) -> set[tuple[str, int]]:
        choices = (self.choose(seed) for seed in range(40))
        return {(one.parent.peer_id, one.number) for one in choices if one is not None}


def test_any_new_piece_of_any_parent() -> None:
    swarm = Swarm()
    swarm.add("a", 0, 1)
    swarm.add("b", 2)
    assert swarm.chosen() == {("a", 0), ("a", 1), ("b", 2)}


def test_not_what_somebody_near_has() -> None:
    swarm = Swarm()
    swarm.add("a", 0, 1)
    swarm.parents.offer(swarm.add("b"), piece_of(0, LENGTH), 0.0)
    swarm.parents.offer(swarm.add("s", seed=True), piece_of(1, LENGTH), 0.0)
    assert swarm.chosen() == {("a", 1)}, "a seed's way to us is scarce"


def test_not_what_is_held_on_its_way_or_broke_off_before() -> None:
    swarm = Swarm()
    swarm.add("a", 0, 1, 2, 3)
    swarm.content.hold(0)
    swarm.taken.add(1)
    swarm.parents.broken_off.add(2)
    assert swarm.chosen() == {("a", 3)}


def leaves(state: ParentState) -> None:
    state.leaving = True


def is_avoided(state: ParentState) -> None:
    state.avoid_until = 1.0


def has_refused(state: ParentState) -> None:
    state.pass_on_after = 1.0


def passes_on_two(state: ParentState) -> None:
    for number in (6, 7):
        flight = Flight(number=number, asked_at=0.0, deadline=9.0, is_passed_on=True)
        state.in_flight[number] = flight


@pytest.mark.parametrize("trouble", [leaves, is_avoided, has_refused, passes_on_two])
def test_not_of_a_parent_that_is_not_to_be_asked(trouble: Callable[[ParentState], None]) -> None:
    swarm = Swarm()
    trouble(swarm.add("a", 0))
    assert swarm.choose(now=0.5) is None


def test_not_of_whoever_is_far_away() -> None:
    swarm = Swarm()
    swarm.add("far", 0, idc="there")
    assert swarm.choose() is None


@pytest.mark.parametrize(
    ("seed_up", "is_needed"), [(UPLINK, True), (10 * UPLINK, False), (None, False)]
)
def test_only_where_the_seed_is_known_to_be_thin(seed_up: float | None, is_needed: bool) -> None:
    swarm = Swarm()
    swarm.add("a", 0)
    swarm.add("s", seed=True, up=seed_up)
    assert (swarm.choose() is not None) == is_needed


@pytest.mark.parametrize(
    ("seed_up", "is_told"), [(UPLINK, True), (10 * UPLINK, False), (None, True)]
)
def test_children_hear_of_what_comes_unless_the_seed_is_known_to_be_wide(
    seed_up: float | None, is_told: bool
) -> None:
    swarm = Swarm()
    swarm.add("a")
    assert tells_coming(swarm.parents), "nothing is known of any seed"
    swarm.add("s", seed=True, up=seed_up)
    assert tells_coming(swarm.parents) == is_told
    swarm.parents.remove("s")
    assert tells_coming(swarm.parents) == is_told, "as long as there is no other"
    swarm.add("t", seed=True)
    assert tells_coming(swarm.parents)


def test_nothing_is_asked_for_either_once_the_wide_seed_has_left() -> None:
    swarm = Swarm()
    swarm.add("a", 0)
    swarm.add("s", seed=True, up=10 * UPLINK)
    tells_coming(swarm.parents)
    swarm.parents.remove("s")
    assert swarm.choose() is None


# --- in a download --------------------------------------------------------------------------------


def swarming(limits: DownloadLimits | None = None, parents: str = "ab") -> Script:
    script = Script(length=LENGTH, limits=limits)
    script.swarm(*parents)
    for peer_id in parents:
        script(ParentLoad(peer_id=peer_id, max_rate_bytes_per_s=UPLINK, used_rate_bytes_per_s=0.0))
    return script


def receives(script: Script, peer_id: str, *numbers: int) -> list[FetchPiece]:
    pieces = tuple(piece_of(number, script.length) for number in numbers)
    return of(script(ParentReceives(peer_id=peer_id, pieces=pieces)), FetchPiece)


def test_it_is_asked_for_as_such() -> None:
    (fetch,) = receives(swarming(), "a", 3)
    assert (fetch.peer_id, fetch.number, fetch.length) == ("a", 3, PIECE)
    assert fetch.is_passed_on
    assert fetch.is_told
    assert not fetch.is_exclusive


def test_the_rule_can_be_switched_off() -> None:
    script = swarming(DownloadLimits(pass_on=False))
    assert not receives(script, "a", 3)
    assert not any(fetch.is_told for fetch in script.holds("a", 0) if isinstance(fetch, FetchPiece))


def test_what_a_parent_has_comes_first_and_beside_it() -> None:
    script = swarming()
    (full,) = of(script.holds("a", 0), FetchPiece)
    assert not full.is_passed_on
    (fetch,) = receives(script, "a", 3)
    assert fetch.is_passed_on, "a piece that is passed on takes no turn of its parent's"
    assert of(script.stored("a", 0), FetchPiece) == []
    (again,) = of(script.holds("a", 1), FetchPiece)
    assert (again.number, again.is_passed_on) == (1, False)


def test_so_many_from_one_parent_and_in_all() -> None:
    script = swarming(DownloadLimits(max_passed_on=3))
    assert len(receives(script, "a", 0, 1, 2)) == 2
    assert len(receives(script, "b", 3, 4, 5)) == 1


def test_a_piece_that_the_parent_has_by_now_is_no_longer_passed_on() -> None:
    script = swarming()
    asked = {fetch.number for fetch in receives(script, "a", 0, 1, 2)}
    (other,) = {0, 1, 2} - asked
    (fetch,) = of(script.holds("a", other), FetchPiece)
    assert (fetch.number, fetch.is_passed_on) == (other, False)


def test_who_refuses_is_left_alone_longer_each_time() -> None:
    script = swarming(parents="a")
    pauses: list[float] = []
    receives(script, "a", 0)
    for _ in range(3):
        before = script.now
        assert not of(script.failed("a", 0, FailureReason.REFUSED), FetchPiece)
        assert script.tick_until(FetchPiece).is_passed_on
        pauses.append(script.now - before)
    assert pauses[0] == pytest.approx(0.5, rel=0.25)
    assert pauses[0] < pauses[1] < pauses[2]


def test_a_refusal_to_pass_on_is_no_reason_not_to_ask_for_what_it_has() -> None:
    script = swarming(parents="a")
    receives(script, "a", 0)
    script.failed("a", 0, FailureReason.REFUSED)
    (fetch,) = of(script.holds("a", 1), FetchPiece)
    assert (fetch.peer_id, fetch.number) == ("a", 1)


def test_what_it_has_lost_another_one_may_pass_on() -> None:
    script = swarming()
    receives(script, "a", 0)
    script.failed("a", 0, FailureReason.NOT_FOUND)
    (fetch,) = receives(script, "b", 0)
    assert fetch.peer_id == "b"


def test_what_broke_off_is_waited_for_until_somebody_has_it() -> None:
    script = swarming()
    receives(script, "a", 0)
    assert not of(script.failed("a", 0, FailureReason.BROKEN_OFF), FetchPiece)
    assert not receives(script, "b", 0)
    (fetch,) = of(script.holds("b", 0), FetchPiece)
    assert (fetch.peer_id, fetch.is_passed_on) == ("b", False)


@pytest.mark.parametrize(
    "reason", [FailureReason.REFUSED, FailureReason.NOT_FOUND, FailureReason.BROKEN_OFF]
)
def test_nobody_is_blamed(reason: FailureReason) -> None:
    script = swarming(parents="a")
    for number in range(8):
        if receives(script, "a", number):
            told = script.failed("a", number, reason)
            assert "DropParent" not in kinds(told)
    assert not [message for message in script.said if isinstance(message, PieceFailed)]


def test_wrong_bytes_are_blamed_all_the_same() -> None:
    script = swarming()
    receives(script, "a", 0)
    assert "DropParent" in kinds(script.failed("a", 0, FailureReason.DIGEST))


@pytest.mark.parametrize("is_passed_on", [False, True])
def test_it_is_no_measure_of_its_parent(is_passed_on: bool) -> None:
    """One whose pieces are quick has several in flight."""
    script = swarming(parents="a")
    if is_passed_on:
        receives(script, "a", 0)
    else:
        script.holds("a", 0)
    script.stored("a", 0, took_s=0.01)
    assert len(of(script.holds("a", 1, 2, 3), FetchPiece)) == (1 if is_passed_on else 3)


def test_a_list_that_ends_takes_its_promises_along() -> None:
    script = swarming(DownloadLimits(max_passed_on=1))
    receives(script, "a", 0)
    receives(script, "b", 1)
    script.ended("b", finished=False)
    assert not of(script.stored("a", 0), FetchPiece)


def test_a_piece_of_another_grid_is_blamed() -> None:
    script = swarming()
    wrong = piece_of(0, LENGTH, PIECE // 2)
    assert "DropParent" in kinds(script(ParentReceives(peer_id="a", pieces=(wrong,))))


def crawling(script: Script, rate: int, span_s: int) -> list[DownloadEffect]:
    """Piece 1 comes from "a" at `rate` bytes per second; what the download does meanwhile."""
    told: list[DownloadEffect] = []
    for second in range(1, span_s + 1):
        told += script.wait(1.0)
        step = PieceProgress(peer_id="a", number=1, began_s=second, received=rate * second)
        told += script(step)
    return told


def test_as_long_as_it_moves_and_nobody_has_it_it_is_left_to_go_on() -> None:
    script = swarming()
    script.holds("a", 0)
    script.stored("a", 0, took_s=1.0)
    receives(script, "a", 1)
    assert not of(crawling(script, PIECE // 4, 3), CancelPiece)


def test_at_a_crawl_it_is_had_in_another_way() -> None:
    script = swarming()
    script.holds("a", 0)
    script.stored("a", 0, took_s=1.0)
    receives(script, "a", 1)
    (stopped,) = of(crawling(script, PIECE // 40, 6), CancelPiece)
    assert (stopped.peer_id, stopped.number, stopped.reason) == ("a", 1, CancelReason.LATE)
    assert not receives(script, "b", 1)
    (fetch,) = of(script.holds("b", 1), FetchPiece)
    assert not fetch.is_passed_on


def test_what_somebody_has_by_now_is_had_from_there_if_that_is_sooner() -> None:
    script = swarming()
    script.holds("a", 0)
    script.stored("a", 0, took_s=1.0)
    receives(script, "a", 1)
    told = script.holds("b", 1) + crawling(script, PIECE // 8, 4)
    assert of(told, CancelPiece)
    (fetch,) = of(told, FetchPiece)
    assert (fetch.peer_id, fetch.number) == ("b", 1)
