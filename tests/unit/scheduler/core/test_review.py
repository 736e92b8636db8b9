"""The parents of a peer of ours are looked at anew, and when nothing is looked at."""

from __future__ import annotations

from support.scheduler_world import PIECE_LENGTH, World, answers, download, host, parents

from odonata.wire.message import NormalTask
from scheduler.core.cluster import ClusterConfig
from scheduler.core.event import ClusterConfigured
from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits

PLACES = 3


def holder(world: World, peer_id: str, host_id: str) -> None:
    world.register(peer_id, host_id, download(metadata=True, size=90 * PIECE_LENGTH))
    world.finished(peer_id)


def mesh(*, holders: int, graph: GraphKind = GraphKind.MESH) -> World:
    """The child c of ours, which downloads from `holders` (q1, q2, ...)."""
    world = World(
        Limits(
            graph=graph, mesh_parent_limit=PLACES, candidate_parent_limit=PLACES, exploration=0.0
        )
    )
    world.announce(*(host(f"k{number}") for number in range(9)), host("hc"))
    for number in range(1, holders + 1):
        holder(world, f"q{number}", f"k{number}")
    world.ours.add("c")
    world.register("c", "hc", download(size=90 * PIECE_LENGTH))
    world.started("c")
    return world


def of_child(world: World) -> set[str]:
    return set(world.core.stat_peer("c").parent_ids)


def test_a_child_is_topped_up_as_others_join() -> None:
    world = mesh(holders=1)
    world.advance(1.0)
    assert of_child(world) == {"q1"}
    holder(world, "q2", "k2")
    effects = world.advance(world.now + world.core.state.limits.hungry_interval_s)
    (answer,) = answers(effects).values()
    assert isinstance(answer, NormalTask)
    assert {parent.peer_id for parent in answer.parents} == {"q1", "q2"}, "an answer names all"
    assert of_child(world) == {"q1", "q2"}


def test_nothing_is_computed_while_nobody_joins() -> None:
    world = mesh(holders=1)
    world.advance(1.0)
    assert world.peer("c").review_at_s is None
    assert not world.core.state.reviews
    assert "c" in world.task().hungry


def test_whoever_got_enough_by_another_way_is_not_hungry_any_more() -> None:
    """A loaded host is free again, which is no arrival; then the child asks by itself."""
    world = World(Limits(mesh_parent_limit=2, candidate_parent_limit=1, exploration=0.0))
    world.announce(*(host(f"k{number}") for number in range(3)), host("hc"))
    world.handle(ClusterConfigured(config=ClusterConfig(peer_load_limit=1)))
    for number in (1, 2):
        holder(world, f"q{number}", f"k{number}")
    world.register("x", "k0", download(size=90 * PIECE_LENGTH))
    world.ours.add("c")
    world.register("c", "hc", download(size=90 * PIECE_LENGTH))
    world.advance(1.0)
    assert len(of_child(world)) == 1
    assert "c" in world.task().hungry
    world.failed("x")
    world.reschedule("c")
    assert len(of_child(world)) == 2
    assert "c" not in world.task().hungry
    assert world.peer("c").review_at_s is not None


def test_a_dag_reviews_nobody() -> None:
    world = mesh(holders=1, graph=GraphKind.DAG)
    holder(world, "q2", "k2")
    assert not answers(world.advance(5.0))
    assert of_child(world) == {"q1"}


def test_an_idle_parent_is_exchanged_in_the_middle_of_a_download() -> None:
    world = mesh(holders=PLACES + 1)
    idle, *busy = sorted(of_child(world))
    (spare,) = {f"q{number}" for number in range(1, PLACES + 2)} - of_child(world)
    given: dict[str, list[str]] = {}
    for number in range(60):
        effects = world.advance(world.now + 0.1)
        given |= parents(effects)
        world.piece("c", number, busy[number % len(busy)])
        if given:
            break
    assert 2.0 < world.now < 5.0
    assert given == {"c": [spare, *busy]} or set(given["c"]) == {spare, *busy}
    assert of_child(world) == {spare, *busy}
    assert not world.peer("c").blocks(world.peer(idle)), "nobody is to blame"


def test_an_idle_parent_is_not_exchanged_for_one_that_gets_its_bytes_through_it() -> None:
    """The child feeds d, so d brings nothing new: both would have nobody but each other."""
    world = World(Limits(mesh_parent_limit=1, candidate_parent_limit=1, exploration=0.0))
    world.announce(host("k1"), host("hc"), host("hd"))
    holder(world, "q1", "k1")
    world.ours |= {"c", "d"}
    world.register("c", "hc", download(size=90 * PIECE_LENGTH))
    world.started("c")
    assert of_child(world) == {"q1"}
    world.register("d", "hd", download(size=90 * PIECE_LENGTH))
    world.reschedule("d", "q1")
    world.started("d")
    assert world.core.stat_peer("d").parent_ids == ("c",)
    for number in range(20):
        world.now += 0.1
        world.piece("c", number, "q1")
    world.advance(world.now + 10.0)
    assert of_child(world) == {"q1"}


def test_a_parent_that_gives_its_share_stays() -> None:
    world = mesh(holders=PLACES + 1)
    before = of_child(world)
    order = sorted(before)
    for number in range(60):
        assert not answers(world.advance(world.now + 0.1))
        world.piece("c", number, order[number % len(order)])
    assert of_child(world) == before


def test_a_slow_download_takes_longer_to_find_out() -> None:
    """A piece a second from three parents: one of them is idle for 15 s before that says much."""
    world = mesh(holders=PLACES + 1)
    busy = sorted(of_child(world))[1:]
    before = of_child(world)
    for number in range(14):
        assert not answers(world.advance(world.now + 1.0))
        world.piece("c", number, busy[number % len(busy)])
    assert of_child(world) == before
    exchanged = False
    for number in range(14, 20):
        exchanged = exchanged or bool(answers(world.advance(world.now + 1.0)))
        world.piece("c", number, busy[number % len(busy)])
    assert exchanged


def test_whoever_has_finished_is_not_looked_at_any_more() -> None:
    world = mesh(holders=PLACES)
    assert world.peer("c").review_at_s is not None
    world.finished("c")
    world.advance(5.0)
    assert world.peer("c").review_at_s is None
    assert not world.core.state.reviews


def test_many_reviews_at_a_time_leave_room_for_everything_else() -> None:
    limits = Limits(mesh_parent_limit=1, exploration=0.0, reviews_per_tick=10, admission=False)
    world = World(limits)
    world.announce(host("k"))
    holder(world, "q", "k")
    for number in range(35):
        world.ours.add(f"c{number}")
        world.announce(host(f"h{number}"))
        world.register(f"c{number}", f"h{number}", download(size=90 * PIECE_LENGTH))
        world.started(f"c{number}")
    world.now = 10.0  # all of them are due
    rounds = 0
    while any(at_s <= 10.0 for at_s, _, _ in world.core.state.reviews):
        alarm_s = world.core.wake_at_s
        assert alarm_s is not None
        world.advance(max(world.now, alarm_s))
        rounds += 1
    assert 4 <= rounds <= 6
    assert world.now < 10.1


def burst(*, crowd: int) -> World:
    """`crowd` children of ours, each of which has all holders as parents; then n comes."""
    world = World(Limits(mesh_parent_limit=PLACES, exploration=0.0, admission=False))
    world.announce(*(host(f"k{number}") for number in range(9)), host("hn"))
    for number in range(1, PLACES + 1):
        holder(world, f"q{number}", f"k{number}")
    for number in range(crowd):
        world.ours.add(f"c{number}")
        world.announce(host(f"h{number}"))
        world.register(f"c{number}", f"h{number}", download(size=90 * PIECE_LENGTH))
        world.started(f"c{number}")
    world.ours.add("n")
    world.register("n", "hn", download(size=90 * PIECE_LENGTH))
    world.started("n")
    return world


def children_of(world: World, peer_id: str) -> int:
    return world.task().graph.child_count(peer_id)


def test_who_comes_last_in_a_burst_gets_children_of_those_who_have_many() -> None:
    world = burst(crowd=8)
    assert children_of(world, "n") == 0
    world.piece("n", 7, "q1")
    for _ in range(8):
        world.advance(world.now + 0.25)
    assert children_of(world, "n") > 0
    graph = world.task().graph
    takers = [f"c{number}" for number in range(8)]
    assert all(graph.parent_count(taker) == PLACES for taker in takers)


def test_a_newcomer_that_holds_nothing_new_is_nobodys_parent() -> None:
    world = burst(crowd=8)
    for _ in range(8):
        world.advance(world.now + 0.25)
    assert children_of(world, "n") == 0


def test_who_is_no_newcomer_any_more_is_left_to_the_ranking() -> None:
    world = burst(crowd=8)
    world.advance(world.now + 12.0)
    world.piece("n", 7, "q1")
    for _ in range(8):
        world.advance(world.now + 0.25)
    assert children_of(world, "n") == 0
