"""Back to source: told at once when nothing can help, and one at a time however many ask."""

from __future__ import annotations

import pytest
from support.scheduler_world import World, download, host, parents, sent_to_source, triggers

from odonata.wire.message import NeedBackToSource
from scheduler.core.effect import Answer, SchedulerEffect
from scheduler.core.limits import Limits

BURST = 200


def burst(world: World, count: int = BURST) -> list[SchedulerEffect]:
    """So many peers, each of a host of its own, register at one moment."""
    world.announce(*(host(f"h{number}") for number in range(count)))
    return [
        effect for number in range(count) for effect in world.register(f"p{number}", f"h{number}")
    ]


def test_without_any_seed_the_answer_comes_with_the_question() -> None:
    """In the event of the Register itself: no timer, no round, whatever the clock says."""
    world = World()
    world.announce(host("h1"))
    first, *_ = world.register("p1", "h1")
    assert isinstance(first, Answer)
    assert isinstance(first.answer, NeedBackToSource)


def test_when_the_last_seed_fails_the_answer_comes_with_the_news() -> None:
    world = World()
    world.announce(host("h1"), host("s1", seed=True))
    assert not sent_to_source(world.register("p1", "h1"))
    assert sent_to_source(world.seed_failed("s1", unreachable=True)) == ["p1"]


def test_of_a_burst_one_is_sent_to_the_source_and_all_others_become_its_children() -> None:
    world = World(Limits(exploration=0.0))
    assert sent_to_source(burst(world)) == ["p0"]
    seen = set[str]()
    effects = world.at_source("p0")
    while named := parents(effects):
        seen |= set(named)
        effects = [effect for child in named for effect in world.started(child)]
    assert seen == {f"p{number}" for number in range(1, BURST)}


def test_when_that_one_dies_the_next_is_sent_and_no_other() -> None:
    world = World(Limits(exploration=0.0))
    burst(world)
    world.at_source("p0")
    assert len(sent_to_source(world.closed("p0"))) == 1
    assert not sent_to_source(world.reschedule("p1", "p0")), "one is on its way already"
    assert world.task().back_to_source_count() == 1


def test_a_burst_triggers_a_seed_once_and_goes_past_a_dead_one_once() -> None:
    world = World(Limits(exploration=0.0))
    world.announce(host("s1", seed=True), host("s2", seed=True))
    effects = burst(world)
    (first,) = triggers(effects)
    assert not sent_to_source(effects)
    effects = world.seed_failed(first.host.id, unreachable=True)
    (second,) = triggers(effects)
    assert second.host.id != first.host.id
    assert not sent_to_source(effects)
    assert len(sent_to_source(world.seed_failed(second.host.id, unreachable=True))) == 1
    # Another task does not meet them any more.
    world.register("q0", "h0", task_id="u")
    assert world.task("u").back_to_source_count() == 1


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_never_more_at_the_source_than_the_cap_says(limit: int) -> None:
    """Also of those who ask for it themselves, and at the moment of a burst."""
    world = World(Limits(back_to_source_limit=limit))
    world.announce(*(host(f"h{number}") for number in range(8)))
    sent: list[str] = []
    for number in range(8):
        effects = world.register(f"p{number}", f"h{number}", download(source=True))
        sent += sent_to_source(effects)
        assert world.task().back_to_source_count() <= limit
    assert len(sent) == limit
