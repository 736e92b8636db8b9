"""Who lost a parent is given another one without asking, if it is one of ours."""

import pytest
from support.scheduler_world import (
    PIECE_LENGTH,
    World,
    answers,
    download,
    host,
    parents,
    sent_to_source,
    triggers,
)

from odonata.telemetry.record import DecisionRecord
from scheduler.core.limits import Limits
from scheduler.core.replacement import PAUSE_S, REPLACED_PER_EVENT

HOLDERS = 5


def swarm(*, ours: bool = True, limit: int = 2) -> World:
    """Holders p1..p5 on h1..h5, and the child c on hc, with two parents."""
    made = World(Limits(candidate_parent_limit=limit, mesh_parent_limit=limit, exploration=0.0))
    made.announce(*(host(f"h{number}") for number in range(1, HOLDERS + 1)), host("hc"))
    for number in range(1, HOLDERS + 1):
        made.holder(f"p{number}", f"h{number}")
    if ours:
        made.ours.add("c")
    made.register("c", "hc", download(size=9 * PIECE_LENGTH))
    made.started("c")
    return made


def of_child(world: World, peer_id: str = "c") -> tuple[str, ...]:
    return world.core.stat_peer(peer_id).parent_ids


@pytest.mark.parametrize("how", ["peer is deleted", "host leaves", "task is deleted", "blamed"])
def test_a_lost_parent_is_replaced_at_once(how: str) -> None:
    world = swarm()
    lost, kept = of_child(world)
    host_id = f"h{lost[1:]}"
    effects = {
        "peer is deleted": lambda: world.delete_peer(lost),
        "host leaves": lambda: world.leave(host_id),
        "task is deleted": lambda: world.delete_task(host_id),
        "blamed": lambda: world.piece_failed("c", lost),
    }[how]()
    given, *others = parents(effects)["c"]
    assert given not in (lost, kept)
    assert others == [kept], "an answer names all that it is to have"
    assert set(of_child(world)) == {kept, given}


def test_a_parent_whose_stream_breaks_is_replaced() -> None:
    """q still downloads itself, on behalf of c."""
    world = World(Limits(exploration=0.0))
    world.announce(host("h1"), host("h2"), host("h3"), host("h4"))
    world.origin_fetcher("q", "h1")
    world.ours |= {"c"}
    world.register("c", "h2")
    world.started("c")
    world.origin_fetcher("r", "h3")
    assert parents(world.closed("q")) == {"c": ["r"]}


def test_a_stock_child_asks_for_itself() -> None:
    world = swarm(ours=False)
    lost, _ = of_child(world)
    assert not answers(world.delete_peer(lost))
    assert len(of_child(world)) == 1
    assert len(parents(world.reschedule("c", lost))["c"]) == 2


def test_an_answer_more_is_a_decision_more() -> None:
    world = swarm()
    lost, kept = of_child(world)
    world.records.clear()
    world.delete_peer(lost)
    (record,) = world.records
    assert isinstance(record, DecisionRecord)
    assert record.decision_id == "c#2"
    assert kept not in record.peer_ids


def test_without_anybody_else_the_child_keeps_what_it_has() -> None:
    world = World(Limits(exploration=0.0))
    world.announce(host("h1"), host("h2"), host("hc"))
    world.holder("p1", "h1")
    world.holder("p2", "h2")
    world.ours.add("c")
    world.register("c", "hc")
    world.started("c")
    assert not answers(world.delete_peer("p1"))
    assert of_child(world) == ("p2",)


def test_without_any_parent_and_hope_the_source() -> None:
    world = World()
    world.announce(host("h1"), host("hc"))
    world.holder("p1", "h1")
    world.ours.add("c")
    world.register("c", "hc")
    world.started("c")
    assert sent_to_source(world.leave("h1")) == ["c"]


def test_without_any_parent_a_seed_is_asked_first() -> None:
    world = World()
    world.announce(host("h1"), host("hc"), host("s", seed=True))
    world.holder("p1", "h1")
    world.ours.add("c")
    world.register("c", "hc")
    world.started("c")
    effects = world.leave("h1")
    assert [one.host.id for one in triggers(effects)] == ["s"]
    assert not answers(effects)
    world.register("sp", "s", download(source=True))
    assert parents(world.at_source("sp")) == {"c": ["sp"]}


def test_one_goes_to_the_source_and_the_other_waits_for_it() -> None:
    world = World()
    world.announce(host("h1"), host("hc"), host("hd"))
    world.holder("p1", "h1")
    world.ours |= {"c", "d"}
    world.register("c", "hc")
    world.started("c")
    world.register("d", "hd")
    world.started("d")
    assert set(of_child(world, "d")) == {"c", "p1"}
    assert sent_to_source(world.leave("h1")) == ["c"]
    assert of_child(world, "d") == ("c",)


def test_who_may_not_go_there_is_let_be_and_refused_when_it_asks() -> None:
    world = World()
    world.announce(host("h1"), host("hc"))
    world.holder("p1", "h1")
    world.ours.add("c")
    world.register("c", "hc", download(may_use_source=False))
    world.started("c")
    assert not world.leave("h1")[1:]  # p1's stream had ended long before
    assert world.core.stat_peer("c").state == "Running"
    assert not world.core.stat_peer("c").is_waiting
    world.announce(host("h2"))
    world.holder("p2", "h2")
    assert parents(world.reschedule("c")) == {"c": ["p2"]}


def test_who_waits_unasked_may_ask_as_well() -> None:
    """The child notices that its parent is gone and asks, while it is waiting already."""
    world = World()
    world.announce(host("h1"), host("hc"), host("s", seed=True))
    world.holder("p1", "h1")
    world.ours.add("c")
    world.register("c", "hc")
    world.started("c")
    world.leave("h1")
    assert world.core.stat_peer("c").is_waiting
    assert not answers(world.reschedule("c", "p1"))
    world.register("sp", "s", download(source=True))
    assert parents(world.at_source("sp")) == {"c": ["sp"]}


def test_who_waits_unasked_may_finish() -> None:
    world = World()
    world.announce(host("h1"), host("hc"), host("s", seed=True))
    world.holder("p1", "h1")
    world.ours.add("c")
    world.register("c", "hc")
    world.started("c")
    world.leave("h1")
    world.finished("c")
    assert not world.core.stat_peer("c").is_waiting


def test_whoever_holds_everything_needs_nobody() -> None:
    world = swarm()
    lost, kept = of_child(world)
    for number in range(9):
        world.piece("c", number, kept)
    assert not answers(world.delete_peer(lost))


def test_whoever_ended_needs_nobody() -> None:
    world = swarm()
    lost, _ = of_child(world)
    world.finished("c")
    assert not answers(world.delete_peer(lost))


def test_many_are_looked_after_a_few_at_a_time() -> None:
    world = World(Limits(candidate_parent_limit=1, admission=False, exploration=0.0))
    world.announce(host("h1"), host("h2"), host("h3"))
    world.holder("p1", "h1")
    count = 2 * REPLACED_PER_EVENT + 1
    for number in range(count):
        world.ours.add(f"c{number}")
        world.announce(host(f"k{number}"))
        world.register(f"c{number}", f"k{number}", download(part=None))
        world.started(f"c{number}")
        world.core.state.unlink_parents(world.peer(f"c{number}"))
        world.core.state.link(world.peer(f"c{number}"), [world.peer("p1")], world.now)
    world.holder("p2", "h2")
    world.holder("p3", "h3")
    first = parents(world.leave("h1"))
    assert len(first) == REPLACED_PER_EVENT
    assert world.core.wake_at_s == pytest.approx(world.now + PAUSE_S)
    second = parents(world.advance(world.now + PAUSE_S))
    assert len(second) == REPLACED_PER_EVENT
    third = parents(world.advance(world.now + PAUSE_S))
    assert len(third) == 1
    assert not world.core.state.bereft
    # No herd: the children spread over all who can serve.
    given = [names[0] for answered in (first, second, third) for names in answered.values()]
    assert max(given.count(one) for one in set(given)) < count / 3


def test_a_bereft_peer_that_leaves_meanwhile_is_forgotten() -> None:
    world = swarm()
    lost, _ = of_child(world)
    world.core.state.bereave(world.peer("c"), world.peer(lost))
    world.delete_peer("c")
    assert not world.core.state.bereft
