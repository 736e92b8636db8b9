"""Who uploads the first copy, and that nobody else can say how that went."""

from __future__ import annotations

import pytest
from support.persistent_world import PersistentWorld, told

from scheduler.core.persistent.effect import Refuse
from scheduler.core.persistent.lifecycle import PeerState, TaskState
from scheduler.core.persistent.state import Kind


def world_with_a_downloader() -> PersistentWorld:
    """p1 has uploaded, p2 downloads."""
    world = PersistentWorld(Kind.PERSISTENT)
    world.announce("h1")
    world.announce("h2")
    world.upload("p1", "h1")
    world.register("p2", "h2")
    world.started("p2")
    return world


@pytest.mark.parametrize("word", ["finished", "failed"])
def test_a_peer_that_downloads_has_uploaded_nothing(word: str) -> None:
    world = world_with_a_downloader()
    says = world.upload_finished if word == "finished" else world.upload_failed
    (refused,) = says("p2")
    assert isinstance(refused, Refuse), told([refused])
    assert refused.error.code == "illegal_transition"
    assert world.peers["p2"].state is PeerState.RUNNING
    assert set(world.peers) == {"p1", "p2"}
    assert world.task is not None
    assert world.task.state is TaskState.SUCCEEDED


@pytest.mark.parametrize("word", ["finished", "failed"])
def test_not_while_somebody_else_uploads_either(word: str) -> None:
    """Else one that fetches the object of before would be taken for the first copy."""
    world = PersistentWorld(Kind.PERSISTENT)
    world.announce("h1")
    world.announce("h2")
    world.upload_started("p1", "h1")
    world.register("p2", "h2", need_back_to_source=True)
    world.at_source("p2")
    says = world.upload_finished if word == "finished" else world.upload_failed
    (refused,) = says("p2")
    assert isinstance(refused, Refuse), told([refused])
    assert refused.error.code == "illegal_transition"
    assert world.peers["p1"].state is PeerState.UPLOADING
    assert world.task is not None
    assert world.task.state is TaskState.UPLOADING
