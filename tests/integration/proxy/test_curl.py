"""curl, as a client that was not written for this test."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from support.content import make_content
from support.memory_hub import MIB, MemoryHub
from support.origin import Manners, Origin

from odonata.errors import SourceError
from peer.runtime.proxy.server import ProxyServer

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

URL = "http://r.test/v2/x/blobs/sha256:1"
CONTENT = make_content(8 * MIB + 5)


class Curl:
    """A curl that goes through the proxy."""

    def __init__(self, proxy: ProxyServer) -> None:
        self._proxy = f"http://127.0.0.1:{proxy.address[1]}"

    async def start(self, *arguments: str, proxied: bool = True) -> asyncio.subprocess.Process:
        through = ("--proxy", self._proxy, "--noproxy", "") if proxied else ()
        fixed = ("curl", "-q", "-sS", "--max-time", "20", *through)
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*fixed, *arguments, stdout=pipe, stderr=pipe)

    async def run(self, *arguments: str, proxied: bool = True) -> tuple[int, bytes]:
        """Exit code and output."""
        process = await self.start(*arguments, proxied=proxied)
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output


@pytest.fixture
def curl(proxy: ProxyServer) -> Curl:
    return Curl(proxy)


async def test_download_and_resume(hub: MemoryHub, curl: Curl, tmp_path: Path) -> None:
    hub.put(URL, CONTENT, {"ETag": '"e"'})
    assert await curl.run(URL) == (0, CONTENT)
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:1000])
    assert (await curl.run("-C", "-", "-o", str(part), URL))[0] == 0
    assert part.read_bytes() == CONTENT
    assert (await curl.run("-r", "-3", URL)) == (0, CONTENT[-3:])


async def test_mirror(hub: MemoryHub, proxy: ProxyServer, curl: Curl) -> None:
    hub.put("https://ghcr.io/v2/x/blobs/sha256:1", CONTENT)
    url = f"http://127.0.0.1:{proxy.address[1]}/v2/x/blobs/sha256:1?ns=ghcr.io"
    assert await curl.run(url, proxied=False) == (0, CONTENT)


@pytest.mark.parametrize("length_known", [True, False])
@pytest.mark.parametrize(("version", "codes"), [("--http1.1", {18}), ("--http1.0", {18, 56})])
async def test_a_broken_body_is_an_error(
    hub: MemoryHub, curl: Curl, length_known: bool, version: str, codes: set[int]
) -> None:
    task = hub.put(URL, CONTENT, arrived=5 * MIB, length_known=length_known)
    process = await curl.start(version, "-N", URL)
    assert process.stdout is not None
    await process.stdout.readexactly(MIB)
    task.fail(SourceError("broke off"))
    await process.communicate()
    assert process.returncode in codes


async def test_direct_is_followed_by_curl_itself(origin: Origin, curl: Curl) -> None:
    target = origin.add("/there", CONTENT, Manners(chunked=True))
    url = origin.add("/here", manners=Manners(redirect_to=target))
    assert await curl.run("-L", url) == (0, CONTENT)


async def test_upload_and_tunnel(origin: Origin, curl: Curl, tmp_path: Path) -> None:
    url = origin.add("/x", b"stored")
    file = tmp_path / "layer"
    file.write_bytes(CONTENT[:MIB])
    assert await curl.run("-T", str(file), url) == (0, b"stored")
    assert origin.requests[0].header["Content-Length"] == str(MIB)
    assert await curl.run("--proxytunnel", url) == (0, b"stored")


async def test_a_killed_curl_lets_go_of_the_task(hub: MemoryHub, curl: Curl) -> None:
    hub.put(URL, CONTENT, arrived=MIB)
    process = await curl.start("-N", URL)
    assert process.stdout is not None
    await process.stdout.readexactly(1000)
    process.kill()
    async with asyncio.timeout(10):
        await process.communicate()
        await hub.all_closed()
