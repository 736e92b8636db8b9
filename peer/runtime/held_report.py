"""Tells a scheduler what this host holds already: after our start, and after its restart.

A scheduler's state is soft. Each whole task is registered with `metadata_only`, as Dragonfly's
seeds do it, so that others find it here and the source is not asked a second time. What the
scheduler still knows is not told again. Partial content is told when its download goes on.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

import structlog

from odonata.errors import NotFoundError, OdonataError
from odonata.piece import piece_count
from odonata.wire.message import (
    Download,
    Failed,
    Finished,
    MetadataOnly,
    Register,
    SchedulerAnswer,
    Started,
)
from peer.runtime.conversation import Conversation
from peer.runtime.host_info import HostFacts
from peer.runtime.hub import Hub
from peer.runtime.port import StoredTask
from peer.runtime.scheduler_link import Scheduler, SchedulerLink
from peer.runtime.supervise import Supervised

MAX_REPORTS: Final = 4096
"""Tasks told of, one round: a full disk of layers is some hundreds; more would only be a burst."""

CONCURRENT_REPORTS: Final = 8
REPORT_S: Final = 10.0
"""For one task: the time Dragonfly's clients give a call."""

_log = structlog.get_logger("scheduler")


class HeldReporter:
    """`report` starts a round for one scheduler. `close` ends them all."""

    def __init__(self, hub: Hub, link: SchedulerLink, facts: HostFacts) -> None:
        self._hub = hub
        self._link = link
        self._facts = facts
        self._work = Supervised("reports of what is held")
        self._rounds: dict[str, asyncio.Task[None]] = {}

    def report(self, scheduler: Scheduler) -> None:
        """Begin a round; one that runs for the same scheduler ends."""
        name = str(scheduler.address)
        running = self._rounds.get(name)
        if running is not None:
            running.cancel()
        if not self._work.closed:
            self._rounds[name] = self._work.start(f"reports to {name}", self._round(scheduler))

    async def close(self) -> None:
        await self._work.close()

    async def _round(self, scheduler: Scheduler) -> None:
        held = [
            task
            for task in self._hub.storage.tasks()
            if task.finished and self._link.of_task(task.task_id) is scheduler
        ][:MAX_REPORTS]
        turns = asyncio.Semaphore(CONCURRENT_REPORTS)
        told = await asyncio.gather(*(self._tell(scheduler, task, turns) for task in held))
        if any(told):
            _log.info("held_tasks_reported", scheduler=str(scheduler.address), count=sum(told))

    async def _tell(self, scheduler: Scheduler, task: StoredTask, turns: asyncio.Semaphore) -> bool:
        """Whether it was news."""
        async with turns:
            try:
                async with asyncio.timeout(REPORT_S):
                    if await self._is_known(scheduler, task.task_id):
                        return False
                    await self._register(scheduler, task)
            except (OdonataError, TimeoutError) as error:
                _log.info("report_failed", task_id=task.task_id, error=str(error))
                return False
        return True

    async def _is_known(self, scheduler: Scheduler, task_id: str) -> bool:
        peer_id = self._hub.known_as.get(task_id)
        if peer_id is None:
            return False
        try:
            await scheduler.stat_peer(self._facts.id, task_id, peer_id)
        except NotFoundError:
            return False
        return True

    async def _register(self, scheduler: Scheduler, task: StoredTask) -> None:
        length, piece_length = task.content_length, task.piece_length
        if length is None or piece_length is None:
            return  # reset meanwhile
        peer_id = self._facts.peer_id(str(uuid.uuid4()))
        conversation = Conversation(scheduler, self._facts.id, task.task_id, peer_id)
        download = Download(
            url=task.url,
            metadata_only=True,
            actual_content_length=length,
            actual_piece_length=piece_length,
            actual_piece_count=piece_count(length, piece_length),
        )

        async def hear(answer: SchedulerAnswer) -> None:
            if isinstance(answer, MetadataOnly):
                self._hub.finished(task.task_id, peer_id)
                conversation.say(Started())
                conversation.say(Finished())
            else:
                conversation.say(Failed(description="only told what is held here"))
            conversation.finish()

        conversation.say(Register(download=download))
        await conversation.listen(hear)
