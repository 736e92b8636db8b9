"""Calls to the daemons that hold persistent tasks: keep it, let it go, fetch it.

Each call has its connection, for there is one for each new replica and no more. Failures are raised
as our errors; who is called, and what follows, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from dragonfly_api import common_pb2, dfdaemon_pb2

from odonata.errors import UnavailableError
from odonata.grpc_client import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S, open_channel, target_of
from odonata.grpc_status import error_of
from odonata.grpc_stub import upload_stub
from scheduler.core.persistent.state import Kind, PeerHost, Task

# What Dragonfly's dfcache allows for one download of such a task.
DOWNLOAD_TIMEOUT_S = 2 * 3600.0

# A daemon tells each piece that arrived: 64 MiB at most, so even 2 Mbit/s brings one in time.
IDLE_TIMEOUT_S = 300.0


async def keep(kind: Kind, host: PeerHost, task_id: str, *, persistent: bool) -> None:
    """Ask `host` to keep its copy whatever its disk says, or let it off."""
    async with _stub(host) as stub:
        if kind is Kind.PERSISTENT:
            await stub.UpdatePersistentTask(
                dfdaemon_pb2.UpdatePersistentTaskRequest(task_id=task_id, persistent=persistent),
                timeout=REQUEST_TIMEOUT_S,
            )
        else:
            await stub.UpdatePersistentCacheTask(
                dfdaemon_pb2.UpdatePersistentCacheTaskRequest(
                    task_id=task_id, persistent=persistent
                ),
                timeout=REQUEST_TIMEOUT_S,
            )


async def fetch(kind: Kind, host: PeerHost, task: Task) -> None:
    """Have `host` fetch `task` and keep it; returns when it has. It must not fall silent."""
    async with _stub(host) as stub:
        if kind is Kind.PERSISTENT:
            call = stub.DownloadPersistentTask(_persistent(task), timeout=DOWNLOAD_TIMEOUT_S)
        else:
            call = stub.DownloadPersistentCacheTask(_cached(task), timeout=DOWNLOAD_TIMEOUT_S)
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(IDLE_TIMEOUT_S) as idle:
                async for _ in call:
                    idle.reschedule(now() + IDLE_TIMEOUT_S)
        except TimeoutError:
            call.cancel()
            raise UnavailableError(
                f"host {host.id} fetches a replica and has said nothing for {IDLE_TIMEOUT_S:g} s"
            ) from None


def _persistent(task: Task) -> dfdaemon_pb2.DownloadPersistentTaskRequest:
    storage = common_pb2.ObjectStorage()
    storage.ParseFromString(task.storage)
    return dfdaemon_pb2.DownloadPersistentTaskRequest(
        url=task.url, object_storage=storage, persistent=True
    )


def _cached(task: Task) -> dfdaemon_pb2.DownloadPersistentCacheTaskRequest:
    return dfdaemon_pb2.DownloadPersistentCacheTaskRequest(
        task_id=task.id,
        persistent=True,
        tag=task.tag or None,
        application=task.application or None,
    )


@asynccontextmanager
async def _stub(host: PeerHost) -> AsyncGenerator[Any]:
    target = target_of(host.ip, host.call_port)
    whom = f"host {host.id} at {target}"
    async with open_channel(target) as channel:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await channel.channel_ready()
        except TimeoutError:
            raise UnavailableError(
                f"{whom} does not answer within {CONNECT_TIMEOUT_S:g} s"
            ) from None
        try:
            yield upload_stub(channel)
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, whom) from failure
