"""A collector of spans for tests: OTLP by gRPC or by HTTP; what it got is kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

PATIENCE_S = 30.0
"""Spans wait a second to be sent; the rest is for a loaded machine."""


@dataclass(frozen=True)
class Got:
    """A span as it was received. Ids are hexadecimal, "" if there is none."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...]
    failure: str | None  # None: it went well


@dataclass
class Receiver:
    """`address` is where it listens; `headers` are those of the latest export."""

    address: str = ""
    spans: list[Got] = field(default_factory=list[Got])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = str(_plain(resource.resource.attributes)["service.name"])
            for scope in resource.scope_spans:
                self.spans += [_got(service, span) for span in scope.spans]
        self._news.set()

    async def until(self, found: Callable[[list[Got]], bool]) -> list[Got]:
        """All spans, as soon as `found(spans)`; TimeoutError tells the names of those that came."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not found(self.spans):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"came: {[(s.service, s.name) for s in self.spans]}") from None
        return self.spans

    def named(self, service: str, name: str) -> list[Got]:
        """Those of a service whose name ends so."""
        return [one for one in self.spans if one.service == service and one.name.endswith(name)]


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def Export(  # noqa: N802  # the rpc's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._receiver.headers = {
            key: str(value) for key, value in context.invocation_metadata() or ()
        }
        self._receiver.take(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def receiving_grpc() -> AsyncGenerator[Receiver]:
    """A collector on any port of loopback, by gRPC."""
    receiver = Receiver()
    server: Any = grpc.aio.server()
    stubs: Any = trace_service_pb2_grpc  # generated, without types
    stubs.add_TraceServiceServicer_to_server(_Servicer(receiver), server)
    receiver.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield receiver
    finally:
        await server.stop(0)


@asynccontextmanager
async def receiving_http(path: str = "/v1/traces") -> AsyncGenerator[Receiver]:
    """A collector on any port of loopback, by HTTP with protobuf."""
    receiver = Receiver()

    async def export(request: web.Request) -> web.Response:
        receiver.headers = dict(request.headers)
        body = await request.read()
        receiver.take(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
        answer = trace_service_pb2.ExportTraceServiceResponse()
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post(path, export)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.address = f"127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


def _got(service: str, span: Any) -> Got:
    failed = span.status.code == Status.STATUS_CODE_ERROR
    return Got(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_plain(span.attributes),
        events=tuple((event.name, _plain(event.attributes)) for event in span.events),
        failure=span.status.message if failed else None,
    )


def _plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind or "string_value")
