"""Liars whose bytes have the right CRC-32, and contents that are not what their URL says."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, daemon, get, scheduler, sha256
from support.eventually import eventually
from support.forgery import forge, forged
from support.origin import Origin

from odonata.digest import crc32
from odonata.errors import OdonataError
from peer.runtime.daemon import Daemon
from scheduler.core.standing import HostState

PIECES = 5
CONTENT = make_content(PIECES * 4 * MIB)
FORGER = "127.0.0.3-host3"


def stored(folder: Path, number: int) -> Path:
    """The one content file of daemon `number`."""
    (path,) = (one for one in (folder / f"data{number}" / "content").rglob("*") if one.is_file())
    return path


def test_a_forgery_has_the_same_crc32_and_other_bytes() -> None:
    data = CONTENT[:1000]
    assert forged(data, 77) != data
    assert crc32(forged(data, 77)) == crc32(data)


async def test_forged_pieces_are_stored_nowhere_and_the_forger_is_out(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add("/blob", CONTENT)
        app = await stack.enter_async_context(scheduler())
        addrs = [app.address]
        await stack.enter_async_context(
            daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=addrs)
        )
        forger, *children = [
            await stack.enter_async_context(daemon(tmp_path, number, scheduler__addrs=addrs))
            for number in (3, 4, 5)
        ]
        await get(forger, url, tmp_path / "first")
        forge(stored(tmp_path, 3), *(number * 4 * MIB + 99 for number in range(PIECES)))
        asked = len(origin.requests)
        await asyncio.gather(
            *(get(child, url, tmp_path / f"out{n}") for n, child in enumerate(children))
        )
        expected = hashlib.sha256(CONTENT).hexdigest()
        for number in (4, 5):
            assert sha256(stored(tmp_path, number)) == expected
        assert len(origin.requests) == asked, "the seed brought what the forger did not"
        (task,) = app.core.state.tasks.values()
        assert set(task.liars) == {FORGER}
        assert app.core.state.hosts[FORGER].standing.state is not HostState.GOOD


async def get_fails(one: Daemon, url: str, output: Path, **fields: str) -> str:
    with pytest.raises(OdonataError) as caught:
        await get(one, url, output, **fields)
    return str(caught.value)


@pytest.mark.parametrize("size", [1, 4 * MIB, 9 * MIB + 1])
async def test_a_blob_that_is_not_what_its_url_says_does_not_stay(
    size: int, tmp_path: Path
) -> None:
    content = CONTENT[:size]
    path = f"/v2/library/thing/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    async with Origin() as origin, daemon(tmp_path, 2) as alone:
        url = origin.add(path, b"!" + content[1:])
        assert "was promised" in await get_fails(alone, url, tmp_path / "out")
        origin.add(path, content)
        await get(alone, url, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content


async def test_a_blob_is_not_checked_where_the_operator_says_so(tmp_path: Path) -> None:
    async with Origin() as origin, daemon(tmp_path, 2, storage__verifyBlobDigest=False) as alone:
        url = origin.add(f"/v2/library/thing/blobs/sha256:{'0' * 64}", CONTENT)
        await get(alone, url, tmp_path / "out")


async def test_who_lied_about_a_whole_blob_is_out_and_the_next_try_is_right(
    tmp_path: Path,
) -> None:
    """Nobody has told strong digests: the scheduler has come back, and knows holders only."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    async with AsyncExitStack() as stack, Origin() as origin:
        url = origin.add(f"/v2/library/thing/blobs/sha256:{digest}", CONTENT)
        forger = await stack.enter_async_context(daemon(tmp_path, 3))
        await get(forger, url, tmp_path / "first")
        await forger.stop()
        forge(stored(tmp_path, 3), 9 * MIB)
        app = await stack.enter_async_context(scheduler())
        addrs = [app.address]
        await stack.enter_async_context(daemon(tmp_path, 3, scheduler__addrs=addrs))
        child = await stack.enter_async_context(daemon(tmp_path, 4, scheduler__addrs=addrs))
        await eventually(lambda: app.core.state.tasks)
        assert "was promised" in await get_fails(child, url, tmp_path / "out")
        (task,) = app.core.state.tasks.values()
        assert set(task.liars) == {FORGER}
        await get(child, url, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == CONTENT
