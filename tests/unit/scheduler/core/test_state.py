"""How the parts hang together."""

import pytest
from support.scheduler_world import World, download, host

from odonata.wire.message import Download
from scheduler.core.lifecycle import PeerTrigger


@pytest.fixture
def world() -> World:
    made = World()
    made.announce(host("h1"), host("h2"), host("h3"))
    made.origin_fetcher("p1", "h1")
    made.register("p2", "h2")
    made.started("p2")
    return made


def test_a_host_that_turns_seed_joins_the_seeds(world: World) -> None:
    assert not world.core.state.seeds
    world.announce(host("h1", seed=True))
    assert list(world.core.state.seeds) == ["h1"]
    world.announce(host("h1"))
    assert not world.core.state.seeds


def test_reaching_the_source_gives_the_parents_back(world: World) -> None:
    world.at_source("p2")
    assert world.task().graph.parents("p2") == ()
    assert world.peer("p1").host.concurrent_upload_count == 0
    assert list(world.task().at_source) == ["p1", "p2"]


def test_failing_drops_all_edges(world: World) -> None:
    world.core.state.move_peer(world.peer("p1"), PeerTrigger.DOWNLOAD_FAILED, 1.0)
    assert world.task().graph.children("p1") == ()
    assert list(world.task().useful) == []


def test_removing_a_peer_leaves_no_trace(world: World) -> None:
    world.core.state.remove_peer(world.peer("p2"), 1.0)
    assert "p2" not in world.task().graph
    assert "p2" not in world.core.state.hosts["h2"].peers
    assert list(world.task().peers) == ["p1"]


def test_a_new_url_of_a_task_is_taken_over(world: World) -> None:
    world.core.state.open_task("t", Download(url="http://mirror/blob"), 1.0)
    assert world.task().download.url == "http://mirror/blob"
    assert world.task().facts().url == "http://mirror/blob"


def test_hosts_and_tasks_in_use_are_not_forgotten(world: World) -> None:
    with pytest.raises(AssertionError, match="still has peers"):
        world.core.state.remove_host(world.core.state.hosts["h1"])
    with pytest.raises(AssertionError, match="still has peers"):
        world.core.state.remove_task(world.task(), 1.0)


def test_waiting_tasks_are_listed(world: World) -> None:
    world.register("q1", "h1", task_id="u")
    assert not world.core.state.waiting_tasks
    world.register("q2", "h2", download(), "u")
    assert list(world.core.state.waiting_tasks) == ["u"]
    world.closed("q2")
    assert not world.core.state.waiting_tasks
