"""Requests that two servers would read in two ways, and those without an end, at the proxy.

What counts is what the origin behind it sees: only requests that the proxy has made (they carry its
Via), each of which can be read in one way, and no more of them than the proxy has counted.
"""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.eventually import eventually
from support.fuzzing import Campaign, Edit, cut_up, damage, edits, open_descriptors
from support.memory_hub import MemoryHub
from support.strict_origin import StrictOrigin

from peer.core.proxy_rule import ProxyPolicy
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer

OPTIONS = ProxyOptions(
    port=0, stop_grace_s=0.5, linger_s=0.02, head_timeout_s=0.1, idle_timeout_s=0.05,
    body_timeout_s=0.1,
)  # fmt: skip
PATIENCE_S = 20.0
REFUSALS = {400, 408, 413, 431, 501}
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LENGTH = b"%d" % len(HIDDEN)
CHUNK = b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MIB = 1024 * 1024


def _post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body


def _get(fields: bytes) -> bytes:
    return b"GET /x HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


# All of these are refused, or given up; none may reach the origin as a whole request.
CORPUS: dict[str, bytes] = {
    "CL.TE": _post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "TE.CL": _post(CHUNKED + b"Content-Length: 4\r\n", CHUNK + b"0\r\n\r\n"),
    "TE.TE, one obscure": _post(CHUNKED + b"Transfer-Encoding: x\r\n", b"0\r\n\r\n" + HIDDEN),
    "TE twice": _post(CHUNKED + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "TE, a list": _post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "TE, quoted": _post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n" + HIDDEN),
    "TE, with a tab": _post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "TE before a colon": _post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "CL before a colon": _post(b"Content-Length : " + LENGTH + b"\r\n", HIDDEN),
    "two lengths": _post(b"Content-Length: 0\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "two lengths in one": _post(b"Content-Length: 0, " + LENGTH + b"\r\n", HIDDEN),
    "a length with a sign": _post(b"Content-Length: +" + LENGTH + b"\r\n", HIDDEN),
    "a negative length": _post(b"Content-Length: -1\r\n", HIDDEN),
    "a length in hex": _post(b"Content-Length: 0x23\r\n", HIDDEN),
    "a length of 4,000 digits": _post(b"Content-Length: " + b"9" * 4000 + b"\r\n", HIDDEN),
    "a length beyond all": _post(b"Content-Length: 99999999999999999999\r\n", b"a"),
    "a length that is nothing": _post(b"Content-Length:\r\n", HIDDEN),
    "chunks in HTTP/1.0": b"POST /x HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "a first line that is folded": b"GET /x HTTP/1.1\r\n Host: a\r\n\r\n",
    "a chunk of a negative size": _post(CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk of 0x size": _post(CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk beyond all": _post(CHUNKED, b"F" * 40 + b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": _post(CHUNKED, b"3\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "an extension without an end": _post(CHUNKED, b"5;" + b"a" * 200_000),
    "a trailer without an end": _post(CHUNKED, b"0\r\nX: " + b"a" * 200_000),
    "a line without an end": b"GET /" + b"a" * 200_000,
    "headers without an end": _get(b"X: y\r\n" * 40_000),
    "a name without an end": _get(b"X" * 200_000),
    "a bare CR in a value": _get(b"X: a\rb\r\n"),
    "a control character in a value": _get(b"X: a\x01b\r\n"),
    "a NUL in a value": _get(b"X: a\0b\r\n"),
    "a bare CR as an end": b"GET /x HTTP/1.1\rHost: a\r\r",
    "two hosts": _get(b"Host: b\r\n"),
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "a space in the target": b"GET /x /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab in the first line": b"GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing but line ends": b"\r\n" * 50_000,
    "half a head": b"GET /x HTTP/1.1\r\nHost: a",
    "half a body": _post(b"Content-Length: 9\r\n", b"hell"),
    "half a chunk": _post(CHUNKED, b"5\r\nhel"),
}


@asynccontextmanager
async def _proxy(tmp_path: Path) -> AsyncGenerator[tuple[ProxyServer, StrictOrigin]]:
    """It is the mirror of an origin: no request has to name an address, which may be anybody's."""
    async with StrictOrigin() as origin:
        policy = ProxyPolicy(registry_mirror=origin.base_url)
        async with ProxyServer(MemoryHub(tmp_path), policy, OPTIONS) as proxy:
            yield proxy, origin


async def _say(proxy: ProxyServer, parts: list[bytes]) -> bytes:
    """Say it and read until the proxy closes; it does, for nobody is let wait for long here."""
    answer = b""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(*proxy.address)
        with suppress(OSError):
            for part in parts:
                writer.write(part)
                await writer.drain()
        with suppress(OSError):
            while more := await reader.read(65_536):
                answer += more
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return answer


def _check_origin(origin: StrictOrigin, proxy: ProxyServer) -> None:
    assert origin.wrong == []
    assert all(any("odonata-" in via for via in one.values("via")) for one in origin.requests)
    assert len(origin.requests) <= proxy.counters.requests_direct


@pytest.mark.parametrize("name", CORPUS)
async def test_a_known_attack_is_refused(name: str, tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with _proxy(tmp_path) as (proxy, origin):
            answer = await _say(proxy, [CORPUS[name]])
            statuses = [int(status) for status in _STATUS.findall(answer)]
            assert set(statuses) <= REFUSALS, answer[:500]
            assert len(statuses) <= 1
            assert origin.requests == []
            _check_origin(origin, proxy)
            assert await _say(proxy, [_get(b"")]), "it goes on serving others"
            assert [one.target for one in origin.requests] == ["/x"]
    assert [log for log in logs if log["log_level"] == "error"] == []


async def test_what_may_be_read_in_one_way_is_passed_on_in_that_way(tmp_path: Path) -> None:
    """A sender may end lines with LF, fold a header, or give the same length twice (RFC 9112)."""
    said = [
        b"POST /1 HTTP/1.1\nHost: a\nContent-Length: " + LENGTH + b"\n\n" + HIDDEN,
        b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        b"POST /4 HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\n5;a=b;c\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ]
    async with _proxy(tmp_path) as (proxy, origin):
        answer = await _say(proxy, said)
        assert _STATUS.findall(answer) == [b"200"] * 4
        seen = [(one.target, one.body_bytes) for one in origin.requests]
        assert seen == [("/1", len(HIDDEN)), ("/2", 0), ("/3", 2), ("/4", 5)]
        _check_origin(origin, proxy)


async def test_one_who_dribbles_is_let_go(tmp_path: Path) -> None:
    """Each byte is in time; the head is not."""
    async with _proxy(tmp_path) as (proxy, origin):
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"GET /x HTTP/1.1\r\nX: ")
        reading = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(PATIENCE_S):
            while not reading.done():
                writer.write(b"a")
                await asyncio.wait({reading}, timeout=0.01)
            assert _STATUS.findall(await reading) == [b"408"]
        writer.close()
        assert origin.requests == []


@pytest.mark.parametrize(
    "start", [b"GET /", b"GET /x HTTP/1.1\r\nHost: a\r\nX: ", _post(CHUNKED, b"5;")]
)
async def test_what_does_not_end_costs_no_memory(start: bytes, tmp_path: Path) -> None:
    async with _proxy(tmp_path) as (proxy, _):
        tracemalloc.start()
        try:
            endless = [start, *([b"a" * 65_536] * 1024)]  # one object, many times
            answer = await _say(proxy, endless)
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()
        assert set(_STATUS.findall(answer)) <= {b"400", b"431"}


_lines = st.sampled_from(
    [b"GET /x HTTP/1.1", b"POST /x HTTP/1.1", b"PUT /x HTTP/1.0", b"HEAD /x HTTP/1.1",
     b"OPTIONS * HTTP/1.1", b"GET /v2/x/blobs/sha256:1 HTTP/1.1"]
)  # fmt: skip
_fields = st.sampled_from(
    [
        b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: " + LENGTH,
        b"content-length:" + LENGTH, b"Content-Length : 5", b"Content-Length: 5, 5",
        b"Content-Length: -5", b"Content-Length:", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: Chunked", b"transfer-encoding:chunked ", b"Transfer-Encoding:",
        b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: identity",
        b"Transfer_Encoding: chunked", b"Transfer-Encoding: chunked, chunked", b" folded: yes",
        b"Connection: close",
        b"Connection: content-length", b"Connection: transfer-encoding, via",
        b"Connection: keep-alive", b"Expect: 100-continue", b"Upgrade: h2c", b"TE: trailers",
        b"Trailer: Content-Length", b"Via: 1.1 other", b"X: \xc3\xa4", b"X: a\rContent-Length: 5",
    ]
)  # fmt: skip
_bodies = st.sampled_from(
    [
        b"", b"hello", HIDDEN, b"0\r\n\r\n" + HIDDEN, b"5\r\nhello\r\n0\r\n\r\n",
        CHUNK + b"0\r\n\r\n", b"5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\nhello\n0\n\n", b"5 \r\nhello\r\n0\r\n\r\n", b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\n" + HIDDEN,
    ]
)  # fmt: skip
_ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])


def _request(line: bytes, fields: list[bytes], body: bytes, end: bytes) -> bytes:
    return end.join([line, b"Host: a", *fields, b"", b""]) + body


_one = st.builds(_request, _lines, st.lists(_fields, max_size=3), _bodies, _ends)


def _several(requests: list[bytes], changes: list[Edit]) -> bytes:
    return damage(b"".join(requests), changes)


_said = st.builds(_several, st.lists(_one, min_size=1, max_size=3), edits | st.just([]))


def test_nothing_is_smuggled(campaign: Campaign, tmp_path: Path) -> None:
    with asyncio.Runner() as runner, capture_logs() as logs:
        context = _proxy(tmp_path)
        proxy, origin = runner.run(context.__aenter__())
        before = open_descriptors()

        def check(said: bytes, sizes: list[int]) -> None:
            answer = runner.run(_say(proxy, cut_up(said, sizes)))
            assert not answer or answer.startswith(b"HTTP/1.1 ")
            assert not answer.startswith(b"HTTP/1.1 500"), answer
            _check_origin(origin, proxy)
            errors = [log for log in logs if log["log_level"] == "error"]
            logs.clear()
            assert errors == []

        campaign.run(check, _said, st.lists(st.integers(1, 60), max_size=3), examples=60)
        runner.run(eventually(lambda: open_descriptors() <= before + 8))  # kept ones to the origin
        runner.run(context.__aexit__(None, None, None))
