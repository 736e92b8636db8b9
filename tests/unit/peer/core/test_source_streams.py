"""How many requests at once: where several pay, where they do not, and where they are refused."""

from __future__ import annotations

from math import inf
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.source_clock import PIECE, URL, ClockOrigin, Load, run_together

from odonata.piece import MIB
from odonata.wire.message import Piece
from peer.core.limits import DownloadLimits
from peer.core.source_streams import (
    EXTRA_MAX,
    FIRST_BYTES,
    HOSTS_MAX,
    MEMORY_S,
    VERDICT_S,
    Origins,
    Streams,
    Verdict,
)

LIMITS = DownloadLimits()
THIN = ClockOrigin(per_stream=8.0 * MIB)
"""Each connection gets a piece in half a second, however many there are."""


def alone(origin: ClockOrigin, pieces: int) -> Load:
    """The same by one stream, as of who goes for itself."""
    load = Load(origin=origin, pieces=pieces, for_others=False)
    load.run()
    assert load.asked == load.most_at_once == 1
    return load


def loaded(origin: ClockOrigin, pieces: int, origins: Origins | None = None) -> Load:
    load = Load(origin=origin, pieces=pieces, origins=origins or Origins())
    load.run()
    assert load.plan.error is None
    assert load.sent_bytes == pytest.approx(load.length), "each byte once"
    return load


# --- what several bring ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer_s", [0.0, 0.1])
def test_where_each_connection_is_limited_four_are_nearly_four_times_as_fast(
    answer_s: float,
) -> None:
    origin = ClockOrigin(per_stream=8.0 * MIB, answer_s=answer_s)
    load = loaded(origin, 128)
    assert alone(origin, 128).now / load.now > 3.5
    assert load.most_at_once == LIMITS.source_streams


@pytest.mark.parametrize("answer_s", [0.0, 0.1])
@pytest.mark.parametrize("rate", [1.0 * MIB, 50.0 * MIB])
def test_where_all_together_are_limited_nothing_is_lost(answer_s: float, rate: float) -> None:
    """No time, and hardly any of each piece: it can be passed on as early."""
    origin = ClockOrigin(in_all=rate, answer_s=answer_s)
    load, one = loaded(origin, 128), alone(origin, 128)
    assert load.now < 1.01 * one.now
    assert mean(load.stored_at.values()) < 1.02 * mean(one.stored_at.values())
    assert load.streams.at_once == 1


def test_as_many_as_pay_and_no_more() -> None:
    load = loaded(ClockOrigin(per_stream=8.0 * MIB, in_all=16.0 * MIB), 128)
    assert load.streams.at_once == 2


BEGINNINGS = [(0.0, 0.0, 0.0), (0.0, 0.7, 3.0), (0.0, 2.0, 2.1)]


def several(origin: ClockOrigin, begin: tuple[float, ...], origins: Origins) -> list[Load]:
    """Contents of one origin at once, by one daemon, to their end."""
    loads = [
        Load(origin=origin, pieces=64, origins=origins, url=f"{URL}{number}", begins_at=at)
        for number, at in enumerate(begin)
    ]
    run_together(loads)
    return loads


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_what_contents_take_from_each_other_is_no_gain(begin: tuple[float, ...]) -> None:
    """One more stream of three gets more for its own content, and nothing for all together."""
    origins = Origins()
    loads = several(ClockOrigin(in_all=12.0 * MIB), begin, origins)
    assert max(load.most_at_once for load in loads) <= 2, "no more than a try"
    found = origins.verdict(loads[0].streams.host, max(load.now for load in loads))
    assert found is None or found.count == 1


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_contents_of_an_origin_that_limits_each_connection_all_have_several(
    begin: tuple[float, ...],
) -> None:
    loads = several(THIN, begin, Origins())
    assert [load.streams.at_once for load in loads] == [LIMITS.source_streams] * len(loads)
    assert max(load.now - load.begins_at for load in loads) < 1.4 * alone(THIN, 64).now / 4


def test_pieces_come_nearly_in_order() -> None:
    """Behind the lowest missing one there is no more than what the first request asked for."""
    load = loaded(THIN, 128)
    came = sorted(range(128), key=lambda number: load.stored_at[number])
    for position, number in enumerate(came):
        lowest = min(came[position:])
        assert number - lowest <= FIRST_BYTES // PIECE * LIMITS.source_streams


@pytest.mark.parametrize(("answer_s", "most"), [(0.02, 128), (0.1, 40), (0.4, 16)])
def test_the_longer_an_answer_takes_the_fewer_are_asked_for(answer_s: float, most: int) -> None:
    load = loaded(ClockOrigin(per_stream=8.0 * MIB, answer_s=answer_s), 128)
    assert load.asked <= most


def test_a_stream_that_is_alone_never_waits_for_an_answer() -> None:
    """The next request is there before the last piece of the one before."""
    origin = ClockOrigin(in_all=4.0 * MIB, answer_s=0.5)
    load = loaded(origin, 128)
    assert load.asked > 4
    assert load.now < alone(origin, 128).now + 0.6


def test_what_is_small_comes_with_one_request() -> None:
    assert loaded(THIN, FIRST_BYTES // PIECE).asked == 1


@pytest.mark.parametrize("scheme", ["ftp", "file", "FILE"])
def test_one_stream_where_more_are_of_no_use(scheme: str) -> None:
    load = Load(origin=THIN, pieces=40, url=f"{scheme}://origin.test/blob")
    load.run()
    assert load.asked == 1


# --- origins that do not want so many -------------------------------------------------------------


@pytest.mark.parametrize("fatal", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_an_origin_that_refuses_gets_no_more_than_it_takes(most: int, fatal: bool) -> None:
    """Whatever it says to those beyond: what it has accepted goes on."""
    origin = ClockOrigin(per_stream=8.0 * MIB, most=most, fatal=fatal)
    load = loaded(origin, 128)
    ideal_s = 128 * 0.5 / most
    assert load.now < 1.1 * ideal_s + 2
    assert 0 < load.refused <= 3 * (1 + load.now / VERDICT_S)


@settings(max_examples=80, deadline=None)
@given(
    pieces=st.integers(1, 60),
    per_stream=st.sampled_from([1.0 * MIB, 8.0 * MIB, 100.0 * MIB]),
    in_all=st.sampled_from([8.0 * MIB, 20.0 * MIB, inf]),
    answer_s=st.sampled_from([0.0, 0.1, 2.0]),
    most=st.sampled_from([1, 3, 100]),
    breaks=st.lists(st.floats(0.0, 60.0), max_size=12),
)
def test_whatever_breaks_whenever_each_piece_comes_once(
    pieces: int,
    per_stream: float,
    in_all: float,
    answer_s: float,
    most: int,
    breaks: list[float],
) -> None:
    """And of each request that broke no more than the piece that it was at is sent twice."""
    load = Load(
        origin=ClockOrigin(per_stream=per_stream, in_all=in_all, answer_s=answer_s, most=most),
        pieces=pieces,
        breaks=breaks,
        limits=DownloadLimits(source_attempts=20),
    )
    load.run()
    assert load.plan.error is None
    assert sorted(load.stored_at) == list(range(pieces))
    assert load.sent_bytes <= load.length + load.broken * PIECE + 1
    assert load.most_at_once <= LIMITS.source_streams


def test_an_origin_that_refuses_everything_is_given_up_all_the_same() -> None:
    load = Load(origin=ClockOrigin(most=0), pieces=40)
    load.run()
    assert load.plan.error is not None
    assert load.refused == LIMITS.source_attempts


# --- what is remembered ---------------------------------------------------------------------------


def test_the_next_content_of_an_origin_begins_with_what_was_found() -> None:
    origins = Origins()
    first, second = loaded(THIN, 64, origins), loaded(THIN, 64, origins)
    assert second.now < first.now
    assert second.now == pytest.approx(64 / 4 * 0.5)


def test_what_was_found_of_one_origin_says_nothing_of_another() -> None:
    origins = Origins()
    loaded(THIN, 64, origins)
    other = Streams(LIMITS, "http://other.test/blob", origins)
    other.go_for_others(0.0)
    assert other.at_once == 1


def test_what_was_found_is_forgotten_after_a_while() -> None:
    origins = Origins()
    origins.settle("origin.test", Verdict(4, 0.0, inf))
    late = Streams(LIMITS, URL, origins)
    late.go_for_others(MEMORY_S)
    assert late.at_once == 1


def test_no_more_than_so_many_origins_are_remembered() -> None:
    origins = Origins()
    for number in range(HOSTS_MAX + 1):
        origins.settle(str(number), Verdict(4, 0.0, inf))
    assert origins.verdict("0", 1.0) is None
    assert origins.verdict("1", 1.0) is not None


def wide(origins: Origins) -> Streams:
    """One to whose origin four pay."""
    origins.settle("origin.test", Verdict(4, 0.0, inf))
    streams = Streams(LIMITS, URL, origins)
    streams.go_for_others(0.0)
    return streams


def test_all_contents_together_have_so_many_more_streams_and_each_has_one() -> None:
    origins = Origins()
    several = [wide(origins) for _ in range(10)]
    for one in several:
        first = 0
        while one.may_begin(is_last_on_its_way=False):
            one.begin(first, 0.0)
            first += 1
    assert [one.going for one in several] == [4, 4, 4, 4, *[1] * 6]
    assert sum(one.going - 1 for one in several) == EXTRA_MAX
    for first in range(4):
        several[0].end(first)
    assert several[5].may_begin(is_last_on_its_way=False)


def test_downloads_that_are_gone_hold_no_stream() -> None:
    origins = Origins()
    streams = wide(origins)
    streams.begin(0, 0.0)
    streams.begin(1, 0.0)
    assert origins.spare == EXTRA_MAX - 1
    del streams
    assert origins.spare == EXTRA_MAX


# --- measuring ------------------------------------------------------------------------------------


def brought(streams: Streams, first: int, cost_s: float, now: float) -> None:
    streams.stored(first, Piece(number=first, offset=0, length=PIECE, cost_s=cost_s), now)


def test_a_piece_that_had_begun_before_the_others_came_says_nothing() -> None:
    streams = Streams(LIMITS, URL)
    streams.go_for_others(0.0)
    streams.begin(0, 0.0)
    brought(streams, 0, 1.0, 1.0)
    assert streams.at_once == 2
    streams.begin(4, 1.4)
    brought(streams, 0, 1.0, 2.0)  # it began at 1.0, when nobody else was there
    brought(streams, 4, 1.0, 2.4)
    assert streams.at_once == 2
    brought(streams, 0, 1.0, 3.0)
    assert streams.at_once == 4


@pytest.mark.parametrize(("cost_s", "count"), [(1.5, 4), (1.6, 1)])
def test_more_must_bring_a_good_part_of_what_they_could(cost_s: float, count: int) -> None:
    """Two streams: 1.33 and 1.25 times the rate of one."""
    streams = Streams(LIMITS, URL)
    streams.go_for_others(0.0)
    streams.begin(0, 0.0)
    brought(streams, 0, 1.0, 1.0)
    streams.begin(4, 1.0)
    brought(streams, 0, cost_s, 1.0 + cost_s)
    brought(streams, 4, cost_s, 1.0 + cost_s)
    assert streams.at_once == count
