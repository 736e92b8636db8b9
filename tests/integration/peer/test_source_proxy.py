"""Origins that are asked through a proxy of the site, and what else only HTTP has."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import daemon, get, settings
from support.http_client import HttpClient
from support.http_proxy import HttpProxy
from support.origin import Origin

from odonata.errors import CallerError, SettingsError, SourceError
from odonata.wire.origin import OriginOptions
from peer.runtime.daemon import Daemon
from peer.runtime.outgoing_proxy import OutgoingProxy
from peer.runtime.source import open_sources
from peer.runtime.source_http import HttpOptions

CONTENT = b"0123456789" * 1000


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def proxy() -> AsyncIterator[HttpProxy]:
    async with HttpProxy() as proxy:
        yield proxy


async def read(options: HttpOptions, url: str) -> bytes:
    async with open_sources(options) as sources, await sources.open(url, {}) as stream:
        buffer = memoryview(bytearray(len(CONTENT)))
        filled = 0
        while count := await stream.read_into(buffer[filled:]):
            filled += count
        return bytes(buffer[:filled])


async def test_the_proxy_is_asked_and_told_who_asks(origin: Origin, proxy: HttpProxy) -> None:
    url = origin.add("/f", CONTENT)
    through = OutgoingProxy(url=proxy.url.replace("//", "//user:pass%40word@"))
    assert await read(HttpOptions(proxy=through), url) == CONTENT
    login = base64.b64encode(b"user:pass@word").decode()
    assert proxy.asked == [("GET", url, f"Basic {login}")]
    assert "Proxy-Authorization" not in origin.requests[0].header


async def test_an_exception_is_asked_directly(origin: Origin, proxy: HttpProxy) -> None:
    url = origin.add("/f", CONTENT)
    through = OutgoingProxy(url=proxy.url, exceptions=("127.0.0.0/8",))
    assert await read(HttpOptions(proxy=through), url) == CONTENT
    assert proxy.asked == []


async def test_a_proxy_that_is_not_there_is_an_error_without_its_password(origin: Origin) -> None:
    through = OutgoingProxy(url="http://user:hush@127.0.0.1:1")
    with pytest.raises(SourceError) as caught:
        await read(HttpOptions(proxy=through), origin.add("/f", CONTENT))
    assert "hush" not in f"{caught.value!r}"


async def test_the_environment_s_proxy_does_not_count(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await read(HttpOptions(), origin.add("/f", CONTENT)) == CONTENT


async def test_a_daemon_asks_all_its_origins_through_the_proxy(
    origin: Origin, proxy: HttpProxy, tmp_path: Path
) -> None:
    url = origin.add("/f", CONTENT)
    set_to: dict[str, Any] = {"backend__proxy": proxy.url, "backend__noProxy": []}
    async with daemon(tmp_path, 2, **set_to) as one:
        output = await get(one, url, tmp_path / "out")
        assert output.read_bytes() == CONTENT
        async with HttpClient(one.proxy_address) as client:  # no rule: passed on as it is
            answer = await client.get(url)
        assert answer.body == CONTENT
    assert [asked[:2] for asked in proxy.asked] == [("GET", url)] * 2


async def test_a_daemon_that_would_ask_itself_does_not_start(tmp_path: Path) -> None:
    port = 23456  # never bound: it does not come so far
    for host in ("127.0.0.1", "localhost", "127.0.0.2"):
        own = settings(
            tmp_path, 2, proxy__server__port=port, backend__proxy=f"http://{host}:{port}"
        )
        with pytest.raises(SettingsError, match="own proxy"):
            await Daemon(own).start()


def test_a_proxy_that_is_none_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, 2, backend__proxy="socks5://user:hush@host:1")
    assert "hush" not in str(caught.value)


async def test_authorities_that_are_none_are_the_caller_s_mistake(origin: Origin) -> None:
    url = origin.add("/f", CONTENT)
    async with open_sources() as sources:
        for chain in (b"no certificate", b"x" * 300_000):
            with pytest.raises(CallerError, match="certificate_chain"):
                await sources.open(url, {}, options=OriginOptions(certificate_chain=(chain,)))


async def test_a_listing_asks_for_one_byte(origin: Origin) -> None:
    url = origin.add("/f", CONTENT)
    async with open_sources() as sources:
        entries = await sources.list(url, {})
    assert [(one.url, one.content_length) for one in entries] == [(url, len(CONTENT))]
    assert [seen.range for seen in origin.requests] == ["bytes=0-0"]
