"""Spans reach a collector, by gRPC and by HTTP; a collector that does not answer slows nobody."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
from support.otlp_receiver import Receiver, receiving_grpc, receiving_http
from support.scheduler_client import connected, host, settings

from odonata.errors import NotFoundError
from odonata.tracing import otlp
from odonata.tracing.opening import open_tracer
from odonata.tracing.otlp import OtlpTracer
from odonata.tracing.settings import TracingSettings
from odonata.tracing.span import NO_TRACER, carried, current, spanning
from scheduler.runtime.app import SchedulerApp
from scheduler.settings import SchedulerSettings

Receiving = Callable[[], AbstractAsyncContextManager[Receiver]]
CALLER = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
UNSAMPLED = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")


def tracing(address: str, protocol: str = "grpc", **more: Any) -> TracingSettings:
    return TracingSettings.model_validate(
        {"protocol": protocol, "endpoint": address, "headers": {"X-Token": "secret"}, **more}
    )


@pytest.mark.parametrize(
    ("protocol", "receiving", "more"),
    [
        ("grpc", receiving_grpc, {}),
        ("http", receiving_http, {}),
        ("http", lambda: receiving_http("/elsewhere"), {"path": "/elsewhere"}),
    ],
    ids=["grpc", "http", "another path"],
)
async def test_spans_reach_the_collector(
    protocol: str, receiving: Receiving, more: dict[str, str]
) -> None:
    async with receiving() as receiver:
        told = tracing(receiver.address, protocol, service_name="name", **more)
        tracer = open_tracer(told, "scheduler", "here")
        with (
            spanning(tracer.start("outer", {"task_id": "t"})),
            suppress(NotFoundError),
            spanning(tracer.start("inner")) as inner,
        ):
            inner.note("moment", {"reason": "r"})
            raise NotFoundError("nothing there")
        await tracer.close()
        by_name = {one.name: one for one in receiver.spans}
    assert set(by_name) == {"outer", "inner"}
    outer, inner_got = by_name["outer"], by_name["inner"]
    assert (outer.service, outer.attributes, outer.failure) == ("name", {"task_id": "t"}, None)
    assert (inner_got.parent_id, inner_got.trace_id) == (outer.span_id, outer.trace_id)
    assert inner_got.failure == "nothing there"
    assert inner_got.events == (("moment", {"reason": "r"}),)
    lower = {name.lower(): value for name, value in receiver.headers.items()}
    assert lower["x-token"] == "secret"


async def test_no_secret_leaves_in_a_span() -> None:
    said = "the source answered 403: http://me:hush@a.example/b?X-Amz-Signature=hush"
    async with receiving_grpc() as receiver:
        tracer = open_tracer(tracing(receiver.address), "scheduler", "here")
        span = tracer.start("one")
        span.tell({"reason": said})
        span.note("waiting", {"reason": said})
        span.fail(said)
        span.end()
        await tracer.close()
    (got,) = receiver.spans
    told = repr(got)
    assert "hush" not in told
    assert told.count("the source answered 403") == 3


async def test_a_share_of_the_traces_that_begin_here_and_all_that_others_began() -> None:
    async with receiving_grpc() as receiver:
        tracer = open_tracer(tracing(receiver.address, sampling_ratio=0.0), "scheduler", "here")
        with spanning(tracer.start("mine")) as mine:
            assert not mine.is_recorded
            with spanning(tracer.start("child")) as child:
                assert not child.is_recorded
        with spanning(tracer.serve("theirs", (CALLER,), {})) as theirs:
            assert theirs.is_recorded
            ((key, value),) = carried()
            assert key == "traceparent"
            assert value.split("-")[1] == CALLER[1].split("-")[1]
        tracer.serve("not theirs", (UNSAMPLED,), {}).end()
        await tracer.close()
    assert [one.name for one in receiver.spans] == ["theirs"]
    assert receiver.spans[0].parent_id == CALLER[1].split("-")[2]


async def test_without_a_collector_there_is_nothing() -> None:
    assert open_tracer(TracingSettings(), "scheduler", "here") is NO_TRACER
    with spanning(NO_TRACER.start("x")) as span:
        assert current() is span
        assert carried() == ()


async def test_a_span_of_an_rpc_is_a_child_of_its_caller() -> None:
    async with receiving_grpc() as receiver:
        chosen = settings().model_copy(update={"tracing": tracing(receiver.address)})
        async with SchedulerApp(chosen) as app, connected(app.address) as client:
            await client.announce(host("a", "127.0.0.2"))
            with pytest.raises(Exception, match="not found"):
                await client.stat_task("b" * 64)
        spans = {one.name.rpartition("/")[2]: one for one in receiver.spans}
    assert set(spans) == {"AnnounceHost", "StatTask"}
    assert spans["AnnounceHost"].failure is None
    assert "not found" in (spans["StatTask"].failure or "")


# --- a collector that does not answer -------------------------------------------------------------


async def many_calls(chosen: SchedulerSettings, calls: int) -> float:
    """Seconds that a scheduler took for so many calls, after some to warm up."""
    async with SchedulerApp(chosen) as app, connected(app.address) as client:
        for _ in range(20):
            await client.announce(host("a", "127.0.0.2"))
        began_s = time.perf_counter()
        for _ in range(calls):
            await client.announce(host("a", "127.0.0.2"))
        return time.perf_counter() - began_s


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_collector_that_takes_nothing_holds_nobody_up(protocol: str) -> None:
    """It accepts connections, and that is all: each export waits for its deadline."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        chosen = settings().model_copy(update={"tracing": tracing(address, protocol)})
        async with asyncio.timeout(otlp.EXPORT_S + otlp.CLOSE_S + 20):
            # Longer than a span waits, so that exports are under way; 3 ms each would be too slow.
            took_s = await many_calls(chosen, 1000)
    assert took_s < otlp.EXPORT_S, "a call waited for an export"


async def test_the_end_waits_for_a_dead_collector_no_longer_than_said() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        tracer = OtlpTracer(tracing(f"127.0.0.1:{deaf.getsockname()[1]}"), "scheduler", "here")
        for _ in range(otlp.QUEUE_SPANS + 3 * otlp.BATCH_SPANS):
            tracer.start("x").end()
        began_s = time.perf_counter()
        await tracer.close()
        took_s = time.perf_counter() - began_s
    assert took_s < (otlp.CLOSE_S + otlp.EXPORT_S) / 2, "17 batches of 5 s each were waited for"
