"""The round robin: whose turn it is, and that it comes round."""

from __future__ import annotations

from math import nan

from support.scheduler_world import World, host, parents

from models.facts import CandidateBatch
from models.round_robin import RoundRobinRanker
from scheduler.core.limits import Limits


def test_whoever_has_waited_longest_comes_first() -> None:
    ranking = RoundRobinRanker().rank(
        CandidateBatch.of_columns(
            {"turns_since_named": [3.0, 9.0, 0.0, nan], "child_count": [0.0, 99.0, 0.0, 0.0]}
        ),
        1,
    )
    assert ranking.scores.tolist() == [3.0, 9.0, 0.0, 0.0]
    assert not ranking.by_lot


def test_who_cannot_serve_is_bad() -> None:
    batch = CandidateBatch.of_columns({"can_serve": [1.0, 0.0]})
    assert RoundRobinRanker().rank(batch, 1).bad.tolist() == [False, True]


def test_it_goes_round() -> None:
    """Six holders, two parents to each child: every three children all were named once."""
    limits = Limits(candidate_parent_limit=2, exploration=0.0, admission=False)
    world = World(limits, ranker=RoundRobinRanker())
    for number in range(6):
        world.announce(host(f"h{number}"))
        world.holder(f"p{number}", f"h{number}")
    given: list[str] = []
    for number in range(12):
        world.announce(host(f"c{number}"))
        given += parents(world.register(f"c{number}", f"c{number}"))[f"c{number}"]
    rounds = [given[first : first + 6] for first in range(0, 24, 6)]
    assert all(sorted(one) == [f"p{number}" for number in range(6)] for one in rounds)
    assert {tuple(sorted(one[:2])) for one in rounds} == {tuple(sorted(rounds[0][:2]))}
