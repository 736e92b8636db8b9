"""What is read from the scheduler's state for a ranker."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scheduler_world import World, download, host

from models.facts import FACTS
from scheduler.core.facts import facts
from scheduler.core.history import HostHistory, columns


def test_facts_are_read_from_the_state() -> None:
    world = World()
    world.announce(
        host("s1", seed=True, idc="A", location="eu|de", bandwidth=1000),
        host("h1"),
        host("hx", idc="a", location="eu|fr"),
    )
    world.origin_fetcher("sp", "s1")
    world.piece("sp", 0, cost_s=1.0)
    world.piece("sp", 1, cost_s=3.0)
    world.register("p1", "h1")
    world.started("p1")
    world.register("x", "hx", download(source=True))
    batch = facts(world.peer("x"), [world.peer("sp"), world.peer("p1")], 0.0)
    assert len(batch) == 2
    assert batch["max_tx_bits_per_s"].tolist() == [1000, 0]
    assert batch["booked_tx_bits_per_s"].tolist() == [4 * 1024 * 1024 * 8 * 8, 0]
    assert batch["upload_piece_count"].tolist() == [8, 0]
    assert batch["same_idc"].tolist() == [1, 0]
    assert batch["location_affinity"].tolist() == [0.2, 0]
    assert batch["is_seed"].tolist() == [True, False]
    assert batch["is_first_download"].tolist() == [False, True]
    assert batch["can_serve"].tolist() == [True, True]
    assert batch["cost_count"].tolist() == [2, 0]
    assert batch["cost_last_s"].tolist() == [3.0, 0]
    assert batch["cost_mean_s"].tolist() == [1.0, 0]


def test_the_age_is_that_of_the_hosts_own_announcement() -> None:
    """Pieces that its peers report say nothing new of its bandwidth."""
    world = World()
    world.announce(host("h1"), host("hx"))
    world.origin_fetcher("p1", "h1")
    world.now = 40.0
    world.piece("p1", 0)
    world.register("x", "hx", download(source=True))
    age_s = facts(world.peer("x"), [world.peer("p1")], 50.0)["report_age_s"]
    assert age_s.tolist() == [50.0]
    world.announce(host("h1"))
    assert facts(world.peer("x"), [world.peer("p1")], 50.0)["report_age_s"].tolist() == [10.0]


def test_states_are_told_by_four_facts() -> None:
    world = World()
    world.announce(*(host(f"h{number}") for number in range(4)))
    world.origin_fetcher("source", "h0")
    world.holder("whole", "h1")
    world.register("running", "h2")
    world.started("running")
    world.register("new", "h3")
    names = ("source", "whole", "running", "new")
    batch = facts(world.peer("new"), [world.peer(name) for name in names], 0.0)
    assert batch["is_at_source"].tolist() == [1, 0, 0, 0]
    assert batch["is_finished"].tolist() == [0, 1, 0, 0]
    assert batch["is_first_download"].tolist() == [0, 0, 1, 1]
    assert batch["can_serve"].tolist() == [1, 1, 1, 0]


def test_every_fact_is_read() -> None:
    world = World()
    world.announce(host("h1"), host("hx"))
    world.origin_fetcher("p1", "h1")
    world.register("x", "hx", download(source=True))
    batch = facts(world.peer("x"), [world.peer("p1")], 3.0, 7.0)
    unknown = {fact.name for fact in FACTS if np.isnan(batch[fact.name][0])}
    assert unknown == {
        "served_rate_bytes_per_s",
        "served_recent_rate_bytes_per_s",
        "served_age_s",
        "child_rate_bytes_per_s",
    }
    assert batch["swarm_rate_bytes_per_s"].tolist() == [7.0]
    assert batch["cost_window"].tolist() == [2000.0]


SERVED = st.tuples(
    st.floats(0, 1e5), st.one_of(st.none(), st.integers(0, 2**40)), st.floats(0, 100)
)


@given(
    lives=st.lists(st.lists(SERVED, max_size=5), min_size=1, max_size=6), later_s=st.floats(0, 1e7)
)
def test_histories_read_at_once_say_what_each_says(
    lives: list[list[tuple[float, int | None, float]]], later_s: float
) -> None:
    histories: list[HostHistory] = []
    now = 0.0
    for life in lives:
        history, now = HostHistory(), 0.0
        for pause_s, length, cost_s in life:
            now += pause_s
            if length is None:
                history.failed(now)
            else:
                history.served(now, length, cost_s)
        histories.append(history)
    now = 5e5 + later_s
    told = columns(histories, now)
    one_by_one = [
        (
            one.rate_bytes_per_s,
            one.recent_rate_bytes_per_s,
            one.piece_count(now),
            one.failure_count(now),
            one.age_s(now),
        )
        for one in histories
    ]
    assert told.tolist() == [pytest.approx(row, rel=1e-12, nan_ok=True) for row in one_by_one]
