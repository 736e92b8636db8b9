"""Looks after what no event tells: hosts that fell silent, and replicas that are still missing.

One scheduler of a cluster does it at a time, whoever comes first; so a scheduler that dies in the
middle of a replication leaves nothing undone for longer than one interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from odonata.errors import OdonataError, UnavailableError
from scheduler.core.persistent.state import Kind
from scheduler.runtime.persistent.replicator import Replicator
from scheduler.runtime.persistent.store import PersistentStore
from scheduler.runtime.persistent.tasks import PersistentTasks

# The share of an interval for which others stay away: a little less than all of it, so that one
# scheduler alone is never late for its own next turn.
_HOLD_SHARE = 0.9

_log = structlog.get_logger(__name__)


class Sweep:
    """Every `interval_s`. A host that set itself no pace is silent after `host_ttl_s`."""

    def __init__(
        self,
        tasks: PersistentTasks,
        stores: Mapping[Kind, PersistentStore],
        replicator: Replicator,
        clock: Callable[[], float],
        *,
        interval_s: float,
        host_ttl_s: float,
    ) -> None:
        self._tasks = tasks
        self._stores = stores
        self._replicator = replicator
        self._clock = clock
        self._interval_s = interval_s
        self._host_ttl_s = host_ttl_s

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            for kind, store in self._stores.items():
                try:
                    if await store.take_sweep(self._interval_s * _HOLD_SHARE):
                        await self._sweep(kind, store)
                except OdonataError as error:
                    _log.warning("persistent_sweep_failed", kind=str(kind), reason=error.detail)
                except Exception:  # noqa: BLE001  # supervises: the next turn may do better
                    _log.exception("persistent_sweep_crashed", kind=str(kind))

    async def _leave(self, kind: Kind, host_id: str) -> None:
        try:
            await self._tasks.leave_host(kind, host_id)
        except UnavailableError:
            raise
        except OdonataError as error:
            # Something of it in Redis can't be read: the other hosts are seen to nevertheless.
            _log.warning("host_not_forgotten", host_id=host_id, reason=error.detail)

    async def _sweep(self, kind: Kind, store: PersistentStore) -> None:
        now = self._clock()
        host_ids = await store.host_ids()
        hosts = await store.hosts(sorted(host_ids))
        for host_id in sorted(host_ids):
            host = hosts.get(host_id)
            if host is None or host.is_silent(now, self._host_ttl_s):
                await self._leave(kind, host_id)
        async for task_id in store.tasks_short_of_replicas():
            self._replicator.want(kind, task_id)
