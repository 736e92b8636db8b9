"""Choosing among the eligible."""

from random import Random

import numpy as np
from support.scheduler_world import World, download, host, parents

from models.facts import CandidateBatch
from models.ranker import Ranking
from scheduler.core.candidate import Drop, survey
from scheduler.core.choice import choose, look_around
from scheduler.core.limits import Limits
from scheduler.core.story import Story
from scheduler.core.turn import Turn


class Favourite:
    """Ranks by a given order, and calls some bad."""

    name = "favourite"

    def __init__(self, scores: list[float], bad: list[bool] | None = None) -> None:
        self.scores = scores
        self.bad = bad or [False] * len(scores)

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        count = len(batch)
        scores, bad = np.array(self.scores[:count]), np.array(self.bad[:count])
        return Ranking(scores=scores, bad=bad, ranked_by="because")


def world_with_holders(count: int, limits: Limits | None = None) -> World:
    world = World(limits)
    for number in range(count):
        world.announce(host(f"h{number}"))
        world.holder(f"p{number}", f"h{number}")
    world.announce(host("hx"))
    return world


def turn(world: World, ranker: Favourite) -> Turn:
    state = world.core.state
    return Turn(state=state, ranker=ranker, rng=Random(1), story=Story(9), now=0.0)


def test_best_first_and_no_more_than_the_limit() -> None:
    world = world_with_holders(6, Limits(exploration=0.0))
    world.register("x", "hx", download(source=True))
    seen = survey(world.peer("x"))
    choice = choose(turn(world, Favourite([3, 1, 6, 5, 2, 4])), world.peer("x"), seen)
    assert [peer.id for peer in choice.parents] == ["p2", "p3", "p5"]
    assert choice.picked.order == (2, 3, 5, 0, 4, 1)
    assert choice.reason == "because"


def test_bad_parents_are_left_out_while_others_are_left() -> None:
    world = world_with_holders(3)
    world.register("x", "hx", download(source=True))
    seen = survey(world.peer("x"))
    ranker = Favourite([3, 1, 2], bad=[True, False, False])
    choice = choose(turn(world, ranker), world.peer("x"), seen)
    assert [peer.id for peer in choice.parents] == ["p2", "p1"]
    assert choice.picked.left_out.tolist() == [True, False, False]


def test_bad_parents_are_better_than_none() -> None:
    world = world_with_holders(2)
    world.register("x", "hx", download(source=True))
    ranker = Favourite([1, 2], bad=[True, True])
    choice = choose(turn(world, ranker), world.peer("x"), survey(world.peer("x")))
    assert [peer.id for peer in choice.parents] == ["p1", "p0"]


def test_a_slow_last_piece_makes_a_bad_parent() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), host("hx"))
    for peer_id, last_s in (("p1", 3.0), ("p2", 0.1)):
        world.origin_fetcher(peer_id, f"h{peer_id[1]}")
        for number, cost_s in enumerate((0.1, 0.1, last_s)):
            world.piece(peer_id, number, cost_s=cost_s)
    assert parents(world.register("x", "hx")) == {"x": ["p2"]}


def test_equals_are_spread_by_the_load_of_their_hosts() -> None:
    world = world_with_holders(5, Limits(candidate_parent_limit=1, admission=False))
    chosen: list[str] = []
    for number in range(10):
        world.announce(host(f"c{number}"))
        chosen += parents(world.register(f"c{number}", f"c{number}"))[f"c{number}"]
    assert sorted(chosen) == sorted([f"p{n}" for n in range(5)] * 2)


def test_of_many_candidates_a_shortlist_is_looked_at() -> None:
    world = world_with_holders(9, Limits(candidate_batch_limit=5))
    world.register("x", "hx", download(source=True))
    here = turn(world, Favourite([1.0] * 9))
    seen = look_around(here, world.peer("x"))
    assert len(choose(here, world.peer("x"), seen).candidates) == 5
    assert not seen.dropped


def test_whoever_was_looked_at_and_not_taken_has_a_reason() -> None:
    world = world_with_holders(9, Limits(candidate_batch_limit=8))
    world.register("x", "h0", download(source=True))
    seen = look_around(turn(world, Favourite([])), world.peer("x"))
    assert len(seen.eligible) + len(seen.dropped) == 8
    assert set(seen.dropped.values()) <= {Drop.SAME_HOST}


def test_when_the_shortlist_has_nobody_to_offer_all_are_looked_at() -> None:
    """The best of the list have all failed this child; those it has not met lie at the end."""
    world = world_with_holders(40, Limits(candidate_batch_limit=8))
    world.register("x", "hx", download(source=True))
    for number in range(35):
        world.piece_failed("x", f"p{number}")
    seen = look_around(turn(world, Favourite([])), world.peer("x"))
    assert {peer.id for peer in seen.eligible} == {f"p{number}" for number in range(35, 40)}
    assert list(seen.dropped.values()) == [Drop.BLOCKED] * 35


def test_of_too_many_eligible_some_are_drawn_and_the_others_told() -> None:
    world = world_with_holders(60, Limits(candidate_batch_limit=8))
    world.register("x", "hx", download(source=True))
    for number in range(45):
        world.piece_failed("x", f"p{number}")
    here = turn(world, Favourite([]))
    drops: set[str] = set()
    for _ in range(50):  # mostly the list suffices
        drops |= set(look_around(here, world.peer("x")).dropped.values())
    assert drops == {Drop.BLOCKED, Drop.NOT_SAMPLED}


def test_a_blind_sample_is_drawn_from_all() -> None:
    world = world_with_holders(40, Limits(candidate_batch_limit=4, blind_sample=True))
    world.register("x", "hx", download(source=True))
    world.core.state.hosts["h7"].announce(host("h7", bandwidth=10**12), 60, 0.0)
    here = turn(world, Favourite([]))
    looks = [look_around(here, world.peer("x")).eligible for _ in range(200)]
    assert {len(one) for one in looks} == {4}
    hits = sum(peer.id == "p7" for one in looks for peer in one)
    assert 5 < hits < 40, "one in ten, as for anybody else: a fast host has no advantage"
