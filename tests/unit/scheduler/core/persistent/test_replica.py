"""How many replicas are asked for, and of whom."""

from random import Random

from support.persistent_world import SIZE, PersistentWorld, told

from scheduler.core.persistent.replica import MAX_ASKED, MAX_SPARE_HOSTS, draw_hosts
from scheduler.core.persistent.state import Kind

CACHE = Kind.PERSISTENT_CACHE


def test_hosts_without_room_or_that_do_not_share_are_not_asked() -> None:
    world = PersistentWorld(CACHE)
    world.announce("h1")
    world.announce("exact", disk_free_bytes=SIZE)
    world.announce("small", disk_free_bytes=SIZE - 1)
    world.announce("private", disable_shared=True)
    world.upload("p1", "h1", replicas=4)
    assert told(world.count()) == ["exact is asked to fetch it and keep it"]


def test_no_more_are_asked_in_one_round_than_the_bound() -> None:
    world = PersistentWorld(CACHE)
    for number in range(2 * MAX_ASKED):
        world.announce(f"h{number}")
    world.upload("p0", "h0", replicas=1000)
    assert len(world.count()) == MAX_ASKED


def test_a_task_that_nobody_holds_or_that_is_not_whole_asks_nobody() -> None:
    world = PersistentWorld(CACHE)
    world.announce("h1")
    world.announce("h2")
    world.upload_started("p1", "h1", replicas=2)
    assert world.count() == []
    world.upload_failed("p1")
    assert world.count() == []


def test_a_record_of_another_scheduler_without_a_url_is_only_promoted() -> None:
    world = PersistentWorld(Kind.PERSISTENT)
    for name in ("h1", "h2", "h3"):
        world.announce(name)
    world.upload("p1", "h1", replicas=3, url="")
    world.download("p2", "h2")
    assert told(world.count()) == ["h2 is asked to keep p2"]


def test_drawn_hosts_are_a_bounded_number_of_those_without_a_copy() -> None:
    world = PersistentWorld(CACHE)
    world.announce("h0")
    world.upload("p0", "h0")
    names = [f"h{number}" for number in range(1000)]
    drawn = draw_hosts(names, world.snapshot, Random(1))
    assert len(drawn) == len(set(drawn)) == MAX_SPARE_HOSTS
    assert "h0" not in drawn
    assert drawn != sorted(drawn)
