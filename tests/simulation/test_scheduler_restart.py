"""A scheduler that dies just as its downloads begin, on virtual time: the source hardly notices.

The moments are those of the first messages: peers have registered or not, the seed was triggered or
not, has registered or not, has begun or not.
"""

from __future__ import annotations

import pytest

from odonata.piece import PIECE_LENGTH_MIN
from simulator.fault.plan import Plan, SchedulerCrash
from simulator.fault.swarm import RESTART_S, HarshSwarm
from simulator.scenario import MBIT, Scenario

WORLD = Scenario(
    size=3 * PIECE_LENGTH_MIN, piece_length=PIECE_LENGTH_MIN, peers=4, source_up=16 * MBIT
)
STEP_S = 3 * WORLD.delay_s
"""One and a half times a message and its answer, so that the steps meet different moments."""


@pytest.mark.parametrize("back_after_s", [0.001, 0.5, 5.0])
@pytest.mark.parametrize("step", range(8))
def test_the_source_is_asked_once_although_the_scheduler_dies_as_all_begin(
    step: int, back_after_s: float
) -> None:
    crash = SchedulerCrash(at_s=RESTART_S + step * STEP_S, back_after_s=back_after_s)
    plan = Plan(
        seed=1, scenario=WORLD, policy="rule", stock=(), private=(), sized=False, faults=(crash,)
    )
    swarm = HarshSwarm(plan)
    swarm.live()
    assert {ending.error for ending in swarm.endings} == {""}
    assert {ending.host for ending in swarm.endings} >= {node.name for node in swarm.peers}
    assert swarm.source.link.sent == pytest.approx(WORLD.size, rel=0.01)
