"""Tells a scheduler what this host holds already: after our start, and after its restart.

A scheduler's state is soft. A scheduler of ours is told all whole tasks in a few messages over the
contact it is held by. Another's is told one by one: each is registered with `metadata_only`, as
Dragonfly's seeds do it, and what it still knows is not told again. So others find it here and the
source is not asked a second time. Partial content is told when its download goes on.

With several schedulers a task may come to have another one: its own died, or is back. The new one
is told, also of what is finished under the old one later.
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
    HeldTask,
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

MAX_REPORTS: Final = 16_384
"""Tasks told of, one round: a full disk of layers is some hundreds, of small files thousands."""
MAX_REPORTS_ONE_BY_ONE: Final = 4096
"""Likewise to a scheduler that takes them only so."""

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
        self._told: dict[str, set[str]] = {}  # by scheduler, since it was found

    def report(self, scheduler: Scheduler) -> None:
        """The scheduler is new, or was away, and knows nothing: tell it all."""
        self._told.pop(str(scheduler.address), None)
        self._begin(scheduler)

    def report_moved(self) -> None:
        """Tasks may have other schedulers now: tell those."""
        for scheduler in self._link.schedulers:
            self._begin(scheduler)

    def report_finished(self, task_id: str, told: bool) -> None:  # a callback's
        """A download has ended: alone, or maybe under another scheduler than its task's of now."""
        scheduler = self._link.of_task(task_id)
        if scheduler is not None and (not told or len(self._link.schedulers) > 1):
            self._begin(scheduler)

    def _begin(self, scheduler: Scheduler) -> None:
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
        told = self._told.setdefault(str(scheduler.address), set())
        # What was collected since is no news if it goes, but if it comes again; and ids add up.
        told.intersection_update(task.task_id for task in self._hub.storage.tasks())
        held = [
            task
            for task in self._hub.storage.tasks()
            if task.finished
            and task.task_id not in told
            and self._link.of_task(task.task_id) is scheduler
        ][:MAX_REPORTS]
        count = await self._tell_all(scheduler, held)
        if count:  # else it may be gone; when it is found it is told all
            told.update(task.task_id for task in held)
        if count:
            _log.info("held_tasks_reported", scheduler=str(scheduler.address), count=count)

    async def _tell_all(self, scheduler: Scheduler, held: list[StoredTask]) -> int:
        """How many were told."""
        facts = [fact for task in held if (fact := self._fact(task)) is not None]
        try:
            if not facts or await scheduler.tell_held(facts):
                return len(facts)
        except OdonataError as error:
            _log.info("report_failed", count=len(facts), error=error.detail)
            return 0
        turns = asyncio.Semaphore(CONCURRENT_REPORTS)
        some = held[:MAX_REPORTS_ONE_BY_ONE]
        return sum(await asyncio.gather(*(self._tell(scheduler, task, turns) for task in some)))

    def _fact(self, task: StoredTask) -> HeldTask | None:
        length, piece_length = task.content_length, task.piece_length
        if length is None or piece_length is None:
            return None  # reset meanwhile
        peer_id = self._hub.known_as.get(task.task_id)
        if peer_id is None:
            peer_id = self._facts.peer_id(str(uuid.uuid4()))
            self._hub.known_as[task.task_id] = peer_id
        return HeldTask(
            task_id=task.task_id,
            peer_id=peer_id,
            url=task.url,
            content_length=length,
            piece_length=piece_length,
        )

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
                self._hub.finished(task.task_id, peer_id, told=True)
                conversation.say(Started())
                conversation.say(Finished())
            else:
                conversation.say(Failed(description="only told what is held here"))
            conversation.finish()

        conversation.say(Register(download=download))
        await conversation.listen(hear)
