"""Hosts that hold contact: a stream for each, whose end is the news (`odonata.wire.contact`).

A host may hold several for a moment, when it opens a new one before the old one is found dead; it
is lost with the last. Nothing is decided here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from odonata.errors import CallerError, CapacityError
from odonata.grpc_service import Outlet
from odonata.wire.contact import HoldResponse, TellTimeResponse, held_from_wire
from odonata.wire.dragonfly import require_id
from scheduler.core.event import HostContacted, HostLost, TasksHeld
from scheduler.runtime.executor import Executor

MAX_CONTACTS: Final = 50_000
"""Streams at once; a cluster of so many hosts has several schedulers."""

_log = structlog.get_logger(__name__)


class ContactService:
    """odonata.scheduler.v1.Contact. Errors are raised; the server turns them into statuses."""

    def __init__(self, executor: Executor, wall_clock: Callable[[], float] = time.time) -> None:
        """`wall_clock`: Unix seconds, for those who compare theirs with it."""
        self._executor = executor
        self._wall_clock = wall_clock
        self._held: Counter[str] = Counter()

    def Hold(self, outlet: Outlet) -> _Hold:  # noqa: N802  # the rpc's name
        """Until the host ends it, or the connection."""
        return _Hold(self, outlet)

    def TellTime(self, _request: Any, _context: Any) -> Any:  # noqa: N802  # the rpc's name
        """What this host's clock shows."""
        return TellTimeResponse(unix_s=self._wall_clock())

    def begin(self, request: Any) -> str:
        """A host holds contact, once more maybe; return its id. CapacityError: too many do."""
        host_id = require_id("host_id", request.host_id)
        if self._held.total() >= MAX_CONTACTS:
            raise CapacityError(
                f"{MAX_CONTACTS} hosts are in contact: add a scheduler, or try again later"
            )
        self._held[host_id] += 1
        self._executor.apply(HostContacted(host_id=host_id))
        _log.info("host_contacted", host_id=host_id)
        return host_id

    def take(self, host_id: str, request: Any) -> None:
        """What the host says it holds."""
        held = held_from_wire(request)
        if held:
            self._executor.apply(TasksHeld(host_id=host_id, held=held))
            _log.info("held_tasks_heard", host_id=host_id, count=len(held))

    def end(self, host_id: str) -> None:
        """One stream of the host is over."""
        self._held[host_id] -= 1
        if self._held[host_id] > 0:
            return
        del self._held[host_id]
        self._executor.apply(HostLost(host_id=host_id))
        _log.info("host_contact_lost", host_id=host_id)


class _Hold:
    """The listening side of one stream."""

    __slots__ = ("_host_id", "_outlet", "_service")

    def __init__(self, service: ContactService, outlet: Outlet) -> None:
        self._service = service
        self._outlet = outlet
        self._host_id = ""

    def on_messages(self, requests: Sequence[Any]) -> None:
        """Each is answered: so the host knows that it was heard."""
        for request in requests:
            if not self._host_id:
                self._host_id = self._service.begin(request)
            elif request.host_id not in ("", self._host_id):
                raise CallerError(
                    f"host_id changed from {self._host_id} to {request.host_id}: open another "
                    "stream"
                )
            self._service.take(self._host_id, request)
            self._outlet.write(HoldResponse())

    def on_end(self) -> None:
        """The host lets go."""
        self._outlet.end()

    def on_close(self) -> None:
        """The stream is over, however it came about."""
        if self._host_id:
            self._service.end(self._host_id)
