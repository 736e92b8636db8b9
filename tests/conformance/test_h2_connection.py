"""The clocks and the socket of our own HTTP/2 server: keepalive, idle and old connections, TLS."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from dragonfly_api import common_pb2, scheduler_pb2
from support.raw_http2 import GOAWAY, HEADERS, PING, raw_http2

from odonata.grpc_client import open_channel
from odonata.grpc_h2 import frame
from odonata.grpc_h2.limits import H2Limits
from odonata.grpc_h2.protocol import H2Protocol
from odonata.grpc_h2.server import H2GrpcServer
from odonata.grpc_service import MAX_QUEUED_RESPONSES, Outlet
from odonata.grpc_stub import scheduler_stub

SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
ANNOUNCE = "/scheduler.v2.Scheduler/AnnouncePeer"
PATIENCE_S = 20


class Flooding:
    """Answers each message with many large ones."""

    def __init__(self, outlet: Outlet, service: Service) -> None:
        self.outlet = outlet
        self.service = service

    def on_messages(self, requests: Sequence[Any]) -> None:
        response = scheduler_pb2.AnnouncePeerResponse(
            need_back_to_source_response={"description": "x" * 100_000}
        )
        for _ in range(2 * MAX_QUEUED_RESPONSES):
            self.service.taken += self.outlet.write(response)

    def on_end(self) -> None:
        self.outlet.end()

    def on_close(self) -> None:
        self.service.closed.set()


class Service:
    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.closed = asyncio.Event()
        self.taken = 0

    def StatTask(self, request: Any, context: Any) -> common_pb2.Task:  # noqa: N802
        context.connection.on_lost(self.lost.set)
        return common_pb2.Task(id=request.task_id)

    def AnnouncePeer(self, outlet: Outlet) -> Flooding:  # noqa: N802
        return Flooding(outlet, self)


@asynccontextmanager
async def serving(
    limits: H2Limits, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[tuple[int, Service]]:
    service, server = Service(), H2GrpcServer(limits)
    server.add_service(SCHEDULER, service)
    port = server.bind_tcp("127.0.0.1", 0, "port", tls)
    await server.start()
    try:
        yield port, service
    finally:
        await server.stop(0)


async def test_a_silent_client_is_pinged_and_dropped() -> None:
    limits = H2Limits(keepalive_time_s=0.2, keepalive_timeout_s=0.2)
    async with serving(limits) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frame.PREFACE + frame.settings_frame({}))
        async with asyncio.timeout(PATIENCE_S):
            said = await reader.read()  # to the end: nobody answers the ping
        writer.close()
    kinds: list[int] = []
    while said:
        length = int.from_bytes(said[:3], "big") + frame.HEAD_BYTES
        kinds.append(said[3])
        said = said[length:]
    assert frame.PING in kinds


async def test_a_client_that_vanishes_in_the_middle_of_a_call_is_noticed_sooner() -> None:
    """Also on a connection that was looked at before its handshake was over."""
    limits = H2Limits(keepalive_time_s=60.0, handshake_timeout_s=60.0).noticing(0.4)
    async with serving(limits) as (port, service), raw_http2("127.0.0.1", port) as raw:
        await raw.call(1, ANNOUNCE)
        await raw.until(HEADERS, 1)  # and answers nothing from now on
        await asyncio.wait_for(service.closed.wait(), PATIENCE_S)


async def test_a_client_that_answers_pings_stays() -> None:
    limits = H2Limits(keepalive_time_s=0.1, keepalive_timeout_s=5.0)
    async with serving(limits) as (port, service):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frame.PREFACE + frame.settings_frame({}))
        pings = 0
        async with asyncio.timeout(PATIENCE_S):
            while pings < 5:
                head = await reader.readexactly(frame.HEAD_BYTES)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == PING:
                    pings += 1
                    writer.write(frame.frame(frame.PING, frame.ACK, 0, payload))
        assert not service.lost.is_set()
        writer.close()


async def test_who_says_nothing_at_all_goes() -> None:
    async with serving(H2Limits(handshake_timeout_s=0.1)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE_S):
            greeting = await reader.read()  # to the end
        assert greeting[3] == frame.SETTINGS
        writer.close()


@pytest.mark.parametrize("limits", [H2Limits(max_idle_s=0.3), H2Limits(max_age_s=0.3)])
async def test_idle_and_old_connections_are_left_in_peace_and_clients_go_on(
    limits: H2Limits,
) -> None:
    async with serving(limits) as (port, service), open_channel(f"127.0.0.1:{port}") as channel:
        stub = scheduler_stub(channel)
        for number in ("1", "2", "3"):
            request = scheduler_pb2.StatTaskRequest(task_id=number)
            assert (await stub.StatTask(request)).id == number
            await asyncio.wait_for(service.lost.wait(), PATIENCE_S)
            service.lost.clear()


async def test_an_old_connection_keeps_its_call_for_the_grace() -> None:
    limits = H2Limits(max_age_s=0.2, age_grace_s=0.5)
    async with serving(limits) as (port, service), raw_http2("127.0.0.1", port) as raw:
        await raw.call(1, ANNOUNCE)
        await raw.until(HEADERS, 1)
        while (await raw.frame()).kind != GOAWAY:
            pass
        assert not service.closed.is_set()
        await asyncio.wait_for(service.closed.wait(), PATIENCE_S)


async def test_connections_beyond_the_bound_are_refused() -> None:
    limits = H2Limits(max_connections=1)
    async with serving(limits) as (port, _), raw_http2("127.0.0.1", port) as raw:
        await raw.call(1, ANNOUNCE)
        await raw.until(HEADERS, 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        writer.close()


async def test_a_connection_that_was_accepted_as_the_server_stopped_is_closed() -> None:
    server = H2GrpcServer()
    await server.stop(0)
    ours, theirs = socket.socketpair()
    with theirs:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: H2Protocol(server), ours)
        assert transport.is_closing()
        assert not server.connections


async def test_a_client_that_does_not_read_its_answers_is_cut() -> None:
    async with serving(H2Limits()) as (port, service), raw_http2("127.0.0.1", port) as raw:
        await raw.call(1, ANNOUNCE)
        await raw.message(1, b"")
        await asyncio.wait_for(service.closed.wait(), PATIENCE_S)
    # What fits the window of 64 KiB, and the bound's worth that waited.
    assert service.taken <= MAX_QUEUED_RESPONSES + 1


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of localhost and its key."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "install openssl"
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    new = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext"]
    new += ["subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(new, check=True, capture_output=True)
    return cert, key


async def test_tls_with_http2_by_alpn(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    async with serving(H2Limits(), tls) as (port, _):
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{port}", trusted) as channel:
            stub = scheduler_stub(channel)
            request = scheduler_pb2.StatTaskRequest(task_id="t" * 1_000_000)
            assert (await stub.StatTask(request)).id == "t" * 1_000_000
        # Who does not speak h2 is not talked to.
        plain = ssl.create_default_context(cafile=str(cert))
        reader, writer = await asyncio.open_connection("localhost", port, ssl=plain)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()
