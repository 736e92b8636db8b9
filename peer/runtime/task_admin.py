"""What is asked of a task besides downloading it: what the scheduler knows, and its removal."""

from __future__ import annotations

import structlog
from dragonfly_api import common_pb2

from odonata.errors import NotFoundError, OdonataError, UnavailableError
from peer.runtime.hub import Hub
from peer.runtime.scheduler_link import SchedulerLink

_log = structlog.get_logger("task")


class TaskAdmin:
    """Used by both gRPC services and by garbage collection."""

    def __init__(self, hub: Hub, schedulers: SchedulerLink, host_id: str) -> None:
        self._hub = hub
        self._schedulers = schedulers
        self._host_id = host_id

    async def stat(self, task_id: str) -> common_pb2.Task:
        """What the task's scheduler knows. Raises NotFoundError, UnavailableError."""
        scheduler = self._schedulers.of_task(task_id)
        if scheduler is None:
            raise UnavailableError("no scheduler answers: set scheduler.addrs, or start it")
        return await scheduler.stat_task(self._host_id, task_id)

    async def delete(self, task_id: str, *, everywhere: bool = True) -> None:
        """Remove it here, and tell the scheduler so (`everywhere`). Raises NotFoundError."""
        if not await self._hub.delete(task_id):
            raise NotFoundError(f"task {task_id} is not on this host")
        if everywhere:
            await self.forget(task_id)

    async def forget(self, task_id: str) -> None:
        """Tell the task's scheduler that it is not here any more. Best effort."""
        scheduler = self._schedulers.of_task(task_id)
        if scheduler is None:
            return
        try:
            await scheduler.forget_task(self._host_id, task_id)
        except OdonataError as error:
            _log.info("removal_unheard", task_id=task_id, code=error.code, error=error.detail)

    async def leave(self) -> None:
        """Tell every scheduler that this host leaves. Raises OdonataError."""
        await self._schedulers.leave_all(self._host_id)
