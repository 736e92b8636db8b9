"""When a transfer is late and a parent past hope, and what a download does about the latter."""

from __future__ import annotations

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.download import PIECE, Script, asked, messages, of, parent_of, piece_of, runs

from odonata.piece import MIB
from odonata.wire.message import NeedBackToSource, PieceFailed, Reschedule
from peer.core.effect import (
    AskProgress,
    CancelPiece,
    CancelReason,
    ConnectParent,
    DropParent,
    FetchPiece,
)
from peer.core.event import FailureReason, ParentLoad, PieceProgress, SourceEnded, Ticked
from peer.core.lateness import Lateness
from peer.core.limits import DownloadLimits
from peer.core.parents import Flight, Parents, ParentState

LIMITS = DownloadLimits()
COUNT = 40
USUAL_S = 0.2


# --- the measure ----------------------------------------------------------------------------------


class Measured:
    """A download whose parents `a` and `b` brought `pieces` each in USUAL_S."""

    def __init__(self, limits: DownloadLimits = LIMITS, *, pieces: int = 8) -> None:
        self.parents = Parents(limits)
        self.lateness = Lateness(limits, self.parents)
        self.a, self.b = self.admit("a"), self.admit("b")
        for _ in range(pieces):
            self.brought(self.a, 0.0)
            self.brought(self.b, 0.0)

    def admit(self, name: str) -> ParentState:
        state = self.parents.admit(parent_of(name), 0.0)
        assert state is not None
        return state

    def brought(self, state: ParentState, now: float, took_s: float = USUAL_S) -> None:
        state.measure(PIECE, took_s, LIMITS.goodput_memory)
        state.begin_anew(now)
        self.lateness.brought(state, took_s, now)

    def is_hopeless(self, now: float) -> bool:
        return self.lateness.is_hopeless(self.a, now)


def fly(
    state: ParentState,
    number: int,
    at: float,
    *,
    began_at: float | None = None,
    looks: tuple[tuple[float, int], ...] = (),
) -> None:
    flight = Flight(number=number, asked_at=at, deadline=at + 60, length=4 * MIB, began_at=began_at)
    flight.looks.extend(looks)
    state.in_flight[number] = flight


def test_nothing_is_late_or_past_hope_without_a_measure() -> None:
    one = Measured(pieces=0)
    fly(one.a, 0, 0.0, began_at=0.0, looks=((1.0, 0), (9.0, 0)))
    assert one.lateness.late_s() is None
    assert not one.is_hopeless(1e6)
    assert list(one.lateness.moments(one.a, 1.0)) == []


def test_a_parent_that_never_brought_a_piece_is_not_past_hope_whatever_others_bring() -> None:
    one = Measured()
    fresh = one.admit("new")
    fly(fresh, 0, 0.0, began_at=0.0, looks=((1.0, 0), (9.0, 0)))
    assert not one.lateness.is_hopeless(fresh, 1e6)


def test_few_pieces_are_no_measure() -> None:
    one = Measured(pieces=0)
    for count in range(LIMITS.hopeless_after_pieces):
        fly(one.a, 0, 0.0, began_at=0.0)
        assert not one.is_hopeless(1e6), count
        one.brought(one.a, 0.0)
    assert one.is_hopeless(LIMITS.hopeless_s)


@pytest.mark.parametrize(("usual_s", "expected_s"), [(0.01, 3.0), (0.2, 3.0), (5.0, 50.0)])
def test_fruitless_is_many_times_the_usual_but_seconds_at_least(
    usual_s: float, expected_s: float
) -> None:
    one = Measured(pieces=0)
    for _ in range(8):
        one.brought(one.a, 0.0, usual_s)
    fly(one.a, 0, 0.0, began_at=0.0)
    assert not one.is_hopeless(expected_s - 0.01)
    assert one.is_hopeless(expected_s + 0.01)


def test_the_slower_of_parent_and_download_is_the_measure() -> None:
    parent, download = Measured(), Measured()
    parent.a.piece_s = 5.0
    for _ in range(1000):
        download.lateness.brought(download.b, 5.0, 0.0)
    for one in (parent, download):
        fly(one.a, 0, 0.0, began_at=0.0)
        assert not one.is_hopeless(48.0)
        assert one.is_hopeless(50.1)


def test_a_download_that_neither_hedges_nor_replaces_gives_nobody_up() -> None:
    one = Measured(DownloadLimits(hedge=False, replace_slow=False))
    fly(one.a, 0, 0.0, began_at=0.0, looks=((1.0, 0), (9.0, 0)))
    assert one.lateness.late_s() is None
    assert not one.is_hopeless(1e6)
    assert one.lateness.look_at(one.a, 1.0) is None


@pytest.mark.parametrize(
    ("concurrency", "flights", "factor"), [(1, 1, 1), (1, 4, 4), (4, 4, 1), (4, 1, 1), (2, 8, 4)]
)
def test_transfers_that_share_our_downlink_have_the_longer(
    concurrency: int, flights: int, factor: int
) -> None:
    one = Measured(pieces=0)
    one.lateness.brought(one.a, 1.0, 0.0, concurrency=concurrency)
    assert one.lateness.late_s(flights) == LIMITS.slow_factor * factor


@pytest.mark.parametrize(
    ("received", "left_s"), [(MIB, 3 * 6.0), (3 * MIB, 2.0), (4 * MIB - 1, 0.0), (0, None)]
)
def test_a_late_transfer_is_spared_if_it_will_be_there_before_a_new_one_would(
    received: int, left_s: float | None
) -> None:
    """Pieces take 3 s; this one of 4 MiB began 6 s ago."""
    one = Measured(pieces=0)
    one.brought(one.a, 0.0, 3.0)
    fly(one.a, 0, 4.0, began_at=4.0, looks=((10.0, received),))
    one.a.in_flight[0].doubted_at = 10.0
    one.lateness.judge(one.a.in_flight[0], 1, 10.0)
    judged = one.a.in_flight[0]
    if left_s is None or left_s > 3.0:
        assert (judged.spared_until, judged.doubted_at) == (-inf, -inf)
        return
    assert judged.spared_until == pytest.approx(10.0 + max(1.5 * left_s, 0.05), abs=1e-3)
    assert judged.doubted_at is None, "it may be asked for again"


def test_a_piece_in_the_parents_queue_is_looked_at_again_and_again_but_never_past_hope() -> None:
    one = Measured()
    fly(one.a, 0, 0.0)
    assert one.lateness.look_at(one.a, 0.1) == pytest.approx(LIMITS.look_s)
    one.a.in_flight[0].looked_at = 1.0
    assert one.lateness.look_at(one.a, 1.0) == pytest.approx(1.0 + LIMITS.look_s)
    assert not one.is_hopeless(1e6)


def test_short_transfers_are_looked_at_early_when_the_parent_has_long_brought_nothing() -> None:
    one = Measured()
    one.a.fruitless_s, one.a.counted_until = 2.0, 10.0
    fly(one.a, 0, 10.0)
    begun_s = max(LIMITS.begun_s, LIMITS.begun_factor * USUAL_S)
    assert one.lateness.look_at(one.a, 10.0) == pytest.approx(10.0 + begun_s)


def test_one_that_has_just_begun_is_given_time_however_long_the_queue_was() -> None:
    one = Measured()
    fly(one.a, 0, 0.0, began_at=100.0)
    assert not one.is_hopeless(100.0 + LIMITS.begun_factor * USUAL_S - 0.01)
    assert one.is_hopeless(100.0 + LIMITS.begun_factor * USUAL_S)


def test_a_parent_that_sends_to_others_is_busy_and_its_word_is_believed_while_it_is_fresh() -> None:
    one = Measured()
    fly(one.a, 0, 0.0, began_at=0.0)
    assert one.a.goodput is not None
    assert one.is_hopeless(10.0)
    one.a.told_load(1e9, one.a.goodput, 9.0)
    assert not one.is_hopeless(10.0)
    assert one.is_hopeless(9.1 + LIMITS.busy_word_s)
    one.a.told_load(1e9, 0.02 * one.a.goodput, 10.0)
    assert one.is_hopeless(10.0)


def slow_swarm() -> Measured:
    """Pieces take 5 s, so that 50 s would have to pass without one."""
    one = Measured(pieces=0)
    for _ in range(8):
        one.brought(one.a, 0.0, 5.0)
        one.brought(one.b, 20.0, 5.0)
    return one


def crawl(state: ParentState, share: float, *, from_s: float = 16.0, to_s: float = 20.0) -> None:
    """It began fast, and has sent at this share of its usual rate since `from_s`."""
    rate = PIECE / 5.0 * share
    looks = [(from_s - 1.0, 0), (from_s, PIECE // 2)]
    looks += [(at, PIECE // 2 + int(rate * (at - from_s))) for at in range(17, int(to_s) + 1)]
    fly(state, 0, from_s - 4.0, began_at=from_s - 3.0, looks=tuple(looks))


@pytest.mark.parametrize(("share", "hopeless"), [(0.0, True), (0.02, True), (0.2, False)])
def test_a_parent_that_crawls_is_past_hope_in_seconds_however_long_pieces_take(
    share: float, *, hopeless: bool
) -> None:
    one = slow_swarm()
    crawl(one.a, share)
    assert one.is_hopeless(20.0) is hopeless


def test_crawling_takes_some_seconds() -> None:
    one = slow_swarm()
    crawl(one.a, 0.0, to_s=18.0)
    assert not one.is_hopeless(18.5), "half of the piece came in the latest 3 s"


def test_if_others_crawl_or_bring_nothing_it_may_be_us() -> None:
    one = slow_swarm()
    crawl(one.a, 0.02)
    crawl(one.b, 0.02)
    assert not one.is_hopeless(20.0)
    one.b.in_flight.clear()
    assert one.is_hopeless(20.0)
    one.b.usual_at = 14.0
    assert not one.is_hopeless(20.0), "nothing came as usual since"


def test_a_piece_that_took_long_is_no_sign_that_our_link_is_well() -> None:
    one = slow_swarm()
    crawl(one.a, 0.02)
    one.b.usual_at = None
    one.brought(one.b, 20.0, took_s=30.0)
    assert not one.is_hopeless(20.0)


def test_what_was_stopped_as_late_counts_but_not_the_time_between_and_a_piece_wipes_it_out() -> (
    None
):
    state = Measured().a
    fly(state, 0, 10.0)
    state.count_fruitless(11.0)
    del state.in_flight[0]
    assert state.fruitless(50.0) == pytest.approx(1.0)
    fly(state, 1, 50.0)
    fly(state, 2, 50.5)  # at the same time: not twice
    assert state.fruitless(52.0) == pytest.approx(3.0)
    state.begin_anew(52.0)
    assert state.fruitless(53.0) == pytest.approx(1.0), "asked before, but it counts from here"


@given(
    steps=st.lists(
        st.tuples(st.floats(0.001, 5.0), st.sampled_from(["ask", "stop", "nothing"])), max_size=40
    ),
    seed=st.integers(0, 9),
)
def test_fruitless_time_is_the_time_in_which_something_was_on_its_way(
    steps: list[tuple[float, str]], seed: int
) -> None:
    """Against a plain sum, step by step."""
    state = Measured().a
    rng, now, expected, number = Random(seed), 0.0, 0.0, 0
    for pause_s, step in steps:
        expected += pause_s if state.in_flight else 0.0
        now += pause_s
        if step == "ask":
            fly(state, number, now)
            number += 1
        elif step == "stop" and state.in_flight:
            state.count_fruitless(now)
            del state.in_flight[rng.choice(list(state.in_flight))]
        assert state.fruitless(now) == pytest.approx(expected)


# --- what a download does about it ----------------------------------------------------------------


def stuck_swarm(*others: str, seeds: tuple[str, ...] = ()) -> tuple[Script, int]:
    """`slow` and the others brought pieces; then what is on its way from `slow` does not come."""
    limits = DownloadLimits(concurrent_piece_count=1 + len(others) + len(seeds))
    script = Script(length=COUNT * PIECE, limits=limits)
    script.swarm("slow", *others, seeds=seeds)
    for name in ("slow", *others, *seeds):
        script.holds(name, *range(COUNT))
    flying = dict(asked(script.effects))
    for _ in range(2 * LIMITS.hopeless_after_pieces):
        for peer_id in ("slow", *others, *seeds):
            fetches = asked(script.stored(peer_id, flying[peer_id], USUAL_S))
            flying.update(fetches)
    return script, flying["slow"]


def let_time_pass(script: Script, seconds: float, *, began: bool) -> list[object]:
    """Nothing comes from anybody; transfers that are asked about began long ago, or not at all."""
    until, seen = script.now + seconds, list[object]()
    while script.now < until:
        assert script.wake_at is not None
        script.now = min(script.wake_at, until)
        script.wake_at = None
        effects = list(script(Ticked()))
        for look in of(effects, AskProgress):
            began_s = 60.0 if began else None
            effects += script(
                PieceProgress(peer_id=look.peer_id, number=look.number, began_s=began_s)
            )
        seen += effects
    return seen


def reports(script: Script) -> list[PieceFailed]:
    return [m for m in script.said if isinstance(m, PieceFailed)]


def test_the_only_parent_past_hope_is_reported_and_its_trickle_goes_on() -> None:
    script, number = stuck_swarm()
    effects = let_time_pass(script, LIMITS.hopeless_s + 0.2, began=True)
    assert reports(script) == [PieceFailed(parent_id="slow", number=number, temporary=True)]
    assert not [e for e in effects if isinstance(e, CancelPiece | DropParent)]
    let_time_pass(script, LIMITS.hopeless_avoid_s - 1, began=True)
    assert len(reports(script)) == 1, "once in a while"
    let_time_pass(script, 2.0, began=True)
    assert len(reports(script)) == 2


def test_it_is_said_again_only_after_a_while_of_bringing_nothing_again() -> None:
    script, number = stuck_swarm()
    let_time_pass(script, LIMITS.hopeless_s + 0.2, began=True)
    effects = script.stored("slow", number, 0.1)
    assert asked(effects) == [], "it is left alone"
    later = let_time_pass(script, LIMITS.hopeless_avoid_s, began=True)
    assert [e.peer_id for e in later if isinstance(e, FetchPiece)] == ["slow"]
    assert len(reports(script)) == 1
    while len(reports(script)) < 2:
        let_time_pass(script, 1.0, began=True)
        assert script.now < 200


def test_with_another_holder_the_transfer_is_stopped_and_the_other_one_asked() -> None:
    script, number = stuck_swarm("other")
    seen = list[object]()
    while not reports(script):
        seen += let_time_pass(script, 0.1, began=True)
        assert script.now < 200
    cancels = [e for e in seen if isinstance(e, CancelPiece)]
    assert CancelPiece(peer_id="slow", number=number, reason=CancelReason.LATE) in cancels
    assert not [e for e in seen if isinstance(e, DropParent)]


def test_a_long_queue_is_never_reported() -> None:
    script, _ = stuck_swarm()
    let_time_pass(script, 30.0, began=False)
    assert reports(script) == []


def test_pieces_that_are_late_again_and_again_add_up() -> None:
    """Each is stopped before the parent would be past hope by it alone."""
    limits = DownloadLimits(concurrent_piece_count=2, slow_avoid_s=0.1)
    script = Script(length=400 * PIECE, limits=limits)
    script.swarm("slow", "fast")
    for name in ("slow", "fast"):
        script.holds(name, *range(400))
    flying = dict(asked(script.effects))
    for _ in range(8):
        for name in ("slow", "fast"):
            flying.update(asked(script.stored(name, flying[name], 0.02)))
    late = 0
    asked_at = script.now
    for _ in range(300):
        effects = script.stored("fast", flying["fast"], 0.05)
        for look in of(effects, AskProgress):
            progress = PieceProgress(
                peer_id=look.peer_id, number=look.number, began_s=script.now - asked_at
            )
            effects += script(progress)
        late += len([c for c in of(effects, CancelPiece) if c.peer_id == "slow"])
        for peer_id, number in asked(effects):
            flying[peer_id] = number
            asked_at = script.now if peer_id == "slow" else asked_at
        if reports(script):
            break
    assert [m.parent_id for m in reports(script)] == ["slow"]
    assert late >= 3


def test_a_parent_that_recovers_is_asked_again() -> None:
    script, number = stuck_swarm()
    let_time_pass(script, LIMITS.hopeless_s + 0.2, began=True)
    script.name("slow")  # the scheduler has nobody better
    script.stored("slow", number, LIMITS.hopeless_avoid_s)
    assert asked(script.effects)[-1][0] == "slow"


def test_no_hope_left_asks_the_scheduler_for_others_at_once() -> None:
    script, number = stuck_swarm()
    script.ended("slow")
    let_time_pass(script, LIMITS.hopeless_s + 0.2, began=True)
    effects = script.failed("slow", number, FailureReason.UNREACHABLE)
    (reschedule,) = [m for m in messages(effects) if isinstance(m, Reschedule)]
    assert reschedule.parent_ids == ("slow",)


def source_pieces(script: Script) -> set[int]:
    """What was asked for at the source."""
    return {
        number
        for first, last in runs(script.effects)
        for number in range(first, COUNT if last is None else last + 1)
    }


def test_at_the_source_the_source_brings_what_a_parent_past_hope_was_to_bring() -> None:
    script, number = stuck_swarm()
    script.answer(NeedBackToSource())
    script.opened()
    assert number not in source_pieces(script), "the parent is bringing it"
    let_time_pass(script, LIMITS.hopeless_s + 0.2, began=True)
    assert len(reports(script)) == 1
    while number not in source_pieces(script):
        first, last = runs(script.effects)[-1]
        for piece in range(first, (last or COUNT) + 1):
            script.from_source(piece)
        script(SourceEnded(first=first))
    assert CancelPiece(peer_id="slow", number=number, reason=CancelReason.SOURCE) in script.effects


def test_parents_past_hope_make_room_for_new_ones() -> None:
    limits = DownloadLimits(max_parents=2, concurrent_piece_count=2)
    script = Script(length=COUNT * PIECE, limits=limits)
    script.swarm("slow", "other")
    for name in ("slow", "other"):
        script.holds(name, *range(COUNT))
    flying = dict(asked(script.effects))
    for _ in range(8):
        for name in ("slow", "other"):
            flying.update(asked(script.stored(name, flying[name], USUAL_S)))
    while not reports(script):
        let_time_pass(script, 0.1, began=True)
        assert script.now < 200
    named = [e.parent.peer_id for e in script.name("new") if isinstance(e, ConnectParent)]
    assert named == ["new"]


def test_a_load_that_the_parent_tells_keeps_it_from_being_reported() -> None:
    script, _ = stuck_swarm()
    for _ in range(30):
        let_time_pass(script, 1.0, began=True)
        script(ParentLoad(peer_id="slow", max_rate_bytes_per_s=1e9, used_rate_bytes_per_s=1e9))
    # The very first second was before its first word.
    assert reports(script) == []


def test_progress_of_what_is_over_says_nothing() -> None:
    script, number = stuck_swarm()
    assert script(PieceProgress(peer_id="ghost", number=0, began_s=1.0)) == []
    script.stored("slow", number)
    assert script(PieceProgress(peer_id="slow", number=number, began_s=1.0)) == []
    assert piece_of(number, script.length).number == number
