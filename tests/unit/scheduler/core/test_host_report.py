"""What is told of hosts: which of them, in which order, and what they hold and serve."""

from __future__ import annotations

import pytest
from support.scheduler_world import PIECE_LENGTH, World, download, host

from scheduler.core.host_report import report_hosts


@pytest.fixture
def world() -> World:
    world = World()
    world.announce(host("h1", idc="a", location="b|c"), host("h2"), host("h10"), interval_s=30.0)
    world.announce(host("s1", seed=True))
    world.now = 5.0
    world.holder("p1", "h1")
    world.register("p2", "h2", download(size=3 * PIECE_LENGTH))
    world.started("p2")
    world.piece("p2", 0, "p1", cost_s=0.5)
    world.now = 9.0
    return world


def test_hosts_in_the_order_they_came_and_in_parts(world: World) -> None:
    everybody = report_hosts(world.core.state, world.now, limit=10)
    assert [one.id for one in everybody.hosts] == ["h1", "h2", "h10", "s1"]
    part = report_hosts(world.core.state, world.now, offset=1, limit=2)
    assert ([one.id for one in part.hosts], part.total_count) == (["h2", "h10"], 4)


def test_by_the_beginning_of_the_id_unless_one_is_called_just_so(world: World) -> None:
    def ids(prefix: str) -> list[str]:
        told = report_hosts(world.core.state, world.now, prefix=prefix, limit=10)
        return [one.id for one in told.hosts]

    assert ids("h1") == ["h1"]
    assert ids("h") == ["h1", "h2", "h10"]
    assert ids("x") == []


def test_what_a_host_serves_and_holds(world: World) -> None:
    first, second, *_, seed = report_hosts(world.core.state, world.now, limit=10).hosts
    assert (first.idc, first.location, first.is_seed, seed.is_seed) == ("a", "b|c", False, True)
    assert (first.child_count, first.upload_count, first.upload_failed_count) == (1, 1, 0)
    assert first.served_rate_bytes_per_s == pytest.approx(PIECE_LENGTH / 0.5)
    assert second.served_rate_bytes_per_s is None
    assert (second.task_count, second.peer_count, second.piece_count) == (1, 1, 1)
    assert (first.announced_at_s, first.heard_at_s, first.announce_interval_s) == (0.0, 5.0, 30.0)
    assert (first.standing, first.standing_since_s) == ("Good", 0.0)
    world.piece_failed("p2", "p1")
    first = report_hosts(world.core.state, world.now, limit=1).hosts[0]
    assert (first.upload_failed_count, round(first.recent_failure_count, 3)) == (1, 1.0)
