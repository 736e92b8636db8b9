"""GETs that the hub answers."""

from __future__ import annotations

import asyncio
from email.parser import BytesParser

import aiohttp
import pytest
from support.content import make_content
from support.eventually import eventually
from support.http_client import HttpClient, request
from support.memory_hub import MIB, MemoryHub
from support.origin import Origin

from odonata.errors import (
    CallerError,
    DiskFullError,
    OdonataError,
    PeerRefusedError,
    SourceError,
    StorageError,
    UnavailableError,
)
from odonata.wire.message import ByteRange
from peer.core.proxy_rule import ProxyPolicy, ProxyRule
from peer.runtime.proxy.content import SLICE
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.p2p import SMALL
from peer.runtime.proxy.server import ProxyServer

HEX = "a" * 64
URL = f"http://r.test/v2/lib/rand/blobs/sha256:{HEX}"
HEADER = {
    "Content-Type": "application/octet-stream",
    "ETag": '"e"',
    "Docker-Content-Digest": f"sha256:{HEX}",
    "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
    "Content-Length": "99",
    "Connection": "close",
    "Set-Cookie": "of=another",
}
POLICY = ProxyPolicy(rules=(ProxyRule(regex="blobs/sha256"),))
CONTENT = make_content(3 * MIB + 17)


async def test_a_held_blob(hub: MemoryHub, proxy: ProxyServer) -> None:
    hub.put(URL, CONTENT, HEADER)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, "Authorization: Bearer t", "Proxy-Authorization: Basic x")
    assert answer.status == 200
    assert answer.body == CONTENT
    assert answer.header["content-length"] == str(len(CONTENT))
    assert answer.header["content-type"] == "application/octet-stream"
    assert answer.header["docker-content-digest"] == f"sha256:{HEX}"
    assert answer.header["etag"] == '"e"'
    assert answer.header["last-modified"] == HEADER["Last-Modified"]
    assert answer.header["accept-ranges"] == "bytes"
    assert answer.header["x-dragonfly-task-id"] == HEX
    assert answer.header["x-dragonfly-server-ip"] == "127.0.0.9"
    assert answer.header["x-dragonfly-task-download-finished"] == "true"
    assert "set-cookie" not in answer.header
    assert "connection" not in answer.header
    assert hub.opened[0].request_header["Authorization"] == "Bearer t"
    assert "Proxy-Authorization" not in hub.opened[0].request_header
    assert hub.views == 0
    assert proxy.counters.requests_p2p == 1
    assert proxy.counters.bytes_p2p == len(CONTENT)


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, SLICE, SLICE + 1, 4 * MIB, 4 * MIB + 1])
async def test_sizes(hub: MemoryHub, proxy: ProxyServer, size: int) -> None:
    hub.put(URL, make_content(size), piece_length=MIB)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL)
        assert (answer.status, answer.body) == (200, make_content(size))
        assert answer.header["content-length"] == str(size)


async def test_a_small_blob_whatever_its_request_and_its_headers_look_like(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    """What h11 has to read or to write comes out as what it is not shown."""
    hub.put(URL, b"small", {"etag": '"1"'})
    hub.put(f"{URL}2", b"small", {"etag": '"1"', "x-name": "grün"})
    async with HttpClient(proxy.address) as client:
        answers = [
            await client.get(url, line)
            for url in (URL, f"{URL}2")
            for line in ("X-Name: a", "X-Name: ä", "Connection: keep-alive")
        ]
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"small")}
    names = [list(answer.header) for answer in answers]
    assert names == [names[0]] * 3 + [names[3]] * 3
    assert set(names[3]) - set(names[0]) == {"x-name"}


async def test_mirror_form(hub: MemoryHub, proxy: ProxyServer) -> None:
    path = f"/v2/lib/rand/blobs/sha256:{HEX}"
    hub.put(f"https://ghcr.io{path}", b"by ns")
    hub.put(f"http://r.test{path}", b"by header")
    async with HttpClient(proxy.address) as client:
        assert (await client.get(f"{path}?ns=ghcr.io")).body == b"by ns"
        registry = "X-Dragonfly-Registry: http://r.test"
        assert (await client.get(f"{path}?ns=ghcr.io", registry)).body == b"by header"


async def test_bytes_are_sent_as_they_arrive(hub: MemoryHub, proxy: ProxyServer) -> None:
    task = hub.put(URL, CONTENT, arrived=0)
    async with HttpClient(proxy.address) as client:
        await client.send(request(URL))
        task.arrive(1000)
        head = await client.head()
        assert head.status == 200
        assert "x-dragonfly-task-download-finished" not in head.header
        async with asyncio.timeout(10):
            assert await client.reader.readexactly(1000) == CONTENT[:1000]
            task.arrive(len(CONTENT))
            assert await client.reader.readexactly(len(CONTENT) - 1000) == CONTENT[1000:]


async def test_unknown_length_goes_in_chunks(hub: MemoryHub, proxy: ProxyServer) -> None:
    hub.put(URL, CONTENT, length_known=False)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL)
        assert answer.header["transfer-encoding"] == "chunked"
        assert "content-length" not in answer.header
        assert answer.body == CONTENT
        assert (await client.get(URL)).body == CONTENT


async def test_unknown_length_to_http_1_0_ends_with_the_connection(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    hub.put(URL, CONTENT, length_known=False)
    async with HttpClient(proxy.address) as client:
        await client.send(f"GET {URL} HTTP/1.0\n\n")
        head = await client.head()
        assert "transfer-encoding" not in head.header
        assert await client.rest() == CONTENT


# --- ranges and conditions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part", "asked"),
    [
        ("bytes=0-0", slice(0, 1), ByteRange(start=0, length=1)),
        ("bytes=100-299", slice(100, 300), ByteRange(start=100, length=200)),
        ("bytes=1048570-1048580", slice(1048570, 1048581), ByteRange(start=1048570, length=11)),
        ("bytes=3000000-", slice(3000000, None), None),
        ("bytes=-5", slice(-5, None), None),
        ("bytes=0-99999999", slice(0, None), ByteRange(start=0, length=100000000)),
    ],
)
async def test_a_range(
    hub: MemoryHub, proxy: ProxyServer, text: str, part: slice, asked: ByteRange | None
) -> None:
    hub.put(URL, CONTENT, HEADER, piece_length=MIB)
    start, stop, _ = part.indices(len(CONTENT))
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, f"Range: {text}")
    assert answer.status == 206
    assert answer.body == CONTENT[part]
    assert answer.header["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert answer.header["content-length"] == str(stop - start)
    assert hub.opened[0].range == asked


async def test_a_range_past_the_end(hub: MemoryHub, proxy: ProxyServer) -> None:
    hub.put(URL, CONTENT)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, f"Range: bytes={len(CONTENT)}-")
        assert answer.status == 416
        assert answer.header["content-range"] == f"bytes */{len(CONTENT)}"
        assert answer.body == b""
        assert (await client.get(URL)).body == CONTENT


async def test_several_ranges_in_one_answer(hub: MemoryHub, proxy: ProxyServer) -> None:
    """Read by a parser of MIME that was not written for this."""
    hub.put(URL, CONTENT, {**HEADER, "Content-Type": "application/x-layer"})
    length = len(CONTENT)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, f"Range: bytes=0-1,{MIB}-{MIB + 9},-3,{length}-")
        assert (await client.get(URL)).body == CONTENT, "the connection goes on"
    assert answer.status == 206
    assert "content-range" not in answer.header
    kind = answer.header["content-type"]
    message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.body)
    parts = [part for part in message.walk() if not part.is_multipart()]
    assert [part["Content-Range"] for part in parts] == [
        f"bytes 0-1/{length}",
        f"bytes {MIB}-{MIB + 9}/{length}",
        f"bytes {length - 3}-{length - 1}/{length}",
    ]
    assert {part.get_content_type() for part in parts} == {"application/x-layer"}
    for wanted in (CONTENT[:2], CONTENT[MIB : MIB + 10], CONTENT[-3:]):
        assert wanted in answer.body


@pytest.mark.parametrize(
    "lines",
    [
        ("Range: bytes=0-1,5-6,0-",),
        ("Range: bytes=0-1,5-6", 'If-Range: "other"'),
        ("Range: items=0-1",),
        ("Range: bytes=9-1",),
        ("Range: bytes=0-1", 'If-Range: "other"'),
        ("Range: bytes=0-1", 'If-Range: W/"e"'),
        ("Range: bytes=0-1", "If-Range: Tue, 02 Jan 2024 00:00:00 GMT"),
    ],
)
async def test_everything_instead_of_a_range(
    hub: MemoryHub, proxy: ProxyServer, lines: tuple[str, ...]
) -> None:
    hub.put(URL, CONTENT, HEADER)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, *lines)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert hub.opened[0].range is None


@pytest.mark.parametrize("condition", ['"e"', "Mon, 01 Jan 2024 00:00:00 GMT"])
async def test_if_range_of_the_same_content(
    hub: MemoryHub, proxy: ProxyServer, condition: str
) -> None:
    hub.put(URL, CONTENT, HEADER)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, "Range: bytes=5-6", f"If-Range: {condition}")
    assert (answer.status, answer.body) == (206, CONTENT[5:7])


async def test_a_range_of_an_unknown_length_is_everything(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    hub.put(URL, CONTENT, length_known=False)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, "Range: bytes=5-6")
    assert (answer.status, answer.body) == (200, CONTENT)
    assert [download.range for download in hub.opened] == [ByteRange(start=5, length=2), None]
    assert hub.views == 0


@pytest.mark.parametrize(
    ("condition", "status"), [('"e"', 304), ('W/"e", "x"', 304), ("*", 304), ('"x"', 200)]
)
async def test_if_none_match(
    hub: MemoryHub, proxy: ProxyServer, condition: str, status: int
) -> None:
    hub.put(URL, CONTENT, HEADER)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL, f"If-None-Match: {condition}")
        assert answer.status == status
        assert answer.body == (CONTENT if status == 200 else b"")
        assert (await client.get(URL)).body == CONTENT


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "whose"),
    [
        (SourceError("the source says no", status_code=404), 404, "backend"),
        (SourceError("too many", status_code=429), 429, "backend"),
        (SourceError("odd", status_code=304), 502, "backend"),
        (SourceError("odd", status_code=206), 502, "backend"),
        (SourceError("can't be reached"), 502, "backend"),
        (UnavailableError("no scheduler"), 503, "dfdaemon"),
        (PeerRefusedError("busy"), 502, "dfdaemon"),
        (CallerError("bad url"), 400, "dfdaemon"),
    ],
)
async def test_failures_before_the_head_become_a_status(
    hub: MemoryHub, proxy: ProxyServer, error: OdonataError, status: int, whose: str
) -> None:
    hub.refuse(URL, error)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL)
        assert answer.status == status
        assert answer.header["x-dragonfly-error-type"] == whose
        assert answer.body == f"{error.detail}\n".encode()
        hub.put(f"{URL}1", b"next")
        assert (await client.get(f"{URL}1")).body == b"next"


@pytest.mark.parametrize("error", [DiskFullError("no room"), StorageError("read-only")])
async def test_what_this_host_has_no_place_for_comes_from_its_origin(
    hub: MemoryHub, origin: Origin, proxy: ProxyServer, error: OdonataError
) -> None:
    url = origin.add("/v2/x/blobs/sha256:1", CONTENT)
    hub.refuse(url, error)
    async with HttpClient(proxy.address) as client:
        answer = await client.get(url)
        assert (answer.status, answer.body) == (200, CONTENT)
        part = await client.get(url, "Range: bytes=1-4")
        assert (part.status, part.body) == (206, CONTENT[1:5])
    assert proxy.counters.requests_past_swarm == 2


async def test_what_must_not_come_from_its_origin_is_refused(
    hub: MemoryHub, origin: Origin
) -> None:
    url = origin.add("/v2/x/blobs/sha256:1", CONTENT)
    hub.refuse(url, DiskFullError("no room"))
    policy = ProxyPolicy(rules=(ProxyRule(regex="blobs"),), disable_back_to_source=True)
    options = ProxyOptions(port=0, authorize=False)
    async with ProxyServer(hub, policy, options) as proxy, HttpClient(proxy.address) as client:
        answer = await client.get(url)
    assert (answer.status, answer.header["x-dragonfly-error-type"]) == (507, "dfdaemon")
    assert origin.requests == []


async def test_the_origins_refusal_comes_with_its_headers(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    header = {
        "WWW-Authenticate": 'Bearer realm="https://auth.test/token"',
        "Content-Length": "3",
        "Content-Encoding": "gzip",
        "Content-Type": "application/json",
        "Connection": "close",
        "Set-Cookie": "a=b",
        "Docker-Distribution-Api-Version": "registry/2.0",
    }
    hub.refuse(URL, SourceError("unauthorized", status_code=401, header=header))
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL)
    assert answer.status == 401
    assert answer.header["www-authenticate"] == 'Bearer realm="https://auth.test/token"'
    assert answer.header["docker-distribution-api-version"] == "registry/2.0"
    assert answer.header["content-type"] == "text/plain; charset=utf-8"
    assert not {"content-encoding", "set-cookie"} & set(answer.header)
    assert answer.body == b"unauthorized\n"


async def test_a_refusal_whose_headers_http_forbids_is_told_without_them(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    """They come from another peer or a scheduler, whose messages can hold anything."""
    header = {"bad name": "1", "WWW-Authenticate": "Bearer\r\nX: y"}
    hub.refuse(URL, SourceError("who are you?", status_code=401, header=header))
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL)
    assert answer.status == 401
    assert b"who are you?" in answer.body
    assert answer.header["x-dragonfly-error-type"] == "backend"


async def test_a_failure_of_the_first_byte_is_still_a_status(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    task = hub.put(URL, CONTENT, arrived=0)
    task.fail(SourceError("gone", status_code=503))
    async with HttpClient(proxy.address) as client:
        answer = await client.get(URL)
    assert answer.status == 503
    assert hub.views == 0


@pytest.mark.parametrize("length_known", [True, False])
async def test_a_failure_after_the_head_breaks_the_connection(
    hub: MemoryHub, proxy: ProxyServer, length_known: bool
) -> None:
    task = hub.put(URL, CONTENT, arrived=MIB, length_known=length_known)
    async with HttpClient(proxy.address) as client:
        await client.send(request(URL))
        assert (await client.head()).status == 200
        task.fail(SourceError("broke off"))
        raw = await client.rest()
    assert MIB <= len(raw) < len(CONTENT)
    assert not raw.endswith(b"0\r\n\r\n")
    await hub.all_closed()


async def test_a_failure_resets_an_http_1_0_connection(hub: MemoryHub, proxy: ProxyServer) -> None:
    task = hub.put(URL, CONTENT, arrived=1000, length_known=False)
    async with HttpClient(proxy.address) as client:
        await client.send(f"GET {URL} HTTP/1.0\n\n")
        await client.head()
        task.fail(SourceError("broke off"))
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize("length_known", [True, False])
async def test_aiohttp_sees_a_broken_body(
    hub: MemoryHub, proxy: ProxyServer, length_known: bool
) -> None:
    task = hub.put(URL, CONTENT, arrived=MIB, length_known=length_known)
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL, proxy=f"http://127.0.0.1:{proxy.address[1]}") as response,
    ):
        assert response.status == 200
        task.fail(SourceError("broke off"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


# --- clients that are slow or gone ----------------------------------------------------------------


async def test_a_client_that_reads_nothing_holds_up_only_itself(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    content = make_content(32 * MIB)
    task = hub.put(URL, content, piece_length=SLICE)
    async with HttpClient(proxy.address, limit=1024) as slow:
        await slow.send(request(URL))
        await eventually(lambda: proxy.counters.writes_paused)
        taken = task.asked_bytes
        async with HttpClient(proxy.address) as quick:
            hub.put(f"{URL}1", b"next")
            assert (await quick.get(f"{URL}1")).body == b"next"
        # Paused: nothing more is taken from the hub, and what waits here is bounded.
        assert task.asked_bytes <= taken + SLICE < len(content)
        assert proxy.counters.max_buffered_bytes <= SLICE
        assert (await slow.answer()).body == content
    assert proxy.counters.max_buffered_bytes <= SLICE


async def test_a_client_that_takes_nothing_for_long_is_dropped(hub: MemoryHub) -> None:
    hub.put(URL, make_content(32 * MIB))
    options = ProxyOptions(port=0, write_stall_s=0.05, authorize=False)
    async with (
        ProxyServer(hub, POLICY, options) as proxy,
        HttpClient(proxy.address, limit=1024) as client,
    ):
        await client.send(request(URL))
        await client.head()
        async with asyncio.timeout(10):
            await hub.all_closed()
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize("arrived", [0, 1000])
async def test_a_client_that_hangs_up_lets_go_of_the_task(
    hub: MemoryHub, proxy: ProxyServer, arrived: int
) -> None:
    hub.put(URL, CONTENT, arrived=arrived)
    async with HttpClient(proxy.address) as client:
        await client.send(request(URL))
        if arrived:
            await client.head()
        await eventually(lambda: hub.views)
    async with asyncio.timeout(10):
        await hub.all_closed()


@pytest.mark.parametrize("finish", [True, False])
async def test_whether_a_download_goes_on_without_its_client_is_a_setting(
    hub: MemoryHub, finish: bool
) -> None:
    hub.put(URL, CONTENT)
    options = ProxyOptions(port=0, finish_downloads=finish, authorize=False)
    async with ProxyServer(hub, POLICY, options) as proxy, HttpClient(proxy.address) as client:
        assert (await client.get(URL)).body == CONTENT
    assert hub.lingering is finish


async def test_a_client_that_hangs_up_while_the_hub_opens(
    hub: MemoryHub, proxy: ProxyServer
) -> None:
    started, left = asyncio.Event(), asyncio.Event()

    async def gate(_: object) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    hub.gate = gate
    async with asyncio.timeout(10):
        async with HttpClient(proxy.address) as client:
            await client.send(request(URL))
            await started.wait()
        await left.wait()
