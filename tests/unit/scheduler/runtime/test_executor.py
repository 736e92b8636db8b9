"""The executor against a scripted core: effects in order, the timer, triggers, and bugs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import structlog
from dragonfly_api import scheduler_pb2
from structlog.testing import capture_logs

from odonata.errors import (
    AlreadyExistsError,
    CapacityError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from odonata.grpc_outlet import QueuedOutlet
from odonata.logs import GLOSSARY, configure
from odonata.settings.log import LogSettings
from odonata.tracing.span import NO_SPAN, NoSpan, Span, current, within
from odonata.wire.dragonfly import answer_from_wire
from odonata.wire.message import (
    Download,
    EmptyTask,
    Host,
    NeedBackToSource,
    SchedulerAnswer,
)
from scheduler.core.effect import (
    Answer,
    CloseStream,
    Refuse,
    SchedulerEffect,
    TriggerSeed,
    WakeAt,
)
from scheduler.core.event import (
    HostDeleted,
    SchedulerEvent,
    SeedFailed,
    SeedFinished,
    StreamClosed,
    Ticked,
)
from scheduler.runtime import executor as executor_module
from scheduler.runtime.executor import Executor
from scheduler.runtime.stream import PeerStream

PATIENCE_S = 20
GO = HostDeleted(host_id="go")
SEED = Host(id="seed", hostname="seed", ip="127.0.0.9", port=1)
TRIGGER = TriggerSeed(task_id="t", host=SEED, download=Download(url="http://a/b"))

Script = Callable[[SchedulerEvent, float], list[SchedulerEffect]]


class ScriptedCore:
    """Remembers what it heard and answers from a script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heard: list[tuple[SchedulerEvent, float]] = []
        self.news = asyncio.Event()

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        self.heard.append((event, now))
        self.news.set()
        return self.script(event, now)

    async def hears(self, kind: type[SchedulerEvent]) -> SchedulerEvent:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for event, _ in self.heard:
                    if isinstance(event, kind):
                        return event
                self.news.clear()
                await self.news.wait()


class ScriptedSeeds:
    """Its one seed ends as told, once it may."""

    def __init__(self, outcome: SeedFinished | SeedFailed | Exception) -> None:
        self.outcome = outcome
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.entered = asyncio.Event()
        self.cancelled = False

    async def run(self, effect: TriggerSeed) -> SeedFinished | SeedFailed:
        assert effect == TRIGGER
        self.entered.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def once(*effects: SchedulerEffect) -> Script:
    return lambda event, _now: list(effects) if event == GO else []


def make(script: Script, seeds: ScriptedSeeds | None = None) -> tuple[Executor, ScriptedCore]:
    core = ScriptedCore(script)
    finished = SeedFinished(task_id="t", host_id="seed")
    return Executor(core, seeds or ScriptedSeeds(finished)), core


class QueuedStream(PeerStream):
    """A stream whose answers wait until they are asked for."""

    def __init__(self) -> None:
        self.queue = QueuedOutlet()
        super().__init__(self.queue)


def opened(executor: Executor, peer_id: str, owner: tuple[str, str] = ("h", "t")) -> QueuedStream:
    stream = QueuedStream()
    stream.owner = owner
    executor.open_stream(peer_id, stream)
    return stream


async def drained(stream: QueuedStream) -> tuple[list[SchedulerAnswer], object]:
    sent: list[SchedulerAnswer] = []

    async def write(response: scheduler_pb2.AnnouncePeerResponse) -> None:
        sent.append(answer_from_wire(response))

    return sent, await asyncio.wait_for(stream.queue.drain(write), PATIENCE_S)


async def test_effects_are_carried_out_in_order_and_a_refusal_last() -> None:
    error = NotFoundError("who?")
    executor, _ = make(
        once(
            Refuse(error=error),
            Answer(peer_id="p", answer=EmptyTask()),
            Answer(peer_id="p", answer=NeedBackToSource()),
            CloseStream(peer_id="p"),
        )
    )
    stream = opened(executor, "p")
    with pytest.raises(NotFoundError) as caught:
        executor.apply(GO)
    assert caught.value is error
    assert await drained(stream) == ([EmptyTask(), NeedBackToSource()], None)


async def test_the_core_is_not_told_of_the_end_of_a_stream_it_closed_itself() -> None:
    executor, core = make(once(CloseStream(peer_id="p")))
    stream = opened(executor, "p")
    executor.apply(GO)
    executor.drop_stream("p", stream)
    assert [event for event, _ in core.heard] == [GO]


async def test_the_core_is_told_once_of_a_stream_that_ended_by_itself() -> None:
    executor, core = make(once())
    stream = opened(executor, "p")
    executor.drop_stream("p", stream)
    executor.drop_stream("p", stream)
    assert [event for event, _ in core.heard] == [StreamClosed(peer_id="p")]


async def test_a_newer_stream_takes_the_place_of_an_older_one() -> None:
    executor, core = make(once(Answer(peer_id="p", answer=EmptyTask())))
    older = opened(executor, "p")
    newer = opened(executor, "p")
    executor.drop_stream("p", older)
    assert core.heard == []
    executor.apply(GO)
    newer.close()
    assert isinstance((await drained(older))[1], AlreadyExistsError)
    assert await drained(newer) == ([EmptyTask()], None)


async def test_another_host_can_not_take_a_peers_stream_away() -> None:
    executor, _ = make(once())
    mine = opened(executor, "p", ("h", "t"))
    with pytest.raises(PreconditionError, match="peer p is another host's"):
        opened(executor, "p", ("thief", "t"))
    assert not mine.closed


async def test_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "MAX_STREAMS", 1)
    executor, _ = make(once())
    opened(executor, "p")
    with pytest.raises(CapacityError, match="1 peers are downloading"):
        opened(executor, "q")
    opened(executor, "p")


async def test_the_timer_wakes_the_core_and_never_too_early() -> None:
    executor, core = make(lambda event, now: [WakeAt(at_s=now + 0.02)] if event == GO else [])
    executor.apply(GO)
    asked_for = core.heard[0][1] + 0.02
    await core.hears(Ticked)
    assert core.heard[-1][1] >= asked_for


async def test_a_later_wish_replaces_an_earlier_one() -> None:
    wishes = iter([3600.0, 0.01])
    executor, core = make(
        lambda event, now: [WakeAt(at_s=now + next(wishes))] if event == GO else []
    )
    executor.apply(GO)
    executor.apply(GO)
    await core.hears(Ticked)
    assert core.heard[-1][1] - core.heard[0][1] < 3600


async def test_a_bug_at_a_tick_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "_TICK_AFTER_BUG_S", 0.01)

    def script(event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        if event == GO:
            return [WakeAt(at_s=now)]
        if sum(isinstance(heard, Ticked) for heard, _ in core.heard) == 1:
            raise ZeroDivisionError
        return []

    executor, core = make(script)
    with capture_logs() as logs:
        executor.apply(GO)
        async with asyncio.timeout(PATIENCE_S):
            while sum(isinstance(event, Ticked) for event, _ in core.heard) < 2:
                core.news.clear()
                await core.news.wait()
    assert "event_crashed" in [log["event"] for log in logs]


@pytest.mark.parametrize(
    "outcome",
    [
        SeedFinished(task_id="t", host_id="seed"),
        SeedFailed(task_id="t", host_id="seed", reason="404"),
    ],
)
async def test_the_outcome_of_a_seed_reaches_the_core(outcome: SeedFinished | SeedFailed) -> None:
    executor, core = make(once(TRIGGER), ScriptedSeeds(outcome))
    executor.apply(GO)
    assert await core.hears(type(outcome)) == outcome


async def test_a_bug_in_a_trigger_is_a_failed_seed_not_silence() -> None:
    executor, core = make(once(TRIGGER), ScriptedSeeds(ZeroDivisionError()))
    with capture_logs() as logs:
        executor.apply(GO)
        failed = await core.hears(SeedFailed)
    assert isinstance(failed, SeedFailed)
    assert (failed.task_id, failed.host_id, failed.unreachable) == ("t", "seed", False)
    assert "seed_trigger_crashed" in [log["event"] for log in logs]


async def test_closing_ends_streams_triggers_and_the_timer() -> None:
    seeds = ScriptedSeeds(SeedFinished(task_id="t", host_id="seed"))
    seeds.may_end.clear()
    executor, core = make(
        lambda event, now: [TRIGGER, WakeAt(at_s=now + 3600)] if event == GO else [], seeds
    )
    stream = opened(executor, "p")
    executor.apply(GO)
    await asyncio.wait_for(seeds.entered.wait(), PATIENCE_S)
    await executor.close()
    assert isinstance((await drained(stream))[1], UnavailableError)
    assert [event for event, _ in core.heard] == [GO]
    assert seeds.cancelled


async def test_every_effect_can_be_logged_by_the_glossary() -> None:
    failed = SeedFailed(task_id="t", host_id="seed", reason="404")
    effects: list[SchedulerEffect] = [
        TRIGGER,
        Answer(peer_id="p", answer=NeedBackToSource(description="why")),
        Answer(peer_id="nobody", answer=EmptyTask()),
        CloseStream(peer_id="p", error=NotFoundError("gone")),
        Refuse(error=NotFoundError("who?")),
    ]
    executor, core = make(once(*effects), ScriptedSeeds(failed))
    configure(LogSettings(level="debug"))
    with capture_logs() as logs:
        opened(executor, "p")
        with pytest.raises(NotFoundError):
            executor.apply(GO)
        await core.hears(SeedFailed)
    structlog.reset_defaults()
    assert [log["event"] for log in logs] == [
        "seed_triggered",
        "answered",
        "answer_dropped",
        "stream_closed",
        "request_refused",
        "seed_failed",
    ]
    for log in logs:
        assert set(log) - {"event", "log_level"} <= set(GLOSSARY), log


async def test_what_follows_from_closing_is_not_carried_out() -> None:
    """The end of each stream gives the core reason to ask others, who have no time left."""
    seeds = ScriptedSeeds(SeedFinished(task_id="t", host_id="seed"))
    executor, core = make(
        lambda event, now: [TRIGGER, WakeAt(at_s=now)] if isinstance(event, StreamClosed) else [],
        seeds,
    )
    stream = opened(executor, "p")
    await executor.close()
    executor.drop_stream("p", stream)
    await asyncio.sleep(0)
    assert not seeds.entered.is_set()
    assert core.heard == []
    assert executor.stream_count == 0
    with pytest.raises(UnavailableError, match="shuts down"):
        opened(executor, "q")


async def test_what_the_timer_brings_about_is_not_part_of_the_call_that_set_it() -> None:
    belonging: list[Span] = []

    def script(event: SchedulerEvent, now: float) -> list[SchedulerEffect]:
        belonging.append(current())
        return [WakeAt(at_s=now + 0.01)] if event == GO else []

    executor, core = make(script)
    call = NoSpan()
    with within(call):
        executor.apply(GO)
    await core.hears(Ticked)
    assert belonging == [call, NO_SPAN]
    await executor.close()
