"""Persistent cache tasks from end to end: daemons, a scheduler and a Redis, all real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, sha256
from support.persistent_swarm import PersistentSwarm, client, export_cache, replicated, wish
from support.redis_server import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.mark.parametrize("size", [0, 1, 9 * MIB + 5])
async def test_what_one_host_imports_others_hold_and_export(
    size: int, redis: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(make_content(size))
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two, three = await swarm.daemons(3)
        task = await client(one).import_cache(wish(path))
        assert (task.state, task.content_length) == ("Succeeded", size)
        await replicated(one, task.id, 2)
        for number, host in enumerate((one, two, three)):
            output = await export_cache(host, task.id, tmp_path / f"out{number}")
            assert sha256(output) == sha256(path)
