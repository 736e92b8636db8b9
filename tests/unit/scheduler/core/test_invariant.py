"""The invariants notice what they are there for."""

# A breach can only be made from inside.
# pyright: reportPrivateUsage=false

from collections.abc import Callable

import pytest
from support.scheduler_world import World, host

from odonata.errors import InternalError
from scheduler.core.graph import Booking, Edge
from scheduler.core.invariant import check


def world() -> World:
    """p1 is at the source, p2 and p3 download, q1 is sent to the source of u and q2 waits."""
    made = World()
    made.announce(host("h1"), host("h2"), host("h3"))
    made.origin_fetcher("p1", "h1")
    for number in (2, 3):
        made.register(f"p{number}", f"h{number}")
        made.started(f"p{number}")
    made.register("q1", "h1", task_id="u")
    made.register("q2", "h2", task_id="u")
    return made


def cycle(made: World) -> None:
    graph = made.task().graph
    edge = Edge("p3", Booking(), since_s=0.0, piece_at_s=0.0)
    graph._nodes["p2"].parents += (edge,)
    graph._nodes["p3"].children = {"p2": edge}
    made.peer("p3").host.book(Booking())
    made.peer("p2").changed()


def half_edge(made: World) -> None:
    made.task().graph._nodes["p3"].parents = made.task().graph._nodes["p3"].parents[1:]


def load(made: World) -> None:
    made.core.state.hosts["h1"].concurrent_upload_count += 1


def index(made: World) -> None:
    made.task().useful.pop("p2")


def stray_peer(made: World) -> None:
    del made.core.state.hosts["h1"].peers["p1"]


def hopeless(made: World) -> None:
    made.task("u").to_source.clear()


def twice_on_its_way(made: World) -> None:
    made.task("u").starting["q1"] = 9.0


def waits_in_vain(made: World) -> None:
    made.core.state.wait(made.peer("p3"))


def restless(made: World) -> None:
    made.core.state.disturb(made.task("u"))


def no_alarm(made: World) -> None:
    made.core._wake_at_s = None


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (cycle, "p2 is its own ancestor"),
        (half_edge, "differ by direction"),
        (load, "load of host h1"),
        (index, "index of task t"),
        (stray_peer, "disagree on who is there"),
        (hopeless, "q2 waits for nobody"),
        (twice_on_its_way, "on its way twice"),
        (waits_in_vain, "p3 waits, and bytes reach it"),
        (restless, "left unsettled"),
        (no_alarm, "the alarm is set to None"),
    ],
)
def test_a_breach_is_noticed(break_it: Callable[[World], None], complaint: str) -> None:
    made = world()
    check(made.core)
    break_it(made)
    with pytest.raises(InternalError, match=complaint):
        check(made.core)
