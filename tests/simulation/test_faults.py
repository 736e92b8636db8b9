"""Worlds full of faults: each ends with all bytes right or an honest error, and nobody stuck.

Fifty seeds each time, thousands with --long. A seed that ever failed stays in the list, with what
it found; `./run sim --faults --seed N --explain` tells its story.
"""

from __future__ import annotations

import os

import pytest

from simulator.fault.draw import draw_plan
from simulator.fault.run import run_plan, run_seeds
from simulator.fault.swarm import HarshSwarm

FAILED_ONCE = {
    279: "a clock that jumped made a peer leave one parent twice, and report it twice",
    819: "the same, by the clock of another host",
    222: "a seed lied about the length, which only the source knew",
    848: "the same, by a peer, without a seed",
    310: "stock clients that must say a length go to the source alone if it tells none",
    917: "who may not ask the source was refused, since the disk of the only seed was full",
    1176: "the same, since a scheduler whose clock had jumped took all hosts for gone",
    1433: "a simulated host that held an empty content did not say so",
    2355: "the bound did not know that a content may come through the thinnest uplink first",
    4772: "a stock seed that must say a length is no help if the source tells none",
}
SEEDS = (*range(1, 43), *FAILED_ONCE)
LONG_SEEDS = range(1, 2001)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_full_of_faults_ends_well(seed: int) -> None:
    assert run_plan(draw_plan(seed)).findings == ()


@pytest.mark.long
def test_thousands_of_worlds_end_well() -> None:
    results = run_seeds(LONG_SEEDS, jobs=os.cpu_count() or 1)
    assert [result.seed for result in results] == list(LONG_SEEDS)
    assert {result.seed: result.findings for result in results if result.is_failure} == {}


def test_the_seeds_draw_every_kind_of_fault_and_every_kind_of_end() -> None:
    results = [run_plan(draw_plan(seed), thorough=False) for seed in SEEDS]
    kinds = {kind for result in results for kind in result.kinds}
    assert len(kinds) >= 24
    ends = {how for result in results for how in result.endings}
    assert {"whole", "died", "source", "source 404", "source 503", "unavailable"} <= ends
    assert "disk_full" in ends
    whole = sum(result.endings.get("whole", 0) for result in results)
    assert whole > 0.6 * sum(sum(result.endings.values()) for result in results)


def test_a_plan_is_lived_through_in_the_same_way_again() -> None:
    logs: list[list[str]] = []
    for _ in range(2):
        swarm = HarshSwarm(draw_plan(222), keep_log=True)
        swarm.live()
        logs.append(swarm.world.log)
    assert logs[0] == logs[1]
    assert len(logs[0]) > 50


def test_the_results_do_not_depend_on_the_number_of_jobs() -> None:
    seeds = range(100, 130)
    alone = run_seeds(seeds, jobs=1)
    shared = run_seeds(seeds, jobs=2)
    assert [(r.seed, r.findings, r.kinds, r.endings) for r in alone] == [
        (r.seed, r.findings, r.kinds, r.endings) for r in shared
    ]
