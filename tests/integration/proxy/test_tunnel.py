"""CONNECT, with a real TLS server behind it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.content import make_content
from support.eventually import eventually
from support.http_client import TIMEOUT_S, HttpClient, request
from support.memory_hub import MIB, MemoryHub

from peer.core.proxy_rule import ProxyPolicy
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, in one PEM file."""
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-keyout", str(pem), "-out", str(pem.with_suffix(".crt"))]
    subprocess.run(
        [*new, "-nodes", "-days", "2", *subject, *files], check=True, capture_output=True
    )
    pem.write_bytes(pem.read_bytes() + pem.with_suffix(".crt").read_bytes())
    return pem


@asynccontextmanager
async def echo_server(tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Sends everything back; on the end of what comes it says `bye` and ends. Yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_tls_through_the_tunnel(proxy: ProxyServer, certificate: Path) -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    client_side = ssl.create_default_context(cafile=certificate)
    content = make_content(2 * MIB)
    async with echo_server(server_side) as port, HttpClient(proxy.address) as client:
        answer_head = await connect(client, port)
        assert answer_head == (200, "Connection established")
        await client.writer.start_tls(client_side, server_hostname="localhost")
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
            group.create_task(client.send(content))
            assert await client.reader.readexactly(len(content)) == content
    assert proxy.counters.bytes_tunnel > 2 * len(content)
    assert proxy.counters.requests_tunnel == 1


async def test_bytes_sent_along_with_connect_arrive(proxy: ProxyServer) -> None:
    async with echo_server() as port, HttpClient(proxy.address) as client:
        await client.send(
            request(f"127.0.0.1:{port}", method="CONNECT").replace("\n", "\r\n").encode() + b"early"
        )
        assert (await client.head()).status == 200
        async with asyncio.timeout(TIMEOUT_S):
            assert await client.reader.readexactly(5) == b"early"


async def test_one_half_may_end_before_the_other(proxy: ProxyServer) -> None:
    async with echo_server() as port, HttpClient(proxy.address) as client:
        with capture_logs() as lines:
            await connect(client, port)
            await client.send(b"hello")
            client.writer.write_eof()
            assert await client.rest() == b"hellobye"
            await eventually(lambda: lines)
    line = lines[0]
    assert (line["kind"], line["method"], line["url"]) == ("tunnel", "CONNECT", f"127.0.0.1:{port}")
    assert (line["status"], line["bytes"], line["state"]) == (200, 13, "tunnel_closed")


async def test_a_server_that_breaks_off_resets_the_client(proxy: ProxyServer) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: reset
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with HttpClient(proxy.address) as client:
        await connect(client, server.sockets[0].getsockname()[1])
        await client.send(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()
    server.close()


async def test_a_client_that_resets_ends_the_server_side(proxy: ProxyServer) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with asyncio.timeout(TIMEOUT_S):
        async with HttpClient(proxy.address) as client:
            await connect(client, server.sockets[0].getsockname()[1])
            client.writer.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
            client.writer.transport.abort()
        await ended.wait()
    server.close()


async def test_an_idle_tunnel_is_forgotten(hub: MemoryHub) -> None:
    options = ProxyOptions(port=0, tunnel_idle_s=0.05)
    async with (
        echo_server() as port,
        ProxyServer(hub, options=options) as proxy,
        HttpClient(proxy.address) as client,
    ):
        await connect(client, port)
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_stop_does_not_wait_for_a_server_that_takes_nothing(hub: MemoryHub) -> None:
    """The bytes that wait for it are lost with the tunnel: nobody sends the rest of them."""
    held = asyncio.Event()

    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # no other way
        await held.wait()
        writer.close()

    server = await asyncio.start_server(take_nothing, "127.0.0.1", 0)
    proxy = ProxyServer(hub, ProxyPolicy(), ProxyOptions(port=0, stop_grace_s=0.1))
    await proxy.start()
    try:
        async with HttpClient(proxy.address) as client, asyncio.timeout(10):
            assert (await connect(client, server.sockets[0].getsockname()[1]))[0] == 200
            client.writer.write(bytes(64 * MIB))
            while proxy.counters.writes_paused == 0:  # noqa: ASYNC110  # a counter tells no one
                await asyncio.sleep(0.01)
            await proxy.stop()
    finally:
        held.set()
        server.close()


async def test_a_server_that_is_not_there(proxy: ProxyServer) -> None:
    async with echo_server() as port:
        pass
    async with HttpClient(proxy.address) as client:
        for place in (f"127.0.0.1:{port}", "nowhere.invalid:443"):
            answer = await client.get(place, method="CONNECT")
            assert answer.status == 502
            assert place in answer.body.decode()
            assert answer.header["x-dragonfly-error-type"] == "proxy"


async def test_a_refused_connect_says_so_in_its_first_line(proxy: ProxyServer) -> None:
    """Of an answer to CONNECT, clients written in Go show their user nothing else."""
    async with HttpClient(proxy.address) as client:
        await client.send(request("nowhere.invalid:443", method="CONNECT"))
        head = await client.head()
        assert (head.status, head.reason) == (502, "Bad Gateway")


async def connect(client: HttpClient, port: int) -> tuple[int, str]:
    await client.send(request(f"127.0.0.1:{port}", method="CONNECT"))
    head = await client.head()
    return head.status, head.reason
