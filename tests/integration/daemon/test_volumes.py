"""Volumes that fill up or become read-only beneath a daemon: content, index and output apart.

The caller is told, everyone else is served, and when there is room again the download goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, get
from support.origin import Manners, Origin
from support.small_volume import fill, remount, small_volume

from odonata.errors import DiskFullError, StorageError
from peer.runtime.daemon import Daemon

SMALL = make_content(MIB)
LARGE = make_content(11 * MIB, 2)
PATH = f"/v2/library/x/blobs/sha256:{hashlib.sha256(LARGE).hexdigest()}"
RULES: Any = [{"regex": "blobs/sha256.*"}]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


async def ask_proxy(one: Daemon, url: str) -> tuple[int, bytes]:
    ip, port = one.proxy_address
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.get(url, proxy=f"http://{ip}:{port}") as response,
    ):
        return response.status, await response.read()


def content_of(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_full_content_volume(tmp_path: Path, origin: Origin) -> None:
    small, large = origin.add("/small", SMALL), origin.add("/large", LARGE)
    blob = origin.add(PATH, LARGE)
    with small_volume(tmp_path / "data2" / "content", "16m") as content:
        async with daemon(tmp_path, 2, proxy__rules=RULES) as one:
            await get(one, small, tmp_path / "small")
            ballast = fill(content)
            with pytest.raises(DiskFullError, match="free some space"):
                await get(one, large, tmp_path / "large")
            assert not (tmp_path / "large").exists()
            assert await ask_proxy(one, blob) == (200, LARGE), "past the swarm"
            await get(one, small, tmp_path / "again")
            assert content_of(tmp_path / "again") == SMALL
            ballast.unlink()
            await get(one, large, tmp_path / "large")
            assert content_of(tmp_path / "large") == LARGE
    assert origin.copies("/small") == 1


async def test_a_download_goes_on_where_the_volume_was_full(tmp_path: Path, origin: Origin) -> None:
    """Nobody said how long it is, so that it could not be refused beforehand."""
    url = origin.add("/large", LARGE, Manners(chunked=True, ranges=False))
    with small_volume(tmp_path / "data2" / "content", "16m") as content:
        async with daemon(tmp_path, 2) as one:
            ballast = fill(content, leave_bytes=9 * MIB)
            with pytest.raises(DiskFullError, match="free some space"):
                await get(one, url, tmp_path / "out")
            origin.add("/large", LARGE)  # it has learned to take up a download
            asked = len(origin.requests)
            ballast.unlink()
            await get(one, url, tmp_path / "out")
            assert content_of(tmp_path / "out") == LARGE
    assert sum(seen.sent_bytes for seen in origin.requests[asked:]) == len(LARGE) - 8 * MIB


async def test_a_full_index_volume(tmp_path: Path, origin: Origin) -> None:
    small, large = origin.add("/small", SMALL), origin.add("/large", LARGE)
    with (
        small_volume(tmp_path / "data2", "2m") as data,
        small_volume(tmp_path / "data2" / "content", "64m"),
    ):
        async with daemon(tmp_path, 2) as one:
            await get(one, small, tmp_path / "small")
            ballast = fill(data)
            failed = 0
            for number in range(8):  # until what the journal has left is used up
                url = origin.add(f"/{number}", SMALL[:number])
                try:
                    await get(one, url, tmp_path / f"{number}")
                except DiskFullError:
                    failed += 1
            assert failed
            await get(one, small, tmp_path / "again")
            ballast.unlink()
            await get(one, large, tmp_path / "large")
            assert content_of(tmp_path / "large") == LARGE
    assert origin.copies("/small") == 1


async def test_a_full_output_volume(tmp_path: Path, origin: Origin) -> None:
    url = origin.add("/large", LARGE)
    with small_volume(tmp_path / "outputs", "8m") as outputs:
        async with daemon(tmp_path, 2) as one:
            with pytest.raises(DiskFullError, match="free some space"):
                await get(one, url, outputs / "out")
            assert list(outputs.iterdir()) == []
            remount(outputs, "size=16m")
            await get(one, url, outputs / "out")
            assert content_of(outputs / "out") == LARGE
            assert [path.name for path in outputs.iterdir()] == ["out"]
    assert origin.copies("/large") == 1


async def test_a_volume_that_becomes_read_only(tmp_path: Path, origin: Origin) -> None:
    small, large = origin.add("/small", SMALL), origin.add("/large", LARGE)
    blob = origin.add(PATH, LARGE)
    with small_volume(tmp_path / "data2" / "content", "64m") as content:
        async with daemon(tmp_path, 2, proxy__rules=RULES) as one:
            await get(one, small, tmp_path / "small")
            remount(content, "ro")
            with pytest.raises(StorageError, match="read-only: remount it"):
                await get(one, large, tmp_path / "large")
            assert await ask_proxy(one, blob) == (200, LARGE), "past the swarm"
            await get(one, small, tmp_path / "again")
            assert content_of(tmp_path / "again") == SMALL
            remount(content, "rw")
            await get(one, large, tmp_path / "large")
            assert content_of(tmp_path / "large") == LARGE
