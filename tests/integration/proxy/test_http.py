"""The conversation itself: many requests, odd requests, too many connections, the end."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs
from support.eventually import eventually
from support.http_client import HttpClient, request
from support.memory_hub import MIB, MemoryHub
from support.origin import Origin

from odonata.errors import SettingsError, UnavailableError
from peer.core.proxy_auth import ProxyLogin
from peer.core.proxy_rule import ProxyPolicy, ProxyRule
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer

CHUNKED = b"Transfer-Encoding: chunked\r\n"
URL = "http://r.test/v2/x/blobs/sha256:1"
POLICY = ProxyPolicy(rules=(ProxyRule(regex="blobs/sha256"),))


async def test_three_requests_on_one_connection(
    origin: Origin, hub: MemoryHub, proxy: ProxyServer
) -> None:
    hub.put(URL, b"from the swarm")
    direct = origin.add("/x", b"straight")
    async with HttpClient(proxy.address) as client:
        assert (await client.get(URL)).body == b"from the swarm"
        assert (await client.get(direct)).body == b"straight"
        assert (await client.get(URL)).body == b"from the swarm"
    assert proxy.counters.connections == 1


async def test_pipelined_requests_are_answered_in_order(
    origin: Origin, hub: MemoryHub, proxy: ProxyServer
) -> None:
    hub.put(URL, b"a" * MIB)
    slow = hub.put(f"{URL}2", b"b" * 100, arrived=0)
    direct = origin.add("/x", b"c")
    async with HttpClient(proxy.address) as client:
        lines = "Content-Length: 0"
        await client.send(
            request(URL) + request(f"{URL}2") + request(direct, lines, method="POST") + request(URL)
        )
        assert (await client.answer()).body == b"a" * MIB
        slow.arrive(100)
        assert (await client.answer()).body == b"b" * 100
        assert (await client.answer()).body == b"c"
        assert (await client.answer()).body == b"a" * MIB


async def test_connection_close_and_http_1_0(hub: MemoryHub, proxy: ProxyServer) -> None:
    hub.put(URL, b"x")
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, "Connection: close")
        assert (answer.body, answer.header["connection"]) == (b"x", "close")
        assert await client.rest() == b""
    async with HttpClient(proxy.address) as client:
        await client.send(f"GET {URL} HTTP/1.0\n\n")
        assert (await client.answer()).body == b"x"
        assert await client.rest() == b""


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n%b\r\n" % CHUNKED, 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\n%b\r\n" % CHUNKED, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000, 431),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET ftp://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nX-Dragonfly-Priority: 9\r\n\r\n", 400),
        (b"GET /v2/?ns=a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
async def test_malformed_requests_are_told_so(proxy: ProxyServer, raw: bytes, status: int) -> None:
    async with HttpClient(proxy.address) as client:
        await client.send(raw)
        answer = await client.answer()
    assert answer.status == status
    assert answer.header["x-dragonfly-error-type"] == "proxy"
    assert answer.body
    assert proxy.counters.requests_refused == 1


async def test_nonsense_after_a_head_request_is_told_so(origin: Origin, proxy: ProxyServer) -> None:
    async with HttpClient(proxy.address) as client:
        assert (await client.get(origin.add("/x", b"x"), method="HEAD")).status == 200
        await client.send(b"nonsense\r\n\r\n")
        answer = await client.answer()
        assert answer.status == 400
        assert answer.body


async def test_a_refused_request_leaves_the_connection_usable(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    hub.put(URL, b"x")
    async with HttpClient(proxy.address) as client:
        assert (await client.get(URL, "X-Dragonfly-Prefetch: maybe")).status == 400
        refused = await client.get("/x", method="HEAD")
        assert refused.status == 502
        assert (await client.get(URL)).body == b"x"


async def test_loops_are_found(proxy: ProxyServer, hub: MemoryHub) -> None:
    host, port = proxy.address
    async with HttpClient(proxy.address) as client:
        for target in (f"http://{host}:{port}/x", f"http://localhost:{port}/x"):
            answer = await client.get(target)
            assert answer.status == 508
            assert b"this proxy" in answer.body
        assert (await client.get(f"{host}:{port}", method="CONNECT")).status == 508
    # Through another proxy, whose upstream is this one: found by Via.
    policy = ProxyPolicy(registry_mirror=f"http://{host}:{port}")
    async with ProxyServer(hub, policy, ProxyOptions(port=0)) as other:
        first = f"X-Dragonfly-Registry: http://127.0.0.1:{other.address[1]}"
        async with HttpClient(proxy.address) as client:
            assert (await client.get("/v2/", first)).status == 508


async def test_a_silent_client_is_let_go(hub: MemoryHub) -> None:
    options = ProxyOptions(port=0, idle_timeout_s=0.05, head_timeout_s=0.05)
    async with ProxyServer(hub, POLICY, options) as proxy:
        async with HttpClient(proxy.address) as client:
            assert await client.rest() == b""
        async with HttpClient(proxy.address) as client:
            await client.send(b"GET / HT")
            answer = await client.answer()
            assert answer.status == 408


async def test_a_silent_upload_is_let_go(hub: MemoryHub) -> None:
    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(read_all, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    options = ProxyOptions(port=0, body_timeout_s=0.05)
    async with (
        ProxyServer(hub, POLICY, options) as proxy,
        HttpClient(proxy.address) as client,
    ):
        await client.send(request(url, "Transfer-Encoding: chunked", method="PUT"))
        answer = await client.answer()
        assert answer.status == 408
        assert b"0.05 s" in answer.body
    server.close()


async def test_too_many_connections_are_told_so(hub: MemoryHub) -> None:
    hub.put(URL, b"x")
    async with ProxyServer(hub, POLICY, ProxyOptions(port=0, max_connections=2)) as proxy:
        async with HttpClient(proxy.address) as one, HttpClient(proxy.address) as two:
            assert (await one.get(URL)).body == b"x"
            assert (await two.get(URL)).body == b"x"
            async with HttpClient(proxy.address) as three:
                answer = await three.get(URL)
                assert answer.status == 503
                assert answer.header["retry-after"] == "1"
                assert b"connections" in answer.body
                assert await three.rest() == b""
            assert (await one.get(URL)).body == b"x"
        assert proxy.counters.connections_refused == 1
        await eventually(lambda: not proxy.counters.connections_open)
        async with HttpClient(proxy.address) as four:
            assert (await four.get(URL)).body == b"x"


async def test_stop_lets_answers_end(hub: MemoryHub) -> None:
    task = hub.put(URL, b"x" * 1000, arrived=500)
    proxy = ProxyServer(hub, POLICY, ProxyOptions(port=0, stop_grace_s=10, linger_s=0.2))
    await proxy.start()
    async with HttpClient(proxy.address) as client, HttpClient(proxy.address) as idle:
        await client.send(request(URL))
        await client.head()
        async with asyncio.TaskGroup() as group:
            group.create_task(proxy.stop())
            assert await idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await HttpClient(proxy.address).__aenter__()
            task.arrive(500)
            async with asyncio.timeout(10):
                assert await client.reader.readexactly(1000) == b"x" * 1000
            assert await client.rest() == b""


async def test_stop_cuts_off_what_does_not_end(hub: MemoryHub) -> None:
    hub.put(URL, b"x" * 1000, arrived=500)
    proxy = ProxyServer(hub, POLICY, ProxyOptions(port=0, stop_grace_s=0.05))
    await proxy.start()
    async with HttpClient(proxy.address) as client:
        await client.send(request(URL))
        await client.head()
        async with asyncio.timeout(10):
            await client.reader.readexactly(500)
            await proxy.stop()
            assert hub.views == 0
            with pytest.raises(ConnectionResetError):
                await client.rest()


async def test_a_proxy_with_a_login(hub: MemoryHub, origin: Origin) -> None:
    url = origin.add("/v2/", b"{}")
    login = ProxyLogin(username="alice", password="s3cret")
    right = "Authorization: Basic YWxpY2U6czNjcmV0"
    policy = ProxyPolicy(registry_mirror=origin.url(""))
    async with (
        ProxyServer(hub, policy, ProxyOptions(port=0), login=login) as proxy,
        HttpClient(proxy.address) as client,
    ):
        refused = await client.get(url)
        assert refused.status == 407
        assert refused.header["proxy-authenticate"].startswith("Basic ")
        assert (await client.get(url, f"Proxy-{right}")).body == b"{}"
        refused = await client.get("/v2/")
        assert refused.status == 401
        assert refused.header["www-authenticate"].startswith("Basic ")
        assert (await client.get("/v2/", right)).body == b"{}"
    assert all("Authorization" not in seen.header for seen in origin.requests)
    assert len(origin.requests) == 2


async def test_addresses_that_cannot_be_had(hub: MemoryHub, proxy: ProxyServer) -> None:
    taken = proxy.address[1]
    with pytest.raises(UnavailableError, match=rf"{taken}.*proxy\.server\.port"):
        await ProxyServer(hub, POLICY, ProxyOptions(port=taken)).start()
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        await ProxyServer(hub, POLICY, ProxyOptions(ip="192.0.2.1", port=0)).start()


async def test_one_line_per_request_without_secrets(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer
) -> None:
    hub.put(f"{URL}?sig=secret", b"12345")
    direct = origin.add("/x", b"123")
    with capture_logs() as lines:
        async with HttpClient(proxy.address) as client:
            await client.get(f"{URL}?sig=secret", "Authorization: Bearer secret")
            await client.get(f"{direct}?token=secret")
            await client.get("http://u:secret@r.test/x")
            await client.get(URL)
    answered = [line for line in lines if line["event"] == "request_answered"]
    facts = ("method", "url", "kind", "status", "bytes", "state", "code")
    assert [tuple(line.get(fact) for fact in facts) for line in answered] == [
        ("GET", URL, "p2p", 200, 5, "ok", None),
        ("GET", direct, "direct", 200, 3, "ok", None),
        ("GET", "http://r.test/x", None, 400, answered[2]["bytes"], "refused", "invalid_argument"),
        ("GET", URL, "p2p", 404, answered[3]["bytes"], "refused", "source"),
    ]
    assert all(line["cost_ms"] >= 0 for line in answered)
    assert "secret" not in repr(lines)
