"""Puts the persistent part of a scheduler together, starts and stops it.

Without database.redis.addrs there is only the service, which says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

import structlog

from scheduler.core.persistent.core import PersistentCore
from scheduler.core.persistent.state import Kind
from scheduler.runtime.persistent.service import service_parts
from scheduler.runtime.service import SchedulerService
from scheduler.settings import SchedulerSettings

if TYPE_CHECKING:
    from scheduler.runtime.persistent.redis_gate import RedisGate
    from scheduler.runtime.persistent.tasks import PersistentTasks


# After a bug: go on, but not in a tight loop.
_RESTART_S = 1.0

_log = structlog.get_logger(__name__)


def wall_clock() -> float:
    """Seconds since 1970 in microseconds, which is what Redis is told: what is read is what was."""
    return round(time.time(), 6)


async def _supervise(run: Callable[[], Awaitable[None]]) -> None:
    """Run for ever: a bug in one of the loops must not end it, and be seen."""
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001  # supervises: nobody else would hear of it
            _log.exception("persistent_loop_crashed")
            await asyncio.sleep(_RESTART_S)


class PersistentPart:
    """`parts` serve the rpcs; they go before the standard service, whose host rpcs they extend.

    Raises SettingsError if the addresses of Redis make no sense. Redis itself may be away.
    """

    def __init__(
        self, settings: SchedulerSettings, standard: SchedulerService, rng: Random
    ) -> None:
        self.parts = service_parts(None)
        self._gate: RedisGate | None = None
        self._tasks: PersistentTasks | None = None
        self._loops: list[Callable[[], Awaitable[None]]] = []
        self._running: list[asyncio.Future[None]] = []
        if settings.database.redis.addrs:
            self._assemble(settings, standard, rng)

    def _assemble(
        self, settings: SchedulerSettings, standard: SchedulerService, rng: Random
    ) -> None:
        # Redis's client takes 0.2 s to import: only who uses it pays.
        from scheduler.runtime.persistent import holder  # noqa: PLC0415
        from scheduler.runtime.persistent.hosts import (  # noqa: PLC0415
            HostWriter,
            PersistentHostService,
        )
        from scheduler.runtime.persistent.redis_gate import RedisGate  # noqa: PLC0415
        from scheduler.runtime.persistent.replicator import Replicator  # noqa: PLC0415
        from scheduler.runtime.persistent.store import PersistentStore  # noqa: PLC0415
        from scheduler.runtime.persistent.sweep import Sweep  # noqa: PLC0415
        from scheduler.runtime.persistent.tasks import PersistentTasks  # noqa: PLC0415

        clock = wall_clock
        gc = settings.scheduler.gc
        core = PersistentCore(settings.scheduler.candidate_parent_limit, rng)
        gate = RedisGate(settings.database.redis)
        cluster_id = settings.manager.scheduler_cluster_id
        stores = {kind: PersistentStore(gate, cluster_id, kind) for kind in Kind}
        replicator = Replicator(core, stores, holder, clock)
        tasks = PersistentTasks(core, stores, replicator, clock)
        writer = HostWriter(tasks, clock)
        sweep = Sweep(
            tasks,
            stores,
            replicator,
            clock,
            interval_s=gc.host_gc_interval_s,
            host_ttl_s=gc.host_ttl_s,
        )
        self._gate, self._tasks = gate, tasks
        self._loops = [replicator.run, writer.run, sweep.run]
        self.parts = (PersistentHostService(standard, writer), *service_parts(tasks))

    async def start(self) -> None:
        """Begin to look after hosts and replicas. Never waits for Redis."""
        self._running = [asyncio.ensure_future(_supervise(run)) for run in self._loops]

    async def close(self) -> None:
        """Stop all of it. Calls must have ended before."""
        if self._tasks is not None:
            await self._tasks.close()
        if self._gate is None:
            return
        from scheduler.runtime.persistent.tasks import cancel_all  # noqa: PLC0415  # as above

        await cancel_all(self._running)
        await self._gate.close()
