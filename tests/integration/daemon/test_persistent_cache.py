"""Persistent cache tasks from end to end: daemons, a scheduler and a Redis, all real."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import (
    MIB,
    daemon,
    daemon_arguments,
    process,
    scheduler,
    sha256,
)
from support.eventually import eventually_is
from support.persistent_swarm import PersistentSwarm, client, export_cache, replicated, wish
from support.redis_server import RedisServer

from odonata import ids
from odonata.errors import (
    AlreadyExistsError,
    CallerError,
    DigestMismatchError,
    NotFoundError,
    OdonataError,
    PreconditionError,
    UnavailableError,
)
from odonata.wire.message import Download, TaskType, Tenure
from peer.runtime.storage.local_file import LocalFile
from peer.runtime.storage.store import DiskStorage

UNKNOWN = "0" * 64


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def make_file(folder: Path, size: int = 9 * MIB + 5, seed: int = 0) -> Path:
    path = folder / f"model{seed}.bin"
    path.write_bytes(make_content(size, seed=seed))
    return path


def files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


@pytest.mark.parametrize("size", [0, 1, 9 * MIB + 5])
async def test_what_one_host_imports_others_hold_and_export(
    size: int, redis: RedisServer, tmp_path: Path
) -> None:
    path = make_file(tmp_path, size)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        hosts = await swarm.daemons(3)
        task = await client(hosts[0]).import_cache(wish(path))
        assert task.id == ids.persistent_cache_task_id(path.read_bytes())
        assert (task.state, task.content_length, task.ttl_s) == ("Succeeded", size, 3600)
        await replicated(hosts[0], task.id, 2)
        for number, host in enumerate(hosts):
            output = await export_cache(host, task.id, tmp_path / f"out{number}")
            assert sha256(output) == sha256(path)
        copies = [(await client(host).list_local())[0] for host in hosts]
        assert sorted(copy.persistent for copy in copies) == [False, True, True]
        assert {(copy.ttl_s, round(copy.created_at_s, 3)) for copy in copies} == {
            (3600, round(task.created_at_s, 3))
        }


async def test_a_copy_is_exported_where_nobody_else_has_one(
    redis: RedisServer, tmp_path: Path
) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (one,) = await swarm.daemons(1)
        task = await client(one).import_cache(wish(path, replica_count=1))
        assert sha256(await export_cache(one, task.id, tmp_path / "out")) == sha256(path)


async def test_it_is_exported_after_its_uploader_died(redis: RedisServer, tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        two, three = await swarm.daemons(2)
        arguments = daemon_arguments(tmp_path, 9, scheduler__addrs=f'["{swarm.app.address}"]')
        async with process(*arguments) as uploader:
            task = await client(uploader.socket_path).import_cache(wish(path))
            await replicated(two, task.id, 2)
            await uploader.kill()
        assert sha256(await export_cache(three, task.id, tmp_path / "three")) == sha256(path)
        assert sha256(await export_cache(two, task.id, tmp_path / "two")) == sha256(path)


async def test_a_replica_outlives_a_restart_of_its_host(redis: RedisServer, tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        task = await client(one).import_cache(wish(path))
        await replicated(one, task.id, 2)
        await two.stop()
        await replicated(one, task.id, 1)
        async with daemon(tmp_path, 3, scheduler__addrs=[swarm.app.address]):
            await replicated(one, task.id, 2)


async def test_the_only_copy_is_offered_anew_when_its_host_is_back(
    redis: RedisServer, tmp_path: Path
) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        task = await client(one).import_cache(wish(path, replica_count=1, tag="t"))
        await one.stop()
        assert (await client(two).stat(task.id)).state == "Failed"
        with pytest.raises(PreconditionError, match="no host holds it any more"):
            await export_cache(two, task.id, tmp_path / "early")
        async with daemon(tmp_path, 2, scheduler__addrs=[swarm.app.address]):
            await replicated(two, task.id, 1)
            again = await client(two).stat(task.id)
            assert (again.state, again.tag) == ("Succeeded", "t")
            assert again.created_at_s + again.ttl_s <= task.created_at_s + task.ttl_s + 1
            assert sha256(await export_cache(two, task.id, tmp_path / "out")) == sha256(path)


async def test_the_same_content_is_imported_once(redis: RedisServer, tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        task = await client(one).import_cache(wish(path, replica_count=1))
        with pytest.raises(AlreadyExistsError, match=task.id):
            await client(two).import_cache(wish(path))
        assert await client(two).list_local() == []
        other = await client(two).import_cache(wish(path, tag="v2", replica_count=1))
        assert other.id != task.id


async def test_of_many_imports_of_one_file_at_once_one_is_made(
    redis: RedisServer, tmp_path: Path
) -> None:
    path = make_file(tmp_path, 20 * MIB)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        many = [client(host).import_cache(wish(path, replica_count=1)) for host in (one, two) * 4]
        results = await asyncio.gather(*many, return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        assert len(errors) == 7
        assert all(isinstance(error, AlreadyExistsError) for error in errors), errors
        task_id = ids.persistent_cache_task_id(path.read_bytes())
        assert (await client(one).stat(task_id)).state == "Succeeded"
        for number, host in enumerate((one, two)):
            output = await export_cache(host, task_id, tmp_path / f"out{number}")
            assert sha256(output) == sha256(path)


async def test_a_removed_task_can_be_imported_again(redis: RedisServer, tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        task = await client(one).import_cache(wish(path))
        await replicated(one, task.id, 2)
        await client(one).remove(task.id)
        assert await client(one).list_local() == []
        with pytest.raises(NotFoundError, match="import it again"):
            await client(one).stat(task.id)

        async def is_kept() -> bool:
            return (await client(two).list_local())[0].persistent

        await eventually_is(is_kept, wanted=False)
        again = await client(one).import_cache(wish(path))
        assert again.id == task.id
        await replicated(one, task.id, 2)


async def test_another_content_of_the_same_name_replaces_old_copies(
    redis: RedisServer, tmp_path: Path
) -> None:
    first, second = make_file(tmp_path, seed=1), make_file(tmp_path, seed=2)
    named = {"content_for_calculating_task_id": "nightly", "replica_count": 1}
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        task = await client(one).import_cache(wish(first, **named))
        await export_cache(two, task.id, tmp_path / "before")
        await client(one).remove(task.id)
        assert (await client(one).import_cache(wish(second, **named))).id == task.id
        output = await export_cache(two, task.id, tmp_path / "after")
        assert sha256(output) == sha256(second)


# --- what goes wrong ------------------------------------------------------------------------------


async def test_an_unknown_task_is_said_to_be_unknown(redis: RedisServer, tmp_path: Path) -> None:
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (one,) = await swarm.daemons(1)
        with pytest.raises(NotFoundError, match="never imported, its time to live is over"):
            await export_cache(one, UNKNOWN, tmp_path / "out")
        with pytest.raises(NotFoundError, match="never imported"):
            await client(one).stat(UNKNOWN)
        with pytest.raises(NotFoundError, match="never imported"):
            await client(one).remove(UNKNOWN)
        with pytest.raises(CallerError, match="hexadecimal"):
            await export_cache(one, "../../etc/passwd", tmp_path / "out")


async def test_without_redis_the_scheduler_says_so(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with scheduler() as app, daemon(tmp_path, 2, scheduler__addrs=[app.address]) as one:
        with pytest.raises(PreconditionError, match=r"database\.redis\.addrs"):
            await client(one).import_cache(wish(path))
        with pytest.raises(PreconditionError, match=r"database\.redis\.addrs"):
            await export_cache(one, UNKNOWN, tmp_path / "out")
        assert await client(one).list_local() == []


async def test_without_a_scheduler_only_what_is_here_can_be_had(
    redis: RedisServer, tmp_path: Path
) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (one,) = await swarm.daemons(1)
        task = await client(one).import_cache(wish(path, replica_count=1))
    async with daemon(tmp_path, 2) as alone:
        output = await export_cache(alone, task.id, tmp_path / "out")
        assert sha256(output) == sha256(path)
        with pytest.raises(UnavailableError, match=r"scheduler\.addrs"):
            await export_cache(alone, UNKNOWN, tmp_path / "other")
        with pytest.raises(UnavailableError, match=r"scheduler\.addrs"):
            await client(alone).import_cache(wish(path, tag="x"))


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"ttl_s": 1.0}, CallerError, "1 minute to 7 days"),
        ({"ttl_s": 8 * 86400.0}, CallerError, "1 minute to 7 days"),
        ({"replica_count": 0}, CallerError, "at least 1"),
        ({"piece_length": 5}, CallerError, "piece_length 5"),
        ({"path": Path("/nowhere/at/all")}, NotFoundError, "/nowhere/at/all"),
        ({"path": Path("/tmp")}, CallerError, "no plain file"),
    ],
)
async def test_bad_imports_are_refused(
    fields: dict[str, object], kind: type[OdonataError], text: str, tmp_path: Path
) -> None:
    path = make_file(tmp_path, 10)
    async with daemon(tmp_path, 2) as one:
        with pytest.raises(kind, match=text):
            await client(one).import_cache(wish(path, **fields))


async def test_a_wrong_digest_leaves_the_copy_and_no_output(
    redis: RedisServer, tmp_path: Path
) -> None:
    path = make_file(tmp_path)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        task = await client(one).import_cache(wish(path, replica_count=1))
        with pytest.raises(DigestMismatchError):
            await export_cache(two, task.id, tmp_path / "out", digest="sha256:" + "0" * 64)
        assert not (tmp_path / "out").exists()
        right = f"sha256:{sha256(path)}"
        await export_cache(two, task.id, tmp_path / "out", digest=right)


async def test_a_copy_goes_when_its_time_is_over(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    folder = tmp_path / "data2"
    hour_s = 3600.0
    names = {"old": 2 * hour_s, "new": 0.0}
    async with await DiskStorage.open(folder) as storage:
        for tag, age_s in names.items():
            file = LocalFile(path)
            task_id = ids.persistent_cache_task_id(file.blocks(), tag=tag)
            await storage.adopt(task_id, Download(type=TaskType.PERSISTENT_CACHE, url=""), file)
            task = storage.get(task_id)
            assert task is not None
            created_at_s = time.time() - age_s
            tenure = Tenure(persistent=True, ttl_s=hour_s, created_at_s=created_at_s)
            await task.keep(tenure)
    async with daemon(tmp_path, 2, gc__interval="50ms") as one:

        async def held() -> list[str]:
            return [copy.task_id for copy in await client(one).list_local()]

        young = ids.persistent_cache_task_id(path.read_bytes(), tag="new")
        await eventually_is(held, [young])
    assert [file.name for file in files_below(folder / "content")] == [young]


async def _try_import(path: Path, tag: str, one: Path) -> None:
    """Its daemon dies meanwhile, or the swarm has it already."""
    with suppress(OdonataError):
        await client(one).import_cache(wish(path, tag=tag, replica_count=1))


async def test_an_import_that_was_killed_leaves_nothing_half(
    redis: RedisServer, tmp_path: Path
) -> None:
    path = make_file(tmp_path, 64 * MIB)
    folder = tmp_path / "data9"
    tags = [str(number) for number in range(6)]
    rng = random.Random(7)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (other,) = await swarm.daemons(1)
        arguments = daemon_arguments(tmp_path, 9, scheduler__addrs=f'["{swarm.app.address}"]')
        for tag in tags:
            async with process(*arguments) as one:
                work = asyncio.ensure_future(_try_import(path, tag, one.socket_path))
                await asyncio.sleep(rng.uniform(0.0, 0.3))  # at any moment it must be right
                await one.kill()
                await work
            async with await DiskStorage.open(folder) as storage:
                whole = {task.path for task in storage.tasks() if task.finished}
                assert len(whole) == len(storage.tasks())
                assert set(files_below(folder / "content")) == whole
        async with process(*arguments) as one:
            for tag in tags:
                task_id = ids.persistent_cache_task_id(path.read_bytes(), tag=tag)

                async def state(task_id: str = task_id, tag: str = tag) -> str:
                    await _try_import(path, tag, one.socket_path)
                    return (await client(one.socket_path).stat(task_id)).state

                await eventually_is(state, "Succeeded")
                output = await export_cache(other, task_id, tmp_path / f"out{tag}")
                assert sha256(output) == sha256(path)
