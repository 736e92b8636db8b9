"""Hosts are drawn from the world's dice: true rates, what they say, and what is hidden."""

from __future__ import annotations

from math import log
from statistics import mean, stdev

import pytest
from support.tiny_world import tiny

from simulator.host import SimulatedHost, draw_hosts
from simulator.scenario import MBIT, Degrading, Joining, Scenario, Vanishing
from simulator.world import World


def draw(scenario: Scenario, seed: int = 1) -> list[SimulatedHost]:
    return draw_hosts(scenario, World(seed))


def test_uplinks_are_lognormal_and_no_downlink_is_thinner() -> None:
    peers = draw(Scenario(peers=1000, seeds=0, uplink_sigma=0.8))
    logs = [log(host.link.up / (40 * MBIT)) for host in peers]
    assert mean(logs) == pytest.approx(0.0, abs=0.1)
    assert stdev(logs) == pytest.approx(0.8, abs=0.06)
    assert all(host.link.down == max(40 * MBIT, host.link.up) for host in peers)


def test_hidden_slow_hosts_say_nothing_of_it() -> None:
    scenario = tiny(peers=20, hidden_slow_share=0.1, hidden_slow_factor=10.0)
    slow = [host for host in draw(scenario) if host.is_slow]
    assert len(slow) == 2
    for host in slow:
        assert host.told_up == pytest.approx(10 * host.link.up)
        assert host.host.max_tx_bandwidth_bits_per_s == int(host.told_up * 8)
        assert host.link.uplink.capacity == host.link.up
    plain = {host.name: host for host in draw(tiny(peers=20, hidden_slow_share=0.0))}
    assert {h.name for h in draw(scenario) if h.link.up != plain[h.name].link.up} == {
        host.name for host in slow
    }


def test_hosts_may_say_nothing_at_all() -> None:
    assert {host.told_up for host in draw(tiny(announced="nothing"))} == {0.0}


def test_the_same_seed_draws_the_same_hosts_and_another_one_others() -> None:
    def rates(seed: int) -> list[float]:
        return [host.link.up for host in draw(tiny(), seed)]

    assert rates(3) == rates(3)
    assert rates(3) != rates(4)
    ids = {host.host.id for seed in (1, 2) for host in draw(tiny(), seed)}
    assert len(ids) == 2 * 13, "a data set of two worlds must tell their hosts apart"


def test_who_degrades_and_who_vanishes_is_drawn_too() -> None:
    hosts = draw(
        tiny(
            peers=20,
            degrading=Degrading(share=0.2, factor=50.0, at_s=3.0),
            vanishing=Vanishing(share=0.1, at_s=10.0),
        )
    )
    assert sum(host.degrades for host in hosts) == 4
    times = [host.vanishes_at_s for host in hosts if host.vanishes_at_s is not None]
    assert len(times) == 2
    assert all(5.0 <= at_s <= 15.0 for at_s in times)
    assert not any(host.degrades or host.vanishes_at_s for host in hosts if host.is_seed)


def test_data_centres_are_dealt_in_turn() -> None:
    hosts = draw(tiny(peers=4, idcs=2))
    assert [host.link.idc for host in hosts] == ["idc1", "idc1", "idc2", "idc1", "idc2"]
    assert [host.host.idc for host in hosts] == [host.link.idc for host in hosts]


def test_who_joins_late_is_nobody_who_vanishes() -> None:
    lively = tiny(
        peers=20,
        vanishing=Vanishing(share=0.5, at_s=3.0),
        joining=Joining(share=0.8, at_s=4.0),
    )
    hosts = [host for host in draw(lively) if not host.is_seed]
    late = {host.name: host.joins_at_s for host in hosts if host.joins_at_s is not None}
    gone = {host.name for host in hosts if host.vanishes_at_s is not None}
    assert len(late) == 10, "all that are left, though more were asked for"
    assert not gone & set(late)
    assert all(2.0 <= at_s <= 6.0 for at_s in late.values())
