"""What an operator may change while a scheduler runs, through a whole core."""

from __future__ import annotations

from support.scheduler_world import World, closes, download, host, parents, triggers

from odonata.block_list import BlockList
from odonata.wire.message import Download
from scheduler.core.application import Application
from scheduler.core.candidate import Drop
from scheduler.core.cluster import Cluster, ClusterConfig
from scheduler.core.event import ClusterConfigured
from scheduler.core.limits import Limits


def configure(world: World, **config: object) -> None:
    assert world.handle(ClusterConfigured(config=ClusterConfig(**config))) == []  # type: ignore[arg-type]


def test_limits_are_laid_over_the_schedulers_own_and_taken_off_again() -> None:
    own = Limits(candidate_parent_limit=7, candidate_batch_limit=50)
    limits = Cluster(ClusterConfig(candidate_parent_limit=2)).limits(own)
    assert (limits.candidate_parent_limit, limits.candidate_batch_limit) == (2, 50)
    limits = Cluster(ClusterConfig(filter_parent_limit=15)).limits(own)
    assert (limits.candidate_parent_limit, limits.candidate_batch_limit) == (7, 15)
    world = World(own)
    configure(world, candidate_parent_limit=2, filter_parent_limit=15)
    configure(world)
    assert world.core.state.limits == own


def test_as_many_parents_as_configured_are_named() -> None:
    world = World()
    world.announce(*(host(f"h{number}") for number in range(6)))
    for number in range(4):
        world.holder(f"p{number}", f"h{number}")
    configure(world, candidate_parent_limit=2)
    assert len(parents(world.register("a", "h4"))["a"]) == 2
    configure(world, candidate_parent_limit=3)
    world.started("a")
    assert len(parents(world.register("b", "h5"))["b"]) == 3


def test_hosts_at_their_load_limit_are_left_out_while_others_can_help() -> None:
    world = World()
    children = [host(f"child-{number}", shared=False) for number in range(3)]
    world.announce(host("h1"), host("h2"), *children)
    world.holder("first", "h1")
    configure(world, peer_load_limit=1)
    assert parents(world.register("a", "child-0")) == {"a": ["first"]}
    world.started("a")
    # Nobody else can: better a loaded parent than none.
    assert parents(world.register("b", "child-1")) == {"b": ["first"]}
    world.started("b")
    world.holder("second", "h2")
    assert parents(world.register("c", "child-2")) == {"c": ["second"]}
    told = {one.peer_id: one.dropped for one in world.core.explain(child_id="c")[0].candidates}
    assert told["first"] == Drop.LOADED


def test_the_levels_of_applications_decide_whether_a_seed_is_asked() -> None:
    world = World()
    world.announce(host("seed", seed=True), host("h1"), host("h2"))
    configure(world, applications=(Application(name="own", priority=3),))
    own = Download(url="http://origin/one", application="own")
    assert not triggers(world.register("a", "h1", own, "one"))
    other = Download(url="http://origin/two", application="other")
    assert triggers(world.register("b", "h2", other, "two"))
    assert world.core.stat_peer("a").priority == 3


def test_what_seeds_may_not_have_is_not_asked_of_them_but_left_to_others() -> None:
    world = World()
    world.announce(host("seed", seed=True), host("h1"))
    configure(world, seed_block_list=BlockList(tags=("big",)))
    big = Download(url="http://origin/one", tag="big")
    assert not triggers(world.register("a", "h1", big))
    assert closes(world.register("s", "seed", big)) == {"s": "forbidden"}
    assert "a" in world.core.state.peers
    assert "s" not in world.core.state.peers


def test_what_is_forbidden_to_peers_is_refused_and_leaves_nothing_behind() -> None:
    world = World()
    world.announce(host("seed", seed=True), host("h1"))
    configure(world, peer_block_list=BlockList(priorities=(5,)))
    assert closes(world.register("a", "h1", download(priority=5))) == {"a": "forbidden"}
    assert not world.core.state.peers
    assert not world.core.state.tasks
    world.register("s", "seed", download(priority=5, source=True))
    assert "s" in world.core.state.peers


def test_a_block_list_sees_the_level_that_the_application_gives() -> None:
    world = World()
    world.announce(host("h1"))
    configure(
        world,
        applications=(Application(name="a", priority=5),),
        peer_block_list=BlockList(priorities=(5,)),
    )
    named = Download(url="http://origin/one", application="a")
    assert closes(world.register("a", "h1", named)) == {"a": "forbidden"}
