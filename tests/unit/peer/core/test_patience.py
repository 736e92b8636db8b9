"""Never much slower than the source, whatever parents do; and no origin pays for a busy swarm."""

from __future__ import annotations

from itertools import islice

import pytest
from support.download import PIECE, Script, asked, of, piece_of
from support.parent_play import Giving, Play

from odonata.piece import MIB
from peer.core.budget import BUDGET_MIN_S, Budget
from peer.core.effect import CancelPiece, FetchPiece, FetchSource
from peer.core.event import FailureReason, ParentLoad, ParentReceives, PieceNotFetched
from peer.core.limits import DownloadLimits
from peer.core.patience import load_pauses_s

NOW = 100.0
RATE = 50e6
HOST = "origin.test"
SIZES = (MIB, 64 * MIB)
SEEDS = range(5)

SILENT = Giving(0.0)
MUTE = Giving(0.0, says=None)


def taught(*, rate: float = RATE, times: int = 30) -> Budget:
    """A daemon whose peers have begun at once, and whose origin was asked some times."""
    budget = Budget()
    for _ in range(times):
        budget.peers_began(0.01, NOW)
        budget.source_answered(HOST, 0.005, NOW)
        budget.source_brought(HOST, rate, NOW)
    return budget


def named(giving: Giving, number: int = 4) -> dict[str, Giving]:
    """So many parents alike."""
    return {f"p{n}": Giving(giving.rate, giving.says, giving.begins_s) for n in range(number)}


def trickle(n_bytes_per_s: float) -> Giving:
    """What it sends to us is what it sends."""
    return Giving(n_bytes_per_s, says=n_bytes_per_s)


# --- parents that bring nothing, or next to nothing ---------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("length", SIZES)
@pytest.mark.parametrize("giving", [SILENT, MUTE, trickle(2000.0), trickle(8000.0)])
def test_the_first_time_they_cost_a_second(giving: Giving, length: int, seed: int) -> None:
    play = Play(named(giving), RATE, length, seed=seed)
    assert play.run() <= length / RATE + 1.0
    assert play.source_bytes <= length


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("length", SIZES)
@pytest.mark.parametrize("giving", [SILENT, MUTE, trickle(8000.0), trickle(80_000.0)])
def test_once_it_has_learned_they_cost_half_a_second(
    giving: Giving, length: int, seed: int
) -> None:
    play = Play(named(giving), RATE, length, taught(), seed=seed)
    assert play.run() <= 1.1 * length / RATE + 0.55
    assert play.source_bytes <= length


@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_piece_that_trickles_no_more_is_waited_for_than_of_others(seed: int) -> None:
    """It has begun, so it was left to its parent once: 1 MiB at 2 kB a second."""
    play = Play({"a": trickle(2000.0)}, RATE, MIB, taught(), seed=seed)
    assert play.run() <= 1.1 * MIB / RATE + 0.55


# --- one that is as it should be ----------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bad", [SILENT, MUTE, trickle(4000.0)])
def test_one_good_parent_makes_up_for_one_that_brings_nothing(bad: Giving, seed: int) -> None:
    parents = {"good": Giving(RATE, says=RATE), **named(bad, 1)}
    play = Play(parents, RATE, 64 * MIB, taught(), seed=seed)
    assert play.run() <= 2.0 * 64 * MIB / RATE + 1.0
    assert play.source_bytes <= 8 * MIB


@pytest.mark.parametrize("budget", [Budget, taught])
@pytest.mark.parametrize("length", SIZES)
def test_good_parents_spare_the_source(length: int, budget: type[Budget]) -> None:
    for seed in range(50):
        play = Play(named(Giving(RATE / 4, says=RATE / 4)), RATE, length, budget(), seed=seed)
        play.run()
        assert play.source_bytes == 0


def test_a_parent_that_serves_others_first_is_waited_for() -> None:
    """It says so a moment after it was asked for something."""
    busy = Giving(RATE, says=RATE, begins_s=6.0)
    for seed in range(20):
        play = Play({"a": busy}, RATE, 4 * MIB, taught(), seed=seed)
        play.run()
        assert play.source_bytes == 0


def test_a_seed_that_is_just_opening_the_source_is_waited_for_and_then_has_a_budget() -> None:
    for seed in range(20):
        opening = Giving(RATE, says=0.0, holds_after_s=8.0)
        play = Play({"a": opening}, RATE, 4 * MIB, taught(), seed=seed)
        play.run()
        assert play.source_bytes == 0
        silent = Giving(0.0, says=0.0, holds_after_s=8.0)
        play = Play({"a": silent}, RATE, 4 * MIB, taught(), seed=seed)
        assert 8.0 < play.run() <= 8.0 + 4 * MIB / RATE + 0.55


def test_waiting_for_a_seed_teaches_nothing_of_how_long_peers_take_to_begin() -> None:
    learned = taught()
    for _ in range(30):
        Play({"a": Giving(RATE, holds_after_s=8.0)}, RATE, 4 * MIB, learned).run()
    assert learned.budget_s(HOST, NOW) == BUDGET_MIN_S


def test_a_scheduler_that_is_slow_to_answer_is_waited_for_and_its_parents_have_their_time() -> None:
    for seed in range(20):
        good = Giving(RATE, says=RATE, begins_s=0.1)
        play = Play({"a": good}, RATE, 4 * MIB, taught(), answer_s=5.0, seed=seed)
        play.run()
        assert play.source_bytes == 0


@pytest.mark.parametrize("share", [0.2, 0.6, 2.0])
def test_a_slow_swarm_is_good_enough_where_the_source_is_no_better(share: float) -> None:
    slow = 1e6
    for seed in range(10):
        parents = named(Giving(slow * share / 2, says=slow * share / 2), 2)
        play = Play(parents, slow, 8 * MIB, taught(rate=slow), seed=seed)
        play.run(at_most_s=10_000)
        assert play.source_bytes == 0


# --- many at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("crowd", [16, 256])
def test_of_many_downloads_at_once_each_has_its_part_of_this_host(crowd: int) -> None:
    """All together they are as fast as the source; each begins late and comes slowly."""
    for seed in range(20):
        learned = taught()
        for _ in range(crowd - 1):
            learned.begun()
        part = RATE / crowd
        begins_s = 0.02 * crowd
        parents = {"seed": Giving(part, says=part, begins_s=begins_s)}
        play = Play(parents, RATE, 3 * MIB, learned, seed=seed)
        play.run(at_most_s=10_000)
        assert play.source_bytes == 0


@pytest.mark.parametrize("busy_s", [0.1, 0.3])
@pytest.mark.parametrize("budget", [Budget, taught])
def test_a_host_that_comes_to_nothing_does_not_blame_its_parents(
    budget: type[Budget], busy_s: float
) -> None:
    """Each of five steps waits for its turn on either side."""
    for seed in range(40):
        parents = {"seed": Giving(RATE, says=0.0, begins_s=5 * busy_s)}
        play = Play(parents, RATE, 9 * MIB, budget(), seed=seed, busy_s=busy_s)
        play.run()
        assert play.source_bytes == 0


def test_that_alarms_were_late_is_forgotten() -> None:
    learned = taught()
    learned.woken(0.2, NOW)
    assert learned.budget_s(HOST, NOW) == pytest.approx(BUDGET_MIN_S + 6.0)
    assert learned.budget_s(HOST, NOW + 90.0) == pytest.approx(BUDGET_MIN_S, abs=0.01)


def test_what_an_origin_brings_to_each_of_many_is_only_a_part_of_what_it_can() -> None:
    learned = Budget()
    for _ in range(10):
        learned.asks_source(HOST)
    learned.source_brought(HOST, RATE / 10, NOW)
    alone = learned.trickle_bytes_per_s(HOST, NOW)
    assert alone == pytest.approx(RATE / 8)
    for _ in range(10):
        learned.leaves_source(HOST)
        learned.begun()
    assert learned.trickle_bytes_per_s(HOST, NOW) == pytest.approx(alone / 10)


def test_downloads_are_counted_while_they_go_on() -> None:
    learned = Budget()
    script = Script(length=PIECE, budget=learned)
    script.swarm("a")
    assert learned.downloads == 1
    script.holds("a", 0)
    script.stored("a", 0)
    assert learned.downloads == 0


def test_a_download_learns_what_the_source_brings() -> None:
    learned = Budget()
    Play(named(SILENT), RATE, 64 * MIB, learned).run()
    assert learned.trickle_bytes_per_s(HOST, NOW) == pytest.approx(RATE / 8, rel=0.1)


# --- excuses ------------------------------------------------------------------------------------


def waits_s(script: Script, say: ParentLoad | None) -> float:
    """How long it takes until the source is asked, if a parent says this four times a second."""
    began_at = script.now
    while not of(script.effects, FetchSource):
        if say is not None:
            script(say)
        script.wait(0.25)
        assert script.now < began_at + 60
    return script.now - began_at


@pytest.mark.parametrize(
    ("used", "is_excuse"), [(5e6, True), (400e3, True), (100e3, False), (0.0, False)]
)
def test_a_parent_that_owes_us_must_send_to_others_in_earnest(
    used: float, *, is_excuse: bool
) -> None:
    script = Script()
    script.swarm("a")
    script.holds("a", 0)
    load = ParentLoad(peer_id="a", max_rate_bytes_per_s=1e7, used_rate_bytes_per_s=used)
    waited_s = waits_s(script, load)
    assert (waited_s >= DownloadLimits().beside_alive_s) is is_excuse
    assert is_excuse or waited_s <= 1.5


def test_what_was_kept_of_ours_is_no_work_for_others() -> None:
    """Sent, the parent says, in the second in which we asked; and then nothing is."""
    script = Script()
    script.swarm("a")
    script.holds("a", 0)
    began_at = script.now
    while not of(script.effects, FetchSource):
        used = 400e3 if script.now - began_at < 1.0 else 0.0
        script(ParentLoad(peer_id="a", max_rate_bytes_per_s=1e7, used_rate_bytes_per_s=used))
        script.wait(0.25)
        assert script.now < began_at + 2.75


def test_a_piece_that_its_parent_says_it_does_not_hold_may_be_on_its_way_all_the_same() -> None:
    """The answer was to an earlier request, which was stopped as late; the piece was asked anew."""
    script = Script(length=2 * PIECE, limits=DownloadLimits(concurrent_piece_count=1))
    script.swarm("a", "b")
    script.holds("a", 0, 1)
    script.holds("b", 0, 1)
    ((first, number),) = asked(script.effects)
    ((slow, late),) = asked(script.stored(first, number))
    stopped = script.tick_until(CancelPiece)
    assert (stopped.peer_id, stopped.number) == (slow, late)
    other = next(peer for peer in "ab" if peer != slow)
    script.failed(other, late, FailureReason.NOT_FOUND)
    assert script.tick_until(FetchPiece).peer_id == slow
    script.failed(slow, late, FailureReason.NOT_FOUND)
    script(ParentLoad(peer_id=slow, max_rate_bytes_per_s=1e7, used_rate_bytes_per_s=1e6))
    script.wait(30.0)


@pytest.mark.parametrize(("says", "at_most_s"), [(400e3, 0.6), (5e6, 60.0)])
def test_what_it_sends_to_us_is_no_work_for_others(says: float, at_most_s: float) -> None:
    play = Play({"a": Giving(400e3, says=says)}, RATE, 64 * MIB, taught())
    play.run()
    assert play.asked_source_s is not None
    assert at_most_s / 3 <= play.asked_source_s <= at_most_s


def test_a_parent_tells_its_load_soon_and_then_ever_less_often() -> None:
    assert list(islice(load_pauses_s(1.0), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert list(islice(load_pauses_s(0.05), 2)) == [0.05, 0.05]


@pytest.mark.parametrize("reason", [FailureReason.REFUSED, FailureReason.GIVEN])
def test_a_refusal_is_a_sign_of_work(reason: FailureReason) -> None:
    script = Script()
    script.swarm("a", "b")
    script.holds("a", 0)
    script(PieceNotFetched(peer_id="a", number=0, reason=reason, given=(0,)))
    assert waits_s(script, None) >= 2.5


def passing_on(*empty: str) -> Script:
    """Of piece 0, "a" passes on what it is being sent; the others are there and have nothing."""
    script = Script()
    script.swarm("a", *empty)
    script(ParentReceives(peer_id="a", pieces=(piece_of(0, script.length),)))
    assert asked(script.effects) == [("a", 0)]
    return script


@pytest.mark.parametrize("empty", [(), ("b", "c")])
def test_a_parent_that_passes_on_has_nothing_to_give_before_it_is_given_it(
    empty: tuple[str, ...],
) -> None:
    """It has patience of its own: where its parent is silent, it asks the source, not all of us."""
    load = ParentLoad(peer_id="a", max_rate_bytes_per_s=1e7, used_rate_bytes_per_s=442.0)
    waited_s = waits_s(passing_on(*empty), load)
    assert waited_s >= DownloadLimits().beside_alive_s


def test_a_parent_that_would_pass_on_and_is_not_heard_of_is_no_excuse_for_long() -> None:
    assert waits_s(passing_on("b", "c"), None) <= 5.25


def test_nor_is_one_that_passes_on_where_another_owes_a_piece() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a", "b")
    script(ParentReceives(peer_id="a", pieces=(piece_of(0, script.length),)))
    script.holds("b", 1)
    assert asked(script.effects) == [("a", 0), ("b", 1)]
    load = ParentLoad(peer_id="a", max_rate_bytes_per_s=1e7, used_rate_bytes_per_s=442.0)
    assert waits_s(script, load) <= 1.5


def test_who_sent_something_since_it_was_asked_to_pass_on_has_to_say_so_once_more() -> None:
    """What it says may be what is kept of ours, or work for others: 0.8 s later it is known."""
    script = passing_on()
    script.holds("a", 0)
    began_at = script.now
    while script.now < began_at + 2.0:
        script(ParentLoad(peer_id="a", max_rate_bytes_per_s=1e7, used_rate_bytes_per_s=282e3))
        script.wait(0.8)
        assert not of(script.effects, FetchSource)


def test_what_was_passed_on_is_waited_for_anew_when_its_parent_has_it() -> None:
    """It gives to eight at once, maybe; and how busy it is it says a moment later."""
    script = passing_on("b", "c")
    load = ParentLoad(peer_id="a", max_rate_bytes_per_s=1e7, used_rate_bytes_per_s=441.0)
    for _ in range(10):
        script(load)
        script.wait(0.25)
    script.holds("a", 0)
    assert 0.45 <= waits_s(script, None) <= 2.5


@pytest.mark.parametrize(
    ("used", "told"),
    [(1000.0, "sent 1000 a second as it said 0.2"), (None, "did not say what it sends")],
)
def test_it_is_told_what_parents_had_said_of_their_load(used: float | None, told: str) -> None:
    script = Script()
    script.swarm("a")
    script.holds("a", 0)
    says = None if used is None else {"max_rate_bytes_per_s": 1e7, "used_rate_bytes_per_s": used}
    waits_s(script, None if says is None else ParentLoad(peer_id="a", **says))
    assert told in script.core.beside_because
