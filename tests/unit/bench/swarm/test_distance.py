"""Delays and losses: which packets the router leads where, and what the kernel is told."""

from __future__ import annotations

import pytest
from bench.swarm import delay_line, distance
from bench.swarm.world import Scale, WorldPlan, plan_world, scaled
from msgspec.structs import replace

from odonata.errors import CallerError
from simulator.scenario_file import load_scenario

ORIGIN_IP = "10.78.1.2"


def world(name: str) -> WorldPlan:
    return plan_world(name, scaled(load_scenario(name), Scale(peers=2)), 1)


def test_a_near_world_needs_nothing() -> None:
    assert not distance.is_far(world("flash"))
    assert distance.rules(world("flash"), ORIGIN_IP) == []


def test_a_far_origin_is_far_both_ways_and_nobody_else() -> None:
    assert distance.delays(world("small")) == {distance.TO_ORIGIN: 0.02}
    there, back = distance.rules(world("small"), ORIGIN_IP)
    assert there[:2] == ["-s", ORIGIN_IP]
    assert back[:2] == ["-d", ORIGIN_IP]


def test_a_lossy_world_drops_before_it_delays() -> None:
    lossy = world("lossy")
    assert distance.delays(lossy) == {distance.AMONG_HOSTS: 0.02, distance.TO_ORIGIN: 0.02}
    lost, *held = distance.rules(lossy, ORIGIN_IP)
    assert lost[-2:] == ["-j", "DROP"]
    assert "0.01" in lost
    queues = {rule[rule.index("--queue-num") + 1] for rule in held}
    assert queues == {"1", "2"}


def test_far_data_centres_are_told_to_be_too_much() -> None:
    with pytest.raises(CallerError, match="one site only"):
        distance.check(replace(world("idc"), loss_share=0.1))


def packet(number: int) -> bytes:
    """As the kernel tells of one: the header's attribute first, then others."""
    header = delay_line.attribute(1, number.to_bytes(4, "big") + b"\x08\x00\x02")
    mark = delay_line.attribute(3, b"abcd")
    return delay_line.message(delay_line.PACKET, 1, header + mark)


def test_all_packets_of_a_message_are_found() -> None:
    other = delay_line.message(delay_line.CONFIG, 1, b"")
    data = packet(7) + other + packet(70_000)
    assert list(delay_line.packet_ids(data)) == [7, 70_000]
    assert list(delay_line.packet_ids(b"")) == []
    assert list(delay_line.packet_ids(bytes(16))) == [], "a length of nothing ends it"


@pytest.mark.parametrize("length", range(5))
def test_attributes_are_padded_to_four_bytes(length: int) -> None:
    told = delay_line.attribute(2, bytes(length))
    assert len(told) % 4 == 0
    assert int.from_bytes(told[:2], "little") == 4 + length
