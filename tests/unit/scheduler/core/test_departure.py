"""Streams that break, and peers, tasks and hosts that are deleted."""

import pytest
from support.scheduler_world import World, closes, host, parents, sent_to_source

from scheduler.core.effect import Refuse


@pytest.fixture
def world() -> World:
    """p1 is at the source; p2 downloads from it, p3 from both."""
    made = World()
    made.announce(host("h1"), host("h2"), host("h3"), host("h4"))
    made.origin_fetcher("p1", "h1")
    for number in (2, 3):
        made.register(f"p{number}", f"h{number}")
        made.started(f"p{number}")
    return made


def test_a_broken_stream_takes_its_peer_off_the_list(world: World) -> None:
    assert not world.closed("p1")
    assert world.peer("p1").state == "Failed"
    assert world.peer("p3").state == "Running"
    assert not world.task().useful, "p3 still has p2, but nothing reaches p2 any more"
    assert sent_to_source(world.register("p4", "h4")) == ["p4"]
    world.at_source("p4")
    assert parents(world.reschedule("p2", "p1")) == {"p2": ["p4"]}
    assert set(world.task().useful) == {"p4", "p2", "p3"}


def test_a_stream_that_ends_after_the_last_word_changes_nothing(world: World) -> None:
    world.finished_from_source("p1")
    assert not world.closed("p1")
    assert world.peer("p1").state == "Succeeded"
    assert not world.closed("nobody")


def test_deleting_a_host_forgets_its_peers(world: World) -> None:
    assert closes(world.leave("h1")) == {"p1": "not_found"}
    assert "p1" not in world.core.state.peers
    assert "h1" not in world.core.state.hosts
    (refusal,) = world.leave("h1")
    assert isinstance(refusal, Refuse)
    assert refusal.error.code == "not_found"


def test_deleting_a_task_forgets_one_hosts_peers(world: World) -> None:
    world.register("q", "h1", task_id="u")
    assert closes(world.delete_task("h1")) == {"p1": "not_found"}
    assert "q" in world.core.state.peers
    assert not world.delete_task("h1", "unknown")
    (refusal,) = world.delete_task("stranger")
    assert isinstance(refusal, Refuse)


def test_deleting_a_peer_twice_is_fine(world: World) -> None:
    assert closes(world.delete_peer("p1")) == {"p1": "not_found"}
    assert not world.delete_peer("p1")
    world.homes["p2"] = ("h4", "t")
    assert not world.delete_peer("p2")  # not that host's


def test_whoever_waits_is_decided_anew() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), host("h3"))
    for number in (1, 2, 3):
        world.register(f"p{number}", f"h{number}")
    assert sent_to_source(world.delete_peer("p1")) == ["p2"]
    assert sent_to_source(world.leave("h2")) == ["p3"]
