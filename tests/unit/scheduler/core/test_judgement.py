"""Which pieces speak against a host, and what comes of it."""

from math import isnan

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

from scheduler.core.effect import Answer
from scheduler.core.host_report import HostReport, report_hosts
from scheduler.core.judgement import LEAST_SWARM_PIECES
from scheduler.core.limits import Limits
from scheduler.core.standing import FIRST_TERM_S, PROBATION_GOOD_PIECES, HostState

CHILDREN = ("c1", "c2", "c3", "c4")


def swarm(*, ours: bool = True, idc: str = "") -> World:
    """Holders p1 and p2 on `bad` and `good`, and four children on hosts of their own."""
    made = World(Limits(exploration=0.0, candidate_parent_limit=4, mesh_parent_limit=4))
    made.announce(host("bad", idc="x"), host("good", idc="x"))
    made.announce(*(host(f"h{number}", idc=idc) for number in range(1, 6)))
    made.holder("p1", "bad")
    made.holder("p2", "good")
    for number, child in enumerate(CHILDREN, 1):
        if ours:
            made.ours.add(child)
        made.register(child, f"h{number}", download(size=1000 * PIECE_LENGTH))
        made.started(child)
    made.now = 1.0
    return made


def standing(world: World, host_id: str = "bad") -> HostState:
    return world.core.state.hosts[host_id].standing.state


def serve(
    world: World, seconds: float, every_s: float, cost_s: float, *, parent_id: str = "p1"
) -> None:
    """All children in turn report a piece from `parent_id`, one every `every_s`."""
    for number in range(round(seconds / every_s)):
        world.now += every_s
        child = CHILDREN[number % len(CHILDREN)]
        world.piece(child, number % 900, parent_id, cost_s=cost_s)
        if standing(world) is HostState.EVICTED:
            return


def evict(world: World) -> None:
    for child in CHILDREN[:3]:
        world.piece_failed(child, "p1")
    assert standing(world) is HostState.EVICTED


# --- what counts ---


def test_failures_of_different_children_evict() -> None:
    world = swarm()
    world.piece_failed("c1", "p1")
    world.piece_failed("c2", "p1")
    assert standing(world) is HostState.GOOD
    world.piece_failed("c3", "p1")
    assert standing(world) is HostState.EVICTED
    assert standing(world, "good") is HostState.GOOD


def test_one_angry_child_evicts_nobody() -> None:
    world = swarm()
    for number in range(300):
        world.now += 0.5
        world.piece_failed("c1", "p1")
        if number % 10 == 0:
            world.piece("c2", 1, "p1", cost_s=0.2)
    assert standing(world) is HostState.GOOD


def test_the_peers_of_one_host_are_one_child() -> None:
    world = swarm()
    for peer_id in ("d1", "d2", "d3"):
        world.register(peer_id, "h5")
        world.piece_failed(peer_id, "p1")
    assert standing(world) is HostState.GOOD


def test_a_permanent_failure_is_nobodys_fault() -> None:
    world = swarm()
    for child in CHILDREN:
        world.piece_failed(child, "p1", temporary=False)
    assert standing(world) is HostState.GOOD


def test_failures_among_good_pieces_are_no_reason() -> None:
    world = swarm()
    for child in CHILDREN * 5:
        world.now += 1.0
        world.piece_failed(child, "p1")
        world.piece("c1", 1, "p1", cost_s=0.2)
    assert standing(world) is HostState.GOOD


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_drop_is_noticed_by_its_slow_pieces_alone(is_ours: bool) -> None:
    """20 pieces a second that take 0.2 s each; at 2 % a piece comes every 2.5 s and takes 10 s."""
    world = swarm(ours=is_ours)
    serve(world, 30.0, 0.05, 0.2)
    assert standing(world) is HostState.GOOD
    dropped_s = world.now
    serve(world, 60.0, 2.5, 10.0)
    assert standing(world) is HostState.EVICTED
    assert world.now - dropped_s <= 20.0


def test_a_drop_is_noticed_within_10_s_when_children_say_so() -> None:
    """0.5 s a piece, eight at a time; at 2 % none comes, and children lose hope after 5 s."""
    world = swarm()
    serve(world, 30.0, 1 / 16, 0.5)
    dropped_s = world.now
    for child in CHILDREN:
        world.now += 1.25
        world.piece_failed(child, "p1")
        if standing(world) is HostState.EVICTED:
            break
    assert standing(world) is HostState.EVICTED
    assert world.now - dropped_s <= 5.0


@pytest.mark.parametrize(
    ("fast_s", "expected"), [(1e-2, HostState.GOOD), (1e-4, HostState.EVICTED)]
)
def test_a_host_that_was_always_slow_stays_unless_it_is_absurd(
    fast_s: float, expected: HostState
) -> None:
    """It gives a piece in 10 s, another one in `fast_s`; the swarm is the geometric mean.

    So it is 32 or 316 times below the swarm.
    """
    world = swarm()
    for number in range(40):
        child = CHILDREN[number % 4]
        for _ in range(7):
            world.now += 10.0 / 7
            world.piece(child, number, "p2", cost_s=fast_s)
        world.piece(child, number, "p1", cost_s=10.0)
    assert standing(world) is expected


def test_slow_children_are_not_the_hosts_fault() -> None:
    """Its pieces take 50 times as long for children whose pieces always take so long."""
    world = swarm()
    world.announce(host("s1"), host("s2"))
    serve(world, 30.0, 0.1, 0.1)
    for number, child in enumerate(("d1", "d2")):
        world.register(child, f"s{number + 1}")
        world.started(child)
    for number in range(100):
        world.now += 2.5
        world.piece("d1", number, "p1", cost_s=5.0)
        world.piece("d2", number, "p1", cost_s=5.0)
    assert world.core.state.hosts["bad"].history.recent_rate_bytes_per_s < PIECE_LENGTH
    assert standing(world) is HostState.GOOD


def test_between_data_centres_nothing_is_slow() -> None:
    world = swarm(idc="y")
    serve(world, 30.0, 0.05, 0.2)
    serve(world, 100.0, 2.5, 10.0)
    assert standing(world) is HostState.GOOD


def test_a_peer_of_the_same_host_says_nothing() -> None:
    world = swarm()
    for number in range(3):
        world.register(f"d{number}", "bad")
        world.piece(f"d{number}", 0, "p1", cost_s=1.0)
        world.piece_failed(f"d{number}", "p1")
    assert isnan(world.core.state.hosts["bad"].history.rate_bytes_per_s)
    assert standing(world) is HostState.GOOD


def test_a_few_pieces_are_not_compared_with_the_swarm() -> None:
    world = swarm()
    serve(world, 10.0, 0.1, 0.1, parent_id="p2")
    for number in range(int(LEAST_SWARM_PIECES) - 1):
        world.now += 1.0
        world.piece(CHILDREN[number % 4], number, "p1", cost_s=100.0)
    assert standing(world) is HostState.GOOD


# --- what follows ---


def test_an_evicted_host_loses_its_children() -> None:
    world = swarm()
    assert world.core.state.hosts["bad"].concurrent_upload_count > 0
    evict(world)
    assert world.core.state.hosts["bad"].concurrent_upload_count == 0
    assert "p1" not in world.core.stat_peer("c4").parent_ids


def test_nobody_is_sent_to_an_evicted_host() -> None:
    world = swarm()
    evict(world)
    given = parents(world.register("c5", "h5"))["c5"]
    assert given
    assert "p1" not in given
    reasons = {one.peer_id: one.dropped for one in world.core.explain(child_id="c5")[0].candidates}
    assert reasons["p1"] == "its host is evicted"


def test_all_tasks_of_the_host_are_concerned() -> None:
    world = swarm()
    world.register("q1", "bad", download(metadata=True, size=PIECE_LENGTH), "u")
    evict(world)
    assert sent_to_source(world.register("q2", "h1", task_id="u")) == ["q2"]


def test_who_may_not_go_to_the_source_is_given_the_evicted() -> None:
    world = swarm()
    world.register("q1", "bad", download(metadata=True, size=PIECE_LENGTH), "u")
    evict(world)
    given = world.register("q2", "h1", download(may_use_source=False), "u")
    assert parents(given) == {"q2": ["q1"]}


@pytest.mark.parametrize("priority", [1, 2])
def test_who_is_for_peers_only_is_given_the_evicted(priority: int) -> None:
    world = swarm()
    world.register("q1", "bad", download(metadata=True, size=PIECE_LENGTH), "u")
    evict(world)
    given = world.register("q2", "h1", download(priority=priority), "u")
    assert parents(given) == {"q2": ["q1"]}


def test_when_the_source_errs_the_evicted_is_better() -> None:
    world = swarm()
    world.register("q1", "bad", download(metadata=True, size=PIECE_LENGTH), "u")
    evict(world)
    world.register("q2", "h1", task_id="u")
    world.at_source("q2")
    world.source_refused("q2", 403)
    world.register("q3", "h2", download(may_use_source=False), "u")
    assert world.core.stat_peer("q3").parent_ids == ("q1",)


def test_those_who_hoped_for_an_evicted_host_hope_no_more() -> None:
    """q1, on the bad host, was sent to the source; q2 waits for it."""
    world = swarm()
    assert sent_to_source(world.register("q1", "bad", task_id="u")) == ["q1"]
    assert not answers(world.register("q2", "h5", task_id="u"))
    for child in CHILDREN[:2]:
        world.piece_failed(child, "p1")
    assert sent_to_source(world.piece_failed("c3", "p1")) == ["q2"]


def test_an_evicted_seed_is_not_asked() -> None:
    world = swarm()
    world.announce(host("bad", seed=True))
    evict(world)
    assert sent_to_source(world.register("q1", "h1", task_id="u")) == ["q1"]
    world.announce(host("s2", seed=True))
    asked = triggers(world.register("q2", "h2", task_id="v"))
    assert [one.host.id for one in asked] == ["s2"]


def test_an_evicted_seed_is_better_than_a_refusal() -> None:
    world = swarm()
    world.announce(host("bad", seed=True))
    evict(world)
    what = download(may_use_source=False)
    asked = triggers(world.register("q1", "h1", what, "u"))
    assert [one.host.id for one in asked] == ["bad"]


def test_a_seed_that_is_evicted_on_its_way_is_no_hope() -> None:
    world = swarm()
    world.announce(host("bad", seed=True))
    assert triggers(world.register("q1", "h1", task_id="u"))
    for child in CHILDREN[:2]:
        world.piece_failed(child, "p1")
    assert sent_to_source(world.piece_failed("c3", "p1")) == ["q1"]


# --- and then ---


def test_probation_takes_one_child_and_four_good_pieces() -> None:
    world = swarm(ours=False)
    serve(world, 10.0, 0.1, 0.1)
    evict(world)
    world.advance(world.now + FIRST_TERM_S)
    assert standing(world) is HostState.ON_PROBATION
    given = parents(world.register("c5", "h5"))["c5"]
    assert "p1" in given
    world.announce(host("h6"))
    world.started("c5")
    given = parents(world.register("c6", "h6"))["c6"]
    assert "p1" not in given
    reasons = {one.peer_id: one.dropped for one in world.core.explain(child_id="c6")[0].candidates}
    assert reasons["p1"] == "its host is on probation, and has a child already"
    for number in range(PROBATION_GOOD_PIECES):
        assert standing(world) is HostState.ON_PROBATION
        world.now += 0.1
        world.piece("c5", number, "p1", cost_s=0.1)
    assert standing(world) is HostState.GOOD
    assert world.core.standing_counts().readmissions == 1


def test_slow_pieces_do_not_readmit() -> None:
    world = swarm(ours=False)
    serve(world, 10.0, 0.1, 0.1)
    serve(world, 10.0, 0.1, 0.1, parent_id="p2")
    evict(world)
    world.advance(world.now + FIRST_TERM_S)
    world.register("c5", "h5")
    world.started("c5")
    for number in range(20):
        world.now += 1.0
        world.piece("c5", number, "p1", cost_s=1.0)
    assert standing(world) is HostState.ON_PROBATION


def test_bad_ones_evict_again_for_longer() -> None:
    world = swarm(ours=False)
    evict(world)
    world.advance(world.now + FIRST_TERM_S)
    world.register("c5", "h5")
    world.started("c5")
    world.piece_failed("c5", "p1")
    world.piece_failed("c5", "p1")
    assert standing(world) is HostState.EVICTED
    world.advance(world.now + 2 * FIRST_TERM_S - 1.0)
    assert standing(world) is HostState.EVICTED
    world.advance(world.now + 1.0)
    assert standing(world) is HostState.ON_PROBATION


def test_what_was_on_its_way_before_says_nothing() -> None:
    world = swarm()
    serve(world, 30.0, 0.05, 0.2)
    evict(world)
    world.advance(world.now + FIRST_TERM_S)
    for number in range(4):
        world.now += 0.1
        world.piece(CHILDREN[number], number, "p1", cost_s=30.0)
    assert standing(world) is HostState.ON_PROBATION


def test_a_host_on_probation_is_tried_out_by_somebody_who_has_others() -> None:
    world = swarm()
    evict(world)
    effects = world.advance(world.now + FIRST_TERM_S)
    given = parents(effects)
    assert [names[0] for names in given.values()] == ["p1"]
    (child,) = given
    assert len(world.core.stat_peer(child).parent_ids) > 1
    assert world.core.state.hosts["bad"].concurrent_upload_count == 1


def test_whoever_waits_may_have_the_host_on_probation_when_it_is_free() -> None:
    world = World()
    world.announce(host("bad"), host("h1"), host("h2"), host("h3"))
    world.holder("p1", "bad")
    for number in (1, 2, 3):
        world.register(f"c{number}", f"h{number}")
        world.started(f"c{number}")
    for number in (1, 2, 3):
        world.piece_failed(f"c{number}", "p1")
    for number in (1, 2, 3):
        world.closed(f"c{number}")
    world.advance(FIRST_TERM_S)
    assert standing(world) is HostState.ON_PROBATION
    assert parents(world.register("d1", "h1")) == {"d1": ["p1"]}
    world.started("d1")
    # d2 gets d1. Then d1 leaves, and p1 is free for d2, which is stock, and asks.
    assert parents(world.register("d2", "h2")) == {"d2": ["d1"]}
    world.started("d2")
    world.closed("d1")
    assert parents(world.reschedule("d2")) == {"d2": ["p1"]}


def test_a_new_life_of_a_host_is_a_new_chance() -> None:
    world = swarm()
    evict(world)
    world.leave("bad")
    world.announce(host("bad"))
    assert standing(world) is HostState.GOOD
    world.advance(world.now + FIRST_TERM_S)  # the old term's end means nothing
    assert standing(world) is HostState.GOOD


def test_announcing_itself_again_changes_nothing() -> None:
    world = swarm()
    evict(world)
    world.announce(host("bad"))
    assert standing(world) is HostState.EVICTED


# --- what is told ---


def test_counts() -> None:
    world = swarm()
    counts = world.core.standing_counts()
    assert (counts.good, counts.evicted, counts.on_probation) == (7, 0, 0)
    evict(world)
    counts = world.core.standing_counts()
    assert (counts.good, counts.evicted, counts.on_probation) == (6, 1, 0)
    assert (counts.evictions, counts.readmissions, counts.doubtful_evictions) == (1, 0, 0)


def test_an_eviction_in_the_middle_of_good_service_is_doubtful() -> None:
    world = swarm()
    serve(world, 10.0, 0.1, 0.1)
    evict(world)
    assert world.core.standing_counts().doubtful_evictions == 1


def test_an_eviction_after_silence_is_not() -> None:
    world = swarm()
    serve(world, 10.0, 0.1, 0.1)
    world.now += 5.0
    evict(world)
    assert world.core.standing_counts().doubtful_evictions == 0


def test_hosts_tell_their_standing() -> None:
    world = swarm()
    evict(world)
    told = {one.host.id: one.standing for one in world.core.list_hosts()}
    assert (told["bad"], told["good"]) == (HostState.EVICTED, HostState.GOOD)


def report(world: World, host_id: str = "bad") -> HostReport:
    (told,) = report_hosts(world.core.state, world.now, prefix=host_id, limit=1).hosts
    return told


def test_why_a_host_was_evicted_and_how_often() -> None:
    world = swarm(ours=False)
    assert (report(world).why, report(world).standing_until_s) == ("", None)
    serve(world, 10.0, 0.1, 0.1)
    evict(world)
    told = report(world)
    assert told.why == "3 of 3 pieces in a row were bad: the last one failed"
    assert (told.eviction_count, told.doubtful_eviction_count) == (1, 1)
    assert told.standing_since_s == world.now
    assert told.standing_until_s == world.now + FIRST_TERM_S
    world.advance(world.now + FIRST_TERM_S)
    assert (report(world).standing, report(world).standing_until_s) == ("OnProbation", None)
    world.register("c5", "h5")
    world.started("c5")
    world.piece_failed("c5", "p1")
    world.piece_failed("c5", "p1")
    told = report(world)
    assert told.why == "2 bad pieces on probation: the last one failed"
    assert (told.eviction_count, told.doubtful_eviction_count) == (2, 1)


def test_a_host_that_became_slow_is_evicted_for_that() -> None:
    world = swarm()
    serve(world, 30.0, 0.05, 0.2)
    serve(world, 60.0, 2.5, 10.0)
    assert report(world).why.endswith("were bad: the last one came far too slowly")


def test_our_children_get_others_at_once_and_stock_children_are_let_be() -> None:
    for is_ours in (True, False):
        world = swarm(ours=is_ours)
        world.announce(host("h6"))
        world.holder("p3", "h6")
        effects = [one for c in CHILDREN[:3] for one in world.piece_failed(c, "p1")]
        told = {one.peer_id for one in effects if isinstance(one, Answer)}
        assert told >= set(CHILDREN[:3]) if is_ours else not told
