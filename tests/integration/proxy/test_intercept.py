"""HTTPS that the proxy opens: curl, openssl's certificates, and a real TLS origin behind it."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.certificates import Signed, make_authority, make_signed
from support.content import make_content
from support.eventually import eventually
from support.http_client import TIMEOUT_S, HttpClient, request
from support.memory_hub import MIB, MemoryHub
from support.origin import Origin

from odonata.errors import SourceError
from peer.core.proxy_auth import ProxyLogin
from peer.core.proxy_rule import ProxyPolicy, ProxyRule
from peer.runtime.host_trust import HostTrust
from peer.runtime.proxy.authority import Authority, Certificates
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.server import ProxyServer

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

BLOB = "https://registry.test/v2/x/blobs/sha256:1"
CONTENT = make_content(3 * MIB + 7)
POLICY = ProxyPolicy(
    rules=(ProxyRule(regex="blobs/sha256"),),
    intercept_hosts=(r"^registry\.test$", r"^127\.0\.0\.1"),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def proxy(hub: MemoryHub, authority: Signed) -> AsyncIterator[ProxyServer]:
    async with opening(hub, authority) as running:
        yield running


def opening(
    hub: MemoryHub,
    authority: Signed,
    options: ProxyOptions | None = None,
    login: ProxyLogin | None = None,
) -> ProxyServer:
    return ProxyServer(
        hub,
        POLICY,
        options or ProxyOptions(port=0, stop_grace_s=0.5, linger_s=0.2),
        login=login,
        certificates=Certificates(Authority.load(*authority)),
    )


async def curl(proxy: ProxyServer, trusted: Path, *words: str) -> tuple[int, bytes, str]:
    """Exit code, output, errors."""
    place = f"http://127.0.0.1:{proxy.address[1]}"
    process = await asyncio.create_subprocess_exec(
        "curl", "-q", "-sS", "--max-time", "20", "--proxy", place, "--noproxy", "",
        "--cacert", str(trusted), *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output, errors.decode()


async def tunnel(proxy: ProxyServer, authority: Signed, client: HttpClient, place: str) -> None:
    """CONNECT, and TLS with whoever answers for `place`."""
    await client.send(request(place, method="CONNECT"))
    assert (await client.head()).status == 200
    context = ssl.create_default_context(cafile=authority.cert)
    await client.writer.start_tls(context, server_hostname=place.rpartition(":")[0])


async def test_a_blob_comes_from_the_swarm(
    hub: MemoryHub, proxy: ProxyServer, authority: Signed
) -> None:
    hub.put(BLOB, CONTENT, {"ETag": '"e"'})
    for version in ("--http1.1", "--http1.0"):
        assert await curl(proxy, authority.cert, version, BLOB) == (0, CONTENT, "")
    assert (await curl(proxy, authority.cert, "-r", "5-9", BLOB))[1] == CONTENT[5:10]
    assert [download.url for download in hub.opened] == [BLOB] * 3
    assert (proxy.counters.requests_intercepted, proxy.counters.requests_p2p) == (3, 3)
    assert proxy.counters.bytes_tunnel == 0


async def test_many_requests_in_one_tunnel(
    hub: MemoryHub, proxy: ProxyServer, authority: Signed
) -> None:
    hub.put(BLOB, CONTENT)
    async with HttpClient(proxy.address) as client:
        await tunnel(proxy, authority, client, "registry.test:443")
        for _ in range(5):
            answer = await client.get("/v2/x/blobs/sha256:1", "Host: registry.test")
            assert (answer.status, answer.body) == (200, CONTENT)
    assert proxy.counters.requests_intercepted == 1
    assert proxy.counters.connections == 1


async def test_an_unusual_port_is_part_of_the_url(
    hub: MemoryHub, proxy: ProxyServer, authority: Signed
) -> None:
    url = "https://registry.test:5443/v2/x/blobs/sha256:1"
    hub.put(url, CONTENT)
    assert await curl(proxy, authority.cert, url) == (0, CONTENT, "")


async def test_manifests_pass_to_a_tls_origin_with_credentials_and_without_ours(
    hub: MemoryHub, authority: Signed, tmp_path: Path
) -> None:
    login = ProxyLogin(username="proxy", password="key")  # a test's
    other = make_authority(tmp_path, "other")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*make_signed(tmp_path, other, "127.0.0.1"))
    options = ProxyOptions(port=0, trust=(HostTrust(regex=r"127\.0\.0\.1:", insecure=True),))
    async with Origin(tls=server) as origin, opening(hub, authority, options, login) as proxy:
        url = origin.add("/v2/x/manifests/latest", b"{}")
        words = ("--proxy-user", "proxy:key", "-H", "Authorization: Bearer abc")
        assert await curl(proxy, authority.cert, *words, url) == (0, b"{}", "")
        (seen,) = origin.requests
        assert seen.header["Authorization"] == "Bearer abc"
        assert "Proxy-Authorization" not in seen.header
        code, _, errors = await curl(proxy, authority.cert, "--proxy-user", "proxy:no", url)
        assert (code, "401" in errors or "407" in errors) == (56, True)


async def test_an_origin_of_another_authority_is_refused_unless_it_is_named(
    hub: MemoryHub, authority: Signed, tmp_path: Path
) -> None:
    other = make_authority(tmp_path, "other")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*make_signed(tmp_path, other, "127.0.0.1"))
    async with Origin(tls=server) as origin:
        url = origin.add("/manifest", b"{}")
        async with opening(hub, authority) as proxy:
            code, output, _ = await curl(proxy, authority.cert, url)
            assert (code, b"certificate of the origin" in output) == (0, True)
        assert origin.requests == []
        named = HostTrust(regex="^127", ca_file=other.cert)
        async with opening(hub, authority, ProxyOptions(port=0, trust=(named,))) as proxy:
            assert await curl(proxy, authority.cert, url) == (0, b"{}", "")


async def test_whoever_does_not_trust_the_authority_is_told(
    proxy: ProxyServer, tmp_path: Path
) -> None:
    other = make_authority(tmp_path, "other")
    with capture_logs() as logs:
        code, _, errors = await curl(proxy, other.cert, BLOB)
        await eventually(lambda: any(one["event"] == "interception_failed" for one in logs))
    assert code == 60, errors
    (failed,) = (one for one in logs if one["event"] == "interception_failed")
    assert failed["url"] == "https://registry.test:443"
    assert "odonata ca trust" in failed["error"]


async def test_hosts_that_nobody_named_pass_untouched(
    hub: MemoryHub, authority: Signed, tmp_path: Path
) -> None:
    own = make_authority(tmp_path, "own")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*make_signed(tmp_path, own, "localhost"))
    async with Origin(tls=server) as origin, opening(hub, authority) as proxy:
        origin.add("/x", b"untouched")
        url = f"https://localhost:{origin.address.rpartition(':')[2]}/x"
        assert (await curl(proxy, own.cert, url))[:2] == (0, b"untouched")
    assert (proxy.counters.requests_tunnel, proxy.counters.requests_intercepted) == (1, 0)


async def test_a_body_that_breaks_off_is_an_error_inside_tls(
    hub: MemoryHub, proxy: ProxyServer, authority: Signed
) -> None:
    task = hub.put(BLOB, CONTENT, arrived=2 * MIB)
    async with HttpClient(proxy.address) as client:
        await tunnel(proxy, authority, client, "registry.test:443")
        await client.send(request("/v2/x/blobs/sha256:1", "Host: registry.test"))
        head = await client.head()
        assert head.header["content-length"] == str(len(CONTENT))
        async with asyncio.timeout(TIMEOUT_S):
            await client.reader.readexactly(MIB)
            task.fail(SourceError("broke off"))
            assert len(await rest(client)) < len(CONTENT) - MIB
    await hub.all_closed()


async def rest(client: HttpClient) -> bytes:
    """All that still comes, however it ends."""
    received = b""
    try:
        while data := await client.reader.read(1 << 16):
            received += data
    except (ConnectionError, ssl.SSLError):
        pass
    return received


async def test_a_client_that_is_gone_lets_go_of_the_task(
    hub: MemoryHub, proxy: ProxyServer, authority: Signed
) -> None:
    hub.put(BLOB, CONTENT, arrived=MIB)
    async with HttpClient(proxy.address) as client:
        await tunnel(proxy, authority, client, "registry.test:443")
        await client.send(request("/v2/x/blobs/sha256:1", "Host: registry.test"))
        await client.head()
        client.writer.transport.abort()
    async with asyncio.timeout(TIMEOUT_S):
        await hub.all_closed()


@pytest.mark.parametrize("sent", [b"no TLS at all\r\n\r\n", b""])
async def test_who_speaks_no_tls_is_hung_up_on(
    hub: MemoryHub, authority: Signed, sent: bytes
) -> None:
    options = ProxyOptions(port=0, head_timeout_s=0.3)
    async with opening(hub, authority, options) as proxy, HttpClient(proxy.address) as client:
        await client.send(request("registry.test:443", method="CONNECT"))
        assert (await client.head()).status == 200
        await client.send(sent)
        assert b"HTTP/1.1" not in await rest(client)
        await eventually(lambda: proxy.counters.connections_open == 0)


async def test_bytes_before_the_answer_are_refused(proxy: ProxyServer) -> None:
    async with HttpClient(proxy.address) as client:
        connect = request("registry.test:443", method="CONNECT").replace("\n", "\r\n").encode()
        await client.send(connect + b"\x16\x03\x01")
        answer = await client.answer()
        assert answer.status == 400
        assert b"wait for the proxy's answer" in answer.body


async def test_the_certificate_is_of_the_name_that_is_asked_for(
    proxy: ProxyServer, authority: Signed
) -> None:
    context = ssl.create_default_context(cafile=authority.cert)
    for name in ("registry.test", "another.test"):
        async with HttpClient(proxy.address) as client:
            await client.send(request("registry.test:443", method="CONNECT"))
            await client.head()
            await client.writer.start_tls(context, server_hostname=name)
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
            names = client.writer.get_extra_info("peercert")["subjectAltName"]
            assert names == (("DNS", name),)


async def test_basic_login_is_asked_of_connect(hub: MemoryHub, authority: Signed) -> None:
    login = ProxyLogin(username="proxy", password="key")  # a test's
    hub.put(BLOB, CONTENT)
    async with opening(hub, authority, login=login) as proxy, HttpClient(proxy.address) as client:
        token = base64.b64encode(b"proxy:key").decode()
        await client.send(
            request("registry.test:443", f"Proxy-Authorization: Basic {token}", method="CONNECT")
        )
        assert (await client.head()).status == 200
        context = ssl.create_default_context(cafile=authority.cert)
        await client.writer.start_tls(context, server_hostname="registry.test")
        answer = await client.get("/v2/x/blobs/sha256:1", "Host: registry.test")
        assert (answer.status, answer.body) == (200, CONTENT)
        assert "authorization" not in {name.lower() for name in hub.opened[0].request_header}
