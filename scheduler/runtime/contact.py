"""Hosts that hold contact: a stream for each, whose end is the news (`odonata.wire.contact`).

A host may hold several for a moment, when it opens a new one before the old one is found dead; it
is lost with the last. Nothing is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import structlog

from odonata.errors import CallerError, CapacityError
from odonata.wire.contact import HoldResponse, held_from_wire
from odonata.wire.dragonfly import require_id
from scheduler.core.event import HostContacted, HostLost, TasksHeld
from scheduler.runtime.executor import Executor

MAX_CONTACTS: Final = 50_000
"""Streams at once; a cluster of so many hosts has several schedulers."""

_log = structlog.get_logger(__name__)


class ContactService:
    """odonata.scheduler.v1.Contact. Errors are raised; the server turns them into statuses."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._held: Counter[str] = Counter()

    async def Hold(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802  # the rpc's name
        """Until the host ends it, or the connection."""
        host_id = ""
        try:
            async for request in requests:
                if not host_id:
                    host_id = self._begin(request)
                elif request.host_id not in ("", host_id):
                    raise CallerError(
                        f"host_id changed from {host_id} to {request.host_id}: open another stream"
                    )
                await self._take(host_id, request, context)
        finally:
            if host_id:
                self._end(host_id)

    def _begin(self, request: Any) -> str:
        host_id = require_id("host_id", request.host_id)
        if self._held.total() >= MAX_CONTACTS:
            raise CapacityError(
                f"{MAX_CONTACTS} hosts are in contact: add a scheduler, or try again later"
            )
        self._held[host_id] += 1
        self._executor.apply(HostContacted(host_id=host_id))
        _log.info("host_contacted", host_id=host_id)
        return host_id

    async def _take(self, host_id: str, request: Any, context: Any) -> None:
        held = held_from_wire(request)
        if held:
            self._executor.apply(TasksHeld(host_id=host_id, held=held))
            _log.info("held_tasks_heard", host_id=host_id, count=len(held))
        await context.write(HoldResponse())

    def _end(self, host_id: str) -> None:
        self._held[host_id] -= 1
        if self._held[host_id] > 0:
            return
        del self._held[host_id]
        self._executor.apply(HostLost(host_id=host_id))
        _log.info("host_contact_lost", host_id=host_id)
