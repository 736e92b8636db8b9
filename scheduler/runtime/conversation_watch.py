"""What is observed of one AnnouncePeer stream: counters, a span for each question, the sampled log.

The stream's reader tells what it hears, the stream itself what it answers. Nothing here decides,
and with metrics alone a piece costs one call more (`PeerMeter`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from odonata.tracing.span import NO_SPAN, Attribute, Span, Tracer, within
from odonata.wire.dragonfly import PeerRequest
from odonata.wire.message import PeerMessage, Register, SchedulerAnswer
from scheduler.core.story import Decision
from scheduler.runtime.decision_log import DecisionLog, Explain
from scheduler.runtime.peer_metrics import PeerMeter, PeerMetrics
from scheduler.runtime.stream import PeerStream

SPAN_NAME = "schedule"
PARENTS_LIMIT = 16
"""Parents that a span names: an answer has four or eight."""


class Observer:
    """Makes a watch for each stream."""

    def __init__(
        self, metrics: PeerMetrics, tracer: Tracer, log: DecisionLog, explain: Explain
    ) -> None:
        self.metrics = metrics
        self.tracer = tracer
        self.log = log
        self.explain = explain

    def watch(self, stream: PeerStream) -> ConversationWatch:
        """For this stream, whose answers it will hear of."""
        watch = ConversationWatch(self, self.metrics.meter())
        stream.on_answer = watch.answered
        return watch


class ConversationWatch:
    """`asking` around each question, `piece` or `heard` after any other message, `ended` last."""

    __slots__ = ("_meter", "_observer", "_peer_id", "_span", "heard", "piece")

    def __init__(self, observer: Observer, meter: PeerMeter) -> None:
        self._observer = observer
        self._meter = meter
        self._peer_id = ""
        self._span: Span = NO_SPAN
        self.piece = meter.piece
        self.heard = meter.heard
        """The meter's own: there is nothing else to observe, and pieces come in great numbers."""

    @contextmanager
    def asking(self, request: PeerRequest) -> Generator[None]:
        """While the core takes a Register or a Reschedule."""
        self._peer_id = request.peer_id
        self._count(request.host_id, request.task_id, request.message)
        if not self._observer.tracer.is_on:
            yield
            return
        self._span.end()  # asked again before the first answer
        self._span = span = self._observer.tracer.start(SPAN_NAME, _asked(request))
        with within(span):
            yield
        if self._meter.is_waiting and span.is_recorded:
            span.note("waiting", {"reason": self._latest_reason()})

    def _count(self, host_id: str, task_id: str, message: PeerMessage) -> None:
        if isinstance(message, Register):
            self._meter.registers(host_id, task_id, message.download)
        else:
            self._meter.asks()

    def answered(self, answer: SchedulerAnswer) -> None:
        """The core answered, maybe long after it was asked, or without."""
        was_asked = self._meter.is_waiting
        self._meter.answered()
        observer = self._observer
        observer.log.answered(self._peer_id, answer)
        if not observer.tracer.is_on:
            return
        span = self._span if was_asked else observer.tracer.start(SPAN_NAME, {"asked": False})
        if span.is_recorded:
            span.tell({"answer": type(answer).__name__} | self._latest())
        span.end()

    def ended(self) -> None:
        """The stream is over."""
        if self._meter.is_waiting:
            self._span.fail("the stream ended before an answer")
        self._span.end()
        self._meter.ended()

    def _latest_reason(self) -> str:
        found = self._observer.explain(child_id=self._peer_id, latest=1)
        return found[-1].reason if found else ""

    def _latest(self) -> dict[str, Attribute]:
        found = self._observer.explain(child_id=self._peer_id, latest=1)
        return _told(found[-1]) if found else {}


def _asked(request: PeerRequest) -> dict[str, Attribute]:
    return {
        "peer_id": request.peer_id,
        "task_id": request.task_id,
        "host_id": request.host_id,
        "asked": True,
        "question": type(request.message).__name__,
    }


def _told(decision: Decision) -> dict[str, Attribute]:
    """A decision as a span's attributes: keys as in the logs."""
    chosen = [one.peer_id for one in decision.candidates if not one.dropped]
    return {
        "peer_id": decision.child_id,
        "task_id": decision.task_id,
        "outcome": str(decision.outcome),
        "reason": decision.reason,
        "decision_id": decision.decision_id,
        "ranker": decision.ranker,
        "ranked_by": decision.ranked_by,
        "model_version": decision.model_version,
        "fallback": decision.fallback,
        "explored": decision.explored,
        "candidates": decision.useful_count,
        "parent_ids": tuple(chosen[:PARENTS_LIMIT]),
    }
