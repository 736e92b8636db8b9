"""Requests that are passed to their origin and back."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest
import structlog
from support.content import make_content
from support.eventually import eventually
from support.http_client import HttpClient, request
from support.memory_hub import MIB, MemoryHub
from support.origin import Manners, Origin

from peer.core.proxy_rule import ProxyPolicy
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset


@pytest.fixture
def captured() -> Iterator[list[dict[str, object]]]:
    """What is logged meanwhile."""
    with structlog.testing.capture_logs() as entries:
        yield cast("list[dict[str, object]]", entries)


@asynccontextmanager
async def raw_origin(handler: Handler) -> AsyncGenerator[str]:
    """An origin that says exactly what `handler` writes; yields its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_get_and_head(origin: Origin, hub: MemoryHub, proxy: ProxyServer) -> None:
    content = make_content(MIB + 3)
    url = origin.add("/v2/lib/rand/manifests/v1", content, Manners(header={"X-Two": "2"}))
    async with HttpClient(proxy.address) as client:
        head = await client.get(f"{url}?a=1&b=2", method="HEAD")
        assert (head.status, head.header["content-length"]) == (200, str(len(content)))
        answer = await client.get(f"{url}?a=1&b=2", "Accept: x/y", "Accept: z", "TE: trailers")
    assert (answer.status, answer.body, answer.header["x-two"]) == (200, content, "2")
    assert answer.header["content-length"] == str(len(content))
    assert answer.header["via"].startswith("1.1 odonata-")
    assert "x-dragonfly-task-id" not in answer.header
    seen = origin.requests[1]
    assert (seen.method, seen.query) == ("GET", "a=1&b=2")
    assert seen.header["Host"] == origin.address
    assert seen.header["Via"].startswith("1.1 odonata-")
    assert not {"User-Agent", "Accept-Encoding", "Content-Type", "TE"} & set(seen.header)
    assert hub.opened == []
    assert proxy.counters.requests_direct == 2
    assert proxy.counters.bytes_direct == len(content)


async def test_head_of_a_swarm_url_is_direct(
    origin: Origin, hub: MemoryHub, proxy: ProxyServer
) -> None:
    url = origin.add("/v2/x/blobs/sha256:1", b"12345")
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url, method="HEAD")
    assert (answer.status, answer.header["content-length"]) == (200, "5")
    assert hub.opened == []


@pytest.mark.parametrize(
    "path",
    [
        "/a/../b",
        "/a%2Fb",
        "/a//b",
        "/%7Euser",
        "/a;b=c",
        "/a?x=%zz",
        "/a?b=%2F&c=d+e",
        "?only=query",
        "",
    ],
)
async def test_the_path_is_passed_as_it_is(proxy: ProxyServer, path: str) -> None:
    lines: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with raw_origin(handler) as base, HttpClient(proxy.address) as client:
        assert (await client.get(f"{base}{path}")).status == 204
    slash = "" if path.startswith("/") else "/"
    assert lines == [f"GET {slash}{path} HTTP/1.1\r\n".encode()]


async def test_mirror_form(origin: Origin, proxy: ProxyServer) -> None:
    origin.add("/v2/", b"{}")
    async with HttpClient(proxy.address) as client:
        by_header = await client.get("/v2/?ns=no.test", f"X-Dragonfly-Registry: {origin.url('')}")
        by_ns = await client.get(f"/v2/?ns={origin.address}&a=b")
    assert (by_header.body, by_ns.body) == (b"{}", b"{}")
    assert [seen.query for seen in origin.requests] == ["", "a=b"]
    assert "X-Dragonfly-Registry" not in origin.requests[0].header


async def test_configured_mirror(origin: Origin, hub: MemoryHub) -> None:
    origin.add("/v2/", b"{}")
    policy = ProxyPolicy(registry_mirror=origin.url(""))
    async with (
        ProxyServer(hub, policy, ProxyOptions(port=0)) as proxy,
        HttpClient(proxy.address) as client,
    ):
        assert (await client.get("/v2/")).body == b"{}"


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
async def test_refusals_pass_as_they_are(origin: Origin, proxy: ProxyServer, status: int) -> None:
    url = origin.add("/x", manners=Manners(status=status, header={"Retry-After": "7"}))
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url)
    assert (answer.status, answer.body) == (status, b"no")
    assert answer.header["retry-after"] == "7"
    assert "x-dragonfly-error-type" not in answer.header


async def test_401_passes_untouched(origin: Origin, proxy: ProxyServer) -> None:
    url = origin.add("/v2/", b"ok", Manners(wants_header=("Authorization", "Bearer t")))
    async with HttpClient(proxy.address) as client:
        refused = await client.get(url)
        assert refused.status == 401
        assert refused.header["www-authenticate"] == 'Bearer realm="r"'
        assert refused.header["set-cookie"] == "a=b"
        assert (await client.get(url, "Authorization: Bearer t")).body == b"ok"
    assert "Cookie" not in origin.requests[1].header


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_pass_untouched(origin: Origin, proxy: ProxyServer, status: int) -> None:
    elsewhere = "http://elsewhere.test/x?sig=1"
    url = origin.add("/x", manners=Manners(redirect_to=elsewhere, redirect_status=status))
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url)
    assert (answer.status, answer.header["location"]) == (status, elsewhere)
    assert len(origin.requests) == 1


async def test_a_packed_body_stays_packed(origin: Origin, proxy: ProxyServer) -> None:
    packed = gzip.compress(b"hello" * 1000)
    url = origin.add("/x", packed, Manners(header={"Content-Encoding": "gzip"}))
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url, "Accept-Encoding: gzip")
    assert answer.body == packed
    assert answer.header["content-encoding"] == "gzip"
    assert origin.requests[0].header["Accept-Encoding"] == "gzip"


async def test_a_range_passes(origin: Origin, proxy: ProxyServer) -> None:
    url = origin.add("/x", b"0123456789")
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url, "Range: bytes=2-4")
    assert (answer.status, answer.body) == (206, b"234")
    assert answer.header["content-range"] == "bytes 2-4/10"


async def test_chunked_answers_and_duplicate_headers(proxy: ProxyServer) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 Fine by me\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Latin: \xe9\r\n"
            b"X-Gone: 1\r\nConnection: X-Gone, close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
        )

    async with raw_origin(handler) as base, HttpClient(proxy.address) as client:
        answer = await client.get(base)
    assert (answer.status, answer.reason, answer.body) == (200, "Fine by me", b"abcde")
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert answer.header["x-latin"] == "\xe9"
    assert "x-gone" not in answer.header
    assert "trailer" not in answer.header


async def test_an_answer_that_ends_with_the_connection(proxy: ProxyServer) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async with raw_origin(handler) as base, HttpClient(proxy.address) as client:
        answer = await client.get(base)
        assert answer.body == b"all of it"
        assert answer.header["transfer-encoding"] == "chunked"


# --- bodies ---------------------------------------------------------------------------------------


@asynccontextmanager
async def echo_origin() -> AsyncGenerator[str]:
    """Answers with method, framing headers and the body it got."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = await reader.readuntil(b"\r\n\r\n")
        lines = raw.decode().split("\r\n")
        header = {
            line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:-2]
        }
        if "chunked" in header.get("transfer-encoding", ""):
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            body = await reader.readexactly(int(header.get("content-length", "0")))
        framing = "chunked" if "transfer-encoding" in header else header.get("content-length", "-")
        method = lines[0].split(" ")[0]
        writer.write(
            f"HTTP/1.1 201 Created\r\nX-Method: {method}\r\nX-Framing: {framing}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()

    async with raw_origin(handler) as base:
        yield base


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_body_of_known_length(proxy: ProxyServer, method: str) -> None:
    content = make_content(MIB)
    async with echo_origin() as base, HttpClient(proxy.address) as client:
        for _ in range(2):
            await client.send(request(base, f"Content-Length: {MIB}", method=method))
            await client.send(content)
            answer = await client.answer()
            assert (answer.status, answer.body) == (201, content)
            assert answer.header["x-framing"] == str(MIB)
            assert answer.header["x-method"] == method


async def test_a_body_in_chunks(proxy: ProxyServer) -> None:
    content = make_content(MIB)
    async with echo_origin() as base, HttpClient(proxy.address) as client:
        await client.send(request(base, "Transfer-Encoding: chunked", method="PATCH"))
        for start in range(0, MIB, 100_000):
            chunk = content[start : start + 100_000]
            await client.send(
                f"{len(chunk):x}\n".encode().replace(b"\n", b"\r\n") + chunk + b"\r\n"
            )
        await client.send(b"0\r\n\r\n")
        answer = await client.answer()
    assert answer.body == content
    assert answer.header["x-framing"] == "chunked"


async def test_an_empty_body(proxy: ProxyServer) -> None:
    async with echo_origin() as base, HttpClient(proxy.address) as client:
        answer = await client.get(base, "Content-Length: 0", method="PUT")
    assert (answer.status, answer.header["x-framing"]) == (201, "0")


async def test_expect_100_continue(proxy: ProxyServer) -> None:
    async with echo_origin() as base, HttpClient(proxy.address) as client:
        await client.send(request(base, "Content-Length: 5", "Expect: 100-continue", method="PUT"))
        assert (await client.head()).status == 100
        await client.send(b"hello")
        answer = await client.answer()
    assert (answer.status, answer.body) == (201, b"hello")


async def test_an_early_refusal_of_a_body(proxy: ProxyServer) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read()

    async with raw_origin(handler) as base, HttpClient(proxy.address) as client:
        await client.send(request(base, f"Content-Length: {64 * MIB}", method="PUT"))
        await client.send(bytes(1000))
        answer = await client.answer()
        assert (answer.status, answer.body) == (401, b"no")
        assert await client.rest() == b""  # the body was not read, so the connection ends


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_an_upload_that_breaks_off_never_looks_whole(
    proxy: ProxyServer, framing: str
) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.read(1)
        begun.set()
        try:
            while data := await reader.read(1000):
                body += data
        except ConnectionError:
            pass
        got.set_result(body)

    async with raw_origin(handler) as base, asyncio.timeout(10):
        async with HttpClient(proxy.address) as client:
            await client.send(request(base, framing, method="PUT"))
            await client.send(b"5\r\nhello\r\n")
            await begun.wait()
        body = await got
    assert b"hello" in body
    assert not body.endswith(b"0\r\n\r\n")
    assert len(body) < 1000


async def test_malformed_chunks_are_the_clients_mistake(proxy: ProxyServer) -> None:
    async with echo_origin() as base, HttpClient(proxy.address) as client:
        await client.send(request(base, "Transfer-Encoding: chunked", method="PUT"))
        await client.send(b"zz\r\nhello\r\n")
        answer = await client.answer()
        assert answer.status == 400
        assert answer.header["x-dragonfly-error-type"] == "proxy"


async def test_a_length_beside_chunks_is_refused(proxy: ProxyServer) -> None:
    """Two servers that believe different ones of the two could be made to see different requests.

    RFC 9112 §6.1 and §6.3: it may be refused, and ought to be handled as an error.
    """
    async with echo_origin() as base, HttpClient(proxy.address) as client:
        await client.send(
            request(base, "Content-Length: 3", "Transfer-Encoding: chunked", method="PUT")
        )
        await client.send(b"7\r\nhello x\r\n0\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.header["connection"]) == (400, "close")
        assert await client.rest() == b""
    assert proxy.counters.requests_direct == 0


async def test_a_request_that_changes_something_meets_no_connection_that_is_about_to_end(
    proxy: ProxyServer,
) -> None:
    """It can't be sent twice, with a body or without one: pushes begin with an empty POST."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")  # and hangs up

    async with raw_origin(handler) as base, HttpClient(proxy.address) as client:
        assert (await client.get(base)).status == 202
        answer = await client.get(base, "Content-Length: 0", method="POST")
        assert (answer.status, connections) == (202, 2)


async def test_a_client_that_stalls_in_mid_exchange_is_no_bug_of_ours(
    hub: MemoryHub, captured: list[dict[str, object]]
) -> None:
    """It sends a body, and does not read the answer that comes meanwhile."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(MIB))
                await writer.drain()

    options = ProxyOptions(port=0, write_stall_s=0.2, linger_s=0.2)
    async with (
        ProxyServer(hub, ProxyPolicy(), options) as proxy,
        raw_origin(handler) as base,
        HttpClient(proxy.address, limit=1000) as client,
    ):
        await client.send(request(base, "Content-Length: 10", method="PUT"))
        await client.send(b"1")
        await eventually(lambda: "request_answered" in [entry["event"] for entry in captured])
    assert not [entry for entry in captured if entry["event"] == "proxy_connection_failed"]


# --- origins that fail ----------------------------------------------------------------------------


async def test_an_origin_that_is_not_there(proxy: ProxyServer) -> None:
    async with raw_origin(_silent) as base:
        pass
    async with HttpClient(proxy.address) as client:
        answer = await client.get(f"{base}/x?secret=1")
        assert answer.status == 502
        assert answer.header["x-dragonfly-error-type"] == "proxy"
        assert base.removeprefix("http://") in answer.body.decode()
        assert b"secret" not in answer.body
        named = await client.get("http://nowhere.invalid/x")
        assert named.status == 502
        assert b"nowhere.invalid" in named.body


async def test_an_origin_that_hangs_up_or_babbles(proxy: ProxyServer) -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    async with HttpClient(proxy.address) as client:
        for handler in (hang_up, babble):
            async with raw_origin(handler) as base:
                assert (await client.get(base)).status == 502


async def test_a_silent_origin(hub: MemoryHub) -> None:
    options = ProxyOptions(port=0, origin_timeout_s=0.05)
    async with (
        raw_origin(_silent) as base,
        ProxyServer(hub, options=options) as proxy,
        HttpClient(proxy.address) as client,
    ):
        answer = await client.get(base)
        assert answer.status == 504
        assert b"silent" in answer.body


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_answer_that_breaks_off_breaks_off_here(
    origin: Origin, proxy: ProxyServer, chunked: bool
) -> None:
    content = make_content(MIB)
    url = origin.add("/x", content, Manners(short_by=1000, chunked=chunked))
    async with HttpClient(proxy.address) as client:
        await client.send(request(url))
        assert (await client.head()).status == 200
        raw = await client.rest()
    assert not raw.endswith(b"0\r\n\r\n")
    assert len(raw) < MIB + 1000


async def test_a_client_that_hangs_up_ends_the_origins_work(proxy: ProxyServer) -> None:
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
        await reader.read()
        ended.set()

    async with raw_origin(handler) as base, asyncio.timeout(10):
        async with HttpClient(proxy.address) as client:
            await client.send(request(base))
            await client.head()
        await ended.wait()


async def test_a_reset_is_not_the_end_of_a_body_without_a_length(proxy: ProxyServer) -> None:
    sent = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(1000))
        await writer.drain()
        await sent.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async with raw_origin(handler) as base, HttpClient(proxy.address) as client:
        await client.send(request(base))
        await client.head()
        async with asyncio.timeout(10):
            await client.reader.readexactly(1000)
        sent.set()
        assert b"0\r\n\r\n" not in await client.rest()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test"])
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_a_host_that_can_be_no_name_is_told_so(
    proxy: ProxyServer, host: str, method: str
) -> None:
    target = f"{host}:443" if method == "CONNECT" else f"http://{host}/"
    async with HttpClient(proxy.address) as client:
        answer = await client.get(target, method=method)
    assert answer.status in {400, 502}
    assert answer.header["x-dragonfly-error-type"] == "proxy"


async def _silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()
