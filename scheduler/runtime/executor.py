"""Carries out what the scheduler's core decides: answers to streams, seed triggers, the timer.

It owns the clock and the open streams, and nothing else: every decision is the core's. All of it
runs on one event loop, so that events reach the core one after the other.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Protocol

import structlog

from odonata.errors import (
    AlreadyExistsError,
    CapacityError,
    OdonataError,
    PreconditionError,
    UnavailableError,
)
from odonata.logs import shows
from odonata.telemetry.record import NoRecorder, Recorder
from odonata.wire.message import Host, NeedBackToSource, NormalTask, SchedulerAnswer
from scheduler.core.effect import (
    Answer,
    CloseStream,
    ProbeHost,
    Refuse,
    SchedulerEffect,
    TriggerSeed,
    WakeAt,
    WriteRecord,
)
from scheduler.core.event import (
    HostUnreachable,
    SchedulerEvent,
    SeedFailed,
    SeedFinished,
    StreamClosed,
    Ticked,
)
from scheduler.runtime.probe import MAX_PROBES, Probe, connects
from scheduler.runtime.stream import PeerStream

# About 25 KiB each with its queue and tasks: 2.5 GiB at the very most. A cluster far beyond that
# has more than one scheduler.
MAX_STREAMS = 100_000

# After a bug in the core's timer: try again, for peers wait for it, but not in a tight loop.
_TICK_AFTER_BUG_S = 1.0

_SHUTTING_DOWN = "the scheduler shuts down"

# What timers of event loops are rounded to.
_TICK_GRAIN_S = 0.001

_log = structlog.get_logger(__name__)


class Core(Protocol):
    """The part of `scheduler.core.core.SchedulerCore` that the executor drives."""

    def handle(self, event: SchedulerEvent, now: float) -> list[SchedulerEffect]: ...


class Seeds(Protocol):
    """Who triggers seeds: see `scheduler.runtime.seed_trigger`."""

    async def run(self, effect: TriggerSeed) -> SeedFinished | SeedFailed: ...


class Executor:
    """Feeds events to the core and carries out the effects."""

    def __init__(
        self,
        core: Core,
        seeds: Seeds,
        recorder: Recorder | None = None,
        probe: Probe = connects,
    ) -> None:
        """`recorder` takes the records of the core's decisions; None: nobody does."""
        self._core = core
        self._seeds = seeds
        self._recorder = recorder or NoRecorder()
        self._loop = asyncio.get_running_loop()
        self._streams: dict[str, PeerStream] = {}
        self._probe = probe
        self._probes: set[asyncio.Task[None]] = set()
        self._triggers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        # Of nobody: what the timer brings about is not part of the call that happened to set it.
        self._own_context = contextvars.copy_context()
        self._closing = False

    @property
    def now(self) -> float:
        """The clock of all events, in seconds since some moment; it never goes back."""
        return self._loop.time()

    @property
    def stream_count(self) -> int:
        """AnnouncePeer streams that are open."""
        return len(self._streams)

    def apply(self, event: SchedulerEvent) -> None:
        """Hand `event` to the core and carry out all effects.

        Raises the error of a Refuse, after the other effects were carried out. Once `close` was
        called nothing happens any more: each stream that ends is a reason to ask others, and there
        is no time left for those.
        """
        if self._closing:
            return
        refusal: OdonataError | None = None
        for effect in self._core.handle(event, self.now):
            if isinstance(effect, Refuse):
                refusal = effect.error
            else:
                self._carry_out(effect)
        if refusal is not None:
            _log.info(
                "request_refused",
                kind=type(event).__name__,
                code=refusal.code,
                reason=refusal.detail,
            )
            raise refusal

    def _carry_out(
        self, effect: Answer | CloseStream | TriggerSeed | ProbeHost | WakeAt | WriteRecord
    ) -> None:
        if isinstance(effect, Answer):
            self._answer(effect)
        elif isinstance(effect, CloseStream):
            self._close(effect)
        elif isinstance(effect, TriggerSeed):
            self._trigger(effect)
        elif isinstance(effect, ProbeHost):
            self._find_out(effect.host)
        elif isinstance(effect, WriteRecord):
            self._recorder.write(effect.record)
        else:
            self._wake_at(effect.at_s)

    # --- streams ----------------------------------------------------------------------------------

    def open_stream(self, peer_id: str, stream: PeerStream) -> None:
        """Answers to `peer_id` go to `stream` from now on; an older stream of that peer ends.

        Raises PreconditionError if the older one is somebody else's, CapacityError if there are too
        many streams, UnavailableError once `close` was called.
        """
        if self._closing:
            raise UnavailableError(_SHUTTING_DOWN)
        older = self._streams.get(peer_id)
        if older is not None and older.owner != stream.owner:
            raise PreconditionError(
                f"peer {peer_id} is another host's or another task's: use a new peer id for each "
                "download"
            )
        if older is not None:
            older.close(AlreadyExistsError(f"peer {peer_id} has opened another stream"))
        elif len(self._streams) >= MAX_STREAMS:
            raise CapacityError(
                f"{MAX_STREAMS} peers are downloading: try again later, or add a scheduler"
            )
        self._streams[peer_id] = stream

    def drop_stream(self, peer_id: str, stream: PeerStream) -> None:
        """`stream` has ended. The core hears of it, unless a newer stream took its place."""
        if self._streams.get(peer_id) is not stream:
            return
        del self._streams[peer_id]
        try:
            self.apply(StreamClosed(peer_id=peer_id))
        except OdonataError as error:
            # Nobody is left to be told; a peer that was refused at registration is unknown to the
            # core.
            _log.debug("stream_end_ignored", peer_id=peer_id, reason=error.detail)

    def _answer(self, effect: Answer) -> None:
        stream = self._streams.get(effect.peer_id)
        if stream is None or not stream.answer(effect.answer):
            _log.info("answer_dropped", peer_id=effect.peer_id, **_told(effect.answer))
            return
        if shows("debug"):
            _log.debug("answered", peer_id=effect.peer_id, **_told(effect.answer))

    def _close(self, effect: CloseStream) -> None:
        # Gone from the table at once: the end of a stream the core closed itself is no news to it.
        stream = self._streams.pop(effect.peer_id, None)
        if stream is None:
            return
        stream.close(effect.error)
        if effect.error is not None:
            _log.info("stream_closed", peer_id=effect.peer_id, code=effect.error.code)
        elif shows("debug"):
            _log.debug("stream_closed", peer_id=effect.peer_id, code="ok")

    # --- seeds ------------------------------------------------------------------------------------

    def _trigger(self, effect: TriggerSeed) -> None:
        _log.info("seed_triggered", task_id=effect.task_id, host_id=effect.host.id)
        task = self._loop.create_task(self._run_trigger(effect))
        self._triggers.add(task)
        task.add_done_callback(self._triggers.discard)

    async def _run_trigger(self, effect: TriggerSeed) -> None:
        try:
            outcome: SeedFinished | SeedFailed = await self._seeds.run(effect)
        except Exception:  # noqa: BLE001  # supervises the trigger: children wait for its outcome
            _log.exception("seed_trigger_crashed", task_id=effect.task_id, host_id=effect.host.id)
            outcome = SeedFailed(
                task_id=effect.task_id, host_id=effect.host.id, reason="a bug in the scheduler"
            )
        if isinstance(outcome, SeedFailed):
            _log.warning(
                "seed_failed",
                task_id=outcome.task_id,
                host_id=outcome.host_id,
                reason=outcome.reason,
                unreachable=outcome.unreachable,
            )
        else:
            _log.info("seed_finished", task_id=outcome.task_id, host_id=outcome.host_id)
        self._apply_alone(outcome)

    # --- hosts ------------------------------------------------------------------------------------

    def _find_out(self, host: Host) -> None:
        if len(self._probes) >= MAX_PROBES:
            _log.info("probe_skipped", host_id=host.id, limit=MAX_PROBES)
            return
        task = self._loop.create_task(self._run_probe(host))
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)

    async def _run_probe(self, host: Host) -> None:
        if not await self._probe(host):
            _log.warning("host_unreachable", host_id=host.id, ip=host.ip)
            self._apply_alone(HostUnreachable(host_id=host.id))

    # --- the timer --------------------------------------------------------------------------------

    def _wake_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._tick, at_s, context=self._own_context)

    def _tick(self, at_s: float) -> None:
        if self.now < at_s:
            # Loops count in milliseconds; the core is never woken before its time.
            self._timer = self._loop.call_later(
                _TICK_GRAIN_S, self._tick, at_s, context=self._own_context
            )
            return
        self._timer = None
        if not self._apply_alone(Ticked()) and self._timer is None:
            self._wake_at(self.now + _TICK_AFTER_BUG_S)

    def _apply_alone(self, event: SchedulerEvent) -> bool:
        # An event with no caller: nobody could be told of an error but the log.
        try:
            self.apply(event)
        except Exception:  # noqa: BLE001  # supervises timer and triggers: a bug must not stop them
            _log.exception("event_crashed", kind=type(event).__name__)
            return False
        return True

    # --- life -------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End streams (UnavailableError), triggers and the timer."""
        self._closing = True
        for stream in self._streams.values():
            stream.close(UnavailableError(_SHUTTING_DOWN))
        if self._timer is not None:
            self._timer.cancel()
        running = (*self._triggers, *self._probes)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


def _told(answer: SchedulerAnswer) -> dict[str, object]:
    told: dict[str, object] = {"answer": type(answer).__name__}
    if isinstance(answer, NormalTask):
        told["parent_ids"] = [parent.peer_id for parent in answer.parents]
    elif isinstance(answer, NeedBackToSource):
        told["reason"] = answer.description
    return told
