"""`odonata cache` and `odonata store` as programs of their own, against real daemons."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, environment, sha256
from support.memory_object_store import MemoryObjectStore
from support.persistent_swarm import STORED, PersistentSwarm, replicated
from support.redis_server import RedisServer

from odonata import ids
from peer.runtime.daemon import Daemon

URL = "s3://bucket/model"
_START = (
    "import click; from odonata.cli import CommandGroup\n"
    "import peer.cache_command, peer.store_command\n"
    "known = {'cache': peer.cache_command.cache, 'store': peer.store_command.store}\n"
    "class Group(CommandGroup):\n"
    "    def get_command(self, ctx, name): return known[name]\n"
    "    def list_commands(self, ctx): return list(known)\n"
    "click.group(cls=Group)(lambda: None).main(prog_name='odonata')\n"
)


async def odonata(*words: str | Path, **variables: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _START, *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment() | variables,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def ok(one: Daemon, *words: str | Path, **variables: str) -> str:
    """stdout of a command that succeeds, asked of `one`."""
    code, out, err = await odonata(*words, "-e", one.socket_path, **variables)
    assert code == 0, err
    return out


async def told(one: Daemon, *words: str | Path, **variables: str) -> Any:
    """What it says as JSON."""
    return json.loads(await ok(one, *words, "--json", **variables))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model.bin"
    file.write_bytes(make_content(5 * MIB + 3))
    return file


async def test_the_life_of_a_file_in_the_cache(
    redis: RedisServer, path: Path, tmp_path: Path
) -> None:
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2)
        task_id = (await ok(one, "cache", "import", path, "--ttl", "2h", "--tag", "v1")).strip()
        assert task_id == ids.persistent_cache_task_id(make_content(5 * MIB + 3), tag="v1")
        await replicated(one, task_id, 2)

        known = await told(two, "cache", "stat", task_id)
        assert (known["id"], known["state"], known["tag"], known["ttl_s"]) == (
            task_id, "Succeeded", "v1", 7200,
        )  # fmt: skip
        shown = await ok(two, "cache", "stat", task_id)
        assert "2 of 2" in shown
        assert str(5 * MIB + 3) in shown

        [copy] = (await told(one, "cache", "ls"))["tasks"]
        assert (copy["task_id"], copy["persistent"]) == (task_id, True)
        assert task_id[:12] in await ok(one, "cache", "ls")

        output = tmp_path / "out"
        await ok(two, "cache", "export", task_id, "-O", output)
        assert sha256(output) == sha256(path)
        code, _, err = await odonata(
            "cache", "export", task_id, "-O", output, "-e", two.socket_path
        )
        assert code == 1
        assert "exists" in err
        said = await told(two, "cache", "export", task_id, "-O", output, "--overwrite")
        assert said == {"task_id": task_id, "output": str(output), "length": 5 * MIB + 3}

        assert task_id in await ok(one, "cache", "rm", task_id)
        assert "none" in await ok(one, "cache", "ls")
        code, _, err = await odonata("cache", "stat", task_id, "-e", one.socket_path)
        assert (code, "import it again" in err) == (1, True)


async def test_options_of_an_import_count(redis: RedisServer, path: Path, tmp_path: Path) -> None:
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        (one,) = await swarm.daemons(1)
        words = (
            "cache", "import", path, "--replicas", "1", "--application", "app",
            "--piece-length", "4MiB", "--content-for-calculating-task-id", "nightly",
        )  # fmt: skip
        task = await told(one, *words)
        assert task["id"] == ids.content_task_id("nightly")
        assert (task["application"], task["piece_length"], task["piece_count"]) == (
            "app", 4 * MIB, 2,
        )  # fmt: skip
        assert task["persistent_replica_count"] == 1


async def test_the_life_of_a_file_in_the_store(
    redis: RedisServer, path: Path, tmp_path: Path
) -> None:
    store = MemoryObjectStore()
    where = ("--storage-region", "eu", "--storage-access-key-id", "AK")
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        one, two = await swarm.daemons(2, store)
        words = ("store", "import", path, "--url", URL, *where)
        secret = {"ODONATA_STORAGE_ACCESS_KEY_SECRET": "SECRET"}
        task_id = (await ok(one, *words, **secret)).strip()
        assert task_id == ids.persistent_task_id(URL, region="eu")
        [(_, options)] = store.puts
        assert (options.storage.region, options.storage.access_key_secret) == ("eu", "SECRET")
        await replicated(one, task_id, 2, STORED)
        await ok(two, "store", "export", URL, "-O", tmp_path / "out", *where)
        assert sha256(tmp_path / "out") == sha256(path)
        assert (await told(two, "store", "stat", URL, *where))["state"] == "Succeeded"
        [copy] = (await told(two, "store", "ls"))["tasks"]
        assert copy["task_id"] == task_id


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("cache", "import", "nothing"), "there is no file"),
        (("cache", "import", "model.bin", "--ttl", "1s"), "1 minute to 7 days"),
        (("cache", "import", "model.bin", "--piece-length", "1KiB"), "at least 4194304"),
        (("cache", "import", "model.bin"), "scheduler.addrs"),
        (("cache", "export", "short", "-O", "out"), "hexadecimal"),
        (("store", "import", "model.bin", "--url", "bucket/key"), "absolute URI"),
    ],
)
async def test_errors_name_the_fix(
    words: tuple[str, ...], text: str, path: Path, tmp_path: Path
) -> None:
    files = {"nothing", path.name, "out"}
    placed = [str(tmp_path / word) if word in files else word for word in words]
    async with daemon(tmp_path, 2) as one:
        code, out, err = await odonata(*placed, "-e", one.socket_path)
    assert code in {1, 2}
    assert out == ""
    assert text in err
    assert "Traceback" not in err


async def test_without_a_daemon_they_say_how_to_get_one(tmp_path: Path, path: Path) -> None:
    code, _, err = await odonata("cache", "import", path, "-e", tmp_path / "no.sock")
    assert code == 1
    assert "odonata daemon" in err
