"""Plans: the same for the same seed, of every kind, readable, and smaller on demand."""

from __future__ import annotations

import msgspec
import pytest

from odonata.piece import PIECE_LENGTH_MIN
from scheduler.core.graph import GraphKind
from simulator.fault.draw import draw_plan
from simulator.fault.plan import Crash, Cut, Jump, Plan
from simulator.scenario import Scenario

PLANS = [draw_plan(seed) for seed in range(1, 400)]


def plan_of(*faults: Crash | Cut | Jump) -> Plan:
    return Plan(
        seed=7,
        scenario=Scenario(size=3 * PIECE_LENGTH_MIN + 1, piece_length=PIECE_LENGTH_MIN, peers=3),
        policy="rule",
        stock=("peer2",),
        private=("peer3",),
        sized=True,
        faults=faults,
    )


def test_the_same_seed_draws_the_same_plan_and_another_one_another() -> None:
    assert draw_plan(5) == PLANS[4]
    assert len({repr(plan) for plan in PLANS}) == len(PLANS)


def test_plans_are_plain_data() -> None:
    for plan in PLANS[:50]:
        assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_every_kind_of_world_and_fault_is_drawn() -> None:
    kinds = {fault.kind for plan in PLANS for fault in plan.faults}
    assert len(kinds) == 26
    sizes = {plan.scenario.size for plan in PLANS}
    assert {0, 1} < sizes
    assert any(size and size % PIECE_LENGTH_MIN == 0 for size in sizes)
    assert {plan.scenario.seeds for plan in PLANS} == {0, 1, 2}
    assert any(plan.stock and len(plan.stock) < plan.scenario.peers for plan in PLANS)
    assert any(not plan.faults for plan in PLANS)
    assert {plan.graph for plan in PLANS} == set(GraphKind)
    assert any(plan.scenario.seeds == 2 and not _stock_seeds(plan) for plan in PLANS)


def _stock_seeds(plan: Plan) -> set[str]:
    return {name for name in plan.stock if name.startswith("seed")}


def test_faults_hit_who_is_there() -> None:
    for plan in PLANS:
        world = plan.scenario
        names = {f"peer{n + 1}" for n in range(world.peers)}
        names |= {f"seed{n + 1}" for n in range(world.seeds)} | {"scheduler", "source"}
        for fault in plan.faults:
            assert set(fault.places()) <= names
            assert fault.at_s >= 0
            assert fault.until_s() >= fault.at_s
            if isinstance(fault, Cut):
                assert not set(fault.one) & set(fault.other)


def test_a_plan_is_told_in_words_with_the_numbers_of_its_faults() -> None:
    crash = Crash(at_s=9.0, host="peer1", manner="silent", back_after_s=5.0, keeps_data=False)
    cut = Cut(at_s=2.0, one=("peer1",), other=("scheduler",), lasts_s=None, one_way=True)
    jump = Jump(at_s=4.0, who="scheduler", by_s=1900.0)
    plan = plan_of(crash, cut, jump)
    hosts = "3 peers and 1 seeds in 1 data centres"
    assert plan.lines() == [
        f"seed 7: {hosts}, 12.0 MiB in 4 pieces; ranker rule, mesh of 8",
        "stock: peer2 (sized)",
        "may not ask the source: peer3",
        "  2.     2.0 s  cut peer1 -> scheduler, for good",
        "  3.     4.0 s  the clock of scheduler jumps ahead by 1900 s",
        "  1.     9.0 s  peer1 dies (silent), back after 5.0 s without its data",
    ]
    assert plan.only([1, 3]).faults == (crash, jump)
    assert plan.only(()).faults == ()
    assert crash.moments() == (9.0, 14.0)


@pytest.mark.parametrize("plan", PLANS[:20], ids=lambda plan: str(plan.seed))
def test_every_fault_has_words(plan: Plan) -> None:
    for fault in plan.faults:
        assert fault.kind
        assert "object at" not in str(fault)
