"""Transfers take as long as their links allow: against what can be computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.network import Link, Network, Transfer, fair_rates
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
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20),
    rates=st.lists(st.integers(1, 1000), min_size=10, max_size=10),
)
def test_rates_are_max_min_fair(pairs: list[tuple[int, int]], rates: list[int]) -> None:
    """No link is overfull, and each transfer is held by a full link on which none gets more."""
    givers = [Link(f"g{i}", up=float(rates[i])) for i in range(5)]
    takers = [Link(f"t{i}", down=float(rates[5 + i])) for i in range(5)]
    transfers = [
        Transfer(giver=givers[a], taker=takers[b], left=1.0, on_done=nothing) for a, b in pairs
    ]
    found = fair_rates(transfers)
    for transfer in transfers:
        held = False
        for mine, capacity in (
            ([t for t in transfers if t.giver is transfer.giver], transfer.giver.up),
            ([t for t in transfers if t.taker is transfer.taker], transfer.taker.down),
        ):
            total = sum(found[t] for t in mine)
            assert total <= capacity * (1 + 1e-9)
            full = total >= capacity * (1 - 1e-9)
            held = held or (full and found[transfer] >= max(found[t] for t in mine) * (1 - 1e-9))
        assert held
