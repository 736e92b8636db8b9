"""The shortlist: the best are found without looking at all, and the others are met again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import log, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.scheduler_world import World, download, host, parents

from models.rule_ranker import RuleRanker
from scheduler.core.effect import SchedulerEffect
from scheduler.core.event import SchedulerEvent
from scheduler.core.invariant import check
from scheduler.core.limits import Limits
from scheduler.core.peer import Peer
from scheduler.core.shortlist import (
    BY_LOT_PART,
    MIDDLE,
    NEAR_PART,
    Listing,
    Standard,
    is_outdated,
    level_of,
)

GIGABIT = 10**9
COUNT = 25


class BareWorld(World):
    """Without the invariants after each event: they look at everybody."""

    def handle(self, event: SchedulerEvent) -> list[SchedulerEffect]:
        return self.core.handle(event, self.now)


def world_with(count: int, *, bandwidths: dict[int, int] | None = None, idcs: int = 1) -> World:
    world = BareWorld(Limits(admission=False), ranker=RuleRanker())
    for number in range(count):
        bandwidth = (bandwidths or {}).get(number, GIGABIT)
        idc = f"idc-{number % idcs}"
        world.announce(host(f"h{number}", idc=idc, bandwidth=bandwidth))
        world.holder(f"p{number}", f"h{number}")
    world.announce(host("hx", idc="IDC-0"))
    for known in tuple(world.core.state.hosts.values()):
        world.announce(known.announced)  # again, as hosts do: by now the usual claim is known
    check(world.core)
    return world


def draw(world: World, idc: str = "", seed: int = 1) -> list[Peer]:
    state = world.core.state
    return world.task().shortlist.draw(idc, COUNT, state.standard(), Random(seed))


def test_the_few_best_of_very_many_are_always_drawn() -> None:
    fast = dict.fromkeys(range(0, 1000, 100), 100 * GIGABIT)
    world = world_with(1000, bandwidths=fast)
    for seed in range(50):
        names = [peer.id for peer in draw(world, seed=seed)]
        assert len(set(names)) == len(names) == COUNT
        assert {f"p{number}" for number in fast} <= set(names)


def test_equals_are_drawn_alike() -> None:
    world = world_with(100)
    hits = Counter(peer.id for seed in range(2000) for peer in draw(world, seed=seed))
    assert len(hits) == 100
    # 500 each; a place more or less likely by a tenth would be 50, and chance is 20.
    assert all(abs(count - 2000 * COUNT / 100) < 100 for count in hits.values())


def test_near_ones_are_among_them_though_others_are_better() -> None:
    world = world_with(400, bandwidths={n: 100 * GIGABIT for n in range(400) if n % 4}, idcs=4)
    for seed in range(20):
        near = [peer for peer in draw(world, "IDC-0", seed) if peer.host.place.idc == "idc-0"]
        assert len(near) >= COUNT // NEAR_PART
    assert sum(len(draw(world, "idc-9", seed)) for seed in range(5)) == 5 * COUNT


def test_a_few_are_drawn_whatever_their_level() -> None:
    """A slow host with a bad name is met again: about one draw in three hundred."""
    slow = dict.fromkeys(range(900, 1000), GIGABIT // 1000)
    world = world_with(1000, bandwidths=slow)
    drawn = [peer.id for seed in range(500) for peer in draw(world, seed=seed)]
    hits = sum(int(name[1:]) >= 900 for name in drawn)
    expected = 500 * (COUNT // BY_LOT_PART) * 0.1
    assert expected / 2 < hits < expected * 2


def test_whoever_was_given_a_child_sinks_and_comes_up_again_without_it() -> None:
    world = world_with(60)
    before = level_of(world.peer("p0"), world.core.state.standard())
    given = parents(world.register("x", "hx"))["x"]
    for name in given:
        assert listing(world, name).level < before
    world.delete_peer("x")
    assert {listing(world, name).level for name in given} == {before}
    check(world.core)


def test_what_a_host_does_elsewhere_is_seen_when_it_is_drawn() -> None:
    """It is in two tasks; its children in the one are nothing the other hears of at once."""
    world = world_with(60)
    before = listing(world, "p0").level
    world.register("q0", "h0", download(source=True), "u")
    world.at_source("q0")
    for number in range(1, 9):
        assert parents(world.register(f"q{number}", f"h{number}", task_id="u"))
    peer = world.peer("p0")
    standard = world.core.state.standard()
    assert listing(world, "p0").level == before
    assert is_outdated(peer, standard)
    check(world.core)
    while peer not in draw(world):  # the same seed draws others, for the list changes
        pass
    assert listing(world, "p0").level < before
    assert not is_outdated(peer, standard)
    check(world.core)


def test_a_host_that_moves_is_near_to_others_then() -> None:
    world = world_with(60, idcs=2)
    world.announce(host("h1", idc="elsewhere", bandwidth=GIGABIT))
    assert listing(world, "p1").idc == "elsewhere"
    check(world.core)
    assert world.peer("p1") in draw(world, "Elsewhere")


def test_a_swarm_twice_as_fast_outdates_all_and_all_are_put_right_when_drawn() -> None:
    world = world_with(30)
    shortlist = world.task().shortlist
    faster = Standard(log_rate=MIDDLE + 2.0)
    drawn = shortlist.draw("", 30, faster, Random(1))
    assert all(not is_outdated(peer, faster) for peer in drawn)
    assert not shortlist.complaint()


def test_a_list_shorter_than_the_draw_is_drawn_whole() -> None:
    world = world_with(7)
    drawn = draw(world)
    assert len(drawn) <= 7
    assert len(set(drawn)) == len(drawn)


def test_complaints() -> None:
    world = world_with(3)
    shortlist = world.task().shortlist
    listing(world, "p1").position += 1
    assert "p1 is at" in shortlist.complaint()
    listing(world, "p1").position -= 1
    listing(world, "p1").level += 1
    assert "p1 is at" in shortlist.complaint()
    listing(world, "p1").level -= 1
    world.peer("p1").listing = None
    assert "knows nothing" in shortlist.complaint()


def test_the_standard_follows_in_doublings() -> None:
    standard = Standard()
    assert standard.following(nan, nan) is standard
    assert standard.following(MIDDLE + 0.7 * log(2), nan) is standard
    twice = standard.following(MIDDLE + 0.8 * log(2), nan)
    assert twice.log_rate == pytest.approx(MIDDLE + log(2))
    assert twice.following(MIDDLE + 0.3 * log(2), nan) is twice
    assert twice.log_claim == standard.log_claim


def listing(world: World, name: str) -> Listing:
    found = world.peer(name).listing
    assert found is not None
    return found


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("announce", "child", "leave", "piece", "finish", "draw", "drop")),
        st.integers(0, 9),
        st.integers(0, 3),
    ),
    max_size=40,
)


@hypothesis_settings(deadline=None)
@given(STEPS)
def test_the_list_is_right_after_anything(steps: list[tuple[str, int, int]]) -> None:
    """`World` checks the invariants after each event, the list's own among them."""
    world = World(Limits(admission=False, candidate_batch_limit=4), ranker=RuleRanker())
    for number in range(10):
        world.announce(host(f"h{number}", idc="ab"[number % 2]))
        world.origin_fetcher(f"p{number}", f"h{number}")
    born = 0
    for what, number, other in steps:
        world.now += 0.5
        if what == "child":
            born += 1
            world.register(f"c{born}", f"h{number}")
            world.started(f"c{born}")
        elif what == "drop" and born:
            world.delete_peer(f"c{born}")
            born -= 1
        else:
            happen(world, what, number, other, born)
        check(world.core)


def happen(world: World, what: str, number: int, other: int, born: int) -> None:
    if what == "announce":
        idc, bandwidth = ("a", "b", "", "c")[other], 10 ** (other + 7)
        world.announce(host(f"h{number}", idc=idc, bandwidth=bandwidth))
    if f"p{number}" not in world.core.state.peers:
        return
    if what == "leave":
        world.delete_peer(f"p{number}")
    elif what == "piece":
        for child in range(1, born + 1):
            world.piece(f"c{child}", other, f"p{number}", cost_s=0.01 + other)
    elif what == "finish":
        world.finished(f"p{number}")
    elif what == "draw":
        standard = world.core.state.standard()
        drawn = world.task().shortlist.draw("A", other + 1, standard, Random(number))
        assert len(set(drawn)) == len(drawn) <= other + 1


@pytest.mark.parametrize("count", [100, 10_000])
def test_a_draw_looks_at_as_many_however_many_there_are(count: int) -> None:
    """Counted in chances drawn: what it costs does not grow with the task."""
    world = world_with(100)
    template = [world.peer(f"p{number}") for number in range(100)]
    shortlist, standard = type(world.task().shortlist)(), world.core.state.standard()
    for number in range(count):
        peer = _copy(template[number % 100], number)
        shortlist.put(peer, standard)
    dice = CountingDice(1)
    assert len(shortlist.draw("idc-0", COUNT, standard, dice)) == COUNT
    assert dice.count < 4 * COUNT


class CountingDice(Random):
    count = 0

    def random(self) -> float:
        self.count += 1
        return super().random()


def _copy(peer: Peer, number: int) -> Peer:
    return replace(peer, id=f"copy-{number}", listing=None)
