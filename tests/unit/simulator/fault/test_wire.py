"""Lines that fail: what is cut off waits, what belonged to a dead machine is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulator.fault.plan import Cut
from simulator.fault.wire import HarshNetwork, HarshWire
from simulator.network import Link
from simulator.wire import SCHEDULER
from simulator.world import World


class Town:
    """Some places with lines between them."""

    def __init__(self) -> None:
        self.world = World(1)
        self.wire = HarshWire(self.world, 0.1, self.world.rng("wire"))
        self.network = HarshNetwork(self.world, self.wire, between_idcs=1e12)
        self.wire.changed = self.network.look_again
        self.heard: list[tuple[str, float]] = []

    def says(self, what: str) -> Callable[[], None]:
        return lambda: self.heard.append((what, round(self.world.now, 6)))

    def run(self, until_s: float = 100.0) -> None:
        self.world.run(until_s=until_s, is_over=lambda: False)


@pytest.fixture
def town() -> Town:
    return Town()


def test_what_is_cut_off_waits_and_arrives_in_its_order(town: Town) -> None:
    cut = Cut(one=("a",), other=("b", "c"), lasts_s=5.0)
    town.wire.cut(cut)
    town.wire.carry("a", "b", town.says("first"))
    town.wire.carry("b", "a", town.says("second"))
    town.wire.carry("b", "c", town.says("not hit"))
    assert town.wire.is_cut(cut)
    town.world.at(5.0, lambda: town.wire.heal(cut))
    town.run()
    assert town.heard == [("not hit", 0.1), ("first", 5.1), ("second", 5.1)]


def test_a_one_way_cut_lets_the_other_direction_pass_but_joins_nobody(town: Town) -> None:
    town.wire.cut(Cut(one=("a",), other=("b",), lasts_s=None, one_way=True))
    assert not town.wire.reaches("a", "b")
    assert town.wire.reaches("b", "a")
    assert not town.wire.joins("a", "b")
    assert not town.wire.joins("b", "a")
    assert town.wire.joins("a", "c")


def test_messages_for_a_dead_machine_do_not_reach_its_next_life(town: Town) -> None:
    town.wire.lose("a")
    town.wire.carry("b", "a", town.says("for the dead"))
    town.wire.find("a")
    town.wire.carry("b", "a", town.says("for the living"))
    town.run()
    assert town.heard == [("for the living", 0.1)]


def test_streams_with_the_scheduler_are_delayed_and_keep_their_order(town: Town) -> None:
    town.wire.delay(10.0)
    for number in range(20):
        town.wire.carry("a", SCHEDULER, town.says(f"{number:02}"), stream="a")
    town.wire.hurry(10.0)
    town.wire.carry("a", SCHEDULER, town.says("20"), stream="a")
    town.wire.carry("a", "b", town.says("pieces"))
    town.run()
    assert town.heard[0] == ("pieces", 0.1)
    assert [what for what, _ in town.heard[1:]] == [f"{number:02}" for number in range(21)]
    assert town.heard[-1][1] > 1.0


def test_transfers_stand_still_while_their_ends_are_cut_off(town: Town) -> None:
    giver, taker = Link("a", up=10.0), Link("b")
    cut = Cut(one=("a",), other=("b",), lasts_s=3.0)
    town.network.send(giver, taker, 100, town.says("arrived"))
    town.world.at(4.0, lambda: town.wire.cut(cut))
    town.world.at(7.0, lambda: town.wire.heal(cut))
    town.run()
    assert town.heard == [("arrived", 13.0)]
    assert giver.sent == pytest.approx(100.0)


def test_a_transfer_that_was_stopped_does_not_go_on_after_a_cut(town: Town) -> None:
    cut = Cut(one=("a",), other=("b",), lasts_s=3.0)
    town.wire.cut(cut)
    transfer = town.network.send(Link("a", up=10.0), Link("b"), 100, town.says("arrived"))
    town.network.stop(transfer)
    town.wire.heal(cut)
    town.run()
    assert town.heard == []
    assert town.network.transfers() == ()
