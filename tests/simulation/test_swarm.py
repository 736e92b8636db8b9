"""Whole downloads in virtual time: the real scheduler, the real downloads, one seed one story."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from odonata.errors import SourceError
from odonata.piece import MIB, PIECE_LENGTH_MIN
from peer.core.limits import DownloadLimits
from simulator.node import right_digest
from simulator.report import SwarmReport
from simulator.scenario import MBIT, Faults, Scenario
from simulator.swarm import Swarm

ROOT = Path(__file__).parents[2]
PIECE = PIECE_LENGTH_MIN
SMALL = Scenario(size=64 * MIB)


def run(scenario: Scenario, seed: int = 1) -> tuple[Swarm, SwarmReport]:
    swarm = Swarm(scenario, seed=seed)
    return swarm, swarm.run()


def assert_all_whole(swarm: Swarm, report: SwarmReport) -> None:
    """Every peer that lives holds every byte, with the right digest."""
    assert report.failures == ()
    for node in swarm.peers:
        if node.alive:
            assert sum(piece.length for piece in node.held.values()) == swarm.scenario.size
            assert all(piece.digest == right_digest(number) for number, piece in node.held.items())


# --- the main job ---------------------------------------------------------------------------------


def test_one_seed_and_eight_peers() -> None:
    swarm, report = run(Scenario(size=128 * MIB))
    assert_all_whole(swarm, report)
    assert len(report.times_s) == 8
    assert report.source_copies == pytest.approx(1.0)
    assert len(swarm.source.askers) == 1
    assert 1.0 <= report.stretch(report.p50_s) < 1.5
    given_away = sum(giver.sent for giver in report.givers)
    assert given_away == pytest.approx(9 * report.size, rel=0.02)  # a few hedges lost


def test_the_same_seed_tells_the_same_story_and_another_one_another() -> None:
    first, _ = run(SMALL, seed=5)
    again, _ = run(SMALL, seed=5)
    other, _ = run(SMALL, seed=6)
    assert first.world.log == again.world.log
    assert len(first.world.log) > 300
    assert first.world.log != other.world.log


def test_the_story_does_not_depend_on_the_process() -> None:
    """Sets and hashes differ between processes; nothing that decides may depend on them."""
    program = (
        "from simulator.scenario import Scenario\n"
        "from simulator.swarm import Swarm\n"
        "swarm = Swarm(Scenario(size=32 * 2**20), seed=3)\n"
        "swarm.run()\n"
        "print(*swarm.world.log, sep='\\n')\n"
    )
    stories = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert stories[0] == stories[1]
    assert "completed" in stories[0]


@pytest.mark.parametrize("peers", [1, 2, 17])
@pytest.mark.parametrize("arrival_s", [0.0, 6.0])
def test_the_source_is_asked_once_however_many_pull(peers: int, arrival_s: float) -> None:
    swarm, report = run(Scenario(size=48 * MIB, peers=peers, arrival_s=arrival_s))
    assert_all_whole(swarm, report)
    assert report.source_copies == pytest.approx(1.0)
    assert len(swarm.source.askers) == 1


def test_without_a_seed_one_peer_goes_to_the_source_for_all() -> None:
    swarm, report = run(Scenario(size=48 * MIB, seeds=0))
    assert_all_whole(swarm, report)
    assert report.source_copies == pytest.approx(1.0)


def test_two_seeds_ask_the_source_once() -> None:
    swarm, report = run(Scenario(size=48 * MIB, seeds=2))
    assert_all_whole(swarm, report)
    assert report.source_copies == pytest.approx(1.0)


def test_a_thin_seed_and_a_fast_one_are_both_used() -> None:
    _, thin = run(Scenario(size=128 * MIB, seed_up=40 * MBIT))
    _, fast = run(Scenario(size=128 * MIB, seed_up=400 * MBIT))
    assert fast.stretch(fast.p50_s) < 1.2
    assert fast.p99_s < thin.p99_s


THIN = Scenario(
    peers=16,
    size=32 * PIECE,
    piece_length=PIECE,
    seed_up=40 * MBIT,
    source_up=200 * MBIT,
)


def test_a_thin_seed_sends_each_piece_once() -> None:
    """Peers that did not know what was on its way to others made it send 1.7 copies.

    A few of the 32 pieces it gives again at the end, when it has nothing else to do.
    """
    swarm, report = run(THIN)
    assert_all_whole(swarm, report)
    assert report.copies("seed1") < 1.2
    assert report.stretch(report.p50_s) < 1.5


def test_few_pieces_behind_a_thin_seed_are_passed_on_while_they_come() -> None:
    few = replace(THIN, piece_length=2 * PIECE)
    swarm, report = run(few)
    assert_all_whole(swarm, report)
    _, whole = run(replace(few, limits=DownloadLimits(pass_on=False)))
    assert report.stretch(report.p50_s) < 1.45
    assert whole.stretch(whole.p50_s) > 1.7
    assert report.copies("seed1") < whole.copies("seed1")


def test_a_piece_that_nobody_gets_is_not_passed_around() -> None:
    """After their seed has died a hundred peers ask the source once, and not because of rumours."""
    faults = Faults(crash_at_pieces={"seed1": 2})
    swarm, report = run(replace(THIN, peers=100, faults=faults))
    assert_all_whole(swarm, report)
    assert report.source_copies < 1.2


def test_peers_that_take_pieces_from_a_thin_seed_and_die_hold_nobody_up() -> None:
    faults = Faults(crash_at_pieces={f"peer{i}": 3 for i in range(1, 5)})
    swarm, report = run(replace(THIN, faults=faults))
    assert_all_whole(swarm, report)
    assert report.source_copies == pytest.approx(1.0)
    assert report.copies("seed1") < 1.4
    assert report.stretch(report.p99_s) < 1.7  # 1.53 to 1.62 with the seeds from 1 to 8


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1])
@pytest.mark.parametrize("says_length", [True, False])
def test_sizes_around_one_piece(*, size: int, says_length: bool) -> None:
    swarm, report = run(Scenario(size=size, peers=3, source_says_length=says_length))
    assert_all_whole(swarm, report)
    assert report.source_copies <= 1.0 + 1e-6


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.integers(0, 12),
    beside=st.integers(-2, 2),
    peers=st.integers(1, 5),
    says_length=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sizes_around_every_boundary(
    pieces: int, beside: int, peers: int, says_length: bool, seed: int
) -> None:
    size = max(0, pieces * PIECE + beside)
    scenario = Scenario(size=size, peers=peers, source_says_length=says_length)
    swarm, report = run(scenario, seed)
    assert_all_whole(swarm, report)
    assert report.source_copies <= 1.0 + 1e-6


def test_unknown_length() -> None:
    swarm, report = run(Scenario(size=10 * PIECE + 5, source_says_length=False))
    assert_all_whole(swarm, report)
    assert report.source_copies == pytest.approx(1.0)


def test_a_source_that_ignores_ranges() -> None:
    faults = Faults(crash_at_pieces={"seed1": 5})
    scenario = Scenario(size=12 * PIECE, peers=3, source_ranges=False, faults=faults)
    swarm, report = run(scenario)
    assert_all_whole(swarm, report)


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_wrong_digest_is_never_stored_and_its_sender_is_blamed_once_by_each() -> None:
    faults = Faults(bad_digest=("peer1", "peer2"))
    swarm, report = run(Scenario(size=64 * MIB, faults=faults))
    assert_all_whole(swarm, report)
    assert report.blamed
    finders = [(finder, parent) for finder, parent, _ in report.blamed]
    assert {parent for _, parent in finders} <= {"peer1", "peer2"}
    # One piece each: at most what was in flight when the first one was found.
    assert all(finders.count(pair) <= 1 for pair in finders)
    assert report.source_copies == pytest.approx(1.0)


def test_a_lying_seed_is_gone_around() -> None:
    faults = Faults(bad_digest=("seed1",))
    swarm, report = run(Scenario(size=32 * MIB, peers=4, faults=faults))
    assert_all_whole(swarm, report)
    assert {parent for _, parent, _ in report.blamed} == {"seed1"}


@pytest.mark.parametrize("held", [1, 7, 15, 16])
@pytest.mark.parametrize("seeds", [1, 2])
def test_seed_killed_half_way(held: int, seeds: int) -> None:
    """What the swarm holds is not fetched again; what is lost is, once."""
    # The ring of seeds decides who is triggered: whoever it is, dies.
    faults = Faults(crash_at_pieces={f"seed{i + 1}": held for i in range(seeds)})
    swarm, report = run(Scenario(size=16 * PIECE, seeds=seeds, faults=faults))
    assert_all_whole(swarm, report)
    assert report.source_copies <= 1.0 + seeds + 1e-6


def test_one_of_two_seeds_is_killed_and_the_other_takes_over() -> None:
    alone = Scenario(size=16 * PIECE, seeds=2, seeds_share=False)
    whole, _ = run(alone)
    (busy,) = [node.name for node in whole.seeds if node.held]
    (idle,) = [node.name for node in whole.seeds if not node.held]
    faults = Faults(crash_at_pieces={busy: 5})
    swarm, report = run(replace(alone, faults=faults))
    assert_all_whole(swarm, report)
    assert report.source_copies <= 2.0
    assert report.copies(busy) < report.copies(idle) + report.source_copies


@pytest.mark.parametrize("at_s", [0.0, 0.0015, 0.005, 0.5, 3.0])
def test_scheduler_lost(at_s: float) -> None:
    faults = Faults(scheduler_lost_at_s=at_s)
    swarm, report = run(Scenario(size=64 * MIB, faults=faults))
    assert_all_whole(swarm, report)
    if at_s >= 0.5:
        assert report.source_copies == pytest.approx(1.0)  # parents go on bringing


def test_a_peer_that_dies_does_not_stop_the_others() -> None:
    faults = Faults(crash_at_s={"peer1": 2.0, "peer5": 4.0})
    swarm, report = run(Scenario(size=64 * MIB, faults=faults))
    assert_all_whole(swarm, report)
    assert len(report.times_s) == 6


def test_origin_dies_half_way_then_a_clear_error_and_what_came_stays() -> None:
    faults = Faults(source_dies_after_bytes=6 * PIECE + 100)
    swarm, report = run(Scenario(size=16 * PIECE, faults=faults))
    assert len(report.failures) == 8
    for outcome in report.outcomes:
        assert isinstance(outcome.error, SourceError)
        assert "origin" in outcome.error.detail
    for node in [*swarm.seeds, *swarm.peers]:
        assert not node.whole
        assert sorted(node.held) == list(range(6))  # all that ever was
    assert report.source_copies == pytest.approx((6 * PIECE + 100) / report.size)


def test_peers_that_come_later_still_get_it_from_those_who_have_it() -> None:
    faults = Faults(crash_at_s={"seed1": 14.0}, source_dies_after_bytes=16 * PIECE)
    swarm, report = run(Scenario(size=16 * PIECE, peers=6, arrival_s=60.0, faults=faults))
    assert_all_whole(swarm, report)


# --- whatever happens -----------------------------------------------------------------------------


def random_faults(rng: Random, scenario: Scenario) -> Faults:
    """Each kind of fault with some probability, at some moment."""
    hosts = [f"peer{i + 1}" for i in range(scenario.peers)]
    hosts += [f"seed{i + 1}" for i in range(scenario.seeds)]
    span_s = 3 * scenario.bound_s()
    dies = rng.random() < 0.25
    return Faults(
        bad_digest=tuple(h for h in hosts if rng.random() < 0.15),
        crash_at_s={h: rng.uniform(0, span_s) for h in hosts if rng.random() < 0.15},
        crash_at_pieces={h: rng.randint(1, 8) for h in hosts if rng.random() < 0.15},
        scheduler_lost_at_s=rng.uniform(0, span_s) if rng.random() < 0.25 else None,
        source_dies_after_bytes=rng.randint(0, 2 * scenario.size) if dies else None,
    )


@pytest.mark.parametrize("seed", range(50))
def test_random_faults_end_well_or_with_a_reason(seed: int) -> None:
    rng = Random(seed)
    plain = Scenario(
        size=rng.randint(0, 12 * PIECE),
        peers=rng.randint(1, 9),
        seeds=rng.randint(0, 2),
        seed_up=rng.choice([40, 400]) * MBIT,
        arrival_s=rng.choice([0.0, 5.0]),
        source_ranges=rng.random() < 0.8,
        source_says_length=rng.random() < 0.8,
        limits=DownloadLimits(source_streams=rng.choice([1, 3])),
    )
    scenario = replace(plain, faults=random_faults(rng, plain))
    swarm, report = run(scenario, seed)
    for outcome in report.outcomes:
        assert outcome.completed or outcome.crashed or outcome.error is not None, "never ended"
        if outcome.error is not None:
            # The only good reason: what nobody could bring, the source could not either.
            assert isinstance(outcome.error, SourceError), outcome
            assert not swarm.source.alive
    for node in swarm.peers:
        assert all(piece.digest == right_digest(number) for number, piece in node.held.items())
    completed = {outcome.name for outcome in report.outcomes if outcome.completed}
    for node in swarm.peers:
        if node.name in completed:
            assert sum(piece.length for piece in node.held.values()) == scenario.size


@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_a_crowd_behind_a_thin_seed_does_not_ask_the_source(delay_s: float) -> None:
    """5 Mbit/s each: nobody sends much in a second, and some have their first byte after 6 s."""
    rate = 5 * MBIT
    scenario = Scenario(
        peers=16,
        size=16 * MIB,
        piece_length=MIB // 2,
        peer_up=rate,
        peer_down=rate,
        seed_up=rate,
        source_up=10 * rate,
        delay_s=delay_s,
    )
    for seed in (1, 2):
        swarm, report = run(scenario, seed=seed)
        assert_all_whole(swarm, report)
        assert report.source_copies == pytest.approx(1.0)
