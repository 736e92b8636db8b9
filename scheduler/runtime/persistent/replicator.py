"""Sees to it that tasks have the replicas that were asked for: counts, asks hosts, counts again.

One task is looked after by one worker at a time, in rounds: each round the core says which hosts to
ask, and all of them are asked at once. Who failed is not asked again in this run; who has done it
counts, also while its own word of it is still on its way. What is missing after the last round is
found again by the sweep. It never raises: nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from odonata.errors import OdonataError
from scheduler.core.persistent.core import PersistentCore
from scheduler.core.persistent.effect import Demote, DownloadReplica, Promote
from scheduler.core.persistent.event import ReplicaKept, ReplicasWanted, Scope
from scheduler.core.persistent.state import Kind, PeerHost, Snapshot, Task
from scheduler.runtime.persistent.store import PersistentStore

# Tasks looked after at once, each with at most replica.MAX_ASKED calls. Fetching a replica takes
# as long as a download, so a single big one must not hold up the others.
WORKERS = 32

# Tasks that wait for a worker: 1 MiB of ids. The sweep finds what was dropped.
MAX_WAITING = 10_000

# With a few hosts down a second round is enough; five find a host where most of them are.
ROUNDS = 5

# Before another round after a failure. Short: a replica that is missing is one host's death away
# from a loss; the wait is for a Redis or a host that is just being restarted.
ROUND_WAIT_S = 1.0

Clock = Callable[[], float]

_log = structlog.get_logger(__name__)


class Holders(Protocol):
    """Who calls hosts: see `scheduler.runtime.persistent.holder`."""

    async def keep(self, kind: Kind, host: PeerHost, task_id: str, *, persistent: bool) -> None: ...
    async def fetch(self, kind: Kind, host: PeerHost, task: Task) -> None: ...


class Replicator:
    """Workers over a queue of tasks. `clock`: seconds since 1970."""

    def __init__(
        self,
        core: PersistentCore,
        stores: Mapping[Kind, PersistentStore],
        holders: Holders,
        clock: Clock,
    ) -> None:
        self._core = core
        self._stores = stores
        self._holders = holders
        self._clock = clock
        self._queue: dict[tuple[Kind, str], None] = {}
        self._under_way: set[tuple[Kind, str]] = set()
        self._news = asyncio.Event()

    def want(self, kind: Kind, task_id: str) -> None:
        """Count the replicas of a task soon. Asked for twice, it is done once."""
        if len(self._queue) >= MAX_WAITING:
            _log.warning("replica_count_dropped", task_id=task_id, limit=MAX_WAITING)
            return
        self._queue[kind, task_id] = None
        self._news.set()

    async def demote(self, kind: Kind, task_id: str, effect: Demote) -> None:
        """Let a host off its promise. If it can't be told, its copy goes when its time is over."""
        try:
            await self._holders.keep(kind, effect.host, task_id, persistent=False)
        except OdonataError as error:
            _log.warning(
                "replica_not_released",
                task_id=task_id,
                host_id=effect.host.id,
                reason=error.detail,
            )

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            job = next((job for job in self._queue if job not in self._under_way), None)
            if job is None:
                self._news.clear()
                await self._news.wait()
                continue
            del self._queue[job]
            self._under_way.add(job)
            try:
                await self._fill(*job)
            except Exception:  # noqa: BLE001  # supervises: a bug with one task must not stop the rest
                _log.exception("replication_crashed", task_id=job[1], kind=str(job[0]))
            finally:
                self._under_way.discard(job)
                self._news.set()  # it may have been wanted again meanwhile

    async def _fill(self, kind: Kind, task_id: str) -> None:
        avoid: set[str] = set()
        for attempt in range(1, ROUNDS + 1):
            try:
                steps = await self._plan(kind, task_id, frozenset(avoid))
                if not steps:
                    return
                failed = await self._take(kind, task_id, steps)
                avoid |= failed
                if not failed:
                    continue
            except OdonataError as error:
                _log.warning(
                    "replicas_not_counted", task_id=task_id, attempt=attempt, reason=error.detail
                )
            await asyncio.sleep(ROUND_WAIT_S)
        _log.warning("replicas_missing", task_id=task_id, kind=str(kind), attempt=ROUNDS)

    async def _plan(
        self, kind: Kind, task_id: str, avoid: frozenset[str]
    ) -> list[Promote | DownloadReplica]:
        store = self._stores[kind]
        snapshot = await store.load(task_id)
        if snapshot.task is None:
            return []
        drawn = self._core.draw_hosts(await store.host_ids(), snapshot)
        hosts = {**snapshot.hosts, **await store.hosts(drawn)}
        wide = Snapshot(
            kind=kind, task_id=task_id, task=snapshot.task, peers=snapshot.peers, hosts=hosts
        )
        effects = self._core.handle(ReplicasWanted(avoid=avoid), wide, self._clock())
        return [effect for effect in effects if isinstance(effect, Promote | DownloadReplica)]

    async def _take(
        self, kind: Kind, task_id: str, steps: list[Promote | DownloadReplica]
    ) -> set[str]:
        """Ask all hosts at once; returns those that did not do it."""
        done = await asyncio.gather(*(self._step(kind, task_id, step) for step in steps))
        return {step.host.id for step, did in zip(steps, done, strict=True) if not did}

    async def _step(self, kind: Kind, task_id: str, step: Promote | DownloadReplica) -> bool:
        try:
            if isinstance(step, Promote):
                await self._holders.keep(kind, step.host, task_id, persistent=True)
                await self._stores[kind].transact(
                    task_id,
                    lambda snapshot: self._core.handle(
                        ReplicaKept(peer_id=step.peer_id), snapshot, self._clock()
                    ),
                    self._clock(),
                    peer_id=step.peer_id,
                    scope=Scope.PEER,
                )
            else:
                await self._holders.fetch(kind, step.host, step.task)
        except OdonataError as error:
            _log.warning(
                "replica_failed", task_id=task_id, host_id=step.host.id, reason=error.detail
            )
            return False
        _log.info("replica_made", task_id=task_id, host_id=step.host.id, kind=type(step).__name__)
        return True
