"""Links: what tc is told, and which of them do not carry what they were set to."""

from __future__ import annotations

from bench.swarm.calibrate import steadied, wrong_links
from bench.swarm.namespaces import BURST_BYTES, BURST_BYTES_MIN, burst_bytes, shaper
from bench.swarm.world import Rates, Scale, plan_world, scaled, world_bound_s

from simulator.scenario import MBIT
from simulator.scenario_file import load_scenario


def test_a_queue_holds_a_tenth_of_a_second_and_two_bursts_at_least() -> None:
    words = shaper(40 * MBIT)
    assert words[:4] == ["root", "tbf", "rate", "40000000bit"]
    assert int(words[-1]) == 500_000 + BURST_BYTES
    assert int(shaper(MBIT)[-1]) == 2 * BURST_BYTES_MIN


def test_a_burst_is_no_longer_than_a_moment() -> None:
    assert burst_bytes(100 * MBIT) == BURST_BYTES
    assert burst_bytes(8 * MBIT) == 50_000
    assert burst_bytes(MBIT / 8) == BURST_BYTES_MIN


def test_a_link_that_is_off_is_named() -> None:
    world = plan_world("flash", scaled(load_scenario("flash"), Scale(peers=2)), 1)
    right = {host.name: 0.95 * host.link.up for host in world.hosts if host.link.up is not None}
    down = {host.name: 0.95 * host.link.down for host in world.peers if host.link.down is not None}
    assert wrong_links(world, Rates(up=right, down=down)) == []
    right["peer2"] *= 0.89
    assert wrong_links(world, Rates(up=right, down=down)) == []
    right["peer2"] *= 0.95
    assert wrong_links(world, Rates(up=right, down=down)) == [
        "peer2 up: 80% of the rate that was set"
    ]


def test_one_link_that_seems_slower_makes_the_bound_no_longer() -> None:
    world = plan_world("flash", scaled(load_scenario("flash"), Scale(peers=4)), 1)
    up = {host.name: 0.95 * host.link.up for host in world.hosts if host.link.up is not None}
    down = {host.name: 0.95 * host.link.down for host in world.peers if host.link.down is not None}
    right = Rates(up=up, down=down)
    seeming = Rates(up={**up, "seed1": 0.9 * up["seed1"]}, down=down)
    assert world_bound_s(world, seeming) > world_bound_s(world, right)
    assert world_bound_s(world, steadied(world, seeming)) == world_bound_s(world, right)
