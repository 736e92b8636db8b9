"""The tracer that settings ask for. OpenTelemetry is loaded only if they name a collector."""

from __future__ import annotations

from odonata.tracing.settings import TracingSettings
from odonata.tracing.span import NO_TRACER, Tracer


def open_tracer(settings: TracingSettings, program: str, instance: str) -> Tracer:
    """A tracer for `program` ("scheduler"); `instance` tells this process from others like it."""
    if not settings.is_on:
        return NO_TRACER
    from odonata.tracing.otlp import OtlpTracer  # noqa: PLC0415  # heavy, and seldom wanted

    return OtlpTracer(settings, program, instance)
