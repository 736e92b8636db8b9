"""What every kind of origin must do, each against a server of its kind (see `source_world`)."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from support.source_world import WORLDS, GsWorld, S3World, SourceWorld

from odonata.errors import CallerError, OdonataError, SourceError
from peer.runtime.port import KnownContent, SourceStream
from peer.runtime.source import Sources, open_sources
from peer.runtime.source_fsspec import CHUNK_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
WHOLE = random.Random(1).randbytes(CHUNK_BYTES + 3 * MIB + 7)  # two chunks
SMALL = b"a small content\n"
CONTENTS = {
    "data/whole": WHOLE,
    "data/folder/small file.txt": SMALL,
    "data/folder/below/deep": b"deeper",
    "data/folder2/other": b"other",
}


class Stage:
    """A filled origin and a daemon's sources."""

    def __init__(self, world: SourceWorld, sources: Sources) -> None:
        self.world = world
        self.sources = sources

    async def read(self, path: str, offset: int = 0, end: int | None = None) -> bytes:
        stream = await self.sources.open(
            self.world.url(path),
            self.world.header,
            offset=offset,
            end=end,
            options=self.world.options,
        )
        async with stream:
            assert stream.offset == offset
            assert stream.ranges or end is None
            return await drain(stream)


async def drain(stream: SourceStream) -> bytes:
    out, buffer = bytearray(), memoryview(bytearray(256 * 1024))
    while count := await stream.read_into(buffer):
        out += buffer[:count]
    return bytes(out)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(WORLDS))
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SourceWorld]:
    """Started once: what a test adds lies outside data/."""
    async with WORLDS[request.param](tmp_path_factory.mktemp("origin")) as world:
        await world.fill(CONTENTS)
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def stage(world: SourceWorld) -> AsyncIterator[Stage]:
    async with open_sources(world.http, world.place) as sources:
        yield Stage(world, sources)


async def test_a_content_is_read_whole_and_in_parts(stage: Stage) -> None:
    assert await stage.read("data/whole") == WHOLE
    assert await stage.read("data/whole", 5 * MIB) == WHOLE[5 * MIB :]
    assert await stage.read("data/whole", MIB + 3, 6 * MIB) == WHOLE[MIB + 3 : 6 * MIB]
    assert await stage.read("data/whole", 10, 11) == WHOLE[10:11]
    assert await stage.read("data/folder/small file.txt", 2, 999) == SMALL[2:]


async def test_two_streams_at_once(stage: Stage) -> None:
    parts = await asyncio.gather(
        stage.read("data/whole", 0, 5 * MIB),
        stage.read("data/whole", 5 * MIB),
        stage.read("data/folder2/other"),
    )
    assert parts[0] + parts[1] == WHOLE
    assert parts[2] == b"other"


async def test_the_answer_names_length_and_validators(stage: Stage) -> None:
    world = stage.world
    async with await stage.sources.open(
        world.url("data/folder/below/deep"), world.header, options=world.options
    ) as stream:
        assert stream.content_length == 6
        header = stream.response_header
    assert header["content-length"] == "6"
    assert "etag" in header
    assert all(name == name.lower() for name in header)


async def test_an_empty_content(stage: Stage) -> None:
    await stage.world.fill({**CONTENTS, "empty": b""})
    world = stage.world
    async with await stage.sources.open(
        world.url("empty"), world.header, options=world.options
    ) as stream:
        assert stream.content_length == 0
        assert await drain(stream) == b""


async def test_what_is_not_there(stage: Stage) -> None:
    for path in ("data/folder/no such file", "data/whole/below", "no-folder/x"):
        with pytest.raises(SourceError) as caught:
            await stage.read(path)
        assert caught.value.status_code == 404, path


async def test_a_range_behind_the_end(stage: Stage) -> None:
    with pytest.raises(SourceError) as caught:
        await stage.read("data/folder2/other", 5)
    assert caught.value.status_code == 416


async def test_an_empty_range_is_the_caller_s_mistake(stage: Stage) -> None:
    with pytest.raises(CallerError):
        await stage.read("data/whole", 5, 5)


async def test_who_is_not_let_in(stage: Stage) -> None:
    world = stage.world
    if isinstance(world, GsWorld):
        return  # it lets everybody in: see test_source_refusals
    async with AsyncExitStack() as stack:
        if isinstance(world, S3World):
            await stack.enter_async_context(world.strict())
        url, options, header = world.refused()
        with pytest.raises(SourceError) as caught:
            await stage.sources.open(url, header, options=options)
    assert caught.value.status_code in {401, 403}


async def test_a_changed_content_is_told_from_the_same(stage: Stage) -> None:
    world = stage.world
    url = world.url("changing")
    await world.fill({**CONTENTS, "changing": b"before"})
    async with await stage.sources.open(url, world.header, options=world.options) as stream:
        known = KnownContent(
            content_length=stream.content_length, response_header=dict(stream.response_header)
        )
    compare = stage.sources.compare
    assert await compare(url, world.header, known, world.options) is None
    await world.fill({**CONTENTS, "changing": b"something longer"})
    why = await compare(url, world.header, known, world.options)
    assert why is not None
    assert "6" in why or "etag" in why.lower()


async def test_a_cancelled_stream_leaves_nothing_behind(stage: Stage) -> None:
    world, own = stage.world, asyncio.current_task()
    url = world.url("data/whole")
    stream = await stage.sources.open(url, world.header, options=world.options)
    async with stream:  # the next chunk is on its way when it is left
        assert await stream.read_into(memoryview(bytearray(10))) > 0
    stream = await stage.sources.open(url, world.header, options=world.options)
    async with stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await drain(stream)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await stage.sources.open(url, world.header, options=world.options)
    await stage.sources.close()
    names = [repr(task.get_coro()) for task in asyncio.all_tasks() if task is not own]
    assert not [name for name in names if "Fsspec" in name or "HttpS" in name]
    for thread in threading.enumerate():
        if thread.name.startswith("source_"):
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


async def test_a_folder_is_listed_to_its_depth(stage: Stage) -> None:
    world = stage.world
    listed = stage.sources.list
    if not world.lists:
        with pytest.raises(CallerError, match="can't be listed"):
            await listed(world.url("folder/"), world.header, world.options)
        return
    files = {world.url(path): len(data) for path, data in CONTENTS.items()}
    if world.flat:
        root = world.url("").rstrip("/")
        entries = await listed(root, world.header, world.options)
        assert files.items() <= {one.url: one.content_length for one in entries}.items()
        assert not any(one.is_dir for one in entries)
        return
    entries = await listed(world.url("data/"), world.header, world.options)
    assert {one.url: one.content_length for one in entries if not one.is_dir} == files
    folders = {world.url(f"data/{path}") for path in ("folder/", "folder/below/", "folder2/")}
    assert {one.url for one in entries if one.is_dir} == folders
    assert [one.url for one in entries] == sorted(one.url for one in entries)
    below = await listed(world.url("data/folder"), world.header, world.options)
    assert {one.url for one in below if not one.is_dir} == {
        url for url in files if "/folder/" in url
    }
    with pytest.raises(SourceError) as caught:
        await listed(world.url("no-such-folder/"), world.header, world.options)
    assert caught.value.status_code == 404


async def test_a_single_content_is_its_own_listing(stage: Stage) -> None:
    world = stage.world
    url = world.url("data/folder/small file.txt")
    entries = await stage.sources.list(url, world.header, world.options)
    assert [(one.url, one.content_length, one.is_dir) for one in entries] == [
        (url, len(SMALL), False)
    ]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # two libraries' way
async def test_what_is_written_is_read_again(stage: Stage, tmp_path: Path) -> None:
    world, sources = stage.world, stage.sources
    url = world.url("new/large one")
    file = tmp_path / "to-be-written"
    file.write_bytes(WHOLE * 3)  # in several parts
    if not world.writes:
        with pytest.raises(CallerError, match="nothing can be written"):
            await sources.put(url, file, world.options)
        return
    assert await sources.length(url, world.options) is None
    await sources.put(url, file, world.options)
    assert await sources.length(url, world.options) == 3 * len(WHOLE)
    assert await stage.read("new/large one") == WHOLE * 3
    await sources.put(world.url("new/small"), _small(tmp_path), world.options)
    assert await stage.read("new/small") == SMALL
    with pytest.raises(OdonataError):
        await sources.put(url, tmp_path / "no such file", world.options)


def _small(folder: Path) -> Path:
    file = folder / "small"
    file.write_bytes(SMALL)
    return file


async def test_no_secret_is_told(stage: Stage) -> None:
    world = stage.world
    texts = list[str]()
    with structlog.testing.capture_logs() as log:
        for path in ("no such", "data/folder2/other"):
            try:
                async with await stage.sources.open(
                    world.url(path), world.header, options=world.options
                ) as stream:
                    texts.append(str(stream.response_header))
            except OdonataError as error:
                texts.append(f"{error!r} {error.__cause__!r} {getattr(error, 'header', '')}")
        if not isinstance(world, GsWorld):
            async with AsyncExitStack() as stack:
                if isinstance(world, S3World):
                    await stack.enter_async_context(world.strict())
                url, options, header = world.refused()
                with pytest.raises(OdonataError) as caught:
                    await stage.sources.open(url, header, options=options)
                texts.append(f"{caught.value!r} {caught.value.__cause__!r}")
    said = f"{texts} {log}"
    assert not [secret for secret in world.secrets if secret in said]
    assert not [secret for secret in world.secrets if secret in repr(stage.sources)]
