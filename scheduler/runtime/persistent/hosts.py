"""Hosts that announce themselves or leave: their standard life goes on, and Redis hears of it too.

A host's announcement never fails or waits because of Redis: what could not be written is written
once it can be. So a Redis that was restarted empty knows all hosts again within a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from dragonfly_api import common_pb2, scheduler_pb2
from google.protobuf.empty_pb2 import Empty

from odonata.errors import OdonataError, UnavailableError
from odonata.wire.dragonfly import duration_from_wire
from odonata.wire.message import Value
from scheduler.core.persistent.state import Kind
from scheduler.runtime.persistent.tasks import PersistentTasks
from scheduler.runtime.service import SchedulerService

# So that who announces itself and uploads at once is known by then; far below a client's patience.
ANNOUNCE_WAIT_S = 0.5

# Written at once: a cluster that starts brings thousands of hosts within seconds.
BATCH = 16

# While Redis is away.
RETRY_S = 1.0

# 2 KiB each. A cluster beyond that has more than one scheduler.
MAX_PENDING = 20_000

_log = structlog.get_logger(__name__)


class _News(Value, frozen=True, kw_only=True):
    """The latest word of a host: what it announced, or None if it left."""

    host: common_pb2.Host | None
    interval_s: float = 0.0
    at_s: float = 0.0


class HostWriter:
    """Writes the latest news of each host, oldest first, again and again until Redis takes it."""

    def __init__(self, tasks: PersistentTasks, clock: Callable[[], float]) -> None:
        self._tasks = tasks
        self._clock = clock
        self._pending: dict[str, _News] = {}
        self._written: dict[str, asyncio.Event] = {}
        self._some = asyncio.Event()
        self._failing = False

    async def announced(self, host: common_pb2.Host, interval_s: float) -> None:
        """A host said hello. Waits a moment for the write, but not for a Redis in trouble."""
        written = self._put(host.id, _News(host=host, interval_s=interval_s, at_s=self._clock()))
        if self._failing:
            return
        try:
            async with asyncio.timeout(ANNOUNCE_WAIT_S):
                await written.wait()
        except TimeoutError:
            _log.info("host_write_delayed", host_id=host.id)

    def left(self, host_id: str) -> None:
        """A host took its leave."""
        self._put(host_id, _News(host=None))

    def _put(self, host_id: str, news: _News) -> asyncio.Event:
        if len(self._pending) >= MAX_PENDING and host_id not in self._pending:
            dropped = next(iter(self._pending))
            self._pending.pop(dropped)
            self._written.pop(dropped).set()
            _log.warning("host_write_dropped", host_id=dropped, limit=MAX_PENDING)
        self._pending[host_id] = news
        self._some.set()
        return self._written.setdefault(host_id, asyncio.Event())

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._pending:
                batch = list(self._pending.items())[:BATCH]
                done = await asyncio.gather(*(self._write(*item) for item in batch))
                self._failing = not all(done)
                if self._failing:
                    await asyncio.sleep(RETRY_S)

    async def _write(self, host_id: str, news: _News) -> bool:
        try:
            if news.host is not None:
                await self._tasks.announce_host(news.host, news.interval_s, news.at_s)
            else:
                for kind in Kind:
                    await self._tasks.leave_host(kind, host_id)
        except UnavailableError as error:
            _log.warning("host_not_written", host_id=host_id, reason=error.detail)
            return False
        except OdonataError as error:
            # Something in Redis can't be read: trying again would only stand in the others' way.
            _log.error("host_not_written", host_id=host_id, reason=error.detail)
        if self._pending.get(host_id) is news:
            del self._pending[host_id]
            self._written.pop(host_id).set()
        return True


class PersistentHostService:
    """AnnounceHost and DeleteHost: those of `standard`, and the news for Redis."""

    def __init__(self, standard: SchedulerService, writer: HostWriter) -> None:
        self._standard = standard
        self._writer = writer

    async def AnnounceHost(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.AnnounceHostRequest, context: Any
    ) -> Empty:
        answer = self._standard.AnnounceHost(request, context)
        await self._writer.announced(request.host, duration_from_wire(request.interval))
        return answer

    async def DeleteHost(  # noqa: N802  # the rpc's name
        self, request: scheduler_pb2.DeleteHostRequest, context: Any
    ) -> Empty:
        """A scheduler that was just started may not know the host yet, but Redis does."""
        if request.host_id:
            self._writer.left(request.host_id)
        return self._standard.DeleteHost(request, context)
