"""One download, script by script: the source beside the swarm, when it is asked and how long."""

from __future__ import annotations

import pytest
from support.download import PIECE, URL, Script, asked, kinds, messages, of, parent_of, runs

from odonata.wire.message import (
    BackToSourceStarted,
    Download,
    Finished,
    NeedBackToSource,
    NormalTask,
    PieceBackToSourceFinished,
)
from peer.core.budget import STALL_MIN_S, Budget
from peer.core.effect import (
    AskProgress,
    CancelPiece,
    CancelReason,
    DownloadEffect,
    FetchSource,
    StopSource,
)
from peer.core.event import (
    ParentLoad,
    PieceProgress,
    ReaderWaiting,
    SchedulerFound,
    SchedulerLost,
    SourceEnded,
    SourceFailed,
)
from peer.core.lifecycle import State
from peer.core.limits import DownloadLimits
from peer.core.patience import ALIVE_S, CONFIRM_S, LOOK_S, UNMET_S

BEGUN = 100.0
LIMITS = DownloadLimits()


def budget_s() -> float:
    """Of a daemon that has learned nothing yet."""
    return Budget().budget_s("origin.test", 0.0)


def tick_until_beside(script: Script) -> FetchSource:
    """Let time pass until the source is asked."""
    return script.tick_until(FetchSource)


def beside(script: Script, *parents: str) -> FetchSource:
    """Parents that know the content and bring nothing; the source has answered."""
    script.swarm(*parents)
    run = tick_until_beside(script)
    script.opened()
    return run


# --- when ---------------------------------------------------------------------------------------


def test_parents_that_say_nothing_at_all_cost_a_moment_more_than_a_budget() -> None:
    for seed in range(20):
        script = Script(seed=seed)
        script.begin()
        script.name("a", "b")
        assert runs([tick_until_beside(script)]) == [(0, None)]
        assert UNMET_S <= script.now - BEGUN <= 2 * UNMET_S + CONFIRM_S + 0.01
        assert script.core.state is State.SWARMING


def test_moments_are_drawn_few_early_and_most_late() -> None:
    moments: list[float] = []
    for seed in range(200):
        script = Script(seed=seed)
        script.begin()
        script.name("a")
        tick_until_beside(script)
        moments.append((script.now - BEGUN) / budget_s() - 1.0)
    assert sum(moment < 0.5 for moment in moments) <= 20
    assert sum(moment > 0.8 for moment in moments) >= 100
    assert len({round(moment, 3) for moment in moments}) > 100


def test_what_the_daemon_has_learned_counts() -> None:
    learned = Budget()
    for _ in range(60):
        learned.peers_began(4.0, BEGUN)
    script = Script(budget=learned)
    script.begin()
    script.name("a")
    tick_until_beside(script)
    assert script.now - BEGUN > 4.0


def test_first_bytes_are_learned_of_peers_and_of_the_source() -> None:
    learned = Budget()
    script = Script(length=2 * PIECE, budget=learned)
    script.swarm("a")
    script.holds("a", 0)
    script.stored("a", 0, took_s=9.0)
    assert learned.budget_s("origin.test", script.now) > budget_s()
    script.answer(NeedBackToSource())
    script.now += 7.0
    script.opened()
    assert learned.source_s("origin.test", script.now) > 0.2


def test_a_large_piece_that_is_on_its_way_is_asked_for_first() -> None:
    script = Script()
    script.swarm("a")
    script.holds("a", 0)
    look = script.tick_until(AskProgress)
    assert (look.peer_id, look.number) == ("a", 0)
    moment = script.now
    progress = PieceProgress(peer_id="a", number=0, began_s=0.25, received=100_000)
    assert script(progress) == []
    script.tick_until(AskProgress)
    assert script.now >= moment + STALL_MIN_S
    script(progress)  # not one byte more
    assert runs(script.tick()) == [(1, None)]


def test_a_driver_that_does_not_say_how_far_it_is_is_not_waited_for_long() -> None:
    script = Script()
    script.swarm("a")
    script.holds("a", 0)
    script.tick_until(AskProgress)
    moment = script.now
    assert runs(script.tick()) == [(1, None)]
    assert script.now == pytest.approx(moment + LOOK_S)


def test_a_parent_at_work_is_waited_for_but_not_for_ever() -> None:
    script = Script()
    script.swarm("a")
    effects: list[DownloadEffect] = []
    while not of(effects, FetchSource):
        load = ParentLoad(peer_id="a", max_rate_bytes_per_s=1e6, used_rate_bytes_per_s=1e6)
        script(load)
        effects = script.wait(1.0)
        assert script.now < BEGUN + 60
    assert LIMITS.beside_alive_s <= script.now - BEGUN <= 2 * LIMITS.beside_alive_s + 1


def test_a_parent_that_has_fallen_silent_is_no_sign_of_life_for_long() -> None:
    script = Script()
    script.swarm("a")
    tick_until_beside(script)
    assert ALIVE_S <= script.now - BEGUN <= 2 * ALIVE_S + 0.01


def test_a_parent_that_was_asked_and_says_it_sends_nothing_is_no_sign_of_life() -> None:
    script = Script()
    script.swarm("a")
    script.holds("a", 0)
    effects: list[DownloadEffect] = []
    while not of(effects, FetchSource):
        load = ParentLoad(peer_id="a", max_rate_bytes_per_s=1e6, used_rate_bytes_per_s=0.0)
        effects = [*script(load), *script.wait(0.25)]
    assert script.now - BEGUN <= 2 * ALIVE_S + 0.5


def test_a_scheduler_that_names_nobody_is_left_its_time_then_the_source_brings_everything() -> None:
    script = Script()
    script.begin()
    assert runs([tick_until_beside(script)]) == [(0, None)]
    waited_s = script.now - BEGUN
    assert LIMITS.beside_unanswered_s <= waited_s <= 2 * LIMITS.beside_unanswered_s + 0.01
    assert script.core.state is State.SOURCING
    assert isinstance(script.said[-1], BackToSourceStarted)


@pytest.mark.parametrize(
    ("limits", "download"),
    [
        (DownloadLimits(beside=False), Download(url=URL)),
        (LIMITS, Download(url=URL, disable_back_to_source=True)),
        (LIMITS, Download(url=URL, priority=2)),
    ],
)
def test_who_may_not_ask_the_source_does_not(limits: DownloadLimits, download: Download) -> None:
    script = Script(limits=limits, download=download)
    script.swarm("a")
    script.holds("a", 0)
    while script.now < BEGUN + 15:
        script.tick()
    assert of(script.effects, FetchSource) == []


# --- what ---------------------------------------------------------------------------------------


def test_what_it_brings_is_reported_and_the_end_is_an_ordinary_one() -> None:
    script = Script(length=2 * PIECE)
    beside(script, "a")
    (told,) = messages(script.from_source(0))
    assert isinstance(told, PieceBackToSourceFinished)
    effects = script.from_source(1)
    assert isinstance(messages(effects)[-1], Finished)
    assert kinds(effects)[-1] == "Complete"
    assert not any(isinstance(message, BackToSourceStarted) for message in script.said)


def test_it_begins_where_a_reader_waits() -> None:
    script = Script(length=8 * PIECE)
    script.swarm("a")
    script(ReaderWaiting(number=5))
    assert runs([tick_until_beside(script)]) == [(5, None)]


def test_it_begins_with_what_no_parent_offers() -> None:
    script = Script(length=8 * PIECE)
    script.swarm("a")
    script.holds("a", 0, 1, 2)
    assert tick_until_beside(script).first == 3


def test_it_claims_little_and_parents_may_bring_the_rest() -> None:
    script = Script(length=8 * PIECE)
    beside(script, "a")
    numbers = {number for _, number in asked(script.holds("a", *range(8)))}
    for number in sorted(numbers):
        numbers |= {n for _, n in asked(script.stored("a", number))}
    assert numbers
    assert not numbers & set(range(LIMITS.beside_ahead))


def test_it_stops_at_a_piece_that_a_parent_has_brought_and_goes_on_behind_it() -> None:
    script = Script(length=8 * PIECE)
    beside(script, "a")
    ((_, number),) = asked(script.holds("a", 4))
    script.stored("a", number, took_s=0.1)
    effects = [effect for n in range(4) for effect in script.from_source(n)]
    assert of(effects, StopSource) == [StopSource(first=0)]
    assert runs(effects) == [(5, None)]


def test_a_transfer_that_has_not_begun_within_the_budget_is_overtaken() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    ((_, number),) = asked(script.holds("a", 0))
    script.tick_until(AskProgress)
    effects: list[DownloadEffect] = []
    while not of(effects, FetchSource):
        effects = script.tick()
    first = of(effects, FetchSource)[0].first
    assert first == 1  # what nobody offers comes first
    script.opened()
    script.from_source(1)
    effects = script(SourceEnded(first=1))
    stopped = CancelPiece(peer_id="a", number=number, reason=CancelReason.SOURCE)
    assert stopped in effects
    assert runs(effects) == [(0, 0)]


# --- how long -----------------------------------------------------------------------------------


def test_it_stops_when_parents_bring_as_much_and_needs_twice_the_budget_to_begin_again() -> None:
    script = Script(length=40 * PIECE)
    beside(script, "a", "b")
    script.from_source(0)
    fetches = [*script.holds("a", *range(20, 40)), *script.holds("b", *range(20, 40))]
    stops: list[StopSource] = []
    for _ in range(12):
        for peer_id, number in asked(fetches):
            fetches = script.stored(peer_id, number, took_s=0.2)
            stops += of(fetches, StopSource)
            break
    assert stops == [StopSource(first=0)]
    stopped_at = script.now
    tick_until_beside(script)
    assert script.now - stopped_at >= 2 * budget_s()


def test_a_source_that_refuses_is_not_asked_again_and_parents_go_on() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    run = tick_until_beside(script)
    effects = script(SourceFailed(first=run.first, reason="404", fatal=True))
    assert script.core.state in {State.SWARMING, State.RESCHEDULING}
    assert not of(effects, FetchSource)
    script.holds("a", 0, 1)
    for _ in range(2):
        ((peer_id, number),) = asked(script.effects)[-1:]
        effects = script.stored(peer_id, number)
    assert kinds(effects)[-1] == "Complete"
    assert len(of(script.effects, FetchSource)) == 1


def test_it_goes_on_while_the_download_registers_anew() -> None:
    """A failed request is repeated after its pause, and nobody is woken in vain meanwhile."""
    script = Script(length=8 * PIECE)
    run = beside(script, "a")
    script(SchedulerLost(reason="connection reset"))
    script(SourceFailed(first=run.first, reason="reset"))
    script(SchedulerFound())
    assert script.core.state is State.REGISTERING
    assert script.tick_until(FetchSource, at_most=3).first == 0


def test_other_content_at_the_source_is_no_harm_beside_the_swarm() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    tick_until_beside(script)
    effects = script.opened(length=3 * PIECE)
    assert kinds(effects) == ["StopSource"]
    assert script.core.state is State.SWARMING


def test_a_scheduler_that_says_source_meanwhile_finds_the_download_there() -> None:
    script = Script(length=3 * PIECE)
    beside(script, "a")
    effects = script.answer(NeedBackToSource())
    assert script.core.state is State.SOURCING
    assert not of(effects, StopSource)
    for number in range(3):
        effects = script.from_source(number)
    assert kinds(effects)[-1] == "Complete"
    assert len(of(script.effects, FetchSource)) == 1


def test_other_parents_that_are_named_meanwhile_do_not_stop_it() -> None:
    script = Script(length=8 * PIECE)
    beside(script, "a")
    effects = script.answer(NormalTask(parents=(parent_of("b"),)))
    assert not of(effects, StopSource)
    script.connect("b")
    assert asked(script.holds("b", 7)) == [("b", 7)]


def found_again(script: Script) -> FetchSource:
    """The source is asked beside the swarm, and the scheduler was lost; another owes an answer."""
    run = beside(script, "a")
    script(SchedulerLost(reason="gone"))
    script(SchedulerFound())
    assert script.core.state is State.REGISTERING
    return run


def test_it_is_asked_again_also_while_a_scheduler_that_was_found_owes_its_answer() -> None:
    script = Script()
    run = found_again(script)
    failed_at = script.now
    script(SourceFailed(first=run.first, reason="connection reset"))
    assert runs([script.tick_until(FetchSource, at_most=5)]) == [(0, None)]
    assert script.now - failed_at == pytest.approx(LIMITS.source_backoff_s, abs=0.1)
    assert script.core.state is State.REGISTERING


def test_while_a_scheduler_that_was_found_owes_its_answer_it_goes_on_but_does_not_begin() -> None:
    script = Script()
    script.swarm("a")
    script(SchedulerLost(reason="gone"))
    script(SchedulerFound())
    began_at = script.now
    script.tick_until(FetchSource)
    assert script.now - began_at >= LIMITS.schedule_timeout_s
    assert script.core.state is State.SOURCING


def test_a_source_that_ignores_ranges_is_of_no_use_once_the_beginning_is_held() -> None:
    script = Script(length=4 * PIECE)
    script.swarm("a")
    script.holds("a", 0)
    script.stored("a", 0)
    run = tick_until_beside(script)
    assert run.first == 1
    script.opened(ranges=False)
    assert len(of(script.effects, FetchSource)) == 1
    assert script.core.state is State.SWARMING
