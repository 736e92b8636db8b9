"""What is read from the scheduler's state for a ranker."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scheduler_world import World, download, host

from models.facts import FACTS
from peer.core import upload
from scheduler.core.facts import ROW_AGE_S, SEED_SLOTS, SLOTS, facts
from scheduler.core.limits import Limits


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
    batch = facts(world.peer("x"), [world.peer("sp"), world.peer("p1")], 0.0, world.core.state)
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
    age_s = facts(world.peer("x"), [world.peer("p1")], 50.0, world.core.state)["report_age_s"]
    assert age_s.tolist() == [50.0]
    world.announce(host("h1"))
    assert facts(world.peer("x"), [world.peer("p1")], 50.0, world.core.state)[
        "report_age_s"
    ].tolist() == [10.0]


def test_states_are_told_by_four_facts() -> None:
    world = World()
    world.announce(*(host(f"h{number}") for number in range(4)))
    world.origin_fetcher("source", "h0")
    world.holder("whole", "h1")
    world.register("running", "h2")
    world.started("running")
    world.register("new", "h3")
    names = ("source", "whole", "running", "new")
    batch = facts(world.peer("new"), [world.peer(name) for name in names], 0.0, world.core.state)
    assert batch["is_at_source"].tolist() == [1, 0, 0, 0]
    assert batch["is_finished"].tolist() == [0, 1, 0, 0]
    assert batch["is_first_download"].tolist() == [0, 0, 1, 1]
    assert batch["can_serve"].tolist() == [1, 1, 1, 0]


def test_every_fact_is_read() -> None:
    world = World()
    world.announce(host("h1"), host("hx"))
    world.origin_fetcher("p1", "h1")
    world.register("x", "hx", download(source=True))
    batch = facts(world.peer("x"), [world.peer("p1")], 3.0, world.core.state)
    unknown = {fact.name for fact in FACTS if np.isnan(batch[fact.name][0])}
    assert unknown == {
        "served_rate_bytes_per_s",
        "served_recent_rate_bytes_per_s",
        "served_age_s",
        "child_rate_bytes_per_s",
        "swarm_rate_bytes_per_s",
        "pair_rate_bytes_per_s",
        "pairs_rate_bytes_per_s",
    }
    assert batch["cost_window"].tolist() == [2000.0]


SERVED = st.tuples(
    st.floats(0, 1e5), st.one_of(st.none(), st.integers(0, 2**40)), st.floats(0, 100)
)


SERVED_FACTS = (
    "served_rate_bytes_per_s",
    "served_recent_rate_bytes_per_s",
    "served_piece_count",
    "served_failure_count",
    "served_age_s",
)


@given(
    lives=st.lists(st.lists(SERVED, max_size=5), min_size=1, max_size=6), later_s=st.floats(0, 1e7)
)
def test_histories_are_read_as_each_tells_itself(
    lives: list[list[tuple[float, int | None, float]]], later_s: float
) -> None:
    world = World()
    world.announce(host("hx"))
    world.register("x", "hx", download(source=True))
    for number, life in enumerate(lives):
        world.announce(host(f"h{number}"))
        world.origin_fetcher(f"p{number}", f"h{number}")
        known, now = world.peer(f"p{number}").host, 0.0
        for pause_s, length, cost_s in life:
            now += pause_s
            if length is None:
                known.failed(now)
            else:
                known.gave(now, length, cost_s)
    now = 5e5 + later_s
    peers = [world.peer(f"p{number}") for number in range(len(lives))]
    batch = facts(world.peer("x"), peers, now, world.core.state)
    for row, history in enumerate(peer.host.history for peer in peers):
        told = [float(batch[name][row]) for name in SERVED_FACTS]
        assert told == pytest.approx(
            [
                history.rate_bytes_per_s,
                history.recent_rate_bytes_per_s,
                history.piece_count(now),
                history.failure_count(now),
                history.age_s(now),
            ],
            rel=1e-12,
            nan_ok=True,
        )


def test_a_report_is_told_with_the_children_it_counted() -> None:
    world = World(Limits(admission=False))
    world.announce(host("h1"), host("hx"), host("hy"))
    world.holder("p1", "h1")
    world.register("x", "hx")
    world.now = 5.0
    world.announce(host("h1"))
    world.register("y", "hy")
    batch = facts(world.peer("x"), [world.peer("p1")], 7.0, world.core.state)
    assert batch["child_count"].tolist() == [2]
    assert batch["reported_child_count"].tolist() == [1]
    assert batch["report_age_s"].tolist() == [2.0]


def test_what_grows_old_is_told_as_of_a_second_ago_at_most_and_bookings_as_of_now() -> None:
    world = World(Limits(admission=False))
    world.announce(host("h1"), host("hx"), host("hy"))
    world.holder("p1", "h1")

    def told(now: float) -> tuple[float, float]:
        batch = facts(world.peer("x"), [world.peer("p1")], now, world.core.state)
        return float(batch["report_age_s"][0]), float(batch["child_count"][0])

    world.register("x", "hx")
    assert told(0.0) == (0.0, 1)
    world.register("y", "hy")
    assert told(ROW_AGE_S) == (0.0, 2)
    world.delete_peer("y")
    assert told(ROW_AGE_S + 0.1) == (ROW_AGE_S + 0.1, 1)


def test_upload_slots_are_those_of_our_own_peers_and_seeds() -> None:
    world = World()
    world.announce(host("h1"), host("s1", seed=True), host("hx"))
    world.holder("p1", "h1")
    world.holder("sp", "s1")
    world.register("x", "hx", download(source=True))
    peers = [world.peer("p1"), world.peer("sp")]
    batch = facts(world.peer("x"), peers, 0.0, world.core.state)
    assert (
        batch["upload_slots"].tolist() == [SLOTS, SEED_SLOTS] == [upload.SLOTS, upload.SEED_SLOTS]
    )


def test_depth_is_told_from_the_source_down() -> None:
    world = World(Limits(candidate_parent_limit=1, admission=False))
    world.announce(*(host(f"h{number}") for number in range(4)))
    world.origin_fetcher("p0", "h0")
    for number in (1, 2):
        world.register(f"p{number}", f"h{number}")
        world.started(f"p{number}")
        world.piece_failed("p2", "p0") if number == 2 else None
    world.reschedule("p2", "p0")
    world.register("x", "h3", download(source=True))
    peers = [world.peer(f"p{number}") for number in range(3)]
    batch = facts(world.peer("x"), peers, 0.0, world.core.state)
    assert batch["depth"].tolist() == [0, 1, 2]
    world.finished("p2")
    assert facts(world.peer("x"), peers, 0.0, world.core.state)["depth"].tolist() == [0, 1, 0]


def test_turns_count_the_edges_since_a_peer_was_named() -> None:
    world = World(Limits(candidate_parent_limit=1, admission=False))
    world.announce(*(host(f"h{number}") for number in range(2)), host("hx"), host("hy"))
    world.holder("p0", "h0")
    world.register("x", "hx")
    world.holder("p1", "h1")
    world.register("y", "hy")
    peers = [world.peer("p0"), world.peer("p1")]
    batch = facts(world.peer("x"), peers, 0.0, world.core.state)
    assert batch["turns_since_named"].tolist() == [1, 0]


def test_the_pair_of_data_centres_is_told_to_the_child() -> None:
    world = World()
    world.announce(host("h1", idc="A"), host("h2", idc="b"), host("hx", idc="B"))
    world.holder("p1", "h1")
    world.register("p2", "h2")
    world.started("p2")
    world.now = 600.0
    world.piece("p2", 0, "p1", length=1000, cost_s=2.0)
    world.register("x", "hx", download(source=True))
    batch = facts(world.peer("x"), [world.peer("p1")], 1200.0, world.core.state)
    assert batch["pair_rate_bytes_per_s"].tolist() == pytest.approx([500.0])
    assert batch["pairs_rate_bytes_per_s"].tolist() == pytest.approx([500.0])
    assert batch["pair_piece_count"].tolist() == pytest.approx([0.5])
