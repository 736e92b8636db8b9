"""Every form of a method on both gRPC servers, called by grpcio's sync and aio clients and h2load.

What only our own server can do (no deadline for some rpcs, who the connection is) is asked of it
alone.
"""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2, scheduler_pb2
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from support.raw_http2 import DATA, HEADERS, raw_http2

from odonata.errors import NotFoundError
from odonata.grpc_client import open_channel
from odonata.grpc_h2.server import H2GrpcServer
from odonata.grpc_server import GrpcServer
from odonata.grpc_service import Outlet
from odonata.grpc_stub import health_stub, scheduler_stub, upload_stub

AnyServer = GrpcServer | H2GrpcServer

UPLOAD = dfdaemon_pb2.DESCRIPTOR.services_by_name["DfdaemonUpload"]
SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
MIB = 1024 * 1024
PATIENCE_S = 30
MANY = 10_000
EACH = 100


@pytest.fixture(params=[GrpcServer, H2GrpcServer], ids=["grpcio", "h2"])
def kind(request: pytest.FixtureRequest) -> type[AnyServer]:
    """The server under test."""
    found: type[AnyServer] = request.param
    return found


def answer(text: str) -> scheduler_pb2.AnnouncePeerResponse:
    return scheduler_pb2.AnnouncePeerResponse(
        need_back_to_source_response=scheduler_pb2.NeedBackToSourceResponse(description=text)
    )


def text_of(response: scheduler_pb2.AnnouncePeerResponse) -> str:
    return response.need_back_to_source_response.description


def question(text: str) -> scheduler_pb2.AnnouncePeerRequest:
    return scheduler_pb2.AnnouncePeerRequest(host_id="h", task_id="t", peer_id=text)


class Counting:
    """A listener: answers each hundredth message, and at the end how many there were."""

    def __init__(self, outlet: Outlet, closed: asyncio.Event) -> None:
        self.outlet = outlet
        self.seen: list[str] = []
        self.closed = closed

    def on_messages(self, requests: Sequence[Any]) -> None:
        for request in requests:
            self.seen.append(request.peer_id)
            if request.peer_id == "stop":
                self.outlet.end(NotFoundError("told to stop"))
                return
            if len(self.seen) % EACH == 0:
                self.outlet.write(answer(request.peer_id))

    def on_end(self) -> None:
        self.outlet.write(answer(f"all {len(self.seen)}"))
        self.outlet.end()

    def on_close(self) -> None:
        self.closed.set()


class Forms:
    """A method in each form."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.listeners: list[Counting] = []
        self.written = 0
        self.metadata: list[Any] = []

    def StatTask(self, request: Any, _context: Any) -> common_pb2.Task:  # noqa: N802
        if request.task_id == "missing":
            raise NotFoundError("task ü\n100 % missing")
        return common_pb2.Task(id=request.task_id)

    async def StatPeer(self, request: Any, context: Any) -> common_pb2.Peer:  # noqa: N802
        self.metadata = list(context.invocation_metadata())
        if request.peer_id == "never":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        await context.send_initial_metadata((("early", "1"), ("early-bin", b"\x00\xff")))
        context.set_trailing_metadata((("late", "2"),))
        return common_pb2.Peer(id=request.peer_id, state="x" * int(request.task_id))

    def AnnouncePeer(self, outlet: Outlet) -> Counting:  # noqa: N802
        listener = Counting(outlet, self.closed)
        self.listeners.append(listener)
        return listener

    async def AnnounceCachePeer(  # noqa: N802
        self, requests: AsyncIterator[Any], context: Any
    ) -> None:
        async for request in requests:
            await context.write(
                scheduler_pb2.AnnounceCachePeerResponse(
                    need_back_to_source_response=scheduler_pb2.NeedBackToSourceResponse(
                        description=request.peer_id
                    )
                )
            )


class Pieces:
    """A stream that writes as much as the client lets it."""

    def __init__(self) -> None:
        self.written = 0

    async def SyncPieces(self, request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802
        for number in range(int(request.task_id)):
            yield dfdaemon_pb2.SyncPiecesResponse(number=number, ip="x" * MIB)
            self.written += 1

    async def DeleteTask(self, _request: Any, context: Any) -> Empty:  # noqa: N802
        await context.abort(grpc.StatusCode.DATA_LOSS, "by hand", (("why", "so"),))
        raise AssertionError("abort() leaves the handler")


@asynccontextmanager
async def serving(kind: type[AnyServer], forms: Forms, pieces: Pieces) -> AsyncGenerator[str]:
    server = kind()
    server.add_service(SCHEDULER, forms, stream_metadata=(("k", "v"),))
    server.add_service(UPLOAD, pieces)
    port = server.bind_tcp("127.0.0.1", 0, "port")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@pytest.fixture
def forms() -> Forms:
    return Forms()


@pytest.fixture
def pieces() -> Pieces:
    return Pieces()


@pytest.fixture
async def address(kind: type[AnyServer], forms: Forms, pieces: Pieces) -> AsyncIterator[str]:
    async with serving(kind, forms, pieces) as found:
        yield found


# --- one request, one answer ----------------------------------------------------------------------


async def test_a_plain_method_answers_and_its_errors_keep_their_text(address: str) -> None:
    async with open_channel(address) as channel:
        stub = scheduler_stub(channel)
        assert (await stub.StatTask(scheduler_pb2.StatTaskRequest(task_id="a"))).id == "a"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StatTask(scheduler_pb2.StatTaskRequest(task_id="missing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "task ü\n100 % missing"


async def test_metadata_travel_both_ways_binary_ones_too(address: str, forms: Forms) -> None:
    async with open_channel(address) as channel:
        call = scheduler_stub(channel).StatPeer(
            scheduler_pb2.StatPeerRequest(peer_id="p", task_id="0"),
            metadata=(("my-key", "v 1"), ("my-bin", b"\x00\x01\xfe"), ("my-key", "v 2")),
        )
        assert (await call).id == "p"
        initial, trailing = (
            dict(await call.initial_metadata()),
            dict(await call.trailing_metadata()),
        )
    assert (initial["early"], initial["early-bin"]) == ("1", b"\x00\xff")
    assert trailing["late"] == "2"
    told = [(key, value) for key, value in forms.metadata if key.startswith("my-")]
    assert sorted(told, key=str) == sorted(
        [("my-key", "v 1"), ("my-bin", b"\x00\x01\xfe"), ("my-key", "v 2")], key=str
    )


async def test_a_handler_may_end_its_call_by_hand(address: str) -> None:
    async with open_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await upload_stub(channel).DeleteTask(dfdaemon_pb2.DeleteTaskRequest())
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert caught.value.details() == "by hand"
    assert dict(caught.value.trailing_metadata())["why"] == "so"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_understood(
    address: str, compression: grpc.Compression
) -> None:
    async with open_channel(address) as channel:
        request = scheduler_pb2.StatTaskRequest(task_id="a" * 100_000)
        answered = await scheduler_stub(channel).StatTask(request, compression=compression)
    assert answered.id == "a" * 100_000


async def test_large_messages_pass_both_ways(address: str) -> None:
    async with open_channel(address) as channel:
        stub = scheduler_stub(channel)
        assert (await stub.StatTask(scheduler_pb2.StatTaskRequest(task_id="b" * 9 * MIB))).id
        request = scheduler_pb2.StatPeerRequest(peer_id="p", task_id=str(8 * MIB))
        assert len((await stub.StatPeer(request)).state) == 8 * MIB


async def test_a_deadline_ends_the_call_and_its_handler(address: str, forms: Forms) -> None:
    async with open_channel(address) as channel:
        stub = scheduler_stub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StatPeer(scheduler_pb2.StatPeerRequest(peer_id="never"), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(PATIENCE_S):
            await forms.cancelled.wait()


async def test_many_calls_at_once_share_a_connection(address: str) -> None:
    async with open_channel(address) as channel:
        stub = scheduler_stub(channel)
        requests = [scheduler_pb2.StatTaskRequest(task_id=str(n)) for n in range(500)]
        answers = await asyncio.gather(*(stub.StatTask(request) for request in requests))
    assert [one.id for one in answers] == [str(n) for n in range(500)]


# --- conversations --------------------------------------------------------------------------------


async def test_a_sync_client_sends_ten_thousand_messages_to_a_listener(
    address: str, forms: Forms
) -> None:
    def converse() -> list[str]:
        with grpc.insecure_channel(address) as channel:
            stub = scheduler_stub(channel)
            questions = (question(str(n)) for n in range(MANY))
            return [text_of(response) for response in stub.AnnouncePeer(questions, timeout=60)]

    answers = await asyncio.to_thread(converse)
    assert answers == [str(n) for n in range(EACH - 1, MANY, EACH)] + [f"all {MANY}"]
    assert forms.listeners[0].seen == [str(n) for n in range(MANY)]
    await asyncio.wait_for(forms.closed.wait(), PATIENCE_S)


async def test_a_sync_client_sends_ten_thousand_messages_to_a_coroutine(address: str) -> None:
    def converse() -> list[str]:
        with grpc.insecure_channel(address) as channel:
            stub = scheduler_stub(channel)
            questions = (
                scheduler_pb2.AnnounceCachePeerRequest(host_id="h", peer_id=str(n))
                for n in range(MANY)
            )
            call = stub.AnnounceCachePeer(questions, timeout=60)
            return [response.need_back_to_source_response.description for response in call]

    assert await asyncio.to_thread(converse) == [str(n) for n in range(MANY)]


async def test_a_listener_ends_the_call_while_the_client_still_sends(
    address: str, forms: Forms
) -> None:
    async with open_channel(address) as channel:
        call = scheduler_stub(channel).AnnouncePeer()
        assert dict(await call.initial_metadata())["k"] == "v"
        await call.write(question("stop"))
        assert await asyncio.wait_for(call.code(), PATIENCE_S) is grpc.StatusCode.NOT_FOUND
        assert await call.details() == "told to stop"
        await asyncio.wait_for(forms.closed.wait(), PATIENCE_S)


async def test_a_listener_hears_that_the_client_cancelled(address: str, forms: Forms) -> None:
    async with open_channel(address) as channel:
        call = scheduler_stub(channel).AnnouncePeer()
        await call.write(question("1"))
        await call.initial_metadata()
        call.cancel()
        await asyncio.wait_for(forms.closed.wait(), PATIENCE_S)


async def test_a_listener_hears_that_the_connection_is_gone(address: str, forms: Forms) -> None:
    ip, port = address.split(":")
    async with raw_http2(ip, int(port)) as raw:
        await raw.call(1, "/scheduler.v2.Scheduler/AnnouncePeer")
        await raw.until(HEADERS, 1)
    await asyncio.wait_for(forms.closed.wait(), PATIENCE_S)


async def test_a_stream_is_written_no_faster_than_it_is_read(address: str, pieces: Pieces) -> None:
    async with open_channel(address) as channel:
        call = upload_stub(channel).SyncPieces(dfdaemon_pb2.SyncPiecesRequest(task_id="200"))
        assert (await call.read()).number == 0
        unary = upload_stub(channel)
        for _ in range(20):  # the connection serves others meanwhile
            with pytest.raises(grpc.aio.AioRpcError):
                await unary.DeleteTask(dfdaemon_pb2.DeleteTaskRequest())
        assert pieces.written < 100
        numbers = [(await call.read()).number for _ in range(199)]
    assert numbers == list(range(1, 200))


# --- health and reflection ------------------------------------------------------------------------


async def test_health_is_watched(address: str) -> None:
    async with open_channel(address) as channel:
        call = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        unknown = health_stub(channel).Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert await unknown.code() is grpc.StatusCode.NOT_FOUND
        call.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(address: str, version: str) -> None:
    async with open_channel(address) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call: Any = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {one.name for one in (await call.read()).list_services_response.service}
    assert {"scheduler.v2.Scheduler", "dfdaemon.v2.DfdaemonUpload"} <= names


async def test_an_unknown_method_is_unimplemented(address: str) -> None:
    async with open_channel(address) as channel:
        nowhere: Any = channel
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await nowhere.unary_unary("/nobody.Here/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- a third party --------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("h2load") is None, reason="apt install nghttp2-client")
async def test_h2load_is_answered(address: str, tmp_path: Path) -> None:
    body = scheduler_pb2.StatTaskRequest(task_id="t" * 64).SerializeToString()
    file = tmp_path / "body"
    file.write_bytes(struct.pack(">BI", 0, len(body)) + body)
    command = ["h2load", "-n", "4000", "-c", "4", "-m", "64", "-d", str(file)]
    command += ["-H", "te: trailers", "-H", "content-type: application/grpc"]
    command += [f"http://{address}/scheduler.v2.Scheduler/StatTask"]
    run = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=True
    )
    assert "4000 succeeded, 0 failed, 0 errored, 0 timeout" in run.stdout, run.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="apt install curl")
async def test_curl_is_answered(address: str, tmp_path: Path) -> None:
    body = scheduler_pb2.StatTaskRequest(task_id="t" * 64).SerializeToString()
    file, out = tmp_path / "body", tmp_path / "out"
    file.write_bytes(struct.pack(">BI", 0, len(body)) + body)
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{file}", "-D", "-"]
    command += ["-H", "te: trailers", "-H", "content-type: application/grpc", "-o", str(out)]
    command += [f"http://{address}/scheduler.v2.Scheduler/StatTask"]
    run = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.startswith("HTTP/2 200")
    assert "grpc-status: 0" in run.stdout
    assert common_pb2.Task.FromString(out.read_bytes()[5:]).id == "t" * 64


# --- what only our own server can do --------------------------------------------------------------


async def test_an_rpc_may_go_on_after_the_clients_deadline() -> None:
    class Late:
        def __init__(self) -> None:
            self.go = asyncio.Event()

        async def SyncPieces(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802
            await self.go.wait()
            yield dfdaemon_pb2.SyncPiecesResponse(number=7)

        async def SyncHost(self, _request: Any, _context: Any) -> None:  # noqa: N802
            await asyncio.Event().wait()

    late, server = Late(), H2GrpcServer()
    server.add_service(UPLOAD, late, without_deadline={"SyncPieces"})
    port = server.bind_tcp("127.0.0.1", 0, "port")
    await server.start()
    async with raw_http2("127.0.0.1", port) as raw:
        await raw.call(1, "/dfdaemon.v2.DfdaemonUpload/SyncPieces", {"grpc-timeout": "1m"})
        await raw.until(HEADERS, 1)
        await raw.message(1, b"")
        await raw.send(DATA, 0x1, 1)
        # Another call, with the same deadline, ends by it: so would this one have.
        await raw.call(3, "/dfdaemon.v2.DfdaemonUpload/SyncHost", {"grpc-timeout": "1m"})
        await raw.message(3, b"")
        await raw.send(DATA, 0x1, 3)
        while not (await raw.until(HEADERS, 3))[-1].ends_stream:
            pass
        late.go.set()
        frames = await raw.until(DATA, 1)
    assert frames[-1].payload[5:] == dfdaemon_pb2.SyncPiecesResponse(number=7).SerializeToString()
    await server.stop(0)


async def test_a_handler_knows_the_connection_of_its_calls_and_hears_of_its_end() -> None:
    seen: list[Any] = []
    lost = asyncio.Event()

    class Who:
        def StatTask(self, _request: Any, context: Any) -> common_pb2.Task:  # noqa: N802
            seen.append(context.connection.id)
            context.connection.on_lost(lost.set)
            return common_pb2.Task()

    server = H2GrpcServer()
    server.add_service(SCHEDULER, Who())
    port = server.bind_tcp("127.0.0.1", 0, "port")
    await server.start()
    for _ in range(2):
        async with open_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(2):
                await scheduler_stub(channel).StatTask(scheduler_pb2.StatTaskRequest())
        await asyncio.wait_for(lost.wait(), PATIENCE_S)
        lost.clear()
    assert seen[0] == seen[1] != seen[2] == seen[3]
    await server.stop(0)
