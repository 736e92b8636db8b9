"""What an operator forbids of the files that the swarm keeps, as users of a host see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB
from support.eventually import eventually_is
from support.persistent_swarm import (
    STORED,
    PersistentSwarm,
    client,
    export_cache,
    replicated,
    wish,
)
from support.redis_server import RedisServer

from odonata.errors import ForbiddenError, OdonataError
from odonata.wire.origin import ObjectStorage
from peer.get_progress import Quiet
from peer.persistent_client import ExportWish

FORBIDS = """clientConfig:
  blockList:
    persistentTask: {download: {urls: ['^s3://private/']}, upload: {urls: ['^s3://private/']}}
    persistentCacheTask: {download: {tags: [old]}, upload: {applications: [miner]}}
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def make_file(folder: Path) -> Path:
    path = folder / "model.bin"
    path.write_bytes(make_content(MIB))
    return path


async def test_an_import_is_refused_until_the_file_allows_it(
    redis: RedisServer, tmp_path: Path
) -> None:
    file, path = tmp_path / "dynconfig.yaml", make_file(tmp_path)
    file.write_text(FORBIDS)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (host,) = await swarm.daemons(
            1, dynconfig__file=str(file), dynconfig__refreshInterval="10ms"
        )
        asked = wish(path, replica_count=1, application="miner")
        with pytest.raises(OdonataError, match=r"'miner'.* forbidden on this host") as refused:
            await client(host).import_cache(asked)
        assert refused.value.code == ForbiddenError.code
        assert await client(host).list_local() == []
        file.write_text("")

        async def code() -> str | None:
            try:
                await client(host).import_cache(asked)
            except OdonataError as error:
                return error.code
            return None

        await eventually_is(code, None)


async def test_what_a_user_may_not_have_his_host_may_keep_for_others(
    redis: RedisServer, tmp_path: Path
) -> None:
    """An order of a scheduler is nobody's export. The scheduler tells what a task's tag is."""
    file, path = tmp_path / "dynconfig.yaml", make_file(tmp_path)
    file.write_text(FORBIDS)
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        hosts = await swarm.daemons(2, dynconfig__file=str(file))
        task = await client(hosts[0]).import_cache(wish(path, tag="old"))
        await replicated(hosts[0], task.id, 2)
        assert len(await client(hosts[1]).list_local()) == 1
        with pytest.raises(OdonataError, match=r"tag 'old'.* forbidden on this host"):
            await export_cache(hosts[1], task.id, tmp_path / "out")
        assert not (tmp_path / "out").exists()


async def test_urls_of_an_object_storage_are_forbidden(redis: RedisServer, tmp_path: Path) -> None:
    """Before anybody is asked: there is no such storage."""
    file, path = tmp_path / "dynconfig.yaml", make_file(tmp_path)
    file.write_text(FORBIDS)
    url = "s3://private/model.bin"
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (host,) = await swarm.daemons(1, dynconfig__file=str(file))
        user, export = client(host, STORED), ExportWish(output=tmp_path / "out")
        with pytest.raises(OdonataError, match="forbidden on this host"):
            await user.import_stored(wish(path), url, ObjectStorage())
        with pytest.raises(OdonataError, match="forbidden on this host"):
            await user.export_stored(url, ObjectStorage(), export, Quiet())
        assert await user.list_local() == []
