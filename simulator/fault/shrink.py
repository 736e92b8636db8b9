"""A smaller plan that fails as well: faults are left out one by one while it still does.

The world itself stays as it is, so that the faults that are left can be named by their numbers in
the plan of the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.fault.run import run_plan

if TYPE_CHECKING:
    from simulator.fault.plan import Plan


def shrink(
    plan: Plan, fails: Callable[[Plan], bool] = lambda plan: run_plan(plan).is_failure
) -> tuple[int, ...]:
    """The numbers (from 1) of those faults of a failing plan without any of which it would pass.

    At most as many rounds as there are faults, each of as many runs.
    """
    kept: tuple[int, ...] = tuple(range(1, len(plan.faults) + 1))
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for number in kept:
            fewer = tuple(one for one in kept if one != number)
            if fails(plan.only(fewer)):
                kept, is_smaller = fewer, True
                break
    return kept
