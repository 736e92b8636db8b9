"""A seed bears as many children as its uplink is wider than the others', while others can help."""

from __future__ import annotations

import pytest
from support.scheduler_world import World, download, host

from odonata.piece import MIB
from scheduler.core.candidate import Drop, Survey, survey
from scheduler.core.limits import Limits
from scheduler.core.seed_share import spare_seeds


def world_of(
    *, seed_uplink: int, peer_uplink: int, children: int, limits: Limits, peers: int = 3
) -> World:
    """A seed and some peers that hold everything; the seed has `children`."""
    world = World(limits)
    world.announce(host("s1", seed=True, bandwidth=seed_uplink))
    world.holder("sp", "s1")
    for number in range(children):
        world.announce(host(f"c{number}"))
        world.register(f"child{number}", f"c{number}")
    for number in range(peers):
        world.announce(host(f"h{number}", bandwidth=peer_uplink))
        world.holder(f"p{number}", f"h{number}")
    world.announce(host("hx"))
    world.register("x", "hx", download(source=True))
    return world


def seen_by_x(world: World, limits: Limits | None = None) -> Survey:
    seen = survey(world.peer("x"))
    spare_seeds(seen, limits or Limits())
    return seen


def is_spared(seen: Survey) -> bool:
    spared = seen.dropped.get("sp") is Drop.SEED_FULL
    assert spared is ("sp" not in [peer.id for peer in seen.eligible])
    return spared


@pytest.mark.parametrize(
    ("seed_uplink", "peer_uplink", "bears"),
    [(120, 10, 12), (10, 10, 8), (1, 10, 8), (0, 0, 16)],
)
def test_it_bears_as_many_as_its_uplink_is_wider(
    seed_uplink: int, peer_uplink: int, bears: int
) -> None:
    for children in (bears - 1, bears):
        limits = Limits(exploration=0.0, admission=False)
        world = world_of(
            seed_uplink=seed_uplink, peer_uplink=peer_uplink, children=children, limits=limits
        )
        assert world.core.state.hosts["s1"].concurrent_upload_count == children
        assert is_spared(seen_by_x(world)) is (children >= bears)


def test_it_is_not_left_out_while_hardly_anybody_else_can_help() -> None:
    limits = Limits(exploration=0.0, admission=False)
    world = world_of(seed_uplink=10, peer_uplink=10, children=9, peers=1, limits=limits)
    assert not is_spared(seen_by_x(world))


def test_a_share_of_nothing_switches_it_off() -> None:
    limits = Limits(exploration=0.0, admission=False)
    world = world_of(seed_uplink=10, peer_uplink=10, children=9, limits=limits)
    assert not is_spared(seen_by_x(world, Limits(seed_share=0.0)))


@pytest.mark.parametrize(
    ("length", "factor"), [(None, 1), (0, 1), (4 * MIB, 1), (64 * MIB, 1), (2 * MIB, 2), (1, 8)]
)
def test_of_a_short_content_it_bears_more(length: int | None, factor: int) -> None:
    for children in (8 * factor - 1, 8 * factor):
        limits = Limits(exploration=0.0, admission=False)
        world = world_of(seed_uplink=10, peer_uplink=10, children=children, limits=limits)
        world.peer("x").task.content_length = length
        assert is_spared(seen_by_x(world)) is (children >= 8 * factor)
