"""What is forgotten, and when."""

import pytest
from support.scheduler_world import World, closes, download, host

from scheduler.core.limits import Limits


def world_of(count: int, interval_s: float = 0.0, **limits: float) -> World:
    world = World(Limits(**limits))  # type: ignore[arg-type]  # numbers of either kind
    world.announce(*(host(f"h{number}") for number in range(count)), interval_s=interval_s)
    return world


def test_failed_peers_go_at_the_next_sweep() -> None:
    world = world_of(1)
    world.register("p", "h0")
    world.closed("p")
    world.advance(9.9)
    assert "p" in world.core.state.peers
    world.advance(10.0)
    assert "p" not in world.core.state.peers


def test_a_download_without_pieces_is_given_up() -> None:
    world = world_of(1)
    world.origin_fetcher("p", "h0")
    world.advance(100.0)
    world.piece("p", 0)
    world.advance(1900.0)
    assert "p" in world.core.state.peers
    assert closes(world.advance(1911.0)) == {"p": "not_found"}


@pytest.mark.parametrize("limits", [{"peer_ttl_s": 50.0}, {"host_ttl_s": 50.0}])
def test_a_silent_peer_goes(limits: dict[str, float]) -> None:
    world = world_of(1, **limits)
    world.holder("p", "h0")
    world.advance(50.0)
    assert "p" in world.core.state.peers
    world.advance(60.0)
    assert "p" not in world.core.state.peers


def test_a_finished_peer_of_a_private_host_goes() -> None:
    world = world_of(1)
    world.holder("p", "h0")
    world.announce(host("h0", shared=False))
    world.advance(10.0)
    assert "p" not in world.core.state.peers


def test_a_downloading_peer_of_a_private_host_stays() -> None:
    world = World()
    world.announce(host("h0", shared=False))
    world.origin_fetcher("p", "h0")
    world.advance(30.0)
    assert world.peer("p").state == "BackToSource"


def test_a_crowd_of_finished_peers_is_thinned_out() -> None:
    world = world_of(5, peer_count_limit_for_task=3)
    world.announce(host("s", seed=True), interval_s=0)
    world.holder("sp", "s")
    for number in range(4):
        world.holder(f"p{number}", f"h{number}")
    world.register("child", "h4", download())
    world.started("child")
    serving = set(world.task().graph.parents("child"))
    assert len(serving) == 3
    world.advance(10.0)
    assert set(world.core.state.peers) == {"sp", "child"} | serving


def test_a_host_that_missed_two_announcements_is_gone() -> None:
    world = world_of(1, interval_s=30.0)
    world.holder("p", "h0")
    world.advance(60.0)
    assert "h0" in world.core.state.hosts
    world.advance(120.0)
    assert "h0" not in world.core.state.hosts
    assert "p" not in world.core.state.peers


def test_a_host_that_says_no_interval_is_not_missed() -> None:
    world = world_of(1)
    world.advance(3000.0)
    assert "h0" in world.core.state.hosts


def test_a_task_goes_when_nobody_has_it() -> None:
    world = world_of(2)
    world.holder("p", "h0")
    world.holder("q", "h1")
    world.delete_peer("p")
    world.delete_peer("q")
    world.advance(1799.0)
    assert "t" in world.core.state.tasks
    world.advance(1800.0)
    assert "t" not in world.core.state.tasks


def test_a_host_that_says_no_interval_is_forgotten_after_an_hour_of_silence() -> None:
    world = world_of(2)
    world.holder("p", "h0")
    world.advance(3000.0)
    world.announce(host("h1"), interval_s=0)
    world.advance(6000.0)
    assert set(world.core.state.hosts) == {"h1"}
    world.advance(6700.0)
    assert not world.core.state.hosts
