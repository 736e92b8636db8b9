"""Several seeds and one source: who takes what, in whatever order things happen."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.source_team import Member, Team

from odonata.wire.message import SourceShare
from peer.core.limits import DownloadLimits
from peer.core.source_share import BLOCKS_PER_PART, Grid, SharedSource

LIMITS = DownloadLimits()


def view(index: int = 0, count: int = 2, pieces: int = 32) -> SharedSource:
    """One seed's view of a content of so many pieces, with a fellow named at 0 s."""
    shared = SharedSource(SourceShare(index=index, count=count), LIMITS)
    shared.begin(0.0)
    shared.named(0.0)
    shared.measure(pieces)
    return shared


def choice(
    shared: SharedSource,
    left: list[int],
    now: float = 0.0,
    *,
    ranges: bool = True,
    has_fellow: bool = True,
    at_once: int = 1,
    reach: int = 0,
) -> list[int]:
    return shared.choose(
        left, ranges=ranges, has_fellow=has_fellow, now=now, at_once=at_once, reach=reach
    )


@given(pieces=st.integers(0, 300), parts=st.integers(1, 16))
def test_every_piece_is_in_one_part_and_one_block(pieces: int, parts: int) -> None:
    grid = Grid(pieces, parts)
    assert [n for part in range(parts) for n in grid.span(part)] == list(range(pieces))
    for number in range(pieces):
        part, block = grid.block(number)
        assert number in grid.span(part)
        assert 0 <= block < BLOCKS_PER_PART


def test_each_takes_its_own_part_first() -> None:
    assert choice(view(0), list(range(32))) == list(range(16))
    assert choice(view(1), list(range(32))) == list(range(16, 32))


def test_whoever_is_alone_takes_everything_its_own_part_first() -> None:
    everything = list(range(32))
    assert choice(view(0), everything, has_fellow=False) == everything  # all others are gone
    assert choice(view(1), everything, has_fellow=False) == list(range(16, 32))
    assert choice(view(1), list(range(8)), has_fellow=False) == list(range(8))


def test_a_later_seed_waits_a_moment_for_the_first_to_be_named() -> None:
    shared = SharedSource(SourceShare(index=1, count=2), LIMITS)
    shared.begin(0.0)
    shared.measure(8)
    assert choice(shared, [0, 1], 0.1, has_fellow=False) == []
    assert shared.next_wake() == LIMITS.fellow_patience_s
    assert choice(shared, [0, 1], LIMITS.fellow_patience_s, has_fellow=False) == [0, 1]


def test_the_first_seed_waits_a_moment_for_the_others_to_come() -> None:
    shared = SharedSource(SourceShare(index=0, count=2), LIMITS)
    shared.begin(0.0)
    shared.measure(8)
    assert choice(shared, [2, 3, 4, 5], 0.1, has_fellow=False) == [2, 3]
    assert choice(shared, [4, 5], 0.2, has_fellow=False) == []
    assert shared.next_wake() == LIMITS.fellow_call_s
    assert choice(shared, [4, 5], LIMITS.fellow_call_s, has_fellow=False) == [4, 5]


def test_what_is_too_small_is_not_shared() -> None:
    for index in (0, 1):
        shared = SharedSource(SourceShare(index=index, count=2), LIMITS)
        shared.begin(0.0)
        shared.measure(7)
        assert choice(shared, [0, 1, 6], has_fellow=False) == [0, 1, 6]


def test_who_is_done_helps_from_the_end_far_from_the_owner() -> None:
    shared = view(1)
    shared.heard(range(6), 1.0)
    assert choice(shared, list(range(6, 16)), 1.0) == [14, 15]
    assert choice(shared, list(range(6, 14)), 1.0) == [12, 13]


def test_who_is_done_does_not_help_where_the_owner_will_be_soon() -> None:
    shared = view(1)
    shared.heard(range(10), 1.0)
    assert choice(shared, [10, 11, 12], 1.0) == []


@pytest.mark.parametrize(("reach", "helps"), [(0, True), (5, True), (6, False)])
def test_who_is_done_keeps_away_from_all_that_an_owner_with_several_requests_is_at(
    reach: int, helps: bool
) -> None:
    shared = view(1)
    shared.heard([0, 1, 2, 3, 5, 7], 1.0)
    left = [4, 6, *range(8, 16)]
    assert choice(shared, left, 1.0, at_once=4, reach=reach) == ([14, 15] if helps else [])


@pytest.mark.parametrize(("piece_s", "helps"), [(0.04, False), (0.05, True)])
def test_where_pieces_are_quick_far_is_a_matter_of_time(piece_s: float, helps: bool) -> None:
    """The last block of eight pieces begins ten pieces from where the owner is."""
    shared = view(1, pieces=128)
    for number in range(3):
        shared.stored(64 + number, number * piece_s)
    shared.heard(range(46), 1.0)
    assert bool(choice(shared, list(range(46, 64)), 1.0)) is helps


def test_a_helper_goes_on_with_its_block_until_the_owner_comes_there() -> None:
    shared = view(1, pieces=64)
    shared.heard(range(10), 1.0)
    assert choice(shared, list(range(10, 32)), 1.0) == [28, 29, 30, 31]
    shared.stored(28, 1.1)
    assert choice(shared, [27, 29, 30, 31], 1.2) == [29, 30, 31]
    shared.heard([29], 1.3)
    assert choice(shared, [30, 31], 1.3) == []


def test_an_owner_leaves_a_block_that_a_fellow_has_begun_unless_it_has_begun_it_too() -> None:
    shared = view(0)
    shared.heard([14], 1.0)
    assert choice(shared, [*range(10, 14), 15], 1.0) == [10, 11, 12, 13]
    assert choice(shared, [15], 1.0) == []
    shared.stored(15, 1.0)
    shared.heard([14], 1.1)
    assert choice(shared, [15], 1.1) == [15]


def test_what_nothing_was_heard_of_is_taken_over() -> None:
    shared = view(1)
    assert choice(shared, [4, 5], 1.0) == []
    assert shared.next_wake() == LIMITS.fellow_patience_s
    assert choice(shared, [4, 5], LIMITS.fellow_patience_s) == [4, 5]


def test_patience_grows_with_the_time_that_pieces_take() -> None:
    shared = view(1)
    for number, at_s in enumerate((0.0, 10.0, 20.0), 16):
        shared.stored(number, at_s)
    assert shared.patience_s == pytest.approx(4 * 10.0)
    shared.paused()
    shared.stored(19, 500.0)
    assert shared.patience_s == pytest.approx(4 * 10.0)
    choice(shared, [4, 5], 500.0, at_once=4)
    assert shared.patience_s == pytest.approx(16 * 10.0), "four at a time, each as slow"


def test_a_source_without_ranges_is_left_to_the_first_seed_while_it_is_heard_of() -> None:
    everything = list(range(32))
    assert choice(view(0), everything, ranges=False) == everything
    second = view(1)
    assert choice(second, everything, 1.0, ranges=False) == []
    second.heard([0], 4.0)
    assert choice(second, everything[1:], 8.0, ranges=False) == []
    assert choice(second, everything[1:], 9.0, ranges=False) == everything[1:]


def test_nothing_known_of_the_length_nothing_shared() -> None:
    shared = SharedSource(SourceShare(index=1, count=2), LIMITS)
    shared.heard([3], 0.0)
    assert choice(shared, [0, 1, 2]) == [0, 1, 2]


# --- whole contents -------------------------------------------------------------------------------


def run_to_the_end(team: Team, dice: Random, *, late: bool) -> None:
    """Each round everybody takes one piece; in any order, with news up to a round late."""
    for _ in range(10 * team.pieces + 100):
        if team.is_done:
            return
        order = team.living
        dice.shuffle(order)
        moved = False
        for member in order:
            moved |= team.fetch(member, dice)
            for other in team.living:
                while not late and team.hear(other):
                    pass
        for member in team.living:
            while team.hear(member):
                moved = True
            moved |= team.copy(member)
        if not moved:
            team.pass_time(1.0)
    raise AssertionError("it never ends")


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.integers(16, 120),
    count=st.integers(2, 4),
    seed=st.integers(0, 999),
    late=st.booleans(),
    streams=st.sampled_from([1, 4]),
    block=st.integers(1, 8),
)
def test_each_piece_leaves_the_source_once(
    pieces: int, count: int, seed: int, late: bool, streams: int, block: int
) -> None:
    team = Team(count, pieces, streams=streams, block=block)
    run_to_the_end(team, Random(seed), late=late)
    assert team.fetched == [1] * pieces
    assert team.begun == [1] * pieces


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.integers(16, 120),
    count=st.integers(2, 4),
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ffffcc")), max_size=400),
    streams=st.sampled_from([1, 4]),
    block=st.integers(1, 8),
)
def test_in_any_order_no_piece_is_stored_twice_from_the_source(
    pieces: int, count: int, steps: list[tuple[int, str]], streams: int, block: int
) -> None:
    """However fast some are and slow others: what is heard at once is not stored twice."""
    team = Team(count, pieces, streams=streams, block=block)
    dice = Random(len(steps))

    def act(member: Member, what: str) -> bool:
        moved = team.fetch(member, dice) if what == "f" else team.copy(member)
        for other in team.members:
            while team.hear(other):
                pass
        return moved

    for who, what in steps:
        act(team.members[who % count], what)
    while not team.is_done:
        moved = [act(member, what) for member in team.members for what in "fc"]
        if not any(moved):
            team.pass_time(1.0)
    assert max(team.fetched) == min(team.fetched) == 1


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.integers(16, 120),
    count=st.integers(1, 3),
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("fffcb")), max_size=400),
    seed=st.integers(0, 999),
    block=st.integers(1, 8),
)
def test_any_request_may_break_at_any_time_and_costs_the_piece_it_was_at(
    pieces: int, count: int, steps: list[tuple[int, str]], seed: int, block: int
) -> None:
    team, dice, broken = Team(count, pieces, streams=4, block=block), Random(seed), 0
    for who, what in steps:
        member = team.members[who % count]
        if what == "b":
            broken += team.break_off(member, dice)
        elif what == "f":
            team.fetch(member, dice)
        else:
            team.copy(member)
        for other in team.members:
            while team.hear(other):
                pass
        team.pass_time(0.01)
    run_to_the_end(team, dice, late=False)
    assert team.fetched == [1] * pieces
    assert sum(team.begun) <= pieces + broken


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.integers(16, 120),
    count=st.integers(2, 4),
    seed=st.integers(0, 999),
    rounds=st.integers(0, 60),
    victim=st.integers(0, 3),
)
def test_when_one_dies_what_it_did_not_pass_on_is_fetched_again_and_nothing_else(
    pieces: int, count: int, seed: int, rounds: int, victim: int
) -> None:
    team = Team(count, pieces)
    dice = Random(seed)
    for _ in range(rounds):
        for member in team.living:
            team.fetch(member)
            for other in team.living:
                while team.hear(other):
                    pass
            if dice.random() < 0.7:
                team.copy(member)
    dead = team.members[victim % count]
    team.die(dead)
    alive = set[int]().union(*(member.content.held for member in team.living))
    lost = dead.content.held - alive
    run_to_the_end(team, dice, late=False)
    assert sum(team.fetched) <= pieces + len(lost) + len(team.living)
    assert all(member.content.whole for member in team.living)


@settings(max_examples=30, deadline=None)
@given(pieces=st.integers(16, 120), count=st.integers(2, 4), slow=st.integers(0, 3))
def test_a_slow_seed_holds_nobody_up(pieces: int, count: int, slow: int) -> None:
    """One gets a piece in the time the others get ten: they do most of its part."""
    team = Team(count, pieces)
    tardy = team.members[slow % count]
    rounds = 0
    while not team.is_done:
        rounds += 1
        team.pass_time(1.0)
        for member in team.members:
            if member is not tardy or rounds % 10 == 0:
                team.fetch(member)
            for other in team.members:
                while team.hear(other):
                    pass
            while team.copy(member):
                pass
    fair = pieces / (count - 1 + 0.1)
    assert rounds <= fair + 40  # the last pieces of the slow one are waited for
    assert sum(team.fetched) <= pieces + count
