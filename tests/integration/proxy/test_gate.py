"""One client's credentials serve no other: a real origin is asked before a hub's content is."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from support.content import make_content
from support.eventually import eventually
from support.http_client import HttpClient
from support.memory_hub import MIB, MemoryHub
from support.origin import Manners, Origin

from odonata.errors import CapacityError
from odonata.wire.message import Download
from peer.core.proxy_rule import ProxyPolicy, ProxyRule
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer

CONTENT = make_content(2 * MIB + 3)
BLOB = f"/v2/lib/x/blobs/sha256:{hashlib.sha256(CONTENT).hexdigest()}"
POLICY = ProxyPolicy(rules=(ProxyRule(regex="blobs/sha256"), ProxyRule(regex="/shared/")))


@pytest.fixture
async def proxy(hub: MemoryHub) -> AsyncIterator[ProxyServer]:
    options = ProxyOptions(port=0, stop_grace_s=0.5, linger_s=0.2)
    async with ProxyServer(hub, POLICY, options) as running:
        yield running


async def test_a_private_blob_is_for_those_whom_its_registry_lets_in(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer
) -> None:
    wanted = Manners(wants_header=("Authorization", "Bearer mine"))
    url = origin.add(BLOB, CONTENT, wanted)
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        for lines, status in (
            (("Authorization: Bearer mine",), 200),
            ((), 401),
            (("Authorization: Bearer yours",), 401),
            (("Authorization: Bearer mine",), 200),
        ):
            answer = await client.get(url, *lines)
            assert answer.status == status
            assert (answer.body == CONTENT) is (status == 200)
        assert answer.header.get("x-dragonfly-error-type") is None
    assert [seen.method for seen in origin.requests] == ["HEAD"] * 3, "the fourth was remembered"
    assert (proxy.counters.permissions_asked, proxy.counters.permissions_refused) == (3, 2)
    assert hub.views == 0


async def test_a_registrys_own_refusal_is_the_clients_answer(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer
) -> None:
    challenge = 'Bearer realm="https://auth.test/token"'
    url = origin.add(BLOB, b"", Manners(status=401, header={"WWW-Authenticate": challenge}))
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url)
    assert answer.status == 401
    assert answer.header["www-authenticate"] == challenge
    assert answer.header["x-dragonfly-error-type"] == "backend"


async def test_other_contents_are_asked_for_by_their_first_byte(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer
) -> None:
    wanted = Manners(wants_header=("Authorization", "Bearer mine"))
    url = origin.add("/shared/model", CONTENT, wanted)
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        assert (await client.get(url, "Authorization: Bearer mine")).body == CONTENT
        assert (await client.get(url, "Authorization: Bearer yours")).status == 401
        asked = [(seen.method, seen.range) for seen in origin.requests]
        assert asked == [("GET", "bytes=0-0")] * 2
        assert origin.sent_bytes("/shared/model") <= 1 + len(b"x") * 64
        public = origin.add("/shared/public", CONTENT)
        hub.put(public, CONTENT)
        assert (await client.get(public)).body == CONTENT
    assert len(origin.requests) == 2, "without credentials a URL is as public as it is"


@pytest.mark.parametrize(("status", "asked"), [(200, 1), (403, 8)])
async def test_many_with_the_same_question_have_one_ask(
    hub: MemoryHub, proxy: ProxyServer, status: int, asked: int
) -> None:
    """Until one is refused: then it is each one's own business."""
    may_answer, heads = asyncio.Event(), list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        await may_answer.wait()
        writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n" % status)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{BLOB}"
    hub.put(url, CONTENT)

    async def get() -> int:
        async with HttpClient(proxy.address) as client:
            return (await client.get(url, "Authorization: Bearer mine")).status

    async with asyncio.TaskGroup() as group:
        gets = [group.create_task(get()) for _ in range(8)]
        await eventually(lambda: len(hub.opened) == len(gets))
        assert len(heads) <= 1
        may_answer.set()
    assert [one.result() for one in gets] == [status] * len(gets)
    assert (len(heads), proxy.counters.permissions_asked) == (asked, asked)
    server.close()


async def test_a_redirect_to_a_store_is_leave(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer
) -> None:
    url = origin.add(BLOB, b"", Manners(redirect_to="http://nowhere.invalid/", redirect_status=307))
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        assert (await client.get(url)).body == CONTENT


async def test_a_registry_without_head_is_asked_by_get(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer
) -> None:
    url = origin.add(BLOB, b"", Manners(status=405))
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        assert (await client.get(url)).status == 405
    assert [seen.method for seen in origin.requests] == ["HEAD", "GET"]


async def test_a_registry_that_is_gone_lets_nobody_in(hub: MemoryHub, proxy: ProxyServer) -> None:
    async with Origin() as origin:
        url = origin.add(BLOB, CONTENT)
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url)
    assert answer.status == 502
    assert b"can't be reached" in answer.body
    assert hub.views == 0


async def test_whoever_is_refused_waits_for_no_content(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer
) -> None:
    """And whoever is let in by a slow registry gets the content's own error."""
    never = asyncio.Event()

    async def gate(_: Download) -> None:
        await never.wait()

    hub.gate = gate
    url = origin.add(BLOB, b"", Manners(status=403))
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        assert (await client.get(url)).status == 403

    async def full(_: Download) -> None:
        raise CapacityError("too many downloads")

    hub.gate = full
    url = origin.add(BLOB, CONTENT)
    hub.put(url, CONTENT)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url)
    assert (answer.status, b"too many downloads" in answer.body) == (429, True)
    assert hub.views == 0


async def test_asking_is_off_where_the_operator_says_so(hub: MemoryHub, origin: Origin) -> None:
    url = origin.add(BLOB, b"", Manners(status=401))
    hub.put(url, CONTENT)
    async with (
        ProxyServer(hub, POLICY, ProxyOptions(port=0, authorize=False)) as proxy,
        HttpClient(proxy.address) as client,
    ):
        assert (await client.get(url)).body == CONTENT
    assert origin.requests == []
