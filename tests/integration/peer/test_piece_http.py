"""Plain HTTP on the piece port: what curl and other tools get."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from support.content import MIB, cut, make_content, make_download, make_task_id
from support.memory_storage import MemoryStorage

from peer.core.upload import UploadQueue
from peer.runtime.piece_server import PieceServer

HOST = "127.0.0.1"
TASK = make_task_id()
PIECE = 4 * MIB
CONTENT = make_content(2 * PIECE + 5)
PATIENCE_S = 20.0


@pytest.fixture
async def storage() -> AsyncIterator[MemoryStorage]:
    made = MemoryStorage()
    yield made
    made.close()


@pytest.fixture
async def server(storage: MemoryStorage) -> AsyncIterator[PieceServer]:
    task = await storage.create(TASK, make_download())
    await task.learn(len(CONTENT), PIECE, {})
    for piece, data in cut(CONTENT, PIECE):
        await task.store(piece, data)
    await task.finish()
    async with PieceServer(storage) as made:
        await made.listen(HOST, 0)
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def url(server: PieceServer, path: str = f"/download/{TASK}") -> str:
    return f"http://{HOST}:{server.port}{path}"


async def _opened(session: aiohttp.ClientSession, target: str) -> aiohttp.ClientResponse:
    return await session.get(target)


@pytest.mark.parametrize("path", [f"/download/{TASK}", f"/download/{TASK[:3]}/{TASK}?peerId=x"])
async def test_a_whole_content(
    server: PieceServer, session: aiohttp.ClientSession, path: str
) -> None:
    async with session.get(url(server, path)) as response:
        assert response.status == 200
        assert response.headers["accept-ranges"] == "bytes"
        assert await response.read() == CONTENT
    assert server.uploaded_bytes == len(CONTENT)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, len(CONTENT)),
        ("bytes=-7", len(CONTENT) - 7, len(CONTENT)),
        (f"bytes={PIECE - 3}-{PIECE + 3}", PIECE - 3, PIECE + 4),
        ("bytes=8388600-99999999999", 8388600, len(CONTENT)),
    ],
)
async def test_a_range(
    server: PieceServer, session: aiohttp.ClientSession, asked: str, start: int, end: int
) -> None:
    async with session.get(url(server), headers={"Range": asked}) as response:
        assert response.status == 206
        assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
        assert await response.read() == CONTENT[start:end]


async def test_several_requests_on_one_connection(
    server: PieceServer, session: aiohttp.ClientSession
) -> None:
    for start in range(5):
        header = {"Range": f"bytes={start}-{start}"}
        async with session.get(url(server), headers=header) as response:
            assert await response.read() == CONTENT[start : start + 1]
    assert server.connections == 1


async def test_a_range_beyond_the_end(server: PieceServer, session: aiohttp.ClientSession) -> None:
    header = {"Range": f"bytes={len(CONTENT)}-"}
    async with session.get(url(server), headers=header) as response:
        assert response.status == 416
        assert response.headers["content-range"] == f"bytes */{len(CONTENT)}"


async def test_head_has_no_body(server: PieceServer, session: aiohttp.ClientSession) -> None:
    async with session.head(url(server)) as response:
        assert response.status == 200
        assert response.content_length == len(CONTENT)
    async with session.get(url(server), headers={"Range": "bytes=0-1"}) as response:
        assert await response.read() == CONTENT[:2]


@pytest.mark.parametrize(
    "path", ["/", "/download", f"/download/{'0' * 64}", f"/download/abc/{TASK}", "/download/../x"]
)
async def test_what_is_not_here(
    server: PieceServer, session: aiohttp.ClientSession, path: str
) -> None:
    async with session.get(url(server, path)) as response:
        assert response.status == 404
        assert (await response.text()).endswith("\n")


async def test_children_and_what_they_were_given(
    server: PieceServer, session: aiohttp.ClientSession
) -> None:
    async with session.get(url(server)) as response:
        await response.read()
    async with session.get(url(server, "/children")) as response:
        told = await response.json()
    assert told["children"] == [
        {"child": HOST, "ip": HOST, "pieces": 3, "sent_bytes": len(CONTENT), "refused": 0}
    ]


async def test_a_task_that_still_comes_is_sent_as_it_comes(
    storage: MemoryStorage, session: aiohttp.ClientSession
) -> None:
    task = await storage.create(TASK, make_download())
    task.pin()  # as a download does
    async with PieceServer(storage) as server:
        await server.listen(HOST, 0)
        pieces = list(cut(CONTENT, PIECE))

        async def begin() -> None:
            await task.learn(len(CONTENT), PIECE, {})
            await task.store(*pieces[0])

        async with asyncio.TaskGroup() as group:
            group.create_task(begin())
            asking = group.create_task(_opened(session, url(server)))
        async with asking.result() as response:
            assert await response.content.readexactly(PIECE) == CONTENT[:PIECE]
            for piece, data in pieces[1:]:
                await task.store(piece, data)
            assert await response.read() == CONTENT[PIECE:]


async def test_a_body_that_can_not_be_finished_breaks_off(
    storage: MemoryStorage, session: aiohttp.ClientSession
) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(len(CONTENT), PIECE, {})
    await task.store(*next(iter(cut(CONTENT, PIECE))))
    async with PieceServer(storage) as server:
        await server.listen(HOST, 0)
        async with session.get(url(server)) as response:
            assert response.content_length == len(CONTENT)
            await task.fail()
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_without_a_slot_it_is_said_when_to_ask_again(
    storage: MemoryStorage, session: aiohttp.ClientSession
) -> None:
    task = await storage.create(TASK, make_download())
    await task.learn(len(CONTENT), PIECE, {})
    await task.store(*next(iter(cut(CONTENT, PIECE))))
    queue = UploadQueue(1, waiting_max=0)
    taken = queue.ask("another", 0.0)
    assert taken is not None
    async with PieceServer(storage, queue=queue) as server:
        await server.listen(HOST, 0)
        async with session.get(url(server), headers={"Range": "bytes=0-9"}) as response:
            assert response.status == 429
            assert response.headers["retry-after"] == "1"
        queue.leave(taken, 1.0)
        async with session.get(url(server), headers={"Range": "bytes=0-9"}) as response:
            assert await response.read() == CONTENT[:10]


async def test_curl_resumes(server: PieceServer, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    output = tmp_path / "out"
    output.write_bytes(CONTENT[:PIECE])
    program = await asyncio.create_subprocess_exec(
        curl, "-sf", "--noproxy", "*", "-C", "-", "-o", str(output), url(server)
    )
    assert await asyncio.wait_for(program.wait(), PATIENCE_S) == 0
    assert output.read_bytes() == CONTENT
