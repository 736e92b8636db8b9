"""A scheduler that has seen much remembers little: churn on virtual time, memory measured."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from support.scheduler_world import PIECE_LENGTH, World, download, host, triggers

from odonata.wire.message import Download, NormalTask
from scheduler.core.effect import Answer, SchedulerEffect
from scheduler.core.event import SchedulerEvent
from scheduler.core.limits import Limits

KIB = 1024
MIB = 1024 * KIB
HOSTS = 50
STORY = 19 * MIB
"""The latest 2,000 decisions, which are kept for `explain`: 9 KiB each with their candidates' facts
(`Limits.story_decision_limit`)."""
HOUR_S = 3600.0


class BusyWorld(World):
    """Without the invariants after each event: they look at everything, thousands of times."""

    def handle(self, event: SchedulerEvent) -> list[SchedulerEffect]:
        return self.core.handle(event, self.now)


@pytest.fixture
def growth() -> Iterator[Callable[[], int]]:
    """Bytes that are allocated now and were not when the test began."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    def measured() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    yield measured
    tracemalloc.stop()


def wanted(number: int) -> Download:
    """A download with the headers and the wire's own copy of it, as they come from a client."""
    token = f"{number:01000d}"
    what = download(size=2 * PIECE_LENGTH)
    return Download(
        url=f"http://registry/v2/library/blobs/{number}",
        request_header={"authorization": f"Bearer {token}"},
        actual_content_length=what.actual_content_length,
        actual_piece_length=what.actual_piece_length,
        extra=token.encode() * 2,
    )


def fetch(world: World, peer_id: str, host_id: str, number: int) -> None:
    """One download from beginning to end, from whomever the scheduler says."""
    if begin(world, peer_id, host_id, number):
        world.finished(peer_id)
    else:
        world.finished_from_source(peer_id)


def begin(world: World, peer_id: str, host_id: str, number: int) -> str:
    """One download but its end; return the parent that gave the pieces, "" for the source."""
    effects = world.register(peer_id, host_id, wanted(number), f"{number:064d}")
    answer = next(one.answer for one in effects if isinstance(one, Answer))
    parent_id = answer.parents[0].peer_id if isinstance(answer, NormalTask) else ""
    if parent_id:
        world.started(peer_id)
    else:
        world.at_source(peer_id)
    for piece in range(2):
        world.piece(peer_id, piece, parent_id)
    return parent_id


def test_ten_thousand_short_tasks_leave_nothing_behind(growth: Callable[[], int]) -> None:
    world = BusyWorld()
    for number in range(10_000):
        world.advance(world.now + 1.0)
        if number % 60 == 0:
            world.announce(*(host(f"h{one}") for one in range(HOSTS)), interval_s=300)
        host_id = f"h{number % HOSTS}"
        fetch(world, f"p{number}", host_id, number)
        world.delete_task(host_id, f"{number:064d}")
    assert len(world.core.state.tasks) <= 1800 + 60, "those of one interval of the sweep"
    assert growth() < 16 * MIB
    world.advance(world.now + HOUR_S)
    assert not world.core.state.tasks
    world.homes.clear()
    assert growth() < STORY


def test_two_thousand_peers_that_come_and_go_leave_nothing_behind(
    growth: Callable[[], int],
) -> None:
    """Half of them say goodbye, the others crash: their host falls silent."""
    world = BusyWorld()
    for number in range(2000):
        world.advance(world.now + 1.0)
        world.announce(host(f"h{number}"), interval_s=30)
        fetch(world, f"p{number}", f"h{number}", 0)
        if number >= 20 and number % 2:
            world.leave(f"h{number - 20}")
    assert len(world.core.state.hosts) < 200
    assert growth() < STORY + 2 * MIB
    world.advance(world.now + HOUR_S)
    assert not world.core.state.hosts
    assert not world.core.state.peers
    assert not world.core.state.tasks
    world.homes.clear()
    assert growth() < STORY


@pytest.mark.parametrize(("is_finished", "most"), [(True, 1.75 * KIB), (False, 2.75 * KIB)])
def test_a_peer_is_remembered_in_few_kilobytes(
    growth: Callable[[], int], most: float, *, is_finished: bool
) -> None:
    """Dragonfly's scheduler takes 14 to 20 KB (perf.md §B).

    Counted without the decisions that `explain` keeps, and while it fetches without its request
    headers, which are as long as its client likes and forgotten at the end.
    """
    world = BusyWorld(Limits(story_decision_limit=10, admission=False))
    world.announce(*(host(f"h{one}") for one in range(HOSTS)))
    without = growth()
    for number in range(20):
        for one in range(HOSTS):
            (fetch if is_finished else begin)(world, f"p{number}-{one}", f"h{one}", number)
    peers = world.core.state.peers.values()
    assert len(peers) == 20 * HOSTS
    kept = [peer.credentials for peer in peers if peer.credentials is not None]
    assert len(kept) == (0 if is_finished else len(peers))
    secret_bytes = sum(len(one.headers[1]) + len(one.extra) for one in kept)
    assert (growth() - without - secret_bytes) / len(peers) < most


def test_peers_that_register_and_go_leave_nothing_behind(growth: Callable[[], int]) -> None:
    """The bench does it a million times (`tests/bench/scheduler_core.py`)."""
    world = BusyWorld(Limits(admission=False, story_decision_limit=10))
    world.announce(*(host(f"h{one}", idc=f"i{one % 5}", bandwidth=10**9) for one in range(HOSTS)))
    before = 0
    for number in range(4000):
        world.now += 0.01
        fetch(world, f"p{number}", f"h{number % HOSTS}", number // 40)
        if number >= 200:
            world.delete_peer(f"p{number - 200}")
            del world.homes[f"p{number - 200}"]
        if number == 1000:
            before = growth()
    assert len(world.core.state.peers) == 200
    # 3,000 more, of whom nothing is left but their 75 tasks, which the next sweep forgets.
    assert growth() - before < 75 * 10 * KIB


def test_seeds_that_failed_and_left_are_not_remembered() -> None:
    world = BusyWorld()
    world.announce(host("h1"), interval_s=0)
    for number in range(500):
        seed = host(f"s{number}", seed=True)
        world.announce(seed)
        assert triggers(world.register("p", "h1"))
        world.seed_failed(seed.id, unreachable=number % 2 == 0)
        world.leave(seed.id)
        world.seed_failed(seed.id)
        world.delete_peer("p")
    assert not world.task().seed_refused
    assert len(world.core.state.hosts) == 1
