"""The proxy: Range headers by themselves and over a socket, and heads that are no HTTP at all."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.content import make_content
from support.eventually import eventually
from support.fuzzing import Campaign, Edit, cut_up, damage, edits, open_descriptors
from support.http_client import HttpClient
from support.memory_hub import MemoryHub

from peer.core.proxy_range import content_range, parse_range
from peer.core.proxy_rule import ProxyPolicy, ProxyRule
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer

CONTENT = make_content(10_007)
NOWHERE = "http://127.0.0.1:1"
URL = f"{NOWHERE}/v2/x/blobs/sha256:1"
# Nothing leaves this host: what is no blob is asked of a port that nobody listens on.
POLICY = ProxyPolicy(rules=(ProxyRule(regex="blobs/sha256"),), registry_mirror=NOWHERE)
OPTIONS = ProxyOptions(
    port=0, stop_grace_s=0.5, linger_s=0.05, head_timeout_s=0.1, idle_timeout_s=0.1,
    body_timeout_s=0.1,
)  # fmt: skip
PATIENCE_S = 15.0

_numbers = st.one_of(
    st.integers(0, 2 * len(CONTENT)).map(str),
    st.sampled_from(["", "0", str(len(CONTENT) - 1), str(len(CONTENT)), "9" * 30, "-1", "x", "٣"]),
)


def _part(first: str, last: str) -> str:
    return f"{first}-{last}"


def _range(unit: str, parts: list[str], sign: str) -> str:
    return f"{unit}{sign}{','.join(parts)}"


_ranges = st.builds(
    _range,
    st.sampled_from(["bytes", "Bytes", " bytes ", "items", ""]),
    st.lists(st.builds(_part, _numbers, _numbers), max_size=3),
    st.sampled_from(["=", "= ", ""]),
)
texts = st.one_of(_ranges, st.text(max_size=30), st.none())


def test_ranges_are_read_or_ignored(campaign: Campaign) -> None:
    def check(text: str | None, length: int) -> None:
        wish = parse_range(text)
        if wish is None:
            return
        part = wish.within(length)
        if part is not None:
            assert 0 <= part.start < part.start + part.length <= length
            assert content_range(part, length).endswith(f"/{length}")
        closed = wish.closed
        assert closed is None or closed.length > 0

    campaign.run(check, texts, st.integers(0, 2**63), examples=150)


def _field(text: str) -> str:
    """What of it a header line can carry."""
    return "".join(char for char in text if char.isprintable() and ord(char) < 0x7F)


async def _ask(proxy: ProxyServer, text: str) -> None:
    async with asyncio.timeout(PATIENCE_S), HttpClient(proxy.address) as client:
        answer = await client.get(URL, f"Range: {text}")
    if answer.status == 206:
        first, _, rest = answer.header["content-range"].removeprefix("bytes ").partition("-")
        last, _, total = rest.partition("/")
        assert total == str(len(CONTENT))
        assert answer.body == CONTENT[int(first) : int(last) + 1]
        assert answer.body
        return
    if answer.status == 416:
        assert answer.header["content-range"] == f"bytes */{len(CONTENT)}"
        return
    assert (answer.status, answer.body) == (200, CONTENT), answer


def test_ranges_over_a_socket(campaign: Campaign, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        hub = MemoryHub(tmp_path)
        hub.put(URL, CONTENT)
        proxy = ProxyServer(hub, POLICY, OPTIONS)
        runner.run(proxy.start())
        before = open_descriptors()

        def check(text: str | None) -> None:
            runner.run(_ask(proxy, _field(text or "")))

        campaign.run(check, texts, examples=60)
        runner.run(eventually(lambda: open_descriptors() <= before))
        assert hub.views == 0
        runner.run(proxy.stop())


# Who is asked is never damaged, for that may be anybody's address.
_lines = st.sampled_from(
    [
        f"GET {URL} HTTP/1.1",
        f"HEAD {URL} HTTP/1.0",
        f"POST {NOWHERE}/x HTTP/1.1",
        "CONNECT 127.0.0.1:1 HTTP/1.1",
        "GET /v2/x/blobs/sha256:1 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET",
        "\x16\x03\x01",
        "PRI * HTTP/2.0",
    ]
)
_heads = st.sampled_from(
    [
        "Host: x\r\nRange: bytes=0-99\r\n\r\n",
        "Host: x\r\nContent-Length: 5\r\n\r\nhello",
        "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Host: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        "Host: x\r\nConnection: close\r\nAuthorization: Basic eDp5\r\n\r\n",
        "Host: x\r\nX-Dragonfly-Piece-Length: 4MiB\r\nX-Dragonfly-Priority: 9\r\n\r\n",
        "\r\n",
    ]
)


def _request(line: str, head: str, changes: list[Edit]) -> bytes:
    return line.encode("latin-1") + b"\r\n" + damage(head.encode(), changes)


_said = st.builds(_request, _lines, _heads, edits) | st.binary(max_size=200)


async def _say(proxy: ProxyServer, parts: list[bytes], *, ends: bool) -> bytes:
    """Say it and read until the proxy closes; it does, for nobody is let wait for long here."""
    answer = b""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(*proxy.address)
        with suppress(OSError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if ends:
                writer.write_eof()
            while more := await reader.read(65_536):
                answer += more
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return answer


def test_heads_that_are_no_http(campaign: Campaign, tmp_path: Path) -> None:
    with asyncio.Runner() as runner, capture_logs() as logs:
        hub = MemoryHub(tmp_path)
        hub.put(URL, CONTENT)
        proxy = ProxyServer(hub, POLICY, OPTIONS)
        runner.run(proxy.start())
        before = open_descriptors()

        def check(said: bytes, sizes: list[int], ends: bool) -> None:
            answer = runner.run(_say(proxy, cut_up(said, sizes), ends=ends))
            assert not answer or answer.startswith(b"HTTP/1.1 ")
            assert b"Traceback" not in answer
            assert not answer.startswith(b"HTTP/1.1 500"), answer

        sizes = st.lists(st.integers(1, 60), max_size=3)
        campaign.run(check, _said, sizes, st.booleans(), examples=25)
        runner.run(_ask(proxy, "bytes=1-2"))
        runner.run(eventually(lambda: open_descriptors() <= before))
        runner.run(proxy.stop())
    assert [log for log in logs if log["log_level"] == "error"] == []
