"""Transfers take as long as their links allow: against what can be computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.filling import fair_rates

from odonata.errors import CallerError
from simulator.network import UNLIMITED, Link, Network, Transfer
from simulator.world import World


def nothing() -> None:
    """Nobody waits for it."""


class Clock:
    """Notes when transfers arrive."""

    def __init__(self) -> None:
        self.world = World(1)
        self.network = Network(self.world)
        self.times: dict[str, float] = {}

    def send(self, name: str, giver: Link, taker: Link, n_bytes: int) -> Transfer:
        def done() -> None:
            self.times[name] = self.world.now

        return self.network.send(giver, taker, n_bytes, done)

    def run(self) -> None:
        self.world.run(until_s=1e9, is_over=lambda: False)


def test_one_transfer_takes_its_time() -> None:
    clock = Clock()
    clock.send("x", Link("a", up=100.0), Link("b", down=50.0), 500)
    clock.run()
    assert clock.times["x"] == pytest.approx(10.0)


def test_two_share_an_uplink_and_the_one_left_speeds_up() -> None:
    clock = Clock()
    giver = Link("a", up=100.0)
    clock.send("short", giver, Link("b"), 100)
    clock.send("long", giver, Link("c"), 500)
    clock.run()
    assert clock.times["short"] == pytest.approx(2.0)
    assert clock.times["long"] == pytest.approx(6.0)
    assert giver.sent == pytest.approx(600)


def test_what_one_can_not_use_the_other_gets() -> None:
    clock = Clock()
    giver = Link("a", up=100.0)
    clock.send("thin", giver, Link("b", down=10.0), 100)
    clock.send("fat", giver, Link("c"), 900)
    clock.run()
    assert clock.times["thin"] == pytest.approx(10.0)
    assert clock.times["fat"] == pytest.approx(10.0)


def test_a_chain_and_a_stop() -> None:
    clock = Clock()
    giver = Link("a", up=100.0)
    stopped = clock.send("stopped", giver, Link("b"), 1000)
    clock.send("other", giver, Link("c"), 300)
    clock.world.at(4.0, lambda: clock.network.stop(stopped))
    clock.run()
    assert "stopped" not in clock.times
    assert clock.times["other"] == pytest.approx(5.0)
    assert giver.sent == pytest.approx(500)


def test_used_is_what_leaves_now() -> None:
    clock = Clock()
    giver = Link("a", up=100.0)
    clock.send("x", giver, Link("b", down=30.0), 300)
    seen: list[float] = []
    clock.world.at(1.0, lambda: seen.append(giver.used))
    clock.run()
    assert seen == [pytest.approx(30.0)]
    assert giver.used == 0


def test_nothing_to_send_arrives_at_once() -> None:
    clock = Clock()
    clock.send("x", Link("a"), Link("b"), 0)
    clock.run()
    assert clock.times["x"] == 0.0


@given(
    changes=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=40
    ),
    ups=st.lists(st.integers(1, 1000), min_size=6, max_size=6),
    downs=st.lists(st.integers(1, 1000), min_size=6, max_size=6),
    between=st.sampled_from([UNLIMITED, 300.0]),
)
def test_rates_are_those_of_progressive_filling(
    changes: list[tuple[int, int, bool]], ups: list[int], downs: list[int], between: float
) -> None:
    """After every begin and end, found from what was before, and compared with an exact filling."""
    world = World(1)
    network = Network(world, between_idcs=between)
    links = [
        Link(f"h{i}", up=float(up), down=float(down), idc="ab"[i % 2])
        for i, (up, down) in enumerate(zip(ups, downs, strict=True))
    ]
    running: list[Transfer] = []
    for giver, taker, ends in changes:
        if ends and running:
            network.stop(running.pop(giver % len(running)))
        else:
            running.append(network.send(links[giver], links[taker], 10**9, nothing))
        network.set_uplink(links[taker], links[taker].up + 1.0)
        world.run(until_s=world.now + 1e-3, is_over=lambda: False)
        exact = fair_rates(running)
        assert [t.rate for t in running] == pytest.approx([exact[t] for t in running], rel=1e-6)


def test_a_shared_link_between_data_centres() -> None:
    clock = Clock()
    clock.network = Network(clock.world, between_idcs=10.0)
    here, there = Link("a", up=100.0, idc="x"), Link("b", idc="y")
    clock.send("across", here, there, 100)
    clock.send("within", here, Link("c", idc="x"), 900)
    clock.run()
    assert clock.times["across"] == pytest.approx(10.0)
    assert clock.times["within"] == pytest.approx(10.0)


def test_an_uplink_that_degrades() -> None:
    clock = Clock()
    giver = Link("a", up=100.0)
    clock.send("x", giver, Link("b"), 500)
    clock.world.at(4.0, lambda: clock.network.set_uplink(giver, 10.0))
    clock.run()
    assert clock.times["x"] == pytest.approx(14.0)
    with pytest.raises(CallerError, match="uplink of a"):
        clock.network.set_uplink(giver, 0.0)
