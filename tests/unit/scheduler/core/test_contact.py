"""Hosts that die, vanish and come back: who is offered, who loses a parent, who is forgiven."""

from __future__ import annotations

from support.scheduler_world import (
    PIECE_LENGTH,
    URL,
    World,
    download,
    host,
    parents,
    sent_to_source,
    triggers,
)

from odonata.wire.message import HeldTask, NeedBackToSource
from scheduler.core.contact import CHILDREN_GRACE_S, GRACE_S, RETURN_S
from scheduler.core.effect import Answer, CloseStream, ProbeHost, Refuse
from scheduler.core.limits import Limits


def world_with(*host_ids: str, seeds: tuple[str, ...] = ()) -> World:
    """Hosts that hold contact."""
    world = World()
    world.announce(*(host(one) for one in host_ids), *(host(one, seed=True) for one in seeds))
    world.contacted(*host_ids, *seeds)
    return world


def is_useful(world: World, peer_id: str) -> bool:
    return peer_id in world.task().useful


# --- our own --------------------------------------------------------------------------------------


def test_a_finished_peer_of_a_lost_host_is_offered_no_more_and_not_forgotten() -> None:
    world = world_with("h1", "h2", "h3")
    world.holder("a", "h1")
    world.holder("b", "h2")
    world.lost("h1")
    assert world.core.state.peers.keys() == {"a", "b"}
    assert parents(world.register("c", "h3")) == {"c": ["b"]}
    lost = {one.host.id: one.is_lost for one in world.core.list_hosts()}
    assert lost == {"h1": True, "h2": False, "h3": False}


def test_contact_that_is_held_again_brings_everything_back() -> None:
    world = world_with("h1", "h2")
    world.holder("a", "h1")
    world.lost("h1")
    assert not is_useful(world, "a")
    world.contacted("h1")
    assert parents(world.register("c", "h2")) == {"c": ["a"]}


def test_children_of_a_lost_host_are_given_others_a_moment_later() -> None:
    world = world_with("h1", "h2", "h3")
    world.ours |= {"a", "b", "c"}
    world.holder("a", "h1")
    world.register("c", "h3")
    world.started("c")
    world.advance(10.0)
    assert world.task().graph.parents("c") == ("a",)
    assert parents(world.lost("h1")) == {}
    world.holder("b", "h2")
    assert parents(world.advance(10.0 + CHILDREN_GRACE_S)) == {"c": ["b"]}


def test_children_stay_with_a_host_whose_contact_only_hiccuped() -> None:
    world = world_with("h1", "h2", "h3")
    world.ours |= {"a", "c"}
    world.holder("a", "h1")
    world.register("c", "h3")
    world.started("c")
    world.lost("h1")
    world.advance(CHILDREN_GRACE_S / 2)
    world.contacted("h1")
    world.advance(60.0)
    assert world.task().graph.parents("c") == ("a",)


def test_who_announces_itself_is_back_but_must_soon_hold_contact_again() -> None:
    world = world_with("h1")
    world.holder("a", "h1")
    world.lost("h1")
    world.announce(host("h1"))
    assert is_useful(world, "a")
    world.advance(RETURN_S + 1)
    assert not is_useful(world, "a")
    world.announce(host("h1"))
    world.contacted("h1")
    world.advance(100.0)
    assert is_useful(world, "a")


def test_last_words_that_arrive_after_the_end_bring_nobody_back() -> None:
    world = world_with("h1", "h2")
    world.origin_fetcher("a", "h1")
    world.lost("h1")
    world.piece("a", 0)
    assert not is_useful(world, "a")


def test_who_holds_contact_need_not_announce_itself() -> None:
    world = world_with("h1")
    world.announce(host("h2"))
    world.holder("a", "h1")
    world.advance(5000.0)
    assert [one.host.id for one in world.core.list_hosts()] == ["h1"]
    assert is_useful(world, "a")


def test_a_lost_host_is_forgotten_like_any_other_that_misses_its_announcements() -> None:
    world = world_with("h1", "h2")
    world.holder("a", "h1")
    world.lost("h1")
    world.advance(2000.0)
    assert [one.host.id for one in world.core.list_hosts()] == ["h2"]
    assert world.core.state.losing == world.core.state.orphaning == {}


def test_contact_may_come_before_the_announcement_and_outlive_the_host() -> None:
    world = World()
    world.contacted("h1")
    world.announce(host("h1"))
    world.holder("a", "h1")
    world.lost("h1")
    assert not is_useful(world, "a")
    world.contacted("h1")
    world.leave("h1")
    world.announce(host("h1"))  # the same process thinks better of it
    world.holder("b", "h1")
    world.lost("h1")
    assert not is_useful(world, "b")


def test_a_lost_seed_is_not_asked_and_not_hoped_for() -> None:
    world = world_with("h1", "h2", seeds=("s1",))
    (trigger,) = triggers(world.register("a", "h1"))
    assert trigger.host.id == "s1"
    effects = world.lost("s1")
    assert sent_to_source(effects) == ["a"]
    world.contacted("s1")
    world.core.state.remove_peer(world.peer("a"), world.now)
    (again,) = triggers(world.register("b", "h2"))
    assert again.host.id == "s1"


# --- the scheduler itself was away ----------------------------------------------------------------


def test_a_scheduler_that_was_suspended_takes_nobody_for_lost_at_once() -> None:
    world = world_with("h1", "h2")
    world.holder("a", "h1")
    world.advance(100.0)
    world.now = 110.0  # without a tick
    world.lost("h1")
    world.lost("h2")
    assert is_useful(world, "a")
    world.advance(113.0)
    world.contacted("h1")
    world.advance(110.0 + GRACE_S)
    lost = {one.host.id: one.is_lost for one in world.core.list_hosts()}
    assert lost == {"h1": False, "h2": True}


def test_the_time_it_was_away_is_nobodys_silence() -> None:
    world = World()
    world.announce(host("h1"), interval_s=30.0)
    world.holder("a", "h1")
    world.advance(20.0)
    world.now = 20_000.0
    world.advance(20_030.0)
    assert [one.host.id for one in world.core.list_hosts()] == ["h1"]
    world.advance(20_200.0)
    assert world.core.list_hosts() == []


def test_an_alarm_beats_while_anybody_holds_contact() -> None:
    world = world_with("h1")
    for _ in range(10):
        assert world.core.wake_at_s is not None
        assert world.core.wake_at_s - world.now <= 1.0
        world.advance(world.core.wake_at_s)


# --- stock clients --------------------------------------------------------------------------------


def swarm_of_stock_clients() -> World:
    world = World()
    world.announce(*(host(f"h{number}") for number in range(1, 5)))
    world.holder("a", "h1")
    for peer_id, host_id in (("b", "h2"), ("c", "h3")):
        world.register(peer_id, host_id)
        world.started(peer_id)
    return world


def probes(effects: list[object]) -> list[str]:
    return [one.host.id for one in effects if isinstance(one, ProbeHost)]


def test_a_stock_host_that_two_children_fail_at_is_probed() -> None:
    world = swarm_of_stock_clients()
    assert probes([*world.piece_failed("b", "a")]) == []
    assert probes([*world.piece_failed("b", "a")]) == [], "the same child again"
    assert probes([*world.piece_failed("c", "a")]) == ["h1"]
    assert is_useful(world, "a"), "not yet"
    world.unreachable("h1")
    assert not is_useful(world, "a")


def test_failures_far_apart_or_with_a_success_between_prove_nothing() -> None:
    world = swarm_of_stock_clients()
    world.piece_failed("b", "a")
    world.advance(6.0)
    assert probes([*world.piece_failed("c", "a")]) == []
    world.advance(7.0)
    world.piece("c", 0, "a")
    assert probes([*world.piece_failed("b", "a")]) == []


def test_a_stock_host_that_is_heard_of_is_back() -> None:
    for speak in ("announce", "stream", "piece"):
        world = swarm_of_stock_clients()
        world.register("own", "h1")
        world.unreachable("h1")
        assert not is_useful(world, "a")
        if speak == "announce":
            world.announce(host("h1"))
        elif speak == "stream":
            world.started("own")
        else:
            world.piece("b", 0, "a")
        assert is_useful(world, "a"), speak


def test_who_holds_contact_is_not_probed() -> None:
    world = swarm_of_stock_clients()
    world.contacted("h1")
    world.piece_failed("b", "a")
    assert probes([*world.piece_failed("c", "a")]) == []
    world.unreachable("h1")  # asked before
    assert is_useful(world, "a")


# --- what is held ---------------------------------------------------------------------------------


def held(task_id: str = "t", peer_id: str = "a", length: int = 3 * PIECE_LENGTH) -> HeldTask:
    return HeldTask(
        task_id=task_id,
        peer_id=peer_id,
        url=URL,
        content_length=length,
        piece_length=PIECE_LENGTH,
    )


def test_what_a_host_tells_that_it_holds_is_offered() -> None:
    world = world_with("h1", "h2")
    assert world.tells("h1", held(), held("u", "a2"), held("empty", "a3", 0)) == []
    assert parents(world.register("c", "h2")) == {"c": ["a"]}
    assert world.core.stat_task("t").piece_count == 3
    assert world.core.stat_task("u").state == "Succeeded"
    assert world.core.stat_task("empty").content_length == 0
    world.tells("h1", held())
    assert set(world.core.state.peers) == {"a", "a2", "a3", "c"}


def test_what_is_held_answers_those_who_wait() -> None:
    world = world_with("h1", "h2", seeds=("s1",))
    world.register("c", "h2")
    assert parents(world.tells("h1", held())) == {"c": ["a"]}


def test_a_host_that_is_unknown_must_announce_itself_first() -> None:
    world = World()
    (refusal,) = world.tells("h1", held())
    assert isinstance(refusal, Refuse)
    assert refusal.error.code == "not_found"


# --- peers that come in the middle ----------------------------------------------------------------


def resuming_world(*peer_ids: str) -> World:
    world = world_with("h1", "h2", "h3", seeds=("s1",))
    world.ours |= {*peer_ids}
    world.resuming |= {*peer_ids}
    return world


def test_peers_that_resume_wait_for_those_who_bring_the_bytes() -> None:
    world = resuming_world("a", "b", "s")
    for peer_id, host_id in (("a", "h1"), ("b", "h2")):
        effects = world.register(peer_id, host_id)
        assert not any(isinstance(one, Answer | CloseStream) for one in effects)
        assert triggers(effects) == [], "the seed is on its way by itself"
    world.advance(3.0)
    effects = world.register("s", "s1", download(source=True))
    assert [one.answer for one in effects if isinstance(one, Answer)] == [
        NeedBackToSource(description="the peer asked for the source")
    ]
    assert parents(world.at_source("s"))["a"] == ["s"]


def test_who_resumes_and_finds_nobody_is_helped_after_a_while() -> None:
    world = resuming_world("a")
    world.register("a", "h1")
    learning_s = Limits().learning_s
    assert triggers(world.advance(learning_s - 0.1)) == []
    assert [one.host.id for one in triggers(world.advance(learning_s))] == ["s1"]
    world.leave("s1")
    world.register("b", "h2")
    assert world.task().learning_until_s is None, "once for a task"


def test_a_newcomer_among_those_who_resume_waits_with_them() -> None:
    world = resuming_world("a")
    world.register("a", "h1")
    assert triggers(world.register("new", "h3")) == []
    given = parents(world.tells("h2", held(peer_id="b")))
    assert given["a"] == ["b"]


def test_newcomers_alone_do_not_wait() -> None:
    world = resuming_world()
    assert len(triggers(world.register("new", "h3"))) == 1


def test_whoever_asks_a_scheduler_that_is_just_back_waits_for_seeds_and_holders() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), returns=True)
    assert sent_to_source(world.register("new", "h2")) == []
    world.announce(host("s1", seed=True), returns=True)
    assert [one.task_id for one in triggers(world.advance(8.0))] == ["t"]


def test_peers_that_come_to_a_scheduler_that_has_long_been_there_hold_up_nobody_else() -> None:
    world = resuming_world("a")
    world.advance(100.0)
    world.announce(host("h1"), returns=True)
    world.register("a", "h1")
    assert len(triggers(world.register("new", "h2", task_id="u"))) == 1
