"""Two data centres on a thin link: what two gateways that divide the far pieces are worth."""

from __future__ import annotations

from functools import cache
from statistics import median
from typing import NamedTuple

from bench.swarm.world import Scale, scaled
from msgspec.structs import replace

from odonata.piece import MIB
from simulator.campaign import Campaign
from simulator.client import OWN
from simulator.policy import policy_named
from simulator.scenario import MBIT
from simulator.scenario_file import load_scenario

WORLDS = range(5, 9)
UNEVEN_WORLDS = range(1, 5)
SCALE = Scale(peers=16, size=32 * MIB, piece_length=MIB // 4, peer_rate=10 * MBIT)
"""As `./run bench swarm idc` measures it on real links."""


class Crossing(NamedTuple):
    """Of one world: copies that reached the site without the source beyond the first one, and the
    longest time as a multiple of the bound."""

    extra_copies: float
    stretch_max: float
    failures: int


@cache
def crossing(seed: int, *, divides: bool, is_uneven: bool = False) -> Crossing:
    """Eight peers in each data centre, all at once from a cold start."""
    scenario = scaled(load_scenario("idc"), SCALE)
    if is_uneven:
        scenario = replace(scenario, uplink_sigma=0.8, hidden_slow_share=0.1)
    client = replace(OWN, limits=replace(OWN.limits, far_shares=divides))
    campaign = Campaign(scenario, policy_named("rule"), client, seed)
    (report,) = campaign.run()

    def is_home(name: str) -> bool:
        return campaign.place.host_named(name).link.idc == "idc1"

    crossed = sum(
        n_bytes
        for outcome in report.outcomes
        for giver, n_bytes in outcome.fetched_from.items()
        if is_home(giver) and not is_home(outcome.name)
    )
    return Crossing(
        extra_copies=crossed / report.size - 1,
        stretch_max=max(report.times_s) / report.bound_s,
        failures=sum(not outcome.completed for outcome in report.outcomes),
    )


def test_far_pieces_hardly_ever_come_twice() -> None:
    divided = [crossing(seed, divides=True) for seed in WORLDS]
    undivided = [crossing(seed, divides=False) for seed in WORLDS]
    extra = sum(one.extra_copies for one in divided)
    assert extra < sum(one.extra_copies for one in undivided) / 3
    assert extra / len(WORLDS) <= 0.05


def test_nobody_waits_longer_for_it() -> None:
    """Worlds differ by 0.02 (standard deviation), so two medians of four may differ by chance."""
    divided = median(crossing(seed, divides=True).stretch_max for seed in WORLDS)
    assert divided <= median(crossing(seed, divides=False).stretch_max for seed in WORLDS) + 0.05


def test_uneven_uplinks_cross_less_and_hardly_wait_longer() -> None:
    """One gateway may be a host that is ten times slower than it says; then its part comes late.

    Hardly: in the median of worlds that differ by half, a tenth at most.
    """
    divided = [crossing(seed, divides=True, is_uneven=True) for seed in UNEVEN_WORLDS]
    undivided = [crossing(seed, divides=False, is_uneven=True) for seed in UNEVEN_WORLDS]
    assert not any(one.failures for one in divided)
    assert sum(o.extra_copies for o in divided) < sum(o.extra_copies for o in undivided)
    longest = median(one.stretch_max for one in undivided)
    assert median(one.stretch_max for one in divided) <= longest * 1.1
