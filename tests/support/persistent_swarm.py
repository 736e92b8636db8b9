"""Real daemons under a real scheduler with a real Redis, for persistent tasks.

async with PersistentSwarm(folder, redis.address) as swarm:
    one, two, three = await swarm.daemons(3)
    task = await swarm.client(one).import_cache(wish(path))
    await swarm.replicated(one, task.id, 2)
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from support.daemon import PATIENCE_S, settings
from support.eventually import eventually_is
from support.persistent_client import redis_scheduler

from odonata.wire.message import TaskType
from peer.get_progress import Quiet
from peer.persistent_client import DaemonClient, ExportWish, ImportWish
from peer.runtime.daemon import Daemon
from peer.runtime.source import OpenSources
from scheduler.runtime.app import SchedulerApp

CACHE = TaskType.PERSISTENT_CACHE
STORED = TaskType.PERSISTENT


def wish(file: Path, **fields: Any) -> ImportWish:
    """What `odonata cache import FILE` asks for."""
    asked: dict[str, Any] = {"path": file, "replica_count": 2, "ttl_s": 3600.0, **fields}
    return ImportWish(**asked)


async def export_cache(one: Daemon | Path, task_id: str, output: Path, **fields: Any) -> Path:
    """What `odonata cache export` does."""
    async with asyncio.timeout(PATIENCE_S):
        export = ExportWish(output=output, **fields)
        await client(one).export_cache(task_id, export, Quiet())
    return output


def client(one: Daemon | Path, kind: TaskType = CACHE) -> DaemonClient:
    """A user of a daemon's host."""
    return DaemonClient(one.socket_path if isinstance(one, Daemon) else one, kind)


async def replicated(one: Daemon | Path, task_id: str, count: int, kind: TaskType = CACHE) -> None:
    """Return when the task has so many replicas."""

    async def replicas() -> int:
        return (await client(one, kind).stat(task_id)).current_persistent_replica_count

    await eventually_is(replicas, count)


class PersistentSwarm:
    """A scheduler, and daemons that it knows."""

    def __init__(self, folder: Path, redis: str) -> None:
        self._folder = folder
        self._redis = redis
        self._stack = AsyncExitStack()
        self._count = 0
        self.app: SchedulerApp

    async def __aenter__(self) -> Self:
        self.app = await self._stack.enter_async_context(redis_scheduler(self._redis))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def daemons(
        self, count: int, sources: OpenSources | None = None, **more: Any
    ) -> list[Daemon]:
        """More daemons, in this process."""
        made: list[Daemon] = []
        for _ in range(count):
            self._count += 1
            given = settings(
                self._folder, 1 + self._count, scheduler__addrs=[self.app.address], **more
            )
            one = Daemon(given, sources)
            made.append(await self._stack.enter_async_context(one))
        return made
