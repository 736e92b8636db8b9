"""Every rule of eligibility by name."""

from support.scheduler_world import World, download, host

from odonata.wire.message import ByteRange
from scheduler.core.candidate import Drop, has_hope, survey, why_unsuited, why_useless


def world() -> World:
    made = World()
    made.announce(host("h1"), host("h2"), host("h3"), host("h4"), host("s1", seed=True))
    return made


def with_child(made: World) -> None:
    """A child that waits for a seed."""
    made.register("child", "h1")


def test_only_serving_states_are_useful() -> None:
    made = world()
    with_child(made)
    made.register("p", "h2", download(source=True))
    assert why_useless(made.peer("p")) is Drop.STATE
    made.at_source("p")
    assert why_useless(made.peer("p")) is None
    made.finished_from_source("p")
    assert why_useless(made.peer("p")) is None
    made.delete_peer("p")
    made.register("p", "h2", download(source=True))
    made.failed("p")
    assert why_useless(made.peer("p")) is Drop.STATE


def test_a_running_peer_needs_somebody_to_get_the_bytes_from() -> None:
    made = world()
    made.origin_fetcher("top", "h2")
    made.register("mid", "h3")
    made.started("mid")
    assert why_useless(made.peer("mid")) is None
    made.closed("top")
    assert why_useless(made.peer("mid")) is Drop.NO_SOURCE
    assert "mid" not in made.task().useful


def test_a_running_seed_is_taken_at_its_word_unless_it_waits() -> None:
    made = world()
    made.origin_fetcher("top", "h2")
    made.register("sp", "s1")
    made.started("sp")
    made.closed("top")
    assert why_useless(made.peer("sp")) is None
    made.register("p3", "h3", download(source=True))
    made.reschedule("sp")
    assert made.core.stat_peer("sp").is_waiting
    assert why_useless(made.peer("sp")) is Drop.NO_SOURCE


def test_a_source_that_refused_is_no_source() -> None:
    made = world()
    made.origin_fetcher("p", "h2")
    made.source_refused("p", 403)
    assert why_useless(made.peer("p")) is Drop.NO_SOURCE
    assert not made.task().useful


def test_a_private_host_serves_nobody_until_it_shares() -> None:
    made = world()
    made.announce(host("h2", shared=False))
    made.origin_fetcher("p", "h2")
    assert why_useless(made.peer("p")) is Drop.NOT_SHARED
    made.announce(host("h2"))
    assert why_useless(made.peer("p")) is None


def test_who_suits_whom() -> None:
    made = world()
    with_child(made)
    made.origin_fetcher("other", "h2")
    made.origin_fetcher("neighbour", "h1")
    made.register("part", "h3", download(part=ByteRange(start=0, length=5)))
    child = made.peer("child")
    assert why_unsuited(child, child) is Drop.SELF
    assert why_unsuited(child, made.peer("neighbour")) is Drop.SAME_HOST
    assert why_unsuited(child, made.peer("part")) is Drop.OTHER_RANGE
    assert why_unsuited(made.peer("part"), child) is None
    assert why_unsuited(child, made.peer("other")) is None
    made.piece_failed("child", "other")
    assert why_unsuited(child, made.peer("other")) is Drop.BLOCKED


def test_survey_names_every_useful_peer() -> None:
    made = world()
    made.origin_fetcher("top", "h2")
    made.register("mid", "h3")
    made.started("mid")
    made.register("low", "h4")
    made.started("low")
    made.origin_fetcher("neighbour", "h3")
    seen = survey(made.peer("mid"))
    assert [peer.id for peer in seen.eligible] == ["top"]
    assert seen.dropped == {
        "mid": Drop.SELF,
        "low": Drop.CYCLE,
        "neighbour": Drop.SAME_HOST,
    }


def test_hope_in_a_triggered_seed_of_another_host() -> None:
    made = world()
    with_child(made)
    assert has_hope(made.peer("child"))
    made.register("sp", "s1")  # a download of the seed's own, which can't hope for itself
    assert not has_hope(made.peer("sp"))


def test_hope_in_somebody_sent_to_the_source() -> None:
    made = World()
    made.announce(host("h1"), host("h2"))
    made.register("first", "h1")
    made.register("second", "h2")
    assert has_hope(made.peer("second"))
    assert not has_hope(made.peer("first"))


def test_no_hope_in_those_below() -> None:
    made = world()
    made.origin_fetcher("top", "h2")
    made.register("mid", "h3")
    made.started("mid")
    made.closed("top")
    made.register("low", "h4")
    made.task().seed_flights.clear()
    made.task().starting.clear()
    state = made.core.state
    state.stop_waiting(made.peer("low"))
    state.link(made.peer("low"), [made.peer("mid")], made.now)
    made.task().starting["low"] = 9.0
    assert not has_hope(made.peer("mid"))
