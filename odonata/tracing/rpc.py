"""A span for each call of a gRPC service, child of its caller's if the call's metadata names one.

For `GrpcServer.add_service(watches=...)`. Names and attributes are those of OpenTelemetry's
semantic conventions for rpc.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from odonata.grpc_service import Watch, Watched
from odonata.tracing.span import TRACEPARENT, TRACESTATE, Metadata, Tracer, spanning


def rpc_watches(tracer: Tracer) -> Sequence[Watch]:
    """None if tracing is off: calls cost what they did without."""
    return (_RpcSpans(tracer).watch,) if tracer.is_on else ()


class _RpcSpans:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def watch(self, method: MethodDescriptor) -> Callable[[Any, Any], Watched]:
        service = method.containing_service.full_name
        name = f"{service}/{method.name}"
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method.name}

        @contextmanager
        def spanned(request: Any, context: Any) -> Generator[Any]:
            metadata = _trace_of(context.invocation_metadata())
            with spanning(self._tracer.serve(name, metadata, attributes)):
                yield request

        return spanned


def _trace_of(metadata: Any) -> Metadata:  # grpc.aio.Metadata, which ships without types
    return tuple(
        (key, value)
        for key, value in metadata or ()
        if key in (TRACEPARENT, TRACESTATE) and isinstance(value, str)
    )
