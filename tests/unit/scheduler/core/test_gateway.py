"""Across data centres only gateways fetch."""

from __future__ import annotations

from support.scheduler_world import PIECE_LENGTH, World, download, far_shares, host

from scheduler.core.candidate import Drop, survey
from scheduler.core.effect import Answer
from scheduler.core.graph import GraphKind
from scheduler.core.limits import Limits

WHAT = download(size=9 * PIECE_LENGTH)


def two_sites(count: int = 5, **limits: int | GraphKind) -> World:
    """A holder at "here"; c1, c2, ... at "There" (case does not matter) ask for the task."""
    world = World(Limits(exploration=0.0, admission=False, **limits))  # type: ignore[arg-type]
    world.announce(host("k", idc="here"))
    world.holder("q", "k")
    for number in range(1, count + 1):
        name = f"c{number}"
        world.ours.add(name)
        idc = "There" if number % 2 else "there"
        world.announce(host(f"h{number}", idc=idc))
        world.register(name, f"h{number}", WHAT)
        world.started(name)
    return world


def far_children(world: World) -> list[str]:
    return [c for c in ("c1", "c2", "c3", "c4", "c5") if "q" in parents_of(world, c)]


def parents_of(world: World, peer_id: str) -> tuple[str, ...]:
    peer = world.core.state.peers.get(peer_id)
    return () if peer is None else world.task().graph.parents(peer.id)


def test_only_gateways_fetch_from_elsewhere() -> None:
    world = two_sites(gateway_count=2)
    world.advance(2.0)
    assert far_children(world) == ["c1", "c2"]
    assert survey(world.peer("c5")).dropped["q"] is Drop.FAR
    assert set(parents_of(world, "c5")) == {"c1", "c2", "c3", "c4"}


def test_gateways_get_parents_at_home_as_well() -> None:
    world = two_sites(gateway_count=2)
    world.advance(2.0)
    assert set(parents_of(world, "c1")) > {"q", "c2"}


def test_another_takes_the_place_of_a_gateway_that_dies() -> None:
    world = two_sites(gateway_count=1)
    assert far_children(world) == ["c1"]
    world.closed("c1")
    world.advance(2.0)
    assert len(far_children(world)) == 1
    assert "c1" not in far_children(world)


# --- who is told which part -----------------------------------------------------------------------


def joins(world: World, number: int, *, idc: str = "there") -> dict[str, tuple[int, int]]:
    """One more peer of ours comes; who is told which part by that."""
    world.ours.add(f"c{number}")
    world.announce(host(f"h{number}", idc=idc))
    told = far_shares(world.register(f"c{number}", f"h{number}", WHAT))
    return told | far_shares(world.started(f"c{number}"))


def test_each_gateway_is_told_its_part_when_there_is_another() -> None:
    world = two_sites(0, gateway_count=2)
    assert joins(world, 1) == {"c1": (0, 1)}
    assert joins(world, 2) == {"c1": (0, 2), "c2": (1, 2)}
    assert joins(world, 3) == {}
    assert far_shares(world.advance(5.0)) == {}


def test_the_part_comes_with_the_parents_and_after_them() -> None:
    world = two_sites(0)
    world.ours.add("c1")
    world.announce(host("h1", idc="there"))
    effects = world.register("c1", "h1", WHAT)
    kinds = [type(one.answer).__name__ for one in effects if isinstance(one, Answer)]
    assert kinds == ["NormalTask", "FarShare"]


def test_who_is_left_is_told_that_all_is_its_own_and_then_of_the_third() -> None:
    world = two_sites(0, gateway_count=2)
    joins(world, 1)
    joins(world, 2)
    assert far_shares(world.closed("c1")) == {"c2": (0, 1)}
    assert joins(world, 3) == {"c2": (0, 2), "c3": (1, 2)}


def test_a_gateway_that_is_deleted_is_gone_as_well() -> None:
    world = two_sites(0, gateway_count=2)
    joins(world, 1)
    joins(world, 2)
    assert far_shares(world.leave("h2")) == {"c1": (0, 1)}


def test_a_gateway_that_asks_again_keeps_its_part() -> None:
    world = two_sites(0, gateway_count=2)
    joins(world, 1)
    joins(world, 2)
    world.announce(host("k2", idc="here"))
    world.holder("q2", "k2")
    assert far_shares(world.reschedule("c1", "q")) == {}
    assert "q2" in parents_of(world, "c1")
    assert list(world.task().gateways["there"]) == ["c1", "c2"]


def test_one_that_is_not_at_work_any_more_is_counted_no_more() -> None:
    world = two_sites(0, gateway_count=2)
    joins(world, 1)
    joins(world, 2)
    world.at_source("c1")
    assert joins(world, 3) == {"c2": (0, 2), "c3": (1, 2)}


def test_who_has_ended_keeps_its_place_and_is_told_nothing() -> None:
    world = two_sites(0, gateway_count=2)
    joins(world, 1)
    world.finished("c1")
    assert joins(world, 2) == {"c2": (1, 2)}


def test_only_who_takes_it_is_told() -> None:
    world = two_sites(0, gateway_count=2)
    world.old.add("c1")
    assert joins(world, 1) == {}
    assert joins(world, 2) == {"c2": (1, 2)}


def test_each_site_divides_for_itself() -> None:
    world = two_sites(0, gateway_count=2)
    joins(world, 1)
    assert joins(world, 2, idc="elsewhere") == {"c2": (0, 1)}


def test_a_new_life_is_told_anew() -> None:
    world = two_sites(0, gateway_count=2)
    joins(world, 1)
    assert far_shares(world.register("c1", "h1", WHAT)) == {"c1": (0, 1)}


# --- sites that have it from the source -----------------------------------------------------------


def fed_at_home(*, origin_has: int, far_has: int, home_suffices: bool = True) -> World:
    """An origin at "there" and a peer of ours at "here" that fetch, the child c1 at "There"."""
    limits = Limits(
        exploration=0.0, admission=False, graph=GraphKind.MESH, home_suffices=home_suffices
    )
    world = World(limits)
    world.announce(host("k", idc="here"), host("s", idc="there"), host("h1", idc="There"))
    world.ours |= {"o", "q", "c1"}
    world.register("o", "s", download(source=True, size=9 * PIECE_LENGTH))
    world.at_source("o")
    world.register("q", "k", WHAT)
    world.started("q")
    for number in range(origin_has):
        world.piece("o", number)
    for number in range(far_has):
        world.piece("q", number, "o")
    return world


def test_where_somebody_fetches_from_the_source_nothing_comes_from_elsewhere() -> None:
    world = fed_at_home(origin_has=3, far_has=3)
    world.register("c1", "h1", WHAT)
    assert parents_of(world, "c1") == ("o",)
    assert survey(world.peer("c1")).dropped["q"] is Drop.FAR


def test_unless_that_is_switched_off() -> None:
    world = fed_at_home(origin_has=3, far_has=3, home_suffices=False)
    world.register("c1", "h1", WHAT)
    assert set(parents_of(world, "c1")) == {"o", "q"}


def test_but_what_it_lacks_there() -> None:
    world = fed_at_home(origin_has=2, far_has=3)
    world.register("c1", "h1", WHAT)
    assert set(parents_of(world, "c1")) == {"o", "q"}


def test_who_has_everything_elsewhere_is_no_worse_than_who_only_began_here() -> None:
    world = fed_at_home(origin_has=3, far_has=0)
    world.finished("q")
    world.register("c1", "h1", WHAT)
    assert set(parents_of(world, "c1")) == {"o", "q"}


def test_nor_if_it_has_ended_there() -> None:
    world = fed_at_home(origin_has=1, far_has=3)
    world.finished_from_source("o")
    world.register("c1", "h1", WHAT)
    assert parents_of(world, "c1") == ("o",)


def test_better_from_elsewhere_than_not_at_all() -> None:
    world = fed_at_home(origin_has=3, far_has=3)
    world.announce(host("s", idc="there", shared=False))
    world.register("c1", "h1", WHAT)
    assert parents_of(world, "c1") == ("q",)


def test_an_origin_that_left_is_none() -> None:
    world = fed_at_home(origin_has=3, far_has=3)
    world.closed("o")
    assert not world.task().origins


# --- how many of a gateway's parents are elsewhere ------------------------------------------------


def crowd(n_far: int, **limits: int) -> World:
    """A gateway, c1, that found nobody elsewhere but q, and then `n_far` come there."""
    world = two_sites(0, mesh_parent_limit=4, candidate_parent_limit=4, **limits)
    for number in range(1, 6):
        joins(world, number)
        world.piece(f"c{number}", number, "q")
    world.advance(3.0)
    for number in range(n_far):
        world.announce(host(f"k{number}", idc="here"))
        world.holder(f"q{number}", f"k{number}")
    return world


def far_of(world: World, peer_id: str) -> int:
    return sum(parent.startswith("q") for parent in parents_of(world, peer_id))


def test_a_gateway_whose_parents_are_mostly_at_home_is_given_others() -> None:
    world = crowd(4)
    assert far_of(world, "c1") == 1
    assert len(parents_of(world, "c1")) == 4
    world.advance(world.now + 1.1)
    assert far_of(world, "c1") == 3
    assert "c2" in parents_of(world, "c1"), "the other gateway stays"


def test_which_can_be_switched_off() -> None:
    world = crowd(4, gateway_far_count=0)
    world.advance(world.now + 1.1)
    assert far_of(world, "c1") == 1


def test_not_one_that_has_its_part() -> None:
    world = crowd(4)
    for number in range(0, 9, 2):
        world.piece("c1", number, "q")
    world.advance(world.now + 1.1)
    assert far_of(world, "c1") == 1


def test_hosts_without_a_label_are_near_to_everybody() -> None:
    world = two_sites(gateway_count=1)
    world.announce(host("h9"))
    world.ours.add("c9")
    world.register("c9", "h9", WHAT)
    assert "q" in parents_of(world, "c9")


def test_neither_stock_peers_nor_dags_have_gateways() -> None:
    world = two_sites(gateway_count=1)
    world.announce(host("h9", idc="there"))
    world.register("c9", "h9", WHAT)
    assert survey(world.peer("c9")).dropped.get("q") is not Drop.FAR
    world = two_sites(gateway_count=1, graph=GraphKind.DAG)
    assert Drop.FAR not in survey(world.peer("c5")).dropped.values()
