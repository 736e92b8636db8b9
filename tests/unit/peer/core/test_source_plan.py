"""What is asked from the source: runs, attempts, and sources that ignore ranges."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from support.download import PIECE, runs

from odonata.wire.message import SourceAnswer
from peer.core.content import Content
from peer.core.effect import DownloadEffect, FetchSource, StopSource
from peer.core.event import SourceFailed
from peer.core.limits import DownloadLimits
from peer.core.source_plan import Run, SourcePlan, runs_of


def plan_of(
    count: int, *held: int, limits: DownloadLimits | None = None
) -> tuple[SourcePlan, Content]:
    content = Content(piece_length=PIECE, wanted=None)
    content.learn(count * PIECE, PIECE, {})
    for number in held:
        content.hold(number)
    plan = SourcePlan(limits=limits or DownloadLimits(), content=content, rng=Random(1))
    return plan, content


def advance(
    plan: SourcePlan, *elsewhere: int, now: float = 0.0, reader: int | None = None
) -> list[DownloadEffect]:
    out: list[DownloadEffect] = []
    plan.advance(set(elsewhere), reader, now, out)
    return out


@given(numbers=st.sets(st.integers(0, 30)))
def test_runs_cover_exactly_the_numbers(numbers: set[int]) -> None:
    found = runs_of(sorted(numbers))
    covered = [n for run in found for n in range(run.first, (run.last or 0) + 1)]
    assert covered == sorted(numbers)
    gaps = [b.first - (a.last or 0) for a, b in pairwise(found)]
    assert all(gap > 1 for gap in gaps)  # stretches that touch are one run


def test_open_end_covers_everything_after() -> None:
    assert Run(3, None).covers(10**9)
    assert not Run(3, None).covers(2)


def test_one_run_at_a_time_by_default() -> None:
    plan, content = plan_of(6, 2)
    assert runs(advance(plan)) == [(0, 1)]
    assert advance(plan) == []
    assert plan.covers(1)
    assert not plan.covers(3)
    content.hold(0)
    content.hold(1)
    plan.on_ended(0, 1.0, [])
    assert runs(advance(plan)) == [(3, None)]


def test_pieces_that_come_from_elsewhere_are_left_out() -> None:
    plan, _ = plan_of(4)
    assert runs(advance(plan, 0, 2)) == [(1, 1)]


def test_a_run_that_continues_the_open_request() -> None:
    plan, _ = plan_of(3)
    out: list[DownloadEffect] = []
    plan.open(0.0, out)
    assert advance(plan) == [FetchSource(first=0)]


def test_an_open_request_of_no_use_is_stopped() -> None:
    plan, _ = plan_of(3, 0)
    out: list[DownloadEffect] = []
    plan.open(0.0, out)
    assert advance(plan) == [StopSource(first=0), FetchSource(first=1)]


def test_without_ranges_one_request_from_the_start_that_skips_what_is_held() -> None:
    plan, _ = plan_of(6, 0, 2, 5)
    advance(plan)
    out: list[DownloadEffect] = []
    plan.on_opened(ranges=False, now=0.0, out=out)
    assert out == [StopSource(first=1)]
    assert advance(plan) == [FetchSource(first=0, last=4, skip=(0, 2))]
    out = []
    plan.on_opened(ranges=False, now=0.0, out=out)
    assert out == []


def test_pause_grows_and_ends() -> None:
    limits = DownloadLimits(source_attempts=9)
    plan, _ = plan_of(2, limits=limits)
    now = 0.0
    pauses: list[float] = []
    while plan.error is None:
        assert runs(advance(plan, now=now)) == [(0, None)]
        plan.on_failed(SourceFailed(first=0, reason="reset"), now, [])
        if plan.retry_due is not None:
            pauses.append(plan.retry_due - now)
            assert advance(plan, now=now) == []
            now = plan.retry_due
    assert len(pauses) == 8
    assert 0.375 <= pauses[0] <= 0.625
    assert max(pauses) <= limits.source_backoff_max_s * 1.25
    assert "reset" in plan.error.detail


def test_fatal_says_what_the_source_said() -> None:
    plan, _ = plan_of(2)
    advance(plan)
    answer = SourceAnswer(message="no", status_code=403, header={"A": "b"})
    plan.on_failed(SourceFailed(first=0, reason="403", answer=answer, fatal=True), 0.0, [])
    assert plan.error is not None
    assert (plan.error.status_code, plan.error.header) == (403, {"A": "b"})
    assert advance(plan) == []


def test_unknown_length_is_one_run_to_the_end() -> None:
    content = Content(piece_length=None, wanted=None)
    content.learn(None, None, {})
    content.hold(0)
    content.hold(2)
    plan = SourcePlan(limits=DownloadLimits(), content=content, rng=Random(1))
    assert advance(plan, 1) == [FetchSource(first=1, skip=(2,))]
    assert advance(plan) == []


def test_silence_is_a_failure_in_the_end() -> None:
    plan, _ = plan_of(2)
    out: list[DownloadEffect] = []
    plan.tend(1e9, out)
    advance(plan)
    silence_s = DownloadLimits().source_silence_s
    plan.tend(silence_s - 1, out)
    assert out == []
    assert plan.next_wake() == silence_s
    plan.tend(silence_s, out)
    assert out == [StopSource(first=0)]
    assert plan.retry_due is not None


def test_reader_first() -> None:
    plan, _ = plan_of(8, 1, 4)
    assert runs(advance(plan, reader=3)) == [(2, 3)]
