"""Questions are answered with plain values."""

import pytest
from support.scheduler_world import PIECE_LENGTH, URL, World, host

from odonata.errors import NotFoundError
from odonata.wire.message import HostType


@pytest.fixture
def world() -> World:
    made = World()
    made.announce(host("h1"), host("s1", seed=True))
    made.holder("sp", "s1")
    made.register("p1", "h1")
    return made


def test_stat_task(world: World) -> None:
    task = world.core.stat_task("t")
    assert task.url == URL
    assert task.state == "Succeeded"
    assert task.content_length == 3 * PIECE_LENGTH
    assert task.piece_length == PIECE_LENGTH
    assert task.piece_count == 3
    assert task.peer_count == 2
    assert task.has_available_peer


def test_stat_peer(world: World) -> None:
    world.started("p1")
    world.piece("p1", 1, "sp")
    world.piece("p1", 0, "sp")
    peer = world.core.stat_peer("p1")
    assert peer.state == "Running"
    assert peer.finished_pieces == (0, 1)
    assert peer.parent_ids == ("sp",)
    assert peer.host == host("h1")
    assert peer.task.id == "t"
    assert not peer.is_waiting


def test_list_hosts(world: World) -> None:
    assert [one.host.id for one in world.core.list_hosts()] == ["h1", "s1"]
    (seed,) = world.core.list_hosts(HostType.SUPER)
    assert seed.host.id == "s1"
    assert seed.concurrent_upload_count == 1
    assert seed.peer_count == 1
    assert seed.announce_interval_s == 300.0


def test_unknown_things_are_not_found(world: World) -> None:
    with pytest.raises(NotFoundError, match="task nothing not found"):
        world.core.stat_task("nothing")
    with pytest.raises(NotFoundError, match="peer nobody not found"):
        world.core.stat_peer("nobody")
