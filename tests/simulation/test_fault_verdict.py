"""The verdict on worlds with faults can fail: broken parts are caught, each within a few worlds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from odonata.errors import SourceError
from odonata.wire.message import NeedBackToSource, NormalTask
from peer.core.download import DownloadCore
from peer.core.effect import CheckPiece, Complete, DownloadEffect, GiveUp, WakeAt
from peer.core.event import DownloadEvent, PieceChecked, PieceNotFetched, PieceStored
from scheduler.core.core import SchedulerCore
from scheduler.core.effect import Answer, SchedulerEffect
from scheduler.core.effect import WakeAt as Alarm
from scheduler.core.event import PeerSpoke, SchedulerEvent, StreamClosed
from simulator.fault.draw import draw_plan
from simulator.fault.run import run_plan
from simulator.fault.shrink import shrink
from simulator.parts import Parts

SEEDS = range(1, 101)
"""Each mutant must be caught within these."""


class NeverWakesWaiters(SchedulerCore):
    """Answers whoever speaks, and nobody else."""

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        speaker = event.peer_id if isinstance(event, PeerSpoke) else ""
        effects = super().handle(event, now)
        return [e for e in effects if not isinstance(e, Answer) or e.peer_id == speaker]


class MissesClosedStreams(SchedulerCore):
    """Does not notice that a peer is gone."""

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        return [] if isinstance(event, StreamClosed) else super().handle(event, now)


class NeverSetsAlarms(SchedulerCore):
    """Does nothing unless it is spoken to."""

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        return [e for e in super().handle(event, now) if not isinstance(e, Alarm)]


class SendsAllToSource(SchedulerCore):
    """Knows parents, and names none."""

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        return [
            Answer(peer_id=e.peer_id, answer=NeedBackToSource(description="lazy"))
            if isinstance(e, Answer) and isinstance(e.answer, NormalTask)
            else e
            for e in super().handle(event, now)
        ]


class Miscounts(SchedulerCore):
    """Forgets to give back what a child had booked on its parent's host."""

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        before = {h.announced.id: h.concurrent_upload_count for h in self.state.hosts.values()}
        effects = super().handle(event, now)
        for host in self.state.hosts.values():
            host.concurrent_upload_count = max(
                host.concurrent_upload_count, before.get(host.announced.id, 0)
            )
        return effects


class NeverWakes(DownloadCore):
    """Forgets to ask to be woken."""

    def handle(self, event: DownloadEvent, now: float) -> list[DownloadEffect]:
        return [e for e in super().handle(event, now) if not isinstance(e, WakeAt)]


class EndsEarly(DownloadCore):
    """Takes the first piece for all of them."""

    def handle(self, event: DownloadEvent, now: float) -> list[DownloadEffect]:
        effects = super().handle(event, now)
        if isinstance(event, PieceStored) and not any(isinstance(e, Complete) for e in effects):
            return [Complete(whole=True)]
        return effects


class BlamesSource(DownloadCore):
    """Gives up at the first piece that fails, and says that it was the source."""

    def handle(self, event: DownloadEvent, now: float) -> list[DownloadEffect]:
        if isinstance(event, PieceNotFetched):
            return [GiveUp(error=SourceError("source failed: so it seems"))]
        return super().handle(event, now)


def takes_anything(stated: str, came: str) -> bool:
    del stated, came
    return True


def ignores_the_list(listed: bytes, came: bytes) -> bool:
    del listed, came
    return True


class NeverLooksAgain(DownloadCore):
    """Does not check what came before its digest was told."""

    def handle(self, event: DownloadEvent, now: float) -> list[DownloadEffect]:
        effects = super().handle(event, now)
        checks = [e for e in effects if isinstance(e, CheckPiece)]
        for check in checks:
            effects += self.handle(PieceChecked(number=check.number, is_right=True), now)
        return [e for e in effects if e not in checks]


MUTANTS: list[tuple[str, Parts, str]] = [
    ("a peer accepts bad digests", Parts(accepts=takes_anything), "holds wrong bytes"),
    ("a peer ignores the list", Parts(is_listed=ignores_the_list), "holds wrong bytes"),
    ("closed streams are missed", Parts(scheduler=MissesClosedStreams), "believes"),
    ("no alarms", Parts(scheduler=NeverSetsAlarms), "still knows"),
    ("a counter is wrong", Parts(scheduler=Miscounts), "load of host"),
    ("a peer sleeps for ever", Parts(download=NeverWakes), "is stuck"),
    ("a peer ends early", Parts(download=EndsEarly), "completed without"),
    ("a peer blames the source", Parts(download=BlamesSource), "without a cause"),
]
QUIET_MUTANTS: list[tuple[str, Parts, str]] = [
    ("waiters are not woken", Parts(scheduler=NeverWakesWaiters), "too late"),
    ("all go to the source", Parts(scheduler=SendsAllToSource), "copies"),
]


def is_caught(parts: Parts, word: str, *, quiet: bool) -> bool:
    """Whether it is found in some world; `quiet`: in which nothing goes wrong but it."""
    plans = (draw_plan(seed) for seed in SEEDS)
    findings = (run_plan(plan.only(()) if quiet else plan, parts=parts).findings for plan in plans)
    return any(word in finding for found in findings for finding in found)


@pytest.mark.parametrize(("parts", "word"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_a_broken_part_is_caught(parts: Parts, word: str) -> None:
    assert is_caught(parts, word, quiet=False)


@pytest.mark.parametrize(
    ("parts", "word"), [m[1:] for m in QUIET_MUTANTS], ids=[m[0] for m in QUIET_MUTANTS]
)
def test_a_broken_part_is_caught_where_nothing_else_goes_wrong(parts: Parts, word: str) -> None:
    assert is_caught(parts, word, quiet=True)


@pytest.mark.parametrize("seed", [2297])
def test_a_peer_that_never_looks_again_is_caught(seed: int) -> None:
    """In one of a thousand worlds does a forged piece come before its digest is told."""
    assert not run_plan(draw_plan(seed)).findings
    findings = run_plan(draw_plan(seed), parts=Parts(download=NeverLooksAgain)).findings
    assert any("holds wrong bytes" in finding for finding in findings)


def fails_with(parts: Parts) -> Callable[[int], bool]:
    return lambda seed: run_plan(draw_plan(seed), parts=parts).is_failure


def test_a_failing_plan_shrinks_to_the_faults_that_it_takes() -> None:
    """Wrong bytes get in where somebody sends them, whatever else happens."""
    parts = Parts(accepts=takes_anything)
    seed = next(s for s in SEEDS if len(draw_plan(s).faults) > 3 and fails_with(parts)(s))
    plan = draw_plan(seed)
    kept = shrink(plan, lambda fewer: run_plan(fewer, parts=parts).is_failure)
    assert len(kept) < len(plan.faults)
    assert {plan.faults[number - 1].kind for number in kept} & {"uploads corrupt", "liar, digest"}
    for number in kept:
        fewer = plan.only(one for one in kept if one != number)
        assert not run_plan(fewer, parts=parts).is_failure
