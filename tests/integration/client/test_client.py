"""The library against a real daemon and a real origin: with asyncio and without, by file and by
message."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, daemon_arguments, process, scheduler
from support.eventually import eventually
from support.origin import Manners, Origin

from odonata.client import AsyncClient, Client, ObjectStorage, Progress
from odonata.errors import (
    AlreadyExistsError,
    CallerError,
    DigestMismatchError,
    NotFoundError,
    SourceError,
    UnavailableError,
)
from peer.runtime.daemon import Daemon

CONTENT = make_content(9 * MIB + 3)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

Call = Callable[..., Awaitable[Any]]
"""A method of a client, by name."""


@pytest.fixture(params=["asyncio", "asyncio, sent", "blocking", "blocking, sent"])
async def call(request: pytest.FixtureRequest, one: Daemon) -> AsyncIterator[Call]:
    """Both clients, and both ways of the bytes: from the daemon's file, or sent."""
    kind: str = request.param
    if kind.startswith("asyncio"):
        async with AsyncClient(one.socket_path, files=not kind.endswith("sent")) as client:

            async def call(name: str, *args: Any, **kwargs: Any) -> Any:
                async with asyncio.timeout(PATIENCE_S):
                    return await getattr(client, name)(*args, **kwargs)

            yield call
        return
    with Client(one.socket_path, files=not kind.endswith("sent")) as blocking:

        async def call_blocking(name: str, *args: Any, **kwargs: Any) -> Any:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.to_thread(getattr(blocking, name), *args, **kwargs)

        yield call_blocking


@pytest.fixture
async def client(one: Daemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(one.socket_path) as client, asyncio.timeout(PATIENCE_S):
        yield client


# --- reading --------------------------------------------------------------------------------------


async def test_any_part_is_read_as_it_is(call: Call, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    for start, length in [(0, 1), (4 * MIB - 5, 10), (9 * MIB, 100), (0, None), (7, None), (3, 0)]:
        end = None if length is None else start + length
        assert await call("read", url, start, length) == CONTENT[start:end]
    assert await call("read", url, len(CONTENT), 5) == b""


async def test_a_small_part_fetches_its_piece_and_no_other(call: Call, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    assert await call("read", url, 9 * MIB, 3) == CONTENT[9 * MIB :]
    (task,) = await call("tasks")
    assert task.finished_at_s is None
    assert origin.requests[-1].range == f"bytes={8 * MIB}-{len(CONTENT) - 1}"


@pytest.mark.parametrize("manners", [Manners(), Manners(ranges=False, chunked=True)])
async def test_what_lies_behind_the_end_is_said(
    manners: Manners, call: Call, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT[: 5 * MIB], manners)
    with pytest.raises(CallerError, match=f"{20 * MIB} is behind the content"):
        await call("read", url, 20 * MIB, 5)
    with pytest.raises(CallerError, match="give 0 or more"):
        await call("read", url, -1, 5)


async def test_an_empty_content_is_empty(call: Call, origin: Origin) -> None:
    url = origin.add("/empty")
    assert await call("read", url) == b""
    assert await call("read", url, 0, 5) == b""
    assert (await call("stat", url)).content_length == 0
    with pytest.raises(CallerError, match="it has 0 bytes"):
        await call("read", url, 1, 5)


async def test_a_content_without_a_length_is_read_to_its_end(call: Call, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT, Manners(ranges=False, chunked=True))
    assert await call("read", url, 5 * MIB, 10) == CONTENT[5 * MIB : 5 * MIB + 10]
    assert await call("read", url) == CONTENT


async def test_what_the_origin_refuses_is_said_with_its_status(call: Call, origin: Origin) -> None:
    url = origin.add("/blob", b"", Manners(status=403, header={"X-Why": "because"}))
    with pytest.raises(SourceError) as refused:
        await call("read", url)
    assert refused.value.status_code == 403
    assert "because" in refused.value.header.values()


async def test_another_digest_is_an_error_also_of_what_was_held(call: Call, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    assert await call("read", url, digest=DIGEST) == CONTENT
    with pytest.raises(DigestMismatchError):
        await call("read", url, digest=f"sha256:{'0' * 64}")


async def test_pieces_of_64_mib_pass(one: Daemon, origin: Origin) -> None:
    content = os.urandom(MIB) * 130
    url = origin.add("/big", content)
    for files in (False, True):
        async with AsyncClient(one.socket_path, files=files) as client:
            assert await client.read(url, piece_length=64 * MIB) == content
            with_edges = await client.read(url, 64 * MIB - 1, 2, piece_length=64 * MIB)
            assert with_edges == content[64 * MIB - 1 : 64 * MIB + 1]


async def test_a_hundred_readers_at_once_share_one_download(
    client: AsyncClient, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT)
    starts = [n * 94_371 for n in range(100)]
    got = await asyncio.gather(*(client.read(url, start, 1000) for start in starts))
    assert got == [CONTENT[start : start + 1000] for start in starts]
    assert len(origin.requests) <= 4


async def test_a_hundred_threads_read_through_one_client(one: Daemon, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    got: dict[int, bytes] = {}
    with Client(one.socket_path) as client:

        def read(start: int) -> None:
            got[start] = client.read(url, start, 1000)

        def all_of_them() -> None:
            threads = [threading.Thread(target=read, args=(n * 94_371,)) for n in range(100)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        await asyncio.to_thread(all_of_them)
    assert got == {start: CONTENT[start : start + 1000] for start in got}
    assert len(got) == 100


# --- as a file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [True, False])
async def test_a_reader_is_a_file(files: bool, one: Daemon, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    async with (
        AsyncClient(one.socket_path, files=files) as client,
        await client.open(url) as reader,
    ):
        assert await reader.read(10) == CONTENT[:10]
        assert await reader.seek(-10, os.SEEK_END) == len(CONTENT) - 10
        assert await reader.read() == CONTENT[-10:]
        assert await reader.seek(4 * MIB - 3) == 4 * MIB - 3
        assert b"".join([chunk async for chunk in reader]) == CONTENT[4 * MIB - 3 :]
        assert await reader.size() == len(CONTENT)
        with pytest.raises(CallerError, match="before the content"):
            await reader.seek(-1)
    with pytest.raises(CallerError, match="closed"):
        await reader.read(1)


@pytest.mark.parametrize("files", [True, False])
async def test_a_blocking_reader_is_a_file(files: bool, one: Daemon, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)

    def use() -> None:
        with Client(one.socket_path, files=files) as client:
            with client.open(url) as reader:
                assert reader.read(10) == CONTENT[:10]
                assert reader.seek(-10, os.SEEK_END) == len(CONTENT) - 10
                assert reader.read() == CONTENT[-10:]
                buffer = bytearray(7)
                reader.seek(5)
                assert reader.readinto(buffer) == 7
                assert buffer == CONTENT[5:12]
                assert reader.size == len(CONTENT)
            with pytest.raises(ValueError, match="closed"):
                reader.read(1)

    await asyncio.to_thread(use)


async def test_a_reader_gets_the_first_bytes_before_the_last_have_come(
    client: AsyncClient, origin: Origin
) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    async with await client.open(url) as reader:
        assert await reader.read(MIB) == CONTENT[:MIB]
        gate.set()
        assert await reader.read() == CONTENT[MIB:]


async def test_a_content_that_changes_under_a_reader_is_an_error(
    client: AsyncClient, origin: Origin
) -> None:
    url = origin.add("/blob", CONTENT)
    async with await client.open(url) as reader:
        assert await reader.read(10) == CONTENT[:10]
        await client.delete(reader.task_id)
        origin.add("/blob", make_content(12 * MIB, seed=2))
        with pytest.raises(SourceError, match="changed"):
            await reader.read_at(8 * MIB, 10)


async def test_a_reading_that_is_cancelled_ends_at_the_daemon_and_can_go_on(
    client: AsyncClient, origin: Origin, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    reader = await client.open(url)
    await reader.read(10)
    reading = asyncio.ensure_future(reader.read(9 * MIB))
    await eventually(lambda: len(origin.requests) >= 2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    said: list[str] = []

    def ended() -> bool:
        said.append(capsys.readouterr().out)  # the daemon's log
        return "nobody wants it any more" in "".join(said)

    await eventually(ended)
    gate.set()
    assert await reader.read_at(0) == CONTENT
    await reader.close()


# --- to a file ------------------------------------------------------------------------------------


async def test_a_file_is_written_and_it_is_said_where_it_came_from(
    call: Call, origin: Origin, tmp_path: Path
) -> None:
    url = origin.add("/blob", CONTENT)
    told: list[Progress] = []
    done = await call("download", url, tmp_path / "out", digest=DIGEST, on_progress=told.append)
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert (done.content_length, done.from_source, done.from_local) == (
        len(CONTENT),
        len(CONTENT),
        0,
    )
    assert [one.arrived for one in told] == sorted(one.arrived for one in told)
    assert told[-1].content_length == told[-1].arrived == len(CONTENT)
    again = await call("download", url, str(tmp_path / "again"))
    assert (again.from_local, again.task_id) == (len(CONTENT), done.task_id)
    with pytest.raises(AlreadyExistsError):
        await call("download", url, tmp_path / "out")
    await call("download", url, tmp_path / "out", overwrite=True)


async def test_a_download_that_is_cancelled_leaves_nothing_and_goes_on_later(
    client: AsyncClient, origin: Origin, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    arrived = asyncio.Event()

    def told(progress: Progress) -> None:
        if progress.arrived:
            arrived.set()

    work = asyncio.ensure_future(client.download(url, tmp_path / "out", on_progress=told))
    await arrived.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not (tmp_path / "out").exists()
    gate.set()
    done = await client.download(url, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    # More, if the daemon heard of the cancellation after the gate was open.
    assert done.from_local >= 4 * MIB, "what came before is not fetched again"


# --- facts ----------------------------------------------------------------------------------------


async def test_tasks_are_known_listed_and_deleted(call: Call, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    stat = await call("stat", url)
    assert stat.content_length == len(CONTENT)
    assert "content-type" in {name.lower() for name in stat.response_header}
    await call("read", url)
    held = await call("stat_task", stat.task_id)
    assert (held.content_length, held.piece_length) == (len(CONTENT), 4 * MIB)
    assert [task.task_id for task in await call("tasks")] == [stat.task_id]
    await call("delete", stat.task_id)
    for everywhere in (True, False):
        with pytest.raises(NotFoundError):
            await call("delete", stat.task_id, everywhere=everywhere)
    assert await call("tasks") == []


async def test_options_make_other_tasks_and_reach_the_origin(call: Call, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT, Manners(wants_header=("Authorization", "Bearer x")))
    with pytest.raises(SourceError):
        await call("read", url, 0, 1)
    assert await call("read", url, 0, 1, header={"Authorization": "Bearer x"}) == CONTENT[:1]
    for options in ({"tag": "t"}, {"application": "a"}, {"piece_length": 8 * MIB}):
        header = {"Authorization": "Bearer x"}
        assert (await call("stat", url, header=header, **options)).task_id != (
            await call("stat", url, header=header)
        ).task_id
    await call("read", url, 0, 1, header={"Authorization": "Bearer x"}, tag="r", revalidate=True)
    with pytest.raises(CallerError, match="no option"):
        await call("read", url, colour="red")
    with pytest.raises(CallerError, match="leave nobody to ask"):
        await call("read", url, no_p2p=True, disable_back_to_source=True)


async def test_secrets_do_not_show(one: Daemon) -> None:
    assert "hush" not in repr(ObjectStorage(access_key_secret="hush"))


# --- no daemon ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_without_a_daemon_it_is_said_how_to_start_one(kind: Any, tmp_path: Path) -> None:
    client = kind(tmp_path / "d.sock")

    async def read() -> None:
        answer = client.read("http://x.test/")
        if kind is AsyncClient:
            await answer

    with pytest.raises(UnavailableError, match=r"no daemon at .*d.sock: start one with"):
        await read()


async def test_the_socket_is_found_by_its_variable(
    one: Daemon, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODONATA_DAEMON_SOCKET", str(one.socket_path))
    async with AsyncClient() as client:
        assert client.endpoint == one.socket_path
        assert await client.read(origin.add("/blob", b"abc")) == b"abc"


@pytest.mark.parametrize("files", [True, False])
async def test_a_daemon_that_dies_in_mid_read_is_an_error_and_no_hang(
    files: bool, origin: Origin, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    socket_path = tmp_path / "run2" / "d.sock"
    client, blocking = AsyncClient(socket_path, files=files), Client(socket_path, files=files)
    async with asyncio.timeout(PATIENCE_S):
        async with process(*daemon_arguments(tmp_path, 2)) as dying:
            reading = [
                asyncio.ensure_future(client.read(url)),
                asyncio.ensure_future(client.download(url, tmp_path / "out")),
                asyncio.ensure_future(asyncio.to_thread(blocking.read, url)),
            ]
            await eventually(lambda: origin.sent_bytes("/blob") >= 4 * MIB)
            await dying.kill()
            for one in reading:
                with pytest.raises(UnavailableError, match="went away"):
                    await one
        gate.set()
        # The same clients find the daemon that comes after it.
        async with process(*daemon_arguments(tmp_path, 2)):
            assert await client.read(url) == CONTENT
            assert await asyncio.to_thread(blocking.read, url) == CONTENT
            await client.close()
            blocking.close()
    assert not (tmp_path / "out").exists()


def _read_in_a_child(socket_path: str, url: str, queue: Any) -> None:
    with Client(socket_path) as client:
        queue.put(client.read(url, 5, 5))


async def test_workers_that_are_spawned_read_too(one: Daemon, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_read_in_a_child, args=(str(one.socket_path), url, queue))
    worker.start()
    assert await asyncio.to_thread(queue.get, timeout=PATIENCE_S) == CONTENT[5:10]
    await asyncio.to_thread(worker.join)


# --- peers and none -------------------------------------------------------------------------------


async def test_without_peers_it_comes_from_the_source(tmp_path: Path, origin: Origin) -> None:
    url = origin.add("/blob", CONTENT)
    async with scheduler() as app:
        addrs = app.address
        async with (
            daemon(tmp_path, 3, scheduler__addrs=addrs) as parent,
            daemon(tmp_path, 4, scheduler__addrs=addrs) as child,
        ):
            async with AsyncClient(parent.socket_path) as client:
                await client.read(url)
            async with AsyncClient(child.socket_path) as client:
                alone = await client.download(url, tmp_path / "alone", no_p2p=True)
                assert (alone.from_source, alone.from_peers) == (len(CONTENT), 0)
                await client.delete(alone.task_id)
                shared = await client.download(url, tmp_path / "shared")
                assert (shared.from_source, shared.from_peers) == (0, len(CONTENT))
                # What is held already is used, whoever it is from.
                held = await client.download(url, tmp_path / "held", no_p2p=True)
                assert held.from_local == len(CONTENT)
    assert origin.copies("/blob") == 2
