"""Hosts that send other bytes than they say: out at once, but not on just anybody's word."""

from __future__ import annotations

import pytest
from support.scheduler_world import World, download, host, parents, sent_to_source

from scheduler.core.accusation import ACCUSED_MAX, WITNESS_MEMORY_S
from scheduler.core.candidate import Drop, survey
from scheduler.core.effect import SchedulerEffect
from scheduler.core.honesty import MEMORY_S
from scheduler.core.limits import Limits
from scheduler.core.standing import LONGEST_TERM_S, HostState

LIMITS = Limits(exploration=0.0, candidate_parent_limit=20, admission=False)
PEERS = 12


def swarm(*holders: str, children: int = 6) -> World:
    """Hosts h0, h1, ...; peers of `holders` hold task "t", the others are children of them all."""
    world = World(LIMITS)
    for number in range(PEERS):
        world.announce(host(f"h{number}"))
    for holder in holders:
        world.holder(f"p-{holder}", holder)
    others = [f"h{number}" for number in range(PEERS) if f"h{number}" not in holders]
    for home in others[:children]:
        world.ours.add(f"p-{home}")
        world.register(f"p-{home}", home)
        world.started(f"p-{home}")
    return world


def standing(world: World, host_id: str) -> HostState:
    return world.core.state.hosts[host_id].standing.state


def accuse(world: World, child: str, parent: str) -> list[SchedulerEffect]:
    return world.piece_failed(f"p-{child}", f"p-{parent}", wrong_digest=True)


def doubtful(world: World) -> int:
    return world.core.standing_counts().doubtful_evictions


def test_one_accusation_takes_a_host_out_of_the_task_in_one_event() -> None:
    world = swarm("h0", "h1")
    assert world.task().graph.children("p-h0")
    accuse(world, "h2", "h0")
    assert not world.task().graph.children("p-h0")
    assert standing(world, "h0") is HostState.ON_PROBATION
    seen = survey(world.peer("p-h3"))
    assert seen.dropped["p-h0"] is Drop.LIAR
    assert "p-h0" not in [peer.id for peer in seen.last_resort]
    world.register("p-h9", "h9")
    assert "p-h0" not in world.task().graph.parents("p-h9")


def test_its_children_of_ours_are_given_others_in_the_same_event() -> None:
    world = swarm("h0")
    world.holder("p-h9", "h9")
    given = parents(accuse(world, "h2", "h0"))
    assert {child for child, named in given.items() if "p-h9" in named} >= {"p-h2", "p-h3"}
    assert all("p-h0" not in named for named in given.values())


def test_where_nobody_else_can_help_one_goes_to_the_source() -> None:
    world = swarm("h0", children=1)
    assert sent_to_source(accuse(world, "h1", "h0")) == ["p-h1"]


def test_two_accusers_convict_everywhere_and_for_the_longest_term() -> None:
    world = swarm("h0", "h1")
    world.now = 10.0
    accuse(world, "h2", "h0")
    accuse(world, "h3", "h0")
    assert standing(world, "h0") is HostState.EVICTED
    known = world.core.state.hosts["h0"].standing
    assert known.is_liar
    assert known.until_s == 10.0 + LONGEST_TERM_S
    world.register("p-u", "h5", task_id="u")
    assert doubtful(world) == 0
    # It is on probation after its term, and no liar any more once it has done well.
    world.advance(known.until_s)
    assert standing(world, "h0") is HostState.ON_PROBATION


def test_two_peers_of_one_host_are_one_accuser() -> None:
    world = swarm("h0", "h1")
    world.register("again", "h2")
    world.started("again")
    accuse(world, "h2", "h0")
    world.piece_failed("again", "p-h0", wrong_digest=True)
    assert standing(world, "h0") is HostState.ON_PROBATION


def test_one_accuser_is_enough_if_the_host_itself_told_of_other_bytes() -> None:
    world = swarm("h1")
    world.origin_fetcher("source", "h0")
    world.piece("source", 0, digest="crc32:1")
    world.piece("p-h2", 0, "p-h1", digest="crc32:2")  # that is not what the source sends
    world.register("late", "h9")
    world.started("late")
    assert "p-h2" in world.task().graph.parents("late")
    world.piece_failed("late", "p-h2", wrong_digest=True)
    assert standing(world, "h2") is HostState.EVICTED


def test_whoever_tells_of_other_bytes_is_not_believed() -> None:
    world = swarm("h0", "h1")
    world.origin_fetcher("source", "h9")
    world.piece("source", 0, digest="crc32:1")
    world.piece("p-h2", 0, "p-h1", digest="crc32:2")
    accuse(world, "h2", "h0")
    assert standing(world, "h0") is HostState.GOOD
    assert "p-h0" not in world.task().liars
    world.now += MEMORY_S
    accuse(world, "h3", "h0")
    assert standing(world, "h0") is HostState.ON_PROBATION


def test_only_who_was_sent_to_a_host_can_accuse_it() -> None:
    world = swarm("h0", "h1")
    world.holder("stranger", "h9")
    world.register("other", "h10", download(source=True))
    world.at_source("other")
    world.piece_failed("other", "p-h0", wrong_digest=True)
    assert standing(world, "h0") is HostState.GOOD


def test_one_accuser_is_believed_about_a_few_hosts_only() -> None:
    holders = [f"h{number}" for number in range(ACCUSED_MAX + 2)]
    world = swarm(*holders, children=1)
    angry = f"h{ACCUSED_MAX + 2}"
    for one in holders:
        accuse(world, angry, one)
    states = [standing(world, one) for one in holders]
    assert states.count(HostState.ON_PROBATION) == ACCUSED_MAX
    assert states.count(HostState.GOOD) == 2
    assert len(world.task().liars) == ACCUSED_MAX


def test_who_is_on_probation_for_an_accusation_accuses_nobody() -> None:
    world = swarm("h0", "h1")
    world.register("low", "h9")
    world.started("low")
    assert "p-h2" in world.task().graph.parents("low")
    world.piece_failed("low", "p-h2", wrong_digest=True)
    assert standing(world, "h2") is HostState.ON_PROBATION
    accuse(world, "h2", "h0")
    assert standing(world, "h0") is HostState.GOOD


def test_whose_accused_were_found_good_is_believed_no_more() -> None:
    world = swarm("h0", "h1", "h3", children=6)
    accuse(world, "h2", "h0")
    accuse(world, "h2", "h1")
    for one in ("h0", "h1"):
        world.holder(f"u-{one}", one)
        for number in range(4):
            world.now += 1.0
            world.piece("p-h4", number, f"p-{one}", cost_s=0.1)
        assert standing(world, one) is HostState.GOOD
    accuse(world, "h2", "h3")
    assert standing(world, "h3") is HostState.GOOD


def test_a_conviction_against_two_witnesses_is_counted_as_doubtful() -> None:
    world = swarm("h0", "h1")
    world.origin_fetcher("source", "h9")
    world.piece("source", 0, digest="crc32:1")
    for child in ("h2", "h3"):
        world.piece(f"p-{child}", 0, "p-h0", digest="crc32:1")
    for child in ("h4", "h5"):
        accuse(world, child, "h0")
    assert standing(world, "h0") is HostState.EVICTED
    assert doubtful(world) == 1


def test_witnesses_of_long_ago_are_none() -> None:
    world = swarm("h0", "h1")
    world.origin_fetcher("source", "h9")
    world.piece("source", 0, digest="crc32:1")
    for child in ("h2", "h3"):
        world.piece(f"p-{child}", 0, "p-h0", digest="crc32:1")
    world.now += WITNESS_MEMORY_S
    for child in ("h4", "h5"):
        accuse(world, child, "h0")
    assert doubtful(world) == 0


@pytest.mark.parametrize("pause_s", [MEMORY_S - 1.0, MEMORY_S])
def test_accusations_long_after_each_other_do_not_add_up(pause_s: float) -> None:
    world = swarm("h0", "h1")
    accuse(world, "h2", "h0")
    world.now += pause_s
    accuse(world, "h3", "h0")
    is_recent = pause_s < MEMORY_S
    expected = HostState.EVICTED if is_recent else HostState.ON_PROBATION
    assert standing(world, "h0") is expected


def test_a_failed_piece_without_a_wrong_digest_accuses_nobody() -> None:
    world = swarm("h0", "h1")
    world.piece_failed("p-h2", "p-h0")
    assert standing(world, "h0") is HostState.GOOD
    assert not world.task().liars
