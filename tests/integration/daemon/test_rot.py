"""Stored files that rot, are cut, edited or deleted beneath a daemon: nobody gets a wrong byte.

Neither through the proxy nor by an output: what is wrong is found before it goes out, and fetched
again; nothing else is.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from dragonfly_api import dfdaemon_pb2
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, get, scheduler
from support.eventually import eventually_is
from support.origin import Origin

from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub
from peer.runtime.daemon import Daemon

PIECE = 4 * MIB
CONTENT = make_content(3 * PIECE + 9)
PATH = f"/v2/library/x/blobs/sha256:{hashlib.sha256(CONTENT).hexdigest()}"
RULES: Any = [{"regex": "blobs/sha256.*"}]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        origin.add(PATH, CONTENT)
        yield origin


async def through_proxy(one: Daemon, url: str, _output: Path) -> bytes:
    ip, port = one.proxy_address
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.get(url, proxy=f"http://{ip}:{port}") as response,
    ):
        assert response.status == 200
        return await response.read()


async def by_output(one: Daemon, url: str, output: Path) -> bytes:
    await get(one, url, output, overwrite=True)
    return await asyncio.to_thread(output.read_bytes)


async def by_digest(one: Daemon, url: str, output: Path) -> bytes:
    """One who names the content's digest gets the content, not an error."""
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    await get(one, url, output, overwrite=True, digest=digest)
    return await asyncio.to_thread(output.read_bytes)


async def finished(one: Daemon) -> None:
    """Readers may have it all before it is flushed and stamped."""
    async with open_channel(f"unix:{one.socket_path}") as channel:
        ask = download_stub(channel).ListLocalTasks

        async def all_finished() -> bool:
            listed = await ask(dfdaemon_pb2.ListLocalTasksRequest())
            return all(task.HasField("finished_at") for task in listed.tasks)

        await eventually_is(all_finished, True)


Read = Callable[[Daemon, str, Path], Any]
READERS = pytest.mark.parametrize("read", [through_proxy, by_output, by_digest])


def stored_file(folder: Path, number: int) -> Path:
    (path,) = (folder / f"data{number}" / "content" / "tasks").glob("*/*")
    return path


def rot(path: Path) -> None:
    """A byte of the second piece."""
    with path.open("r+b") as file:
        file.seek(PIECE + 7)
        byte = file.read(1)[0]
        file.seek(PIECE + 7)
        file.write(bytes([byte ^ 1]))


def cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2 * PIECE + 1)


def delete(path: Path) -> None:
    path.unlink()


HARM = pytest.mark.parametrize(
    ("harm", "lost_bytes"),
    [(rot, PIECE), (cut_short, PIECE + 9), (delete, len(CONTENT))],
)


@READERS
@HARM
@pytest.mark.parametrize("running", [True, False], ids=["running", "restarted"])
async def test_what_was_harmed_is_fetched_again_and_nothing_else(
    tmp_path: Path,
    origin: Origin,
    read: Read,
    harm: Callable[[Path], None],
    lost_bytes: int,
    running: bool,
) -> None:
    url = origin.url(PATH)
    async with daemon(tmp_path, 2, proxy__rules=RULES) as one:
        assert await read(one, url, tmp_path / "first") == CONTENT
        (tmp_path / "first").unlink(missing_ok=True)  # it was a hard link
        await finished(one)
        if running:
            harm(stored_file(tmp_path, 2))
            assert await read(one, url, tmp_path / "out") == CONTENT
    if not running:
        harm(stored_file(tmp_path, 2))
    async with daemon(tmp_path, 2, proxy__rules=RULES) as one:
        assert await read(one, url, tmp_path / "out") == CONTENT
        assert await read(one, url, tmp_path / "out") == CONTENT
        assert stored_file(tmp_path, 2).read_bytes() == CONTENT
    assert origin.sent_bytes(PATH) == len(CONTENT) + lost_bytes


async def test_an_output_that_is_edited_in_place_harms_nobody_and_stays_edited(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.url(PATH)
    async with daemon(tmp_path, 2, proxy__rules=RULES) as one:
        edited = await get(one, url, tmp_path / "edited")
        assert edited.samefile(stored_file(tmp_path, 2))
        rot(edited)
        changed = edited.read_bytes()
        assert await by_output(one, url, tmp_path / "out") == CONTENT
        assert edited.read_bytes() == changed


async def test_a_child_of_a_host_whose_disk_rots_gets_what_is_right(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.url(PATH)
    async with scheduler() as app:
        common: dict[str, Any] = {"scheduler__addrs": [app.address], "proxy__rules": RULES}
        async with daemon(tmp_path, 2, **common) as parent:
            assert await through_proxy(parent, url, tmp_path) == CONTENT
            await finished(parent)
            rot(stored_file(tmp_path, 2))
            async with daemon(tmp_path, 3, **common) as child:
                assert await through_proxy(child, url, tmp_path) == CONTENT
    assert origin.copies(PATH) <= 2, "the child may leave such a parent"
