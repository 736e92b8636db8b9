"""Through the daemon's HTTP proxy: what container runtimes do, with a real hub behind it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, scheduler
from support.origin import Manners, Origin

from peer.runtime.daemon import Daemon

CONTENT = make_content(14 * MIB + 9)
PATH = f"/v2/library/x/blobs/sha256:{hashlib.sha256(CONTENT).hexdigest()}"
RULES: Any = [{"regex": "blobs/sha256.*"}]


async def fetch(one: Daemon, url: str, **header: str) -> tuple[int, bytes]:
    ip, port = one.proxy_address
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.get(url, proxy=f"http://{ip}:{port}", headers=header) as response,
    ):
        return response.status, await response.read()


async def test_every_peer_pulls_at_once_and_the_registry_sends_one_copy(tmp_path: Path) -> None:
    async with Origin() as origin, scheduler() as app:
        url = origin.add(PATH, CONTENT)
        common: dict[str, Any] = {"scheduler__addrs": [app.address], "proxy__rules": RULES}
        async with (
            daemon(tmp_path, 2, seedPeer__enable=True, **common),
            daemon(tmp_path, 3, **common) as first,
            daemon(tmp_path, 4, **common) as second,
        ):
            pulled = await asyncio.gather(fetch(first, url), fetch(second, url), fetch(first, url))
            assert list(pulled) == [(200, CONTENT)] * 3
            assert origin.copies(PATH) <= 1.02
            asked = len(origin.requests)
            assert await fetch(second, url) == (200, CONTENT)
            part = await fetch(second, url, Range=f"bytes={5 * MIB}-{5 * MIB + 9}")
            assert part == (206, CONTENT[5 * MIB : 5 * MIB + 10])
            assert len(origin.requests) == asked


async def test_an_unknown_length_streams_whole(tmp_path: Path) -> None:
    manners = Manners(chunked=True, ranges=False)
    async with Origin() as origin, daemon(tmp_path, 2, proxy__rules=RULES) as one:
        assert await fetch(one, origin.add(PATH, CONTENT, manners)) == (200, CONTENT)


async def test_a_body_that_is_not_the_blob_breaks_off(tmp_path: Path) -> None:
    async with Origin() as origin, daemon(tmp_path, 2, proxy__rules=RULES) as one:
        url = origin.add(PATH, CONTENT[:-1] + b"!")
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(one, url)


async def test_what_the_registry_refuses_passes_through(tmp_path: Path) -> None:
    async with Origin() as origin, daemon(tmp_path, 2, proxy__rules=RULES) as one:
        url = origin.add(PATH, b"", Manners(status=404))
        assert (await fetch(one, url))[0] == 404
        assert (await fetch(one, origin.add("/v2/", b"hello")))[1] == b"hello"
