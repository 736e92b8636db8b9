"""Persistent tasks from end to end: daemons, a scheduler and a Redis are real, the object storage
is a twin in memory that all daemons share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, sha256
from support.eventually import eventually_is
from support.memory_object_store import MemoryObjectStore
from support.persistent_swarm import STORED, PersistentSwarm, client, replicated, wish
from support.redis_server import RedisServer

from odonata import ids
from odonata.errors import NotFoundError, OdonataError, PreconditionError, SourceError
from odonata.wire.origin import ObjectStorage
from peer.get_progress import Quiet
from peer.persistent_client import ExportWish
from peer.runtime.daemon import Daemon

URL = "s3://bucket/model"
STORAGE = ObjectStorage(
    region="eu", endpoint="http://127.0.0.1:1", access_key_id="AK", access_key_secret="SECRET"
)
TASK_ID = ids.persistent_task_id(URL, region="eu", endpoint="http://127.0.0.1:1")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def make_file(folder: Path, size: int = 9 * MIB + 5, seed: int = 0) -> Path:
    path = folder / f"model{seed}.bin"
    path.write_bytes(make_content(size, seed=seed))
    return path


async def export(one: Daemon, output: Path) -> Path:
    await client(one, STORED).export_stored(URL, STORAGE, ExportWish(output=output), Quiet())
    return output


@pytest.mark.parametrize("size", [0, 9 * MIB + 5])
async def test_what_is_imported_is_in_the_storage_and_on_other_hosts(
    size: int, redis: RedisServer, tmp_path: Path
) -> None:
    path, store = make_file(tmp_path, size), MemoryObjectStore()
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two, three = await swarm.daemons(3, store)
        task = await client(one, STORED).import_stored(wish(path), URL, STORAGE)
        assert (task.id, task.state, task.content_length) == (TASK_ID, "Succeeded", size)
        assert store.objects[URL] == path.read_bytes()
        [(_, options)] = store.puts
        assert (options.storage.access_key_id, options.storage.access_key_secret) == (
            "AK",
            "SECRET",
        )
        await replicated(one, task.id, 2, STORED)
        for number, host in enumerate((one, two, three)):
            assert sha256(await export(host, tmp_path / f"out{number}")) == sha256(path)
        assert store.reads[URL] == 0, "hosts have it, so the storage is not read"


async def test_when_no_host_is_left_it_comes_from_the_storage(
    redis: RedisServer, tmp_path: Path
) -> None:
    path, store = make_file(tmp_path), MemoryObjectStore()
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, three = await swarm.daemons(2, store, upload__disableShared=True)
        await client(one, STORED).import_stored(wish(path, replica_count=1), URL, STORAGE)
        await one.stop()
        assert sha256(await export(three, tmp_path / "out")) == sha256(path)
        assert store.reads[URL] == path.stat().st_size


async def test_without_an_import_there_is_no_such_task(redis: RedisServer, tmp_path: Path) -> None:
    store = MemoryObjectStore()
    store.objects[URL] = b"written by others"
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (one,) = await swarm.daemons(1, store)
        with pytest.raises(NotFoundError, match="never imported"):
            await export(one, tmp_path / "out")


async def test_a_storage_that_refuses_undoes_the_import(redis: RedisServer, tmp_path: Path) -> None:
    path, store = make_file(tmp_path), MemoryObjectStore()
    store.fail_next_put = SourceError("access denied", status_code=403)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (one,) = await swarm.daemons(1, store)
        daemon = client(one, STORED)
        with pytest.raises(SourceError, match="access denied") as raised:
            await daemon.import_stored(wish(path, replica_count=1), URL, STORAGE)
        assert raised.value.status_code == 403
        assert await daemon.list_local() == []
        assert (await daemon.stat(TASK_ID)).state == "Failed"
        store.objects[URL] = b"of before"
        with pytest.raises(PreconditionError, match="its import failed"):
            await export(one, tmp_path / "out")
        await daemon.import_stored(wish(path, replica_count=1), URL, STORAGE)
        assert store.objects[URL] == path.read_bytes()


async def test_a_user_who_leaves_undoes_the_import(redis: RedisServer, tmp_path: Path) -> None:
    path, store = make_file(tmp_path), MemoryObjectStore()
    begun, never = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        begun.set()
        await never.wait()

    store.gate = gate
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2, store)
        daemon = client(one, STORED)
        work = asyncio.ensure_future(daemon.import_stored(wish(path), URL, STORAGE))
        await begun.wait()
        with pytest.raises(PreconditionError, match="its first copy is being made"):
            await export(two, tmp_path / "early")
        work.cancel()
        await asyncio.wait([work])

        async def state() -> str:
            return (await daemon.stat(TASK_ID)).state

        await eventually_is(state, "Failed")
        await eventually_is(daemon.list_local, [])


async def test_an_import_that_takes_too_long_is_undone(redis: RedisServer, tmp_path: Path) -> None:
    path, store = make_file(tmp_path), MemoryObjectStore()
    store.gate = asyncio.Event().wait
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (one,) = await swarm.daemons(1, store)
        daemon = client(one, STORED)
        with pytest.raises(OdonataError, match="was undone"):
            await daemon.import_stored(wish(path, timeout_s=0.5), URL, STORAGE)
        assert await daemon.list_local() == []
        assert (await daemon.stat(TASK_ID)).state == "Failed"


async def test_no_secret_leaves_the_host(redis: RedisServer, tmp_path: Path) -> None:
    path, store = make_file(tmp_path), MemoryObjectStore()
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, _ = await swarm.daemons(2, store)
        await client(one, STORED).import_stored(wish(path), URL, STORAGE)
        await replicated(one, TASK_ID, 2, STORED)
        fields = [redis.client().hgetall(key) for key in redis.client().keys("*-tasks:*[0-9a-f]")]
        assert any(b"object_storage" in one for one in fields)
        assert not any(b"SECRET" in b"".join(one.values()) for one in fields)
