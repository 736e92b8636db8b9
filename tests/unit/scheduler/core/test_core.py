"""The one mutator: dispatch, alarms, determinism, and clients that break the rules."""

from support.scheduler_world import World, closes, host, parents, told

from odonata.errors import OdonataError
from odonata.wire.message import Finished, Started
from scheduler.core.effect import CloseStream, WakeAt
from scheduler.core.event import PeerSpoke, Ticked
from scheduler.core.limits import Limits


def error_of(world: World, peer_id: str, effects: list[object]) -> OdonataError:
    (close,) = [effect for effect in effects if isinstance(effect, CloseStream)]
    assert close.peer_id == peer_id
    assert close.error is not None
    return close.error


def test_a_stream_begins_with_register() -> None:
    world = World()
    world.announce(host("h1"))
    world.homes["p"] = ("h1", "t")
    for message in (Started(), Finished()):
        assert closes(world.say("p", message)) == {"p": "not_found"}


def test_a_message_for_somebody_elses_peer() -> None:
    world = World()
    world.announce(host("h1"), host("h2"))
    world.origin_fetcher("p", "h1")
    event = PeerSpoke(host_id="h2", task_id="t", peer_id="p", message=Started())
    error = error_of(world, "p", [*world.handle(event)])
    assert error.code == "failed_precondition"
    assert "on host h1" in error.detail


def test_an_illegal_step_ends_one_stream_with_its_story() -> None:
    world = World()
    world.announce(host("h1"), host("h2"))
    world.origin_fetcher("p", "h1")
    world.register("q", "h2")
    error = error_of(world, "p", [*world.started("p")])
    assert "ReceivedNormal -> BackToSource" in error.detail
    assert world.peer("p").state == "Failed"
    assert world.peer("q").state == "ReceivedNormal"


def test_nothing_to_do_sets_no_alarm() -> None:
    world = World()
    assert world.handle(Ticked()) == []
    assert world.core.wake_at_s is None


def test_alarms_are_set_for_sweeps_and_hopes() -> None:
    world = World(Limits(peer_gc_interval_s=20.0))
    (alarm,) = world.announce(host("h1"), host("h2"))
    assert alarm == WakeAt(at_s=20.0)
    world.register("p1", "h1")
    assert WakeAt(at_s=10.0) in world.register("p2", "h2")
    assert world.core.wake_at_s == 10.0


def test_an_alarm_is_asked_for_again_after_each_tick() -> None:
    world = World()
    world.announce(host("h1"))
    world.now = 10.0
    assert WakeAt(at_s=20.0) in world.handle(Ticked())


def test_the_same_events_have_the_same_effects() -> None:
    def run() -> list[str]:
        world = World(seed=7)
        lines = told(world.announce(*(host(f"h{n}") for n in range(30))))
        for number in range(30):
            lines += told(world.register(f"p{number}", f"h{number}"))
        lines += told(world.at_source("p0"))
        for number in range(1, 30):
            lines += told(world.started(f"p{number}"))
        return lines

    assert run() == run()


def test_another_seed_of_randomness_makes_another_swarm() -> None:
    def run(seed: int) -> dict[str, list[str]]:
        world = World(Limits(candidate_parent_limit=1), seed=seed)
        world.announce(*(host(f"h{n}") for n in range(40)))
        for number in range(20):
            world.holder(f"p{number}", f"h{number}")
        given: dict[str, list[str]] = {}
        for number in range(20, 40):
            given |= parents(world.register(f"p{number}", f"h{number}"))
        return given

    assert run(1) != run(2)
