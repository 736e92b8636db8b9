"""Measured worlds: a scenario brought down to two cores, and the bound on what links carry."""

from __future__ import annotations

import pytest
from bench.swarm.world import ORIGIN, Rates, Scale, plan_world, scaled, world_bound_s

from odonata.errors import CallerError
from odonata.piece import MIB
from simulator.host import draw_hosts
from simulator.scenario import MBIT
from simulator.scenario_file import load_scenario
from simulator.world import World

SCALE = Scale(peers=16, size=32 * MIB, piece_length=MIB // 2, peer_rate=10 * MBIT)
"""A quarter of the rates, an eighth of the bytes: half of the times."""


def test_rates_bytes_and_times_shrink_alike() -> None:
    whole = load_scenario("degrade")
    small = scaled(whole, SCALE)
    assert (small.peer_up, small.seed_up, small.source_up) == (
        10 * MBIT,
        100 * MBIT,
        100 * MBIT,
    )
    assert small.degrading is not None
    assert whole.degrading is not None
    assert small.degrading.at_s == pytest.approx(whole.degrading.at_s / 2)
    assert small.size // (small.piece_length or 0) == 64
    assert scaled(load_scenario("staggered"), SCALE).arrival_s == pytest.approx(50.0)


def test_a_share_of_few_hosts_is_one_at_least() -> None:
    world = plan_world("degrade", scaled(load_scenario("degrade"), SCALE), 1)
    assert sum(host.degrades_at_s is not None for host in world.peers) == 1
    world = plan_world("churn", scaled(load_scenario("churn"), SCALE), 1)
    assert sum(host.vanishes_at_s is not None for host in world.peers) == 1


def test_a_world_is_the_simulators() -> None:
    scenario = scaled(load_scenario("lognormal"), SCALE)
    world = plan_world("lognormal", scenario, 3)
    drawn = {host.name: host for host in draw_hosts(scenario, World(3))}
    assert len(world.peers) == 16
    for host in world.peers:
        assert host.link.up == drawn[host.name].link.up
        assert host.told_up == drawn[host.name].told_up
    slow = [host for host in world.peers if host.is_slow]
    assert len(slow) == 2
    for host in slow:
        assert host.told_up == pytest.approx(10 * (host.link.up or 0.0)), "nobody is told"


def test_hosts_have_addresses_of_their_own_and_arrive_one_by_one() -> None:
    world = plan_world("staggered", scaled(load_scenario("staggered"), SCALE), 1)
    assert len({host.number for host in world.hosts}) == len(world.hosts) == 19
    arrivals = [host.arrives_at_s for host in world.peers]
    assert arrivals == pytest.approx([50.0 * i / 16 for i in range(16)])
    assert [host.name for host in world.seeds] == ["seed1"]


def test_sites_take_turns_and_share_a_link_that_bounds_them() -> None:
    for name, labels in (("idc", {"idc1", "idc2"}), ("unlabelled", {""})):
        world = plan_world(name, scaled(load_scenario(name), SCALE), 1)
        assert [host.site for host in world.peers] == [0, 1] * 8
        assert world.between_sites == pytest.approx(20 * MBIT)
        assert {host.idc for host in world.peers} == labels
        assert {host.site for host in world.hosts if host not in world.peers} == {0}
        slow = Rates(up={}, down={}, between_sites=MBIT)
        assert world_bound_s(world, slow) == pytest.approx(world.size / MBIT)


def test_too_many_peers_and_nonsense_are_told() -> None:
    scenario = load_scenario("flash")
    with pytest.raises(CallerError, match="--peers 65"):
        scaled(scenario, Scale(peers=65))
    with pytest.raises(CallerError, match="above 0"):
        scaled(scenario, Scale(size=0))


@pytest.mark.parametrize(
    ("origin", "seed", "up", "down", "expected_s"),
    [
        (100.0, 10.0, 10.0, 100.0, 3.2),  # the seed alone sends one copy
        (5.0, 10.0, 10.0, 100.0, 6.4),  # the origin
        (100.0, 100.0, 10.0, 8.0, 4.0),  # the thinnest downlink
        (100.0, 20.0, 1.0, 100.0, 4 * 32 / 24),  # all uplinks together
    ],
)
def test_the_bound_is_that_of_the_narrowest(
    origin: float, seed: float, up: float, down: float, expected_s: float
) -> None:
    scale = Scale(peers=4, size=32, piece_length=1)
    world = plan_world("flash", scaled(load_scenario("flash"), scale), 1)
    rates = Rates(
        up={ORIGIN: origin, "seed1": seed, **{peer.name: up for peer in world.peers}},
        down={peer.name: down for peer in world.peers},
    )
    assert world_bound_s(world, rates) == pytest.approx(expected_s)


def test_who_vanishes_takes_no_copy() -> None:
    scale = Scale(peers=4, size=32, piece_length=1)
    world = plan_world("churn", scaled(load_scenario("churn"), scale), 1)
    rates = Rates(up={"seed1": 20.0, **{peer.name: 1.0 for peer in world.peers}}, down={})
    assert world_bound_s(world, rates) == pytest.approx(3 * 32 / 24)


def test_sizes_shrink_in_proportion_and_each_host_has_its_order() -> None:
    world = plan_world("image", scaled(load_scenario("image"), SCALE), 1)
    assert world.size == pytest.approx(32 * MIB, abs=10)
    assert max(world.sizes) == pytest.approx(16 * MIB, rel=0.01), "half of the image"
    assert world.at_once == 3
    assert world.order(world.peers[0]) == list(range(10)), "runtimes have the manifest's order"
    small = plan_world("small", scaled(load_scenario("small"), SCALE), 1)
    orders = [small.order(peer) for peer in small.peers]
    assert [sorted(order) for order in orders] == [list(range(300))] * 16
    assert len({tuple(order) for order in orders}) == 16
    assert small.order(small.peers[3]) == orders[3], "the same each time"
    assert (small.delay_s, small.source_delay_s) == (0.001, 0.02)


def test_who_joins_comes_in_mid_run() -> None:
    world = plan_world("churn", scaled(load_scenario("churn"), SCALE), 1)
    late = [host for host in world.peers if host.arrives_at_s > 0]
    assert len(late) == 1
    assert 10.0 <= late[0].arrives_at_s <= 30.0, "40 s in the scenario, 20 s here, drawn around it"
    assert late[0].vanishes_at_s is None
