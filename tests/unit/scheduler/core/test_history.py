"""What is remembered of a host: busy time, decay, the swarm's rate."""

from math import exp, isnan, log, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scheduler_world import World, host

from scheduler.core.facts import facts
from scheduler.core.history import (
    LONG_HALF_LIFE_S,
    LONGEST_COST_S,
    RECENT_HALF_LIFE_S,
    USUAL_PIECES,
    DecayedRate,
    HostHistory,
    PairRates,
    PieceRate,
    SwarmRate,
    SwarmShare,
    faded,
)

MB = 1_000_000


def test_nothing_is_known_of_a_new_host() -> None:
    history = HostHistory()
    assert isnan(history.rate_bytes_per_s)
    assert isnan(history.recent_rate_bytes_per_s)
    assert isnan(history.age_s(5.0))
    assert isnan(history.usual_piece_rate_bytes_per_s(1))
    assert history.piece_count(5.0) == history.failure_count(5.0) == 0.0


def test_a_piece_is_its_bytes_in_its_time() -> None:
    history = HostHistory()
    assert history.served(10.0, 4 * MB, 2.0) == 2.0
    assert history.rate_bytes_per_s == history.recent_rate_bytes_per_s == 2 * MB
    assert history.age_s(13.0) == 3.0


def test_pieces_at_the_same_time_share_their_time() -> None:
    """Eight at once take eight times as long each, and the host is as fast as with one."""
    history = HostHistory()
    for number in range(8):
        history.served(8.0 + number * 1e-9, MB, 8.0)
    assert history.rate_bytes_per_s == pytest.approx(MB, rel=1e-6)


def test_idle_time_is_not_busy() -> None:
    history = HostHistory()
    for now in (10.0, 20.0, 30.0):
        history.served(now, MB, 1.0)
    assert history.rate_bytes_per_s == pytest.approx(MB)


def test_the_recent_rate_follows_and_the_long_one_hardly_does() -> None:
    history = HostHistory()
    for second in range(300):
        history.served(float(second), 10 * MB, 1.0)
    for second in range(300, 360):
        history.served(float(second), MB, 1.0)
    assert history.recent_rate_bytes_per_s < 1.2 * MB
    assert history.rate_bytes_per_s > 8 * MB


def test_rates_do_not_fade_and_counts_do() -> None:
    history = HostHistory()
    history.served(0.0, MB, 1.0)
    history.failed(0.0)
    assert history.piece_count(LONG_HALF_LIFE_S) == 0.5
    assert history.failure_count(2 * LONG_HALF_LIFE_S) == 0.25
    assert history.rate_bytes_per_s == MB


def test_after_a_long_pause_only_the_new_counts() -> None:
    history = HostHistory()
    history.served(0.0, MB, 1.0)
    history.served(1e7, 9 * MB, 1.0)
    assert history.rate_bytes_per_s == history.recent_rate_bytes_per_s == 9 * MB


def test_a_failure_is_heard_and_costs_no_time() -> None:
    history = HostHistory()
    history.served(0.0, MB, 1.0)
    history.failed(4.0)
    assert history.age_s(5.0) == 1.0
    assert history.rate_bytes_per_s == MB


@pytest.mark.parametrize(
    ("claimed_s", "taken_s"),
    [(-1.0, 0.0), (nan, 0.0), (1e12, LONGEST_COST_S), (float("inf"), LONGEST_COST_S)],
)
def test_absurd_costs_are_not_believed(claimed_s: float, taken_s: float) -> None:
    assert HostHistory().served(0.0, MB, claimed_s) == taken_s


def test_without_any_time_there_is_no_rate() -> None:
    history = HostHistory()
    history.served(0.0, MB, 0.0)
    assert isnan(history.rate_bytes_per_s)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 10**9), st.floats(0, 1e4))))
def test_busy_time_is_never_more_than_passed(pieces: list[tuple[float, int, float]]) -> None:
    history, now, busy_s = HostHistory(), 0.0, 0.0
    for pause_s, length, cost_s in pieces:
        now += pause_s
        busy_s += history.served(now, length, cost_s)
        assert isnan(history.rate_bytes_per_s) or history.rate_bytes_per_s > 0
        assert 0 <= history.piece_count(now) <= len(pieces)
    assert busy_s <= now + LONGEST_COST_S


def test_silence_makes_a_rate_slower() -> None:
    rate = DecayedRate(1.0)
    assert isnan(rate.with_silence(1.0))
    rate.add(10.0, MB, 1.0)
    assert rate.with_silence(10.0) == MB
    assert rate.with_silence(15.0) < 0.01 * MB


def test_what_is_usual_is_a_geometric_mean_of_the_latest() -> None:
    history = HostHistory()
    for number in range(1000):
        history.served(float(number), MB, 1.0)
    assert isnan(history.usual_piece_rate_bytes_per_s(USUAL_PIECES + 1))
    assert history.usual_piece_rate_bytes_per_s(4) == pytest.approx(MB)
    history.served(1000.0, MB, 100.0)
    drawn = exp(log(MB) - log(100.0) / USUAL_PIECES)
    assert history.usual_piece_rate_bytes_per_s(4) == pytest.approx(drawn)


def test_what_fades() -> None:
    assert faded(0.0, 10.0) == faded(-5.0, 10.0) == 1.0
    assert faded(RECENT_HALF_LIFE_S, RECENT_HALF_LIFE_S) == 0.5
    assert 0 < faded(1e9, 1.0) < 1e-100


# --- the swarm ---


def test_the_swarm_is_as_fast_as_its_hosts_on_a_log_scale() -> None:
    swarm, slow, fast = SwarmRate(), SwarmShare(), SwarmShare()
    assert isnan(swarm.bytes_per_s)
    swarm.served(1.0, slow, 1.0 * MB)
    swarm.served(1.0, fast, 100.0 * MB)
    assert swarm.bytes_per_s == pytest.approx(10 * MB)


def test_each_host_counts_once_however_much_it_serves() -> None:
    swarm, busy, other = SwarmRate(), SwarmShare(), SwarmShare()
    swarm.served(1.0, other, 1.0 * MB)
    for _ in range(1000):
        swarm.served(1.0, busy, 100.0 * MB)
    assert swarm.bytes_per_s == pytest.approx(10 * MB)


def test_who_has_not_served_for_long_counts_less() -> None:
    swarm, old, new = SwarmRate(), SwarmShare(), SwarmShare()
    swarm.served(0.0, old, 1.0 * MB)
    swarm.served(LONG_HALF_LIFE_S, new, 8.0 * MB)
    assert swarm.bytes_per_s == pytest.approx(4 * MB)


def test_who_leaves_is_forgotten() -> None:
    swarm, gone, left = SwarmRate(), SwarmShare(), SwarmShare()
    swarm.served(0.0, gone, 1.0 * MB)
    swarm.served(0.0, left, 9.0 * MB)
    swarm.forget(gone)
    swarm.forget(gone)
    assert swarm.bytes_per_s == pytest.approx(9 * MB)
    swarm.forget(left)
    assert isnan(swarm.bytes_per_s)


def test_of_very_old_hosts_alone_nothing_is_known() -> None:
    """What is left of the sums then may be rounding errors of those that went."""
    swarm, old, new = SwarmRate(), SwarmShare(), SwarmShare()
    swarm.served(0.0, old, 1.0 * MB)
    swarm.served(60 * LONG_HALF_LIFE_S, new, 9.0 * MB)
    swarm.forget(new)
    assert isnan(swarm.bytes_per_s)


@pytest.mark.parametrize("rate", [nan, 0.0, -1.0, float("inf")])
def test_no_rate_says_nothing(rate: float) -> None:
    swarm = SwarmRate()
    swarm.served(0.0, SwarmShare(), rate)
    assert isnan(swarm.bytes_per_s)


def test_it_goes_on_for_years() -> None:
    swarm = SwarmRate()
    shares = [SwarmShare() for _ in range(3)]
    for day in range(2000):
        for number, share in enumerate(shares):
            swarm.served(day * 86_400.0, share, 10.0**number * MB)
    assert swarm.bytes_per_s == pytest.approx(10 * MB)


@given(
    st.lists(
        st.tuples(st.floats(0, 3000), st.integers(0, 4), st.floats(1.0, 1e12), st.booleans()),
        min_size=1,
    )
)
def test_the_swarm_as_computed_anew(steps: list[tuple[float, int, float, bool]]) -> None:
    swarm, shares, now = SwarmRate(), [SwarmShare() for _ in range(5)], 0.0
    known: dict[int, tuple[float, float]] = {}
    for pause_s, number, rate, stays in steps:
        now += pause_s
        swarm.served(now, shares[number], rate)
        known[number] = (now, rate)
        if not stays:
            swarm.forget(shares[number])
            del known[number]
    weights = {number: faded(now - at_s, LONG_HALF_LIFE_S) for number, (at_s, _) in known.items()}
    if sum(weights.values()) < 1e-3:
        return  # nobody is left who counts
    mean = sum(weights[n] * log(rate) for n, (_, rate) in known.items()) / sum(weights.values())
    assert swarm.bytes_per_s == pytest.approx(exp(mean), rel=1e-4)


# --- where it is seen ---


def test_rankers_see_it() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), host("h3"))
    world.holder("p1", "h1")
    world.register("p2", "h2")
    world.started("p2")
    world.now = 10.0
    world.piece("p2", 0, "p1", cost_s=2.0)
    world.piece_failed("p2", "p1")
    world.now = 13.0
    seen = facts(world.peer("p2"), [world.peer("p1")], world.now, world.core.state)
    length = 4 * 1024 * 1024
    assert seen["served_rate_bytes_per_s"][0] == length / 2
    assert seen["served_recent_rate_bytes_per_s"][0] == length / 2
    assert seen["child_rate_bytes_per_s"][0] == length / 2
    assert seen["swarm_rate_bytes_per_s"][0] == pytest.approx(length / 2)
    assert seen["served_piece_count"][0] == pytest.approx(1.0, abs=0.01)
    assert seen["served_failure_count"][0] == pytest.approx(1.0, abs=0.01)
    assert seen["served_age_s"][0] == 3.0


def test_a_host_that_leaves_leaves_nothing_behind() -> None:
    world = World()
    world.announce(host("h1"), host("h2"))
    world.holder("p1", "h1")
    world.register("p2", "h2")
    world.now = 10.0
    world.piece("p2", 0, "p1", cost_s=2.0)
    world.leave("h1")
    assert isnan(world.core.state.swarm_rate.bytes_per_s)
    world.announce(host("h1"))
    assert isnan(world.core.state.hosts["h1"].history.rate_bytes_per_s)


# --- pairs of data centres ------------------------------------------------------------------------


def test_a_pairs_rate_is_the_geometric_mean_of_its_pieces() -> None:
    pairs = PairRates()
    pairs.served(0.0, "A", "b", 1000, 1.0)
    pairs.served(0.0, "a", "B", 4000, 1.0)
    pairs.served(0.0, "a", "a", 16_000, 1.0)
    assert pairs.between("a", "b").bytes_per_s == pytest.approx(2000)
    assert pairs.between("a", "b").piece_count(600.0) == pytest.approx(1.0)
    assert isnan(pairs.between("b", "a").bytes_per_s)
    assert pairs.overall.bytes_per_s == pytest.approx(4000)


@pytest.mark.parametrize(
    ("giver", "taker", "length", "cost_s"),
    [
        ("", "b", 1, 1.0),
        ("a", "", 1, 1.0),
        ("a", "b", 0, 1.0),
        ("a", "b", 1, 0.0),
        ("a", "b", 1, nan),
        ("a", "b", 4_194_304, 1e-208),  # no clock can tell, and the rate would not fit a float32
    ],
)
def test_what_names_no_pair_or_no_rate_is_no_piece(
    giver: str, taker: str, length: int, cost_s: float
) -> None:
    pairs = PairRates()
    pairs.served(0.0, giver, taker, length, cost_s)
    assert len(pairs) == 0
    assert isnan(pairs.overall.bytes_per_s)


def test_pairs_are_bounded_and_the_longest_silent_go() -> None:
    pairs = PairRates()
    for number in range(PairRates.LIMIT + 10):
        pairs.served(float(number), "kept", "kept", 1, 1.0)
        pairs.served(float(number), f"a{number}", "b", 1, 1.0)
    assert len(pairs) == PairRates.LIMIT
    assert pairs.between("kept", "kept").weight > 1
    assert isnan(pairs.between("a3", "b").bytes_per_s)


@given(st.lists(st.tuples(st.floats(0, 1e7), st.floats(1e-3, 1e9)), min_size=1, max_size=30))
def test_a_pairs_rate_lies_among_its_pieces(pieces: list[tuple[float, float]]) -> None:
    rate, now = PieceRate(), 0.0
    for pause_s, bytes_per_s in pieces:
        now += pause_s
        rate.add(now, log(bytes_per_s))
    rates = [bytes_per_s for _, bytes_per_s in pieces]
    assert min(rates) * (1 - 1e-9) <= rate.bytes_per_s <= max(rates) * (1 + 1e-9)


def test_costs_that_no_clock_can_tell_say_nothing_of_a_usual_piece() -> None:
    history = HostHistory()
    for number in range(USUAL_PIECES):
        history.served(float(number), 4_194_304, 1e-208)
    assert isnan(history.usual_piece_rate_bytes_per_s(1))
