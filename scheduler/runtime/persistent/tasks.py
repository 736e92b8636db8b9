"""Persistent tasks of both kinds: events in, effects carried out. Every decision is the core's.

Effects that concern the caller (answers, the end of its stream, a refusal) go back to it; the rest
happens beside it: replicas are counted, hosts are told, and no caller waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import structlog
from dragonfly_api import common_pb2

from odonata.errors import OdonataError
from scheduler.core.persistent.core import PersistentCore
from scheduler.core.persistent.effect import (
    Answer,
    AnswerTask,
    CloseStream,
    CountReplicas,
    Demote,
    PersistentEffect,
    Refuse,
)
from scheduler.core.persistent.event import HostLeft, PersistentEvent, scope_of
from scheduler.core.persistent.state import Kind, PeerStatus, TaskStatus
from scheduler.runtime.persistent.replicator import Replicator
from scheduler.runtime.persistent.store import PersistentStore

Told = Answer | AnswerTask | CloseStream

# When the scheduler stops: for what was begun beside its callers, such as the end of a stream.
LAST_WORDS_S = 1.0

_log = structlog.get_logger(__name__)


class PersistentTasks:
    """`clock`: seconds since 1970, as the store's other users count them."""

    def __init__(
        self,
        core: PersistentCore,
        stores: Mapping[Kind, PersistentStore],
        replicator: Replicator,
        clock: Callable[[], float],
    ) -> None:
        self._core = core
        self._stores = stores
        self._replicator = replicator
        self._clock = clock
        self._aside: set[asyncio.Task[None]] = set()

    async def hear(
        self,
        kind: Kind,
        task_id: str,
        event: PersistentEvent,
        *,
        host_id: str = "",
        peer_id: str = "",
    ) -> list[Told]:
        """Handle `event` of a task, sent by peer `peer_id` of host `host_id`.

        Returns what the sender is to be told. Raises the error of a Refuse, or UnavailableError.
        """
        now = self._clock()
        effects = await self._stores[kind].transact(
            task_id,
            lambda snapshot: self._core.handle(event, snapshot, now),
            now,
            host_id=host_id,
            peer_id=peer_id,
            scope=scope_of(event),
        )
        return self._carry_out(kind, task_id, effects)

    def _carry_out(
        self, kind: Kind, task_id: str, effects: Iterable[PersistentEffect]
    ) -> list[Told]:
        told: list[Told] = []
        for effect in effects:
            if isinstance(effect, Refuse):
                raise effect.error
            if isinstance(effect, Told):
                told.append(effect)
            elif isinstance(effect, CountReplicas):
                self._replicator.want(kind, task_id)
            elif isinstance(effect, Demote):
                self.aside(self._replicator.demote(kind, task_id, effect))
        return told

    async def stat_task(self, kind: Kind, task_id: str) -> TaskStatus:
        """The task and how many hold it; NotFoundError if it is unknown."""
        snapshot = await self._stores[kind].load(task_id)
        return self._core.stat_task(snapshot, self._clock())

    async def stat_peer(self, kind: Kind, task_id: str, peer_id: str) -> PeerStatus:
        """One copy of a task; NotFoundError if it is unknown."""
        snapshot = await self._stores[kind].load(task_id)
        return self._core.stat_peer(snapshot, peer_id, self._clock())

    async def announced_hosts(
        self, kind: Kind, host_ids: Iterable[str]
    ) -> dict[str, common_pb2.Host]:
        """All that these hosts said of themselves; those that left are left out."""
        return await self._stores[kind].announced_hosts(host_ids)

    async def announce_host(
        self, host: common_pb2.Host, interval_s: float, announced_at_s: float
    ) -> None:
        """A host may take part in tasks of both kinds from now on."""
        for store in self._stores.values():
            await store.put_host(host, interval_s, announced_at_s)

    async def leave_host(self, kind: Kind, host_id: str) -> None:
        """Forget a host and all its copies; what they were replicas of is replicated anew."""
        store = self._stores[kind]
        task_ids = await store.begin_host_departure(host_id)
        for task_id in task_ids:
            await self.hear(kind, task_id, HostLeft(host_id=host_id))
        await store.end_host_departure(host_id)
        if task_ids:
            _log.info("persistent_host_left", host_id=host_id, kind=str(kind), count=len(task_ids))

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` without anybody waiting for it."""
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def close(self) -> None:
        """Wait a moment for what goes on beside the callers, then cut it off."""
        if self._aside:
            _, late = await asyncio.wait(self._aside, timeout=LAST_WORDS_S)
            await cancel_all(late)


async def cancel_all(tasks: Iterable[asyncio.Future[None]]) -> None:
    """Cancel `tasks` and wait a moment for them to end."""
    left = set(tasks)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LAST_WORDS_S)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except OdonataError as error:
        _log.warning("persistent_work_failed", reason=error.detail)
    except Exception:  # noqa: BLE001  # supervises: nobody else would hear of it
        _log.exception("persistent_work_crashed")
