"""Spans by the OpenTelemetry SDK, sent by OTLP. Loaded only by a program that traces.

Spans that are over wait in a bounded queue for a thread that sends them. If the collector does not
answer, the queue fills up and the oldest spans are dropped; nothing ever waits for the collector
but that thread, and the program's end for `CLOSE_S`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, Final

import requests
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from odonata import __version__
from odonata.redaction import redact_text
from odonata.tracing.settings import TracingSettings
from odonata.tracing.span import Attributes, Metadata, Span, current

QUEUE_SPANS: Final = 8192
"""Spans that wait to be sent: about 2 KiB each, 16 MiB; some seconds of a busy scheduler."""
BATCH_SPANS: Final = 512
DELAY_S: Final = 1.0
"""How long a span waits for others to be sent along with it."""
EXPORT_S: Final = 5.0
"""How long a collector may take for one batch, with all tries; then the batch is lost."""
CLOSE_S: Final = 3.0

_NO_PROXY: Final = (("grpc.enable_http_proxy", 0),)  # as for all our connections
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_LIBRARY: Final = "opentelemetry"


class OtlpSpan:
    """A `Span` over one of OpenTelemetry's."""

    __slots__ = ("_span", "metadata")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, self.context)
        self.metadata: Metadata = tuple(carrier.items())

    @property
    def context(self) -> Context:
        """What children are started in."""
        return trace.set_span_in_context(self._span, Context())

    @property
    def is_recorded(self) -> bool:
        """See `Span`."""
        return self._span.is_recording()

    def tell(self, attributes: Attributes) -> None:
        """See `Span`."""
        self._span.set_attributes(_without_secrets(attributes))

    def note(self, name: str, attributes: Attributes) -> None:
        """See `Span`."""
        self._span.add_event(name, _without_secrets(attributes))

    def fail(self, reason: str) -> None:
        """See `Span`."""
        self._span.set_status(trace.StatusCode.ERROR, redact_text(reason))

    def end(self) -> None:
        """See `Span`."""
        if self._span.is_recording():  # a second end is a warning in OpenTelemetry
            self._span.end()


class OtlpTracer:
    """A `Tracer`. Its threads end with `close`."""

    is_on = True

    def __init__(self, settings: TracingSettings, program: str, instance: str) -> None:
        """`program` is its name ("scheduler"); `instance` tells it from others of that name."""
        # Each line of theirs would be one for each batch that a dead collector does not take.
        logging.getLogger(_LIBRARY).setLevel(logging.ERROR)
        resource = Resource.create(
            {
                "service.name": settings.service_name or f"odonata-{program}",
                "service.version": __version__,
                "service.instance.id": instance,
            }
        )
        sampler = ParentBased(TraceIdRatioBased(settings.sampling_ratio))
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _exporter(settings),
                max_queue_size=QUEUE_SPANS,
                schedule_delay_millis=DELAY_S * 1e3,
                max_export_batch_size=BATCH_SPANS,
            )
        )
        self._tracer = self._provider.get_tracer("odonata", __version__)

    def start(self, name: str, attributes: Attributes | None = None) -> Span:
        """See `Tracer`."""
        parent = current()
        context = parent.context if isinstance(parent, OtlpSpan) else Context()
        return OtlpSpan(self._tracer.start_span(name, context, attributes=attributes))

    def serve(self, name: str, metadata: Metadata, attributes: Attributes) -> Span:
        """See `Tracer`."""
        context = _PROPAGATOR.extract(dict(metadata), Context())
        kind = trace.SpanKind.SERVER
        return OtlpSpan(self._tracer.start_span(name, context, kind, attributes))

    async def close(self) -> None:
        """See `Tracer`. Takes `CLOSE_S` at most."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_S)


def _without_secrets(attributes: Attributes) -> Attributes:
    """Ids and numbers are none; a reason may quote what a source or a seed said, URLs and all."""
    reason = attributes.get("reason")
    if not isinstance(reason, str):
        return attributes
    return {**attributes, "reason": redact_text(reason)}


def _exporter(settings: TracingSettings) -> SpanExporter:
    """By the protocol; each is a package of its own, and the other one is not loaded."""
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        options: Any = _NO_PROXY  # declared with texts for values, which is not what gRPC takes
        return OTLPSpanExporter(
            endpoint=settings.endpoint,
            insecure=True,
            headers={name.lower(): value for name, value in settings.header().items()},
            timeout=EXPORT_S,
            channel_options=options,
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter as HttpSpanExporter,
    )

    session = requests.Session()
    session.trust_env = False  # no proxy of the environment
    return HttpSpanExporter(
        endpoint=f"{settings.protocol}://{settings.endpoint}{settings.path}",
        headers=settings.header(),
        timeout=EXPORT_S,
        session=session,
    )
