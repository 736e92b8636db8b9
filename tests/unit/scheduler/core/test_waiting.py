"""Admission, hope, and one flight to the source."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scheduler_world import (
    World,
    answers,
    closes,
    download,
    host,
    parents,
    sent_to_source,
)

from odonata.wire.message import EmptyTask
from scheduler.core.limits import Limits


def world_of(count: int, limits: Limits | None = None) -> World:
    world = World(limits)
    world.announce(*(host(f"h{number}") for number in range(count)))
    return world


def test_one_of_many_goes_to_the_source() -> None:
    world = world_of(20)
    sent = [
        peer_id
        for number in range(20)
        for peer_id in sent_to_source(world.register(f"p{number}", f"h{number}"))
    ]
    assert sent == ["p0"]


def test_a_burst_doubles_with_each_round_trip() -> None:
    count = 100
    world = world_of(count)
    for number in range(count):
        world.register(f"p{number}", f"h{number}")
    given = parents(world.at_source("p0"))
    generations: list[dict[str, list[str]]] = []
    while given:
        generations.append(given)
        given = {
            child: names
            for peer_id in given
            for child, names in parents(world.started(peer_id)).items()
        }
    assert sum(map(len, generations)) == count - 1
    assert len(generations) <= 8
    # Only the first few have to make do with few parents, and nobody's uplink is run down.
    assert sum(len(names) < 3 for one in generations for names in one.values()) <= 3
    children = [known.concurrent_upload_count for known in world.core.state.hosts.values()]
    assert max(children) <= 16


def test_nobody_is_held_when_admission_is_off() -> None:
    world = world_of(5, Limits(admission=False))
    for number in range(5):
        world.register(f"p{number}", f"h{number}")
    given = parents(world.at_source("p0"))
    assert given == {f"p{number}": ["p0"] for number in range(1, 5)}


def test_a_child_that_rescheduled_is_never_held() -> None:
    world = world_of(4)
    world.origin_fetcher("p0", "h0")
    world.origin_fetcher("p1", "h1")
    world.register("p2", "h2")
    world.started("p2")
    world.register("p3", "h3")  # on its way
    assert parents(world.reschedule("p2", "p0")) == {"p2": ["p1"]}


def test_a_crash_promotes_the_next() -> None:
    world = world_of(3)
    for number in range(3):
        world.register(f"p{number}", f"h{number}")
    assert sent_to_source(world.closed("p0")) == ["p1"]
    assert sent_to_source(world.failed("p1")) == ["p2"]


def test_an_answer_of_the_source_is_for_everybody() -> None:
    world = world_of(4)
    for number in range(4):
        world.register(f"p{number}", f"h{number}")
    world.at_source("p0")  # p1 gets it as its parent, p2 and p3 are held
    assert sent_to_source(world.source_refused("p0", 404)) == ["p2", "p3"]


def test_an_answer_of_the_source_is_bounded_by_the_cap() -> None:
    world = world_of(6, Limits(back_to_source_limit=2))
    world.register("p0", "h0")
    for number in range(1, 6):
        world.register(f"p{number}", f"h{number}")
    effects = world.source_refused("p0", 404)
    world.failed_from_source("p0")
    assert sent_to_source(effects) == ["p1", "p2"]
    assert not closes(effects)  # the others may hope for those two
    assert sent_to_source(world.closed("p1")) == []
    assert sent_to_source(world.closed("p2")) == ["p3"]


def test_a_hope_that_asks_again_is_a_hope_no_more() -> None:
    world = world_of(2, Limits(back_to_source_limit=2))
    world.announce(host("s", seed=True))
    for number in range(4):
        world.register(f"p{number}", f"h{number % 2}")
    assert sent_to_source(world.seed_failed("s", status_code=404)) == ["p0", "p1"]
    # p2 runs beside p0 and p3 beside p1: each hopes for the other host's.
    assert sent_to_source(world.reschedule("p1")) == ["p2"]


def test_beyond_the_cap_a_child_that_nobody_can_serve_is_refused() -> None:
    world = world_of(2, Limits(back_to_source_limit=1))
    world.origin_fetcher("p0", "h0")
    effects = world.register("p1", "h0")  # on the same host
    assert closes(effects) == {"p1": "failed_precondition"}


def test_two_who_lost_their_parents_do_not_wait_for_each_other() -> None:
    world = world_of(4)
    world.origin_fetcher("top", "h0")
    for peer_id, host_id in (("a", "h1"), ("b", "h2")):
        world.register(peer_id, host_id)
        world.started(peer_id)
    world.closed("top")
    # b is below a, and can't serve it; a on its way to the source is what b may hope for.
    assert sent_to_source(world.reschedule("a", "top")) == ["a"]
    assert not sent_to_source(world.reschedule("b", "top"))
    assert parents(world.at_source("a")) == {"b": ["a"]}


def test_the_empty_task_answers_whoever_waits() -> None:
    world = world_of(3)
    world.register("p0", "h0")
    world.register("p1", "h1")
    effects = world.register("p2", "h2", download(size=0))
    assert answers(effects) == {"p2": EmptyTask(), "p1": EmptyTask()}


def test_a_forbidden_source_waits_for_one_who_may() -> None:
    world = world_of(3)
    world.announce(host("s", seed=True))
    world.register("p0", "h0", download(may_use_source=False))
    world.register("p1", "h1")
    effects = world.seed_failed("s", unreachable=True)
    assert sent_to_source(effects) == ["p1"]
    assert not closes(effects)
    assert parents(world.at_source("p1")) == {"p0": ["p1"]}


@settings(deadline=None)
@given(
    order=st.permutations(range(6)),
    crashes=st.lists(st.integers(0, 5), max_size=5),
)
def test_never_two_on_their_way_to_the_source(order: list[int], crashes: list[int]) -> None:
    """Whoever crashes, and when: without an answer of the source one copy is under way at most."""
    world = world_of(6)
    for number in order:
        world.register(f"p{number}", f"h{number}")
    for number in crashes:
        world.closed(f"p{number}")
        task = world.task()
        assert len(task.to_source) + len(task.at_source) <= 1
        assert task.to_source or not task.waiting


@pytest.mark.parametrize("limit", [1, 3])
def test_the_number_of_parents_is_bounded(limit: int) -> None:
    world = world_of(8, Limits(candidate_parent_limit=limit))
    for number in range(7):
        world.holder(f"p{number}", f"h{number}")
    assert len(parents(world.register("x", "h7"))["x"]) == limit
