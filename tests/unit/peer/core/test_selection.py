"""The second stage as a pure choice: parent by spare rate, rarest piece, seeds last."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from support.download import PIECE, parent_of, piece_of

from odonata.wire.message import FarShare
from peer.core.content import Content
from peer.core.limits import DownloadLimits
from peer.core.parents import Flight, Parents, ParentState
from peer.core.selection import Choice, Reader, Situation, by_spare_rate, choose, choose_helper

COUNT = 8
LENGTH = COUNT * PIECE


class Swarm:
    """A few parents, built by hand."""

    def __init__(self, limits: DownloadLimits | None = None) -> None:
        self.limits = limits or DownloadLimits()
        self.parents = Parents(self.limits)
        self.content = Content(piece_length=PIECE, wanted=None)
        self.content.learn(LENGTH, PIECE, {})
        self.taken: set[int] = set()
        self.reader: Reader | None = None
        self.flights = 0
        self.dry_since = 0.0
        self.far_share: FarShare | None = None
        self.may_help = False

    def add(
        self, name: str, *numbers: int, seed: bool = False, rate: float = 1e6, idc: str = ""
    ) -> ParentState:
        state = self.parents.admit(parent_of(name, seed=seed, idc=idc), 0.0)
        assert state is not None
        state.goodput = rate
        for number in numbers:
            self.parents.offer(state, piece_of(number, LENGTH), 0.0)
        return state

    def situation(self) -> Situation:
        return Situation(
            content=self.content,
            parents=self.parents,
            limits=self.limits,
            taken=self.taken.__contains__,
            reader=self.reader,
            flights=self.flights,
            dry_since=self.dry_since,
            far_share=self.far_share,
            may_help=self.may_help,
        )

    def choose(self, seed: int = 0, now: float = 0.0) -> Choice | None:
        return choose(self.situation(), Random(seed), now)


def test_nothing_to_choose_from() -> None:
    swarm = Swarm()
    assert swarm.choose() is None
    swarm.add("a")
    assert swarm.choose() is None


def test_rarest_piece_of_the_chosen_parent() -> None:
    swarm = Swarm()
    swarm.add("a", 0, 1, 2)
    swarm.add("b", 0, 1)
    swarm.add("c", 0, 2)
    swarm.parents.get("b").avoid_until = 99.0  # type: ignore[union-attr]  # it was added
    swarm.parents.get("c").avoid_until = 99.0  # type: ignore[union-attr]  # it was added
    numbers = {swarm.choose(seed).number for seed in range(50)}  # type: ignore[union-attr]  # a choice
    assert numbers == {1, 2}


def test_ties_are_drawn() -> None:
    swarm = Swarm()
    swarm.add("a", *range(COUNT))
    drawn = Counter(swarm.choose(seed).number for seed in range(200))  # type: ignore[union-attr]  # a choice
    assert set(drawn) == set(range(COUNT))
    assert max(drawn.values()) < 60


def test_the_same_seed_draws_the_same() -> None:
    swarm = Swarm()
    for name in "abc":
        swarm.add(name, *range(COUNT))
    assert [swarm.choose(7) for _ in range(3)] == [swarm.choose(7)] * 3


def test_taken_and_held_pieces_are_left_out() -> None:
    swarm = Swarm()
    swarm.add("a", 0, 1, 2)
    swarm.taken = {0}
    swarm.content.hold(1)
    choice = swarm.choose()
    assert choice is not None
    assert choice.number == 2
    swarm.taken.add(2)
    assert swarm.choose() is None


def test_faster_parents_are_drawn_more_often_but_not_only() -> None:
    swarm = Swarm()
    swarm.add("fast", *range(COUNT), rate=9e6)
    swarm.add("slow", *range(COUNT), rate=1e6)
    drawn = Counter(swarm.choose(seed).parent.peer_id for seed in range(500))  # type: ignore[union-attr]  # a choice
    assert 0.83 < drawn["fast"] / 500 < 0.96


def test_who_was_never_tried_counts_like_the_best() -> None:
    swarm = Swarm()
    swarm.add("fast", 0, rate=9e6)
    unknown = swarm.add("unknown", 0)
    unknown.goodput = None
    first = Counter(
        by_spare_rate(list(swarm.parents), Random(seed))[0].peer_id for seed in range(400)
    )
    assert 140 < first["unknown"] < 260


def test_seed_is_asked_for_what_nobody_else_holds() -> None:
    swarm = Swarm()
    swarm.flights = 1
    swarm.add("seed", *range(COUNT), seed=True, rate=9e6)
    swarm.add("peer", 0, 1, 2, 3).avoid_until = 99.0
    numbers = {swarm.choose(seed).number for seed in range(60)}  # type: ignore[union-attr]  # a choice
    assert numbers == {4, 5, 6, 7}


def test_scarce_seed_is_asked_for_the_rest_only_by_an_idle_download() -> None:
    swarm = Swarm()
    swarm.add("seed", 0, seed=True, rate=1e5)
    swarm.add("peer", 0).avoid_until = 99.0
    swarm.flights = 1
    assert swarm.choose() is None
    swarm.flights = 0
    choice = swarm.choose()
    assert choice is not None
    assert choice.parent.is_seed


def test_seed_that_gives_faster_than_the_others_is_not_scarce() -> None:
    swarm = Swarm()
    swarm.add("seed", 0, seed=True, rate=2e6)
    swarm.add("peer", 0).avoid_until = 99.0
    swarm.flights = 1
    assert swarm.choose() is not None


def test_seed_that_was_never_tried_counts_as_scarce() -> None:
    swarm = Swarm()
    seed = swarm.add("seed", 0, seed=True)
    seed.goodput = None
    swarm.add("peer", 0).avoid_until = 99.0
    swarm.flights = 1
    assert swarm.choose() is None


def test_seed_once_can_be_switched_off() -> None:
    swarm = Swarm(DownloadLimits(seed_once=False))
    swarm.add("seed", 0, seed=True, rate=1e5)
    swarm.add("peer", 0).avoid_until = 99.0
    swarm.flights = 1
    assert swarm.choose() is not None


def test_a_piece_that_the_seed_gives_to_another_is_not_asked_for() -> None:
    swarm = Swarm()
    seed = swarm.add("seed", *range(COUNT), seed=True, rate=1e5)
    seed.told_given(range(6), 0.0, swarm.limits.given_pause_s)
    swarm.add("peer").avoid_until = 99.0
    choices = [swarm.choose(draw, now=0.1) for draw in range(30)]
    assert {choice.number for choice in choices if choice} == {6, 7}
    assert {choice.is_exclusive for choice in choices if choice} == {True}


def test_an_idle_download_waits_for_what_a_scarce_seed_gives_to_another() -> None:
    """Asking at once was what made a thin seed send three pieces of eight twice."""
    swarm = Swarm()
    seed = swarm.add("seed", 0, seed=True, rate=1e5)
    swarm.add("peer")
    seed.told_given([0], 0.0, swarm.limits.given_pause_s)
    assert swarm.choose(now=0.1) is None
    assert swarm.choose(now=swarm.limits.given_pause_s) == Choice(seed, 0, is_exclusive=True)


def test_nobody_waits_for_ever_for_what_is_given_to_another() -> None:
    swarm = Swarm()
    seed = swarm.add("seed", 0, seed=True, rate=1e5)
    swarm.add("peer")
    limits, now = swarm.limits, 0.0
    while now < limits.given_patience_s:
        seed.told_given([0], now, limits.given_pause_s)
        now += limits.given_pause_s
    assert swarm.choose(now=now) == Choice(seed, 0, is_exclusive=False)
    swarm.flights = 1  # but then something comes
    swarm.add("another", 7).avoid_until = 99.0
    assert swarm.choose(now=now) == Choice(seed, 0, is_exclusive=True)


def test_a_wide_seed_is_asked_for_what_it_gives_to_others() -> None:
    swarm = Swarm()
    seed = swarm.add("seed", 0, seed=True, rate=9e6)
    swarm.add("peer").goodput = 1e6
    seed.told_given([0], 0.0, swarm.limits.given_pause_s)
    assert swarm.choose(now=0.1) == Choice(seed, 0, is_exclusive=False)


@pytest.mark.parametrize(
    ("told", "gives", "is_exclusive"),
    [
        (1.0, None, True),
        (1.0, 9.0, True),  # perhaps to nobody else just now
        (10.0, None, False),
        (10.0, 3.0, False),
        (10.0, 0.5, True),  # so many children have it
        (None, None, True),
        (None, 1.5, True),
        (None, 2.5, False),
    ],
)
def test_a_seed_is_asked_exclusively_unless_it_is_wide(
    told: float | None, gives: float | None, *, is_exclusive: bool
) -> None:
    swarm = Swarm()
    seed = swarm.add("seed", 0, seed=True)
    seed.goodput = gives
    peer = swarm.add("peer", rate=1.0)
    peer.told_load(1.0, 0.0, 0.0)
    seed.told_load(told or 0.0, 0.0, 0.0)
    assert swarm.choose() == Choice(seed, 0, is_exclusive=is_exclusive)


def test_a_peer_is_not_asked_exclusively() -> None:
    swarm = Swarm()
    peer = swarm.add("peer", 0)
    assert swarm.choose() == Choice(peer, 0, is_exclusive=False)


def test_exclusive_can_be_switched_off() -> None:
    swarm = Swarm(DownloadLimits(exclusive=False))
    seed = swarm.add("seed", 0, seed=True)
    swarm.add("peer")
    assert swarm.choose() == Choice(seed, 0, is_exclusive=False)


def test_two_seeds_do_not_stop_each_other() -> None:
    swarm = Swarm()
    swarm.flights = 1
    swarm.add("s1", 0, seed=True)
    swarm.add("s2", 0, seed=True)
    assert swarm.choose() is not None


def test_reader_is_served_by_a_peer_before_a_seed() -> None:
    swarm = Swarm()
    swarm.reader = Reader(2, 0.0)
    swarm.add("seed", *range(COUNT), seed=True)
    swarm.add("peer", 2)
    assert {swarm.choose(seed).parent.peer_id for seed in range(20)} == {"peer"}  # type: ignore[union-attr]  # a choice


def test_a_reader_too_leaves_a_scarce_seeds_piece_to_who_gets_it() -> None:
    limits = DownloadLimits()
    swarm = Swarm(limits)
    swarm.reader = Reader(2, 0.0)
    seed = swarm.add("seed", 2, seed=True)
    swarm.add("peer")
    swarm.flights = 1
    now = limits.reader_patience_s
    assert swarm.choose(now=now) == Choice(seed, 2, is_exclusive=True)
    seed.told_given([2], now, limits.given_pause_s)
    assert swarm.choose(now=now) is None
    now += limits.given_pause_s
    assert swarm.choose(now=now) == Choice(seed, 2, is_exclusive=True)
    seed.told_given([2], now, limits.given_pause_s)
    patience_s = limits.reader_given_patience_s
    assert patience_s < limits.given_patience_s / 2, "who got it may be slow, and a reader waits"
    assert swarm.choose(now=patience_s) == Choice(seed, 2, is_exclusive=False)


def test_a_reader_has_a_second_copy_of_a_wide_seed() -> None:
    limits = DownloadLimits()
    swarm = Swarm(limits)
    swarm.reader = Reader(2, 0.0)
    seed = swarm.add("seed", 2, seed=True, rate=3e6)
    swarm.add("peer", rate=1e6)
    assert swarm.choose(now=limits.reader_patience_s) == Choice(seed, 2, is_exclusive=False)


def test_reader_order_can_be_switched_off() -> None:
    swarm = Swarm(DownloadLimits(reader_order=False))
    swarm.reader = Reader(2, 0.0)
    swarm.add("peer", *range(COUNT))
    drawn = {swarm.choose(seed, now=60.0).number for seed in range(60)}  # type: ignore[union-attr]  # a choice
    assert drawn == set(range(COUNT))


def test_helper_is_another_holder_with_room() -> None:
    swarm = Swarm()
    slow = swarm.add("slow", 0)
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 0.0) is None
    away = swarm.add("away", 0)
    away.avoid_until = 9.0
    swarm.add("other", 1)
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 0.0) is None
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 10.0) is away


def test_helper_is_far_away_only_if_nobody_near_can_help() -> None:
    """Else a whole data centre may wait for the thinnest uplink in it, which got a piece first."""
    swarm = Swarm()
    slow = swarm.add("slow", 0)
    far = swarm.add("far", 0, rate=1e9)
    far.is_far = True
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 0.0) is far
    near = swarm.add("near", 0)
    helpers = [choose_helper(swarm.situation(), 0, slow, Random(n), 0.0) for n in range(20)]
    assert all(helper is near for helper in helpers)


def test_helper_is_far_away_only_if_a_near_one_is_late_in_earnest() -> None:
    swarm = Swarm()
    slow = swarm.add("slow", 0)
    slow.in_flight[0] = Flight(number=0, asked_at=1.0, deadline=90.0)
    far = swarm.add("far", 0)
    far.is_far = True
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 4.9, in_earnest_s=4.0) is None
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 5.0, in_earnest_s=4.0) is far
    swarm.limits = DownloadLimits(far_in_earnest=False)
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 1.0, in_earnest_s=4.0) is far
    swarm.limits = DownloadLimits()
    slow.is_far = True
    assert choose_helper(swarm.situation(), 0, slow, Random(0), 2.0, in_earnest_s=4.0) is far


def test_helper_of_a_far_parent_is_near_if_anybody_near_can_help() -> None:
    """Peers, then seeds; a late piece that only far ones hold comes from there all the same."""
    swarm = Swarm()
    slow = swarm.add("slow", 0)
    slow.is_far = True
    for expected, is_seed, is_far in (
        ("far", False, True),
        ("near seed", True, False),
        ("near", False, False),
    ):
        swarm.add(expected, 0, seed=is_seed, rate=1e9 if is_far else 1e6).is_far = is_far
        helpers = [choose_helper(swarm.situation(), 0, slow, Random(n), 0.0) for n in range(20)]
        assert {one.peer_id for one in helpers if one is not None} == {expected}


# --- the rules of Dragonfly's client --------------------------------------------------------------

STOCK = DownloadLimits(
    order="ascending", first="piece", weight="told", seed_once=False, pieces_per_parent=8
)


def test_ascending_takes_the_lowest_piece_that_anybody_has() -> None:
    swarm = Swarm(STOCK)
    swarm.add("a", 3, 4)
    swarm.add("b", 5, 1, 2, seed=True)
    swarm.taken = {1}
    wanted = Choice(swarm.parents.get("b"), 2)  # type: ignore[arg-type]  # it was added
    assert [swarm.choose(seed) for seed in range(20)] == [wanted] * 20


def test_ascending_parent_first_takes_the_lowest_of_that_parent() -> None:
    swarm = Swarm(DownloadLimits(order="ascending"))
    swarm.add("a", 4, 3)
    assert swarm.choose() == Choice(swarm.parents.get("a"), 3)  # type: ignore[arg-type]  # added


def test_piece_first_draws_the_holder_by_its_own_word_alone() -> None:
    swarm = Swarm(STOCK)
    swarm.add("measured", 0, rate=1e9).spare = 1e6
    swarm.add("told", 0, rate=1.0).spare = 9e6
    drawn = Counter(
        swarm.choose(seed).parent.peer_id  # type: ignore[union-attr]  # a choice
        for seed in range(300)
    )
    assert 230 < drawn["told"] < 298


def test_piece_first_and_rarest() -> None:
    swarm = Swarm(DownloadLimits(first="piece"))
    swarm.add("a", 0, 1)
    swarm.add("b", 0, 2)
    numbers = {swarm.choose(seed).number for seed in range(50)}  # type: ignore[union-attr]  # a choice
    assert numbers == {1, 2}


def test_helper_is_a_seed_only_if_no_peer_can_help() -> None:
    for spares, expected in ((True, {"peer"}), (False, {"peer", "seed"})):
        swarm = Swarm(DownloadLimits(seed_once=spares))
        slow = swarm.add("slow", 0)
        swarm.add("seed", 0, seed=True)
        alone = choose_helper(swarm.situation(), 0, slow, Random(0), 0.0)
        assert alone is not None
        assert alone.peer_id == "seed"
        swarm.add("peer", 0)
        helpers = [choose_helper(swarm.situation(), 0, slow, Random(n), 0.0) for n in range(20)]
        assert {one.peer_id for one in helpers if one is not None} == expected


# --- another data centre --------------------------------------------------------------------------


def between_data_centres(**switches: bool) -> Swarm:
    """We are in "here"; everything is there, and a near peer that is busy has half of it."""
    swarm = Swarm(DownloadLimits(**switches))  # type: ignore[arg-type]  # switches
    swarm.parents = Parents(swarm.limits, "here")
    swarm.add("far", *range(COUNT), idc="there")
    swarm.add("near", *range(COUNT // 2), idc="here").avoid_until = 99.0
    swarm.flights = 1
    return swarm


def numbers_drawn(swarm: Swarm) -> set[int | None]:
    choices = [swarm.choose(draw, now=0.1) for draw in range(60)]
    return {None if choice is None else choice.number for choice in choices}


@pytest.mark.parametrize("seed_once", [True, False])
def test_a_far_parent_is_asked_for_what_no_near_one_holds(*, seed_once: bool) -> None:
    """It is a rule of its own, whether seeds are spared or not."""
    swarm = between_data_centres(seed_once=seed_once)
    assert numbers_drawn(swarm) == {4, 5, 6, 7}
    swarm.taken = {4, 5, 6, 7}
    assert numbers_drawn(swarm) == {None}
    assert swarm.choose(now=swarm.limits.far_patience_s) is not None


def test_far_once_can_be_switched_off() -> None:
    swarm = between_data_centres(far_once=False)
    swarm.taken = {4, 5, 6, 7}
    assert numbers_drawn(swarm) == {0, 1, 2, 3}
    slow = swarm.add("slow", 0, idc="here")
    helper = choose_helper(swarm.situation(), 0, slow, Random(0), 0.0)
    assert helper is swarm.parents.get("far")
    swarm.add("other", 0, idc="here")
    helpers = [choose_helper(swarm.situation(), 0, slow, Random(n), 0.0) for n in range(20)]
    assert {one.peer_id for one in helpers if one is not None} == {"far", "other"}


# --- several gateways -----------------------------------------------------------------------------


class Site(Swarm):
    """A far parent that holds everything, seen by the second of two gateways."""

    def __init__(self, count: int = 8, help_above: int = 2, **limits: bool) -> None:
        super().__init__(DownloadLimits(help_above=help_above, **limits))  # type: ignore[arg-type]  # switches
        self.content = Content(piece_length=PIECE, wanted=None)
        self.content.learn(count * PIECE, PIECE, {})
        self.count = count
        self.far_share = FarShare(index=1, count=2)
        self.flights = 1
        self.far = self.add("far")
        self.far.is_far = True
        for number in range(count):
            self.parents.offer(self.far, piece_of(number, count * PIECE), 0.0)

    def drawn(self) -> set[int | None]:
        chosen = [self.choose(seed) for seed in range(60)]
        return {None if one is None else one.number for one in chosen}


def test_a_gateway_begins_with_its_own_part() -> None:
    assert Site().drawn() == {1, 3, 5, 7}


def test_without_a_part_everything_is_asked_for() -> None:
    site = Site()
    site.far_share = None
    assert site.drawn() == set(range(8))


def test_its_part_is_for_far_parents_alone() -> None:
    site = Site()
    site.far.avoid_until = 99.0
    site.add("near", 0, 2)
    assert site.drawn() == {0, 2}


def test_nor_of_its_part_what_is_held_near() -> None:
    site = Site()
    near = site.add("near", 1, 3)
    near.avoid_until = 99.0
    assert site.drawn() == {5, 7}


def test_nobody_is_helped_before_it_is_time() -> None:
    site = Site()
    site.taken = {1, 3, 5, 7}
    assert site.drawn() == {None}


def test_then_it_is_with_what_is_left_of_the_others_parts() -> None:
    site = Site()
    site.may_help = True
    site.content.hold(1)
    site.taken = {3, 5, 7, 0}
    near = site.add("near", 2)
    near.avoid_until = 99.0
    assert site.drawn() == {4, 6}


@pytest.mark.parametrize(("help_above", "expected"), [(3, {0, 2, 4, 6}), (4, {None})])
def test_with_little_left_nobody_is_helped(help_above: int, expected: set[int | None]) -> None:
    site = Site(help_above=help_above)
    site.may_help = True
    site.taken = {1, 3, 5, 7}
    assert site.drawn() == expected


def test_a_near_parent_is_asked_before_another_gateway_is_helped() -> None:
    site = Site()
    site.may_help = True
    site.taken = {1, 3, 5, 7}
    site.add("near", 6)
    assert site.drawn() == {6}


def test_a_near_parent_that_holds_it_may_be_passed_by_only_when_nothing_comes() -> None:
    """The patience with near ones is as before."""
    site = Site()
    for number in (0, 2, 3, 4, 5, 6, 7):
        site.content.hold(number)
    near = site.add("near", 1)
    near.avoid_until = 99.0
    patience_s = site.limits.far_patience_s
    assert site.choose(now=patience_s - 0.1) is None
    assert site.choose(now=patience_s) == Choice(site.far, 1)
