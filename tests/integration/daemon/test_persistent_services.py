"""The rpcs about persistent tasks, asked by official stubs as stock peers and tools do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from dragonfly_api import common_pb2, dfdaemon_pb2
from support.content import make_content
from support.daemon import MIB
from support.eventually import eventually_is
from support.memory_object_store import MemoryObjectStore
from support.persistent_swarm import PersistentSwarm
from support.redis_server import RedisServer

from odonata.grpc_client import open_channel, target_of
from odonata.grpc_stub import download_stub, upload_stub
from peer.runtime.daemon import Daemon

CONTENT = make_content(9 * MIB + 3)
URL = "s3://bucket/key"
KINDS = ["Persistent", "PersistentCache"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
async def swarm(redis: RedisServer, tmp_path: Path) -> AsyncIterator[PersistentSwarm]:
    async with PersistentSwarm(tmp_path, redis.address) as swarm:
        yield swarm


class Caller:
    """Both stubs of one daemon, for one kind of task."""

    def __init__(self, word: str, local: Any, upload: Any) -> None:
        self.word = word
        self.local = local
        self.upload = upload

    def message(self, pattern: str, **fields: Any) -> Any:
        return getattr(dfdaemon_pb2, pattern.format(self.word))(**fields)

    async def call(self, stub: Any, rpc: str, **fields: Any) -> Any:
        request = self.message(f"{rpc}Request", **fields)
        return await getattr(stub, rpc.format(self.word))(request)

    async def stream(self, stub: Any, rpc: str, **fields: Any) -> list[Any]:
        request = self.message(f"{rpc}Request", **fields)
        return [response async for response in getattr(stub, rpc.format(self.word))(request)]

    async def import_(self, path: Path) -> Any:
        where: dict[str, Any] = {}
        if self.word == "Persistent":
            where = {"url": URL, "object_storage": common_pb2.ObjectStorage(region="eu")}
        fields = {"persistent_replica_count": 1, "ttl": {"seconds": 3600}, "path": str(path)}
        return await self.call(self.local, "Upload{}Task", **fields, **where)

    def naming(self, task_id: str) -> dict[str, Any]:
        """How a Download names the task."""
        if self.word == "Persistent":
            return {"url": URL, "object_storage": common_pb2.ObjectStorage(region="eu")}
        return {"task_id": task_id}


@asynccontextmanager
async def calling(one: Daemon, word: str) -> AsyncGenerator[Caller]:
    target = target_of(one.facts.ip, one.facts.port)
    async with open_channel(f"unix:{one.socket_path}") as local, open_channel(target) as upload:
        yield Caller(word, download_stub(local), upload_stub(upload))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


@pytest.mark.parametrize("word", KINDS)
async def test_a_parent_tells_its_pieces(word: str, swarm: PersistentSwarm, path: Path) -> None:
    (one,) = await swarm.daemons(1, MemoryObjectStore())
    async with calling(one, word) as caller:
        task = await caller.import_(path)
        fields = {"host_id": "child", "task_id": task.id, "interested_piece_numbers": [0, 2]}
        held = await caller.stream(caller.upload, "Sync{}Pieces", **fields)
        assert [(one_.number, one_.offset, one_.length) for one_ in held] == [
            (0, 0, 4 * MIB),
            (2, 8 * MIB, MIB + 3),
        ]
        assert {(one_.ip, one_.tcp_port) for one_ in held} == {(one.facts.ip, one.facts.tcp_port)}
        # What is of one kind is unknown to the other, and no standard task.
        other = KINDS[1 - KINDS.index(word)]
        async with calling(one, other) as stranger:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stranger.stream(stranger.upload, "Sync{}Pieces", **fields)
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND
            listed = await stranger.call(stranger.local, "ListLocal{}Tasks")
            assert not listed.tasks
        answer = await caller.local.ListLocalTasks(dfdaemon_pb2.ListLocalTasksRequest())
        assert not answer.tasks


@pytest.mark.parametrize("word", KINDS)
async def test_a_scheduler_orders_a_replica_and_lets_it_off(
    word: str, swarm: PersistentSwarm, path: Path
) -> None:
    one, two = await swarm.daemons(2, MemoryObjectStore())
    async with calling(one, word) as uploader, calling(two, word) as holder:
        task = await uploader.import_(path)
        ordered = holder.naming(task.id) | {
            "persistent": True,
            "output_path": str(path.parent / "never"),
        }
        said = await holder.stream(holder.upload, "Download{}Task", **ordered)
        assert said[0].task_id == task.id
        assert said[0].host_id == two.facts.id
        assert sorted(step.download_piece_finished_response.piece.number for step in said[1:]) == [
            0, 1, 2,
        ]  # fmt: skip
        assert "never" not in names_in(path.parent)

        async def replicas() -> int:
            known = await uploader.call(uploader.upload, "Stat{}Task", task_id=task.id)
            return int(known.current_persistent_replica_count)

        await eventually_is(replicas, 2)
        for persistent in (False, True):
            await holder.call(holder.upload, "Update{}Task", task_id=task.id, persistent=persistent)
            copy = await holder.call(holder.local, "StatLocal{}Task", task_id=task.id)
            assert (copy.persistent, copy.ttl.seconds, copy.content_length) == (
                persistent, 3600, len(CONTENT),
            )  # fmt: skip


@pytest.mark.parametrize("word", KINDS)
async def test_a_tool_may_have_the_bytes_in_the_stream(
    word: str, swarm: PersistentSwarm, path: Path
) -> None:
    one, two = await swarm.daemons(2, MemoryObjectStore())
    async with calling(one, word) as uploader, calling(two, word) as tool:
        task = await uploader.import_(path)
        wanted = tool.naming(task.id) | {"need_piece_content": True}
        said = await tool.stream(tool.local, "Download{}Task", **wanted)
        pieces = [step.download_piece_finished_response.piece for step in said[1:]]
        ordered = sorted(pieces, key=lambda piece: piece.number)
        assert [(piece.number, len(piece.content)) for piece in ordered] == [
            (0, 4 * MIB),
            (1, 4 * MIB),
            (2, MIB + 3),
        ]
        assert b"".join(piece.content for piece in ordered) == CONTENT


@pytest.mark.parametrize("word", KINDS)
async def test_what_is_not_here_is_not_found(word: str, swarm: PersistentSwarm) -> None:
    (one,) = await swarm.daemons(1, MemoryObjectStore())
    async with calling(one, word) as caller:
        for stub, rpc, more in (
            (caller.local, "StatLocal{}Task", {}),
            (caller.local, "Stat{}Task", {}),
            (caller.upload, "Stat{}Task", {}),
            (caller.upload, "Update{}Task", {"persistent": True}),
            (caller.upload, "Delete{}Task", {}),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await caller.call(stub, rpc, task_id="0" * 64, **more)
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND, rpc
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await caller.call(stub, rpc, **more)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, rpc


async def status_of(call: Any, *, streams: bool) -> grpc.StatusCode:
    """How a call ends."""
    try:
        if streams:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_every_rpc_about_persistent_tasks_is_served(swarm: PersistentSwarm) -> None:
    (one,) = await swarm.daemons(1, MemoryObjectStore())
    async with calling(one, "Persistent") as caller:
        for name, stub in (("DfdaemonUpload", caller.upload), ("DfdaemonDownload", caller.local)):
            for method in dfdaemon_pb2.DESCRIPTOR.services_by_name[name].methods:
                if "Persistent" not in method.name:
                    continue
                call = getattr(stub, method.name)(getattr(dfdaemon_pb2, method.input_type.name)())
                status = await status_of(call, streams=method.server_streaming)
                is_list = method.name.startswith("ListLocal")
                expected = grpc.StatusCode.OK if is_list else grpc.StatusCode.INVALID_ARGUMENT
                assert status is expected, method.name
