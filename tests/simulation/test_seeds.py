"""Seeds in virtual time: several share one source, and a burst of children costs it one copy."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from models.rule_ranker import RuleRanker
from odonata.piece import MIB, PIECE_LENGTH_MIN
from scheduler.core.limits import Limits
from simulator.report import SwarmReport
from simulator.scenario import MBIT, Faults, Scenario
from simulator.swarm import Swarm

PIECE = PIECE_LENGTH_MIN
ONE_COPY = 1.02
TWO = Scenario(size=32 * PIECE, peers=8, seeds=2)


def run(scenario: Scenario, *, seeds_per_task: int = 2, seed: int = 1) -> tuple[Swarm, SwarmReport]:
    limits = Limits(seeds_per_task=seeds_per_task, exploration=0.0, records=False)
    swarm = Swarm(scenario, seed=seed, scheduler_limits=limits, ranker=RuleRanker(), keep_log=False)
    report = swarm.run()
    assert report.failures == ()
    for node in swarm.peers:
        if node.alive:
            assert sum(piece.length for piece in node.held.values()) == scenario.size
    return swarm, report


# --- sharing --------------------------------------------------------------------------------------


def test_two_seeds_ask_the_source_once_for_each_piece_and_both_hold_everything() -> None:
    swarm, report = run(TWO)
    assert report.source_copies == pytest.approx(1.0)
    assert swarm.source.askers == {"seed1", "seed2"}
    assert all(node.whole for node in swarm.seeds)


def test_two_thin_seeds_are_faster_than_one() -> None:
    """As thin as a peer. One that sends each piece once is near to what the links bear already: the
    last host has nothing to gain."""
    thin = replace(TWO, seed_up=40 * MBIT)
    seeds = (1, 2, 3, 4)  # in one world of six it is the other way round, by chance
    one = [run(thin, seed=seed, seeds_per_task=1)[1] for seed in seeds]
    two = [run(thin, seed=seed)[1] for seed in seeds]
    assert sum(world.p50_s for world in two) < sum(world.p50_s for world in one)
    assert sum(world.p99_s for world in two) < 1.05 * sum(world.p99_s for world in one)
    for world in (*one, *two):
        assert world.p99_s < 1.4 * world.bound_s
    assert all(world.source_copies <= ONE_COPY for world in two)


def test_three_seeds_share_too() -> None:
    swarm, report = run(replace(TWO, seeds=3), seeds_per_task=3)
    assert report.source_copies <= ONE_COPY
    assert len(swarm.source.askers) == 3
    assert all(node.whole for node in swarm.seeds)


def test_seeds_that_are_not_ours_are_triggered_alone() -> None:
    swarm, _ = run(replace(TWO, seeds_share=False))
    assert len(swarm.source.askers) == 1
    assert [node.whole for node in swarm.seeds].count(True) == 1


def test_what_is_small_is_fetched_by_one() -> None:
    swarm, _ = run(replace(TWO, size=7 * PIECE))
    assert len(swarm.source.askers) == 1
    assert sum(node.whole for node in swarm.seeds) == 1


def test_a_source_that_does_not_say_the_length_is_asked_by_one() -> None:
    swarm, report = run(replace(TWO, source_says_length=False))
    assert len(swarm.source.askers) == report.source_requests == 1
    assert report.source_copies == pytest.approx(1.0)


def test_of_a_source_that_ignores_ranges_one_seed_fetches_and_the_other_is_a_peer() -> None:
    swarm, report = run(replace(TWO, source_ranges=False))
    assert report.source_copies <= ONE_COPY
    assert all(node.whole for node in swarm.seeds)


@pytest.mark.parametrize("name", ["seed1", "seed2"])
@pytest.mark.parametrize("held", [1, 8, 16, 24])
def test_when_one_of_two_dies_the_other_goes_on(name: str, held: int) -> None:
    """At most what the dead one had not passed on leaves the source again."""
    swarm, report = run(replace(TWO, faults=Faults(crash_at_pieces={name: held})))
    assert report.source_copies <= 1.0 + (held + 2) / 32
    assert [node.whole for node in swarm.seeds if node.alive] == [True]


@pytest.mark.parametrize("number", [0, 1])
def test_a_seed_behind_a_thin_link_does_not_hold_up_the_other(number: int) -> None:
    """With a downlink of a twentieth it fetches a piece or two, and the other one the rest."""
    _, even = run(TWO)
    limits = Limits(exploration=0.0, records=False)
    swarm = Swarm(TWO, seed=1, scheduler_limits=limits, ranker=RuleRanker(), keep_log=False)
    slow = swarm.seeds[number].link
    slow.down = slow.downlink.capacity = TWO.source_up / 20
    report = swarm.run()
    assert report.failures == ()
    assert report.source_copies <= 1.0 + 2 / 32
    assert report.p50_s < 1.5 * even.p50_s


# --- bursts ---------------------------------------------------------------------------------------

BURST = Scenario(size=8 * PIECE, peers=200, delay_s=0.002)


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_a_burst_of_two_hundred_costs_the_source_one_copy(seeds: int) -> None:
    _, report = run(replace(BURST, seeds=seeds))
    assert report.source_copies <= ONE_COPY
    assert len(report.times_s) == 200


@pytest.mark.parametrize("dead", ["seed1", "seed2"])
def test_a_dead_seed_on_the_ring_costs_the_source_nothing(dead: str) -> None:
    faults = Faults(crash_at_s={dead: 0.0})
    swarm, report = run(replace(BURST, peers=50, seeds=2, faults=faults))
    assert report.source_copies <= ONE_COPY
    assert len(report.times_s) == 50
    assert not swarm.nodes[swarm.place.host_named(dead).host.id].held


@pytest.mark.parametrize("held", [2, 6])
def test_a_seed_that_dies_amid_a_burst_costs_what_it_had_not_passed_on(held: int) -> None:
    faults = Faults(crash_at_pieces={"seed1": held})
    swarm, report = run(replace(BURST, peers=50, seeds=1, size=64 * MIB, faults=faults))
    assert report.source_copies <= 1.0 + (held + 1) / 16
    assert len(swarm.source.askers) <= 3
