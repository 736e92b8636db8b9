"""A stock client of persistent tasks, for tests: official stubs, both kinds by the same words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import grpc
from dragonfly_api import common_pb2, scheduler_pb2
from support.grpc_stub import EOF
from support.scheduler_client import settings

from odonata.grpc_client import open_channel
from odonata.grpc_stub import scheduler_stub
from odonata.settings.database import RedisSettings
from scheduler.core.persistent.state import Kind
from scheduler.runtime.app import SchedulerApp
from scheduler.settings import DatabaseSettings, SchedulerGcSettings, SchedulingSettings

PATIENCE_S = 20.0
MIB = 1024 * 1024
PIECE_LENGTH = 4 * MIB
URL = "s3://bucket/key"

_WORD = {Kind.PERSISTENT: "Persistent", Kind.PERSISTENT_CACHE: "PersistentCache"}


def host_message(
    name: str,
    ip: str = "127.0.0.1",
    port: int = 4000,
    *,
    idc: str = "",
    location: str = "",
    disk_free_bytes: int = 1 << 40,
    shared: bool = True,
) -> common_pb2.Host:
    """A host with room for anything; `name` is its id too."""
    host = common_pb2.Host(
        id=name,
        hostname=name,
        ip=ip,
        port=port,
        download_port=port,
        os="linux",
        disable_shared=not shared,
        scheduler_cluster_id=1,
    )
    host.disk.free = disk_free_bytes
    host.disk.total = 1 << 41
    if idc or location:
        host.network.idc, host.network.location = idc, location
    return host


class PersistentClient:
    """The stub of one channel for tasks of one kind, with deadlines."""

    def __init__(self, channel: grpc.aio.Channel, kind: Kind) -> None:
        self.stub: Any = scheduler_stub(channel)
        self.kind = kind
        self.word = _WORD[kind]

    def message(self, name: str, **fields: Any) -> Any:
        """scheduler.v2's `name`, where {} stands for the kind."""
        return getattr(scheduler_pb2, name.format(self.word))(**fields)

    async def call(self, rpc: str, **fields: Any) -> Any:
        """Call `rpc`, where {} stands for the kind, with a request of `fields`."""
        request = self.message(f"{rpc}Request", **fields)
        return await getattr(self.stub, rpc.format(self.word))(request, timeout=PATIENCE_S)

    async def announce(self, host: common_pb2.Host, interval_s: float = 300.0) -> None:
        """AnnounceHost."""
        request = scheduler_pb2.AnnounceHostRequest(host=host)
        request.interval.FromNanoseconds(round(interval_s * 1e9))
        await self.stub.AnnounceHost(request, timeout=PATIENCE_S)

    async def leave(self, host_id: str) -> None:
        """DeleteHost."""
        await self.stub.DeleteHost(
            scheduler_pb2.DeleteHostRequest(host_id=host_id), timeout=PATIENCE_S
        )

    def upload_fields(self, task_id: str, **fields: Any) -> dict[str, Any]:
        """16 MiB in 4 pieces for an hour, as dfcache and dfstore ask for it."""
        particulars: dict[str, Any] = {"piece_length": PIECE_LENGTH, "tag": "t"}
        if self.kind is Kind.PERSISTENT:
            storage = common_pb2.ObjectStorage(
                region="r", endpoint="https://s3", access_key_id="AK", access_key_secret="SECRET"
            )
            particulars = {"url": URL, "object_storage": storage}
        return {
            "task_id": task_id,
            "persistent_replica_count": 1,
            "content_length": 4 * PIECE_LENGTH,
            "piece_count": 4,
            **particulars,
            "ttl": {"seconds": 3600},
            **fields,
        }

    async def start_upload(self, host_id: str, peer_id: str, task_id: str, **fields: Any) -> None:
        """Upload…TaskStarted."""
        await self.call(
            "Upload{}TaskStarted",
            host_id=host_id,
            peer_id=peer_id,
            **self.upload_fields(task_id, **fields),
        )

    async def finish_upload(self, host_id: str, peer_id: str, task_id: str) -> Any:
        """Upload…TaskFinished."""
        return await self.call(
            "Upload{}TaskFinished", host_id=host_id, peer_id=peer_id, task_id=task_id
        )

    async def upload(self, host_id: str, peer_id: str, task_id: str, **fields: Any) -> Any:
        """A whole upload; returns the task."""
        await self.start_upload(host_id, peer_id, task_id, **fields)
        return await self.finish_upload(host_id, peer_id, task_id)

    async def stat_task(self, task_id: str) -> Any:
        """Stat…Task."""
        return await self.call("Stat{}Task", host_id="anyone", task_id=task_id)

    async def stat_peer(self, peer_id: str, task_id: str) -> Any:
        """Stat…Peer."""
        return await self.call("Stat{}Peer", host_id="anyone", task_id=task_id, peer_id=peer_id)

    def peer(self, host_id: str, peer_id: str, task_id: str) -> PersistentConversation:
        """Open an announce stream."""
        return PersistentConversation(self, host_id, peer_id, task_id)


class PersistentConversation:
    """One announce stream."""

    def __init__(self, client: PersistentClient, host_id: str, peer_id: str, task_id: str) -> None:
        self._client = client
        self._who = {"host_id": host_id, "task_id": task_id, "peer_id": peer_id}
        self.peer_id = peer_id
        self.call = getattr(client.stub, f"Announce{client.word}Peer")()

    def say_as(self, **who: str) -> None:
        """Name another host, task or peer from now on: what no stock client does."""
        self._who |= who

    async def send(self, member: str, **fields: Any) -> None:
        """Send one message; `member` of the oneof, where {} stands for the kind."""
        kind = "persistent" if self._client.kind is Kind.PERSISTENT else "persistent_cache"
        name = member.format(kind)
        request = self._client.message("Announce{}PeerRequest", **self._who)
        part = getattr(request, name)
        part.SetInParent()
        part.MergeFrom(type(part)(**fields))
        await self.call.write(request)

    async def register(self, **fields: Any) -> None:
        """The register request."""
        url = {"url": URL} if self._client.kind is Kind.PERSISTENT else {}
        await self.send("register_{}_peer_request", **{**url, **fields})

    async def started(self) -> None:
        await self.send("download_{}_peer_started_request")

    async def piece(self, number: int) -> None:
        piece = common_pb2.Piece(number=number, length=PIECE_LENGTH)
        await self.send("download_piece_finished_request", piece=piece)

    async def finished(self) -> None:
        await self.send("download_{}_peer_finished_request")

    async def answer(self) -> Any:
        """The next answer; the stream must not end instead."""
        async with asyncio.timeout(PATIENCE_S):
            response = await self.call.read()
        assert response is not EOF, (await self.call.code(), await self.call.details())
        return response

    async def parents(self) -> list[str]:
        """Peer ids of the parents in the next answer."""
        answer = await self.answer()
        if self._client.kind is Kind.PERSISTENT:
            peers = answer.normal_persistent_task_response.candidate_parents
        else:
            peers = answer.normal_persistent_cache_task_response.candidate_cache_parents
        return [peer.id for peer in peers]

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the server to end the stream; status and message."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.call.code(), await self.call.details()

    async def download(self, *, persistent: bool = False) -> list[str]:
        """A whole download from peers; returns the parents that were named."""
        await self.register(persistent=persistent)
        parents = await self.parents()
        await self.started()
        for number in range(4):
            await self.piece(number)
        await self.finished()
        code, details = await self.end()
        assert code is grpc.StatusCode.OK, details
        return parents


@asynccontextmanager
async def connected(address: str, kind: Kind) -> AsyncGenerator[PersistentClient]:
    """A client of the scheduler at `address`."""
    async with open_channel(address) as channel:
        yield PersistentClient(channel, kind)


def redis_scheduler(address: str, *, host_gc_interval_s: float = 60.0) -> SchedulerApp:
    """A scheduler whose persistent tasks live in the Redis at `address`."""
    base = settings()
    return SchedulerApp(
        base.model_copy(
            update={
                "database": DatabaseSettings(redis=RedisSettings(addrs=(address,))),
                "scheduler": SchedulingSettings(
                    gc=SchedulerGcSettings(host_gc_interval_s=host_gc_interval_s)
                ),
            }
        ),
        Random(1),
    )
