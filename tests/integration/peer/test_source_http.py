"""The HTTP source against a real server with every kind of manners."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.content import make_content
from support.origin import Manners, Origin

from odonata import __version__
from odonata.errors import CallerError, SettingsError, SourceError
from peer.core.quota import TokenBucket
from peer.runtime.limit import BucketLimit
from peer.runtime.port import SourceStream
from peer.runtime.source import LimitedStream, Sources, open_sources
from peer.runtime.source_http import REDIRECTS_MAX, HttpOptions

CONTENT = make_content(200_000)
PATIENCE_S = 20.0


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@pytest.fixture
async def source() -> AsyncIterator[Sources]:
    async with open_sources(HttpOptions(connect_timeout_s=5, read_timeout_s=PATIENCE_S)) as sources:
        yield sources


async def read_all(stream: SourceStream, step: int = 70_000) -> bytes:
    """Everything to the clean end, in steps."""
    buffer = memoryview(bytearray(step))
    taken: list[bytes] = []
    async with asyncio.timeout(PATIENCE_S):
        while count := await stream.read_into(buffer):
            taken.append(bytes(buffer[:count]))
    assert await stream.read_into(buffer) == 0
    return b"".join(taken)


async def fetch(source: Sources, url: str, offset: int = 0, end: int | None = None) -> bytes:
    async with await source.open(url, {}, offset=offset, end=end) as stream:
        return await read_all(stream)


async def test_a_good_server_tells_all_in_one_request(origin: Origin, source: Sources) -> None:
    url = origin.add("/blob", CONTENT, Manners(header={"ETag": '"x"', "Set-Cookie": "s=1"}))
    async with await source.open(url, {"X-Mine": "yes"}) as stream:
        assert (stream.offset, stream.content_length, stream.ranges) == (0, len(CONTENT), True)
        header = stream.response_header
        assert await read_all(stream) == CONTENT
    assert (header["etag"], header["content-length"]) == ('"x"', str(len(CONTENT)))
    assert not {"set-cookie", "content-range", "connection"} & header.keys()
    [seen] = origin.requests
    assert (seen.method, seen.range, seen.status) == ("GET", "bytes=0-", 206)
    assert seen.header["User-Agent"] == f"odonata/{__version__}"
    assert seen.header["Accept-Encoding"] == "identity"
    assert seen.header["X-Mine"] == "yes"


@pytest.mark.parametrize(
    ("offset", "end", "said"),
    [(0, 1, "bytes=0-0"), (5, 100, "bytes=5-99"), (100, None, "bytes=100-"),
     (199_999, None, "bytes=199999-"), (199_000, 300_000, "bytes=199000-299999")],
)  # fmt: skip
async def test_ranges(
    origin: Origin, source: Sources, offset: int, end: int | None, said: str
) -> None:
    url = origin.add("/blob", CONTENT)
    assert await fetch(source, url, offset, end) == CONTENT[offset:end]
    assert [seen.range for seen in origin.requests] == [said]


async def test_connections_are_used_again(origin: Origin, source: Sources) -> None:
    url = origin.add("/blob", CONTENT)
    for _ in range(3):
        assert await fetch(source, url, 10, 20) == CONTENT[10:20]


async def test_a_server_that_says_it_knows_ranges_and_ignores_one(
    origin: Origin, source: Sources
) -> None:
    header = {"Accept-Ranges": "bytes"}
    url = origin.add("/blob", CONTENT, Manners(ranges=False, header=header))
    async with await source.open(url, {}, end=100) as stream:
        assert not stream.ranges
    async with await source.open(url, {}, end=len(CONTENT)) as stream:
        assert stream.ranges, "all of it was asked for, which may be answered so"


async def test_a_server_without_ranges(origin: Origin, source: Sources) -> None:
    url = origin.add("/blob", CONTENT, Manners(ranges=False))
    async with await source.open(url, {}) as stream:
        assert (stream.content_length, stream.ranges) == (len(CONTENT), False)
        assert await read_all(stream) == CONTENT
    async with await source.open(url, {}, end=100) as stream:
        assert (stream.content_length, stream.ranges) == (len(CONTENT), False)
        assert await read_all(stream) == CONTENT, "it goes on, for it is all there is"
    with pytest.raises(SourceError, match="ignores the range") as caught:
        await source.open(url, {}, offset=10)
    assert caught.value.status_code == 200


async def test_an_unknown_length_ends_where_the_server_ends(
    origin: Origin, source: Sources
) -> None:
    url = origin.add("/blob", CONTENT, Manners(ranges=False, chunked=True))
    async with await source.open(url, {}) as stream:
        assert (stream.content_length, stream.ranges) == (None, False)
        assert await read_all(stream) == CONTENT


async def test_an_empty_content(origin: Origin, source: Sources) -> None:
    url = origin.add("/empty", b"")
    async with await source.open(url, {}) as stream:
        assert stream.content_length == 0
        assert await read_all(stream) == b""
    assert [(seen.range, seen.status) for seen in origin.requests] == [
        ("bytes=0-", 416),
        (None, 200),
    ]


@pytest.mark.parametrize(
    "manners",
    [
        Manners(short_by=1),
        Manners(short_by=150_000),
        Manners(ranges=False, short_by=1),
        Manners(ranges=False, chunked=True, short_by=1),
    ],
)
async def test_a_short_body_is_an_error_and_never_an_end(
    origin: Origin, source: Sources, manners: Manners
) -> None:
    url = origin.add("/short", CONTENT, manners)
    async with await source.open(url, {}) as stream:
        with pytest.raises(SourceError, match="ended early") as caught:
            await read_all(stream)
    assert caught.value.status_code is None


@asynccontextmanager
async def raw_server(answer: bytes, *, reset: bool = False) -> AsyncGenerator[str]:
    """A server that says exactly `answer` and hangs up, by a reset if told so; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if reset:
            await asyncio.sleep(0.1)  # what was sent arrives; a reset at once would destroy it
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


@pytest.mark.parametrize("reset", [False, True])
async def test_only_an_orderly_end_is_the_end_of_a_body_without_a_length(
    source: Sources, *, reset: bool
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CONTENT
    async with raw_server(answer, reset=reset) as url, await source.open(url, {}) as stream:
        assert stream.content_length is None
        if not reset:
            assert await read_all(stream) == CONTENT
            return
        with pytest.raises(SourceError, match="the body broke"):
            await read_all(stream)


async def test_a_header_in_latin_1_can_be_kept_and_passed_on(source: Sources) -> None:
    """Index, gRPC and proxy all write it as UTF-8."""
    name = "caf\u00e9".encode("latin-1")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Name: " + name + b"\r\n\r\nx"
    async with raw_server(answer) as url, await source.open(url, {}) as stream:
        assert stream.response_header["x-name"].encode() == "caf\u00e9".encode()


async def test_a_server_that_dies_in_mid_body(origin: Origin, source: Sources) -> None:
    url = origin.add("/blob", CONTENT, Manners(gate=asyncio.Event()))
    async with await source.open(url, {}) as stream:
        buffer = memoryview(bytearray(1000))
        assert await stream.read_into(buffer) > 0
        await origin.stop()
        with pytest.raises(SourceError, match="ended early"):
            await read_all(stream)


@pytest.mark.parametrize(
    "manners",
    [
        Manners(content_range="bytes 0-199998/200000"),
        Manners(content_range="bytes 1-199999/200000"),
        Manners(content_range="bytes 0-299999/300000"),
        Manners(content_range="bytes 0-199999/100000"),
        Manners(content_range="bytes 9-8/200000"),
        Manners(content_range="bytes 0-199999/99999999999999999999999"),
        Manners(content_range="pages 1-2/3"),
        Manners(content_range="bytes */200000"),
        Manners(cap=1000),
    ],
    ids=lambda manners: manners.content_range or "capped",
)
async def test_a_206_that_answers_something_else_is_refused(
    origin: Origin, source: Sources, manners: Manners
) -> None:
    url = origin.add("/wrong", CONTENT, manners)
    with pytest.raises(SourceError) as caught:
        await source.open(url, {})
    assert caught.value.status_code == 206


@pytest.mark.parametrize(
    "manners",
    [Manners(hides_total=True), Manners(header={"Content-Encoding": "gzip"})],
    ids=["no total", "encoded"],
)
async def test_a_range_that_says_too_little_is_asked_for_whole(
    origin: Origin, source: Sources, manners: Manners
) -> None:
    url = origin.add("/odd", CONTENT, manners)
    async with await source.open(url, {}) as stream:
        assert await read_all(stream) == CONTENT
    assert [(seen.range, seen.status) for seen in origin.requests] == [
        ("bytes=0-", 206),
        (None, 200),
    ]
    if manners.header:
        assert not stream.ranges
        with pytest.raises(SourceError, match="encoded"):
            await source.open(url, {}, offset=10)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 429, 500, 503])
async def test_a_refusal_carries_the_source_s_own_words(
    origin: Origin, source: Sources, status: int
) -> None:
    header = {"WWW-Authenticate": "Bearer x", "Retry-After": "7", "Set-Cookie": "secret=1"}
    url = origin.add("/no", b"", Manners(status=status, header=header))
    with pytest.raises(SourceError, match=f"answers {status}") as caught:
        await source.open(url + "?signature=hush", {"Authorization": "Bearer hush"})
    assert caught.value.status_code == status
    assert caught.value.header["www-authenticate"] == "Bearer x"
    assert caught.value.header["retry-after"] == "7"
    assert "set-cookie" not in caught.value.header
    assert "hush" not in caught.value.detail
    assert f"http://{origin.address}/no" in caught.value.detail


async def test_an_offset_beyond_the_end(origin: Origin, source: Sources) -> None:
    url = origin.add("/blob", CONTENT)
    with pytest.raises(SourceError, match="beyond the end") as caught:
        await source.open(url, {}, offset=len(CONTENT))
    assert caught.value.status_code == 416


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_keep_range_and_credentials_on_one_origin(
    origin: Origin, source: Sources, status: int
) -> None:
    origin.add("/there", CONTENT, Manners(wants_header=("Authorization", "Bearer t")))
    url = origin.add("/here", manners=Manners(redirect_to="there?x=1", redirect_status=status))
    async with await source.open(url, {"authorization": "Bearer t"}, offset=5) as stream:
        assert await read_all(stream) == CONTENT[5:]
    assert [(seen.path, seen.query, seen.range) for seen in origin.requests] == [
        ("/here", "", "bytes=5-"),
        ("/there", "x=1", "bytes=5-"),
    ]


async def test_another_origin_never_sees_the_credentials(origin: Origin) -> None:
    options = HttpOptions(header={"Cookie": "house=1"})
    async with Origin() as other, open_sources(options) as source:
        there = other.add("/blob", CONTENT)
        url = origin.add("/blob", manners=Manners(redirect_to=there))
        async with await source.open(url, {"AUTHORIZATION": "Bearer t"}) as stream:
            assert await read_all(stream) == CONTENT
        first, second = origin.requests[0].header, other.requests[0].header
    assert (first["Authorization"], first["Cookie"]) == ("Bearer t", "house=1")
    assert not {"authorization", "cookie"} & {name.lower() for name in second}


async def test_another_origin_sees_no_header_that_may_be_a_credential_by_another_name(
    origin: Origin, source: Sources
) -> None:
    async with Origin(ip="127.0.0.2") as other:
        target = other.add("/blob", CONTENT)
        url = origin.add("/start", b"", Manners(redirect_to=target))
        sent = {"Private-Token": "secret", "X-Api-Key": "secret", "Accept": "a/b", "Via": "1.1 x"}
        async with await source.open(url, sent) as stream:
            assert await read_all(stream) == CONTENT
        [seen] = other.requests
        assert "secret" not in seen.header.values()
        assert (seen.header["Accept"], seen.header["Via"]) == ("a/b", "1.1 x")
        assert (seen.range, seen.header["User-Agent"]) == ("bytes=0-", f"odonata/{__version__}")
        assert origin.requests[0].header["X-Api-Key"] == "secret"


async def test_redirects_end(origin: Origin, source: Sources) -> None:
    url = origin.add("/loop", manners=Manners(redirect_to="/loop"))
    with pytest.raises(SourceError, match="redirects"):
        await source.open(url, {})
    assert len(origin.requests) == REDIRECTS_MAX + 1
    url = origin.add("/out", manners=Manners(redirect_to="file:///etc/passwd"))
    with pytest.raises(SourceError, match="no http or https"):
        await source.open(url, {})


async def test_what_the_caller_may_not_decide_is_left_out(origin: Origin, source: Sources) -> None:
    url = origin.add("/blob", CONTENT)
    own = {
        "range": "bytes=7-9",
        "Host": "elsewhere",
        "If-None-Match": "*",
        "accept-encoding": "gzip",
        "Connection": "close",
        "User-Agent": "docker",
    }
    async with await source.open(url, own) as stream:
        assert await read_all(stream) == CONTENT
    header = origin.requests[0].header
    assert (header["Range"], header["Host"], header["User-Agent"]) == (
        "bytes=0-",
        origin.address,
        "docker",
    )
    assert header["Accept-Encoding"] == "identity"
    assert "If-None-Match" not in header


async def test_signed_urls_arrive_byte_for_byte(origin: Origin, source: Sources) -> None:
    url = origin.add("/a%2Fb", CONTENT)
    origin.add("/a/b", CONTENT)
    assert await fetch(source, f"{url}?sig=a%2Bb%2f%3D&empty=&x") == CONTENT
    assert origin.requests[0].target == "/a%2Fb?sig=a%2Bb%2f%3D&empty=&x"


@pytest.mark.parametrize(
    "url",
    ["", "/path", "gopher://host/x", "file:///etc/passwd", "http://", "http://h:99999/", "http://[::1",
     "http://host/a\r\nX-Evil: 1"],
)  # fmt: skip
async def test_what_is_no_url_of_ours_is_the_caller_s_mistake(source: Sources, url: str) -> None:
    with pytest.raises(CallerError):
        await source.open(url, {})


async def test_a_header_with_a_line_break_is_refused(origin: Origin, source: Sources) -> None:
    with pytest.raises(CallerError, match="line break"):
        await source.open(origin.add("/x", b"1"), {"X-A": "1\r\nX-Evil: 2"})
    assert origin.requests == []


async def test_empty_ranges_are_the_caller_s_mistake(source: Sources) -> None:
    with pytest.raises(CallerError, match="empty"):
        await source.open("http://127.0.0.1:1/x", {}, offset=5, end=5)


async def test_nobody_listens(source: Sources) -> None:
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:1/x: can't connect") as caught:
        await source.open("http://127.0.0.1:1/x?sig=hush", {})
    assert caught.value.status_code is None
    assert "hush" not in caught.value.detail


async def test_a_silent_origin_times_out(origin: Origin) -> None:
    url = origin.add("/slow", CONTENT, Manners(gate=asyncio.Event()))
    async with (
        open_sources(HttpOptions(read_timeout_s=0.1)) as source,
        await source.open(url, {}) as stream,
    ):
        with pytest.raises(SourceError, match=r"silent for 0\.1 s"):
            await read_all(stream)


async def test_leaving_early_closes_the_connection(origin: Origin, source: Sources) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    async with await source.open(url, {}) as stream:
        assert await stream.read_into(memoryview(bytearray(10))) == 10
    gate.set()
    assert await fetch(source, url) == CONTENT


async def test_a_limited_stream_passes_every_byte(origin: Origin, source: Sources) -> None:
    url = origin.add("/blob", CONTENT)
    limit = BucketLimit(TokenBucket(2_000_000, burst_bytes=10_000))
    async with LimitedStream(await source.open(url, {}), limit) as stream:
        assert (stream.content_length, stream.ranges, stream.offset) == (len(CONTENT), True, 0)
        assert stream.response_header["content-length"] == str(len(CONTENT))
        assert await read_all(stream) == CONTENT


async def test_a_gigabyte_would_not_be_held_in_memory(origin: Origin, source: Sources) -> None:
    """A reader that pauses makes the origin pause: what is sent ahead is bounded by buffers."""
    content = bytes(64 * 1024 * 1024)
    url = origin.add("/big", content)
    digest = hashlib.sha256()
    async with await source.open(url, {}) as stream:
        buffer = memoryview(bytearray(1024 * 1024))
        first = await stream.read_into(buffer)
        digest.update(buffer[:first])
        seen, before = origin.requests[0], -1
        while seen.sent_bytes != before:  # until it stands still
            before = seen.sent_bytes
            await asyncio.sleep(0.2)
        assert before < len(content) // 2
        while count := await stream.read_into(buffer):
            digest.update(buffer[:count])
    assert digest.digest() == hashlib.sha256(content).digest()


# --- TLS ---


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A PEM file with key and self-signed certificate for 127.0.0.1."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "install openssl"
    pem = tmp_path / "origin.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", str(pem), "-out", str(tmp_path / "cert.pem"), "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip
    pem.write_text(pem.read_text() + (tmp_path / "cert.pem").read_text())
    return pem


async def test_certificates_are_checked_unless_told_otherwise(certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with Origin(tls=context) as origin:
        url = origin.add("/blob", CONTENT)
        async with open_sources() as source:
            with pytest.raises(SourceError, match="certificate is not trusted"):
                await source.open(url, {})
        async with open_sources(HttpOptions(ca_file=certificate)) as source:
            assert await fetch(source, url) == CONTENT
        async with open_sources(HttpOptions(insecure=True)) as source:
            assert await fetch(source, url) == CONTENT


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    for path in (wrong, tmp_path / "missing.pem"):
        with pytest.raises(SettingsError, match=path.name):
            open_sources(HttpOptions(ca_file=path))


def test_the_table_of_schemes(source: Sources) -> None:
    assert source.schemes == (
        "abs", "az", "file", "ftp", "gs", "hdfs", "hf", "http", "https", "oci", "oss", "s3",
    )  # fmt: skip
