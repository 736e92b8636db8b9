"""After a start, or after a scheduler's: what it must hear of persistent tasks on this host.

Two things. An upload that an earlier run of the daemon began and did not end: it has failed, so
that the task may be uploaded again, and its copy goes; unless the scheduler heard its end, which
the daemon did not live to note. And copies that are whole here, but unknown under any name of this
run: the scheduler forgets a host's copies when the host takes its leave. If this was the last one,
the task is lost to the swarm, and is offered anew.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from odonata.errors import NotFoundError, OdonataError, PreconditionError
from odonata.wire.dragonfly.persistent import PersistentFacts, facts_from_wire
from odonata.wire.message import Download, TaskType
from peer.runtime.persistent.kind_storage import is_same_upload
from peer.runtime.persistent.service import Shelf
from peer.runtime.port import StoredTask
from peer.runtime.scheduler_link import Scheduler, SchedulerLink
from peer.runtime.storage.index import UploadRecord
from peer.runtime.storage.store import DiskStorage
from peer.runtime.supervise import Supervised

CONCURRENT_REPORTS: Final = 8
"""Of copies; as many as of standard tasks."""

LOST: Final = "Failed"
"""The state of a task that nobody holds; the word is the wire's."""

_log = structlog.get_logger("task")


class PersistentRecovery:
    """`report` starts a round for one scheduler. `close` ends them all."""

    def __init__(
        self, storage: DiskStorage, link: SchedulerLink, shelves: tuple[Shelf, Shelf]
    ) -> None:
        self._storage = storage
        self._link = link
        self._shelves = {shelf.tasks.kind: shelf for shelf in shelves}
        self._work = Supervised("recovery of persistent tasks")

    def report(self, scheduler: Scheduler) -> None:
        """The scheduler is new, or was away."""
        if not self._work.closed:
            self._work.start(f"recovery with {scheduler.address}", self._round(scheduler))

    async def close(self) -> None:
        await self._work.close()

    async def _round(self, scheduler: Scheduler) -> None:
        for upload in self._storage.left_uploads:
            if self._link.of_task(upload.task_id) is scheduler:
                await self._end(upload)
        turns = asyncio.Semaphore(CONCURRENT_REPORTS)
        reports = [
            self._tell(shelf, task, turns)
            for shelf in self._shelves.values()
            for task in shelf.tasks.hub.storage.tasks()
            if task.finished and self._link.of_task(task.task_id) is scheduler
        ]
        await asyncio.gather(*reports)

    async def _end(self, upload: UploadRecord) -> None:
        """Of an upload of an earlier run. What can't be told now is told the next time."""
        tasks = self._shelves[upload.kind].tasks
        try:
            try:
                why = "the daemon ended while it imported"
                await tasks.calls.upload_failed(upload.task_id, upload.peer_id, why)
                await tasks.hub.delete(upload.task_id)
            except NotFoundError:  # it never heard the beginning, or forgot it with this host
                await tasks.hub.delete(upload.task_id)
            except PreconditionError:  # it heard the end: the copy is as good as any
                tasks.hub.known_as[upload.task_id] = upload.peer_id
            await self._storage.end_upload(upload.task_id)
        except OdonataError as error:
            _log.warning("upload_not_ended", task_id=upload.task_id, error=error.detail)
            return
        _log.info("upload_ended", task_id=upload.task_id, peer_id=upload.peer_id)

    async def _tell(self, shelf: Shelf, task: StoredTask, turns: asyncio.Semaphore) -> None:
        """Have the scheduler know of a whole copy that it may have forgotten."""
        tasks = shelf.tasks
        async with turns:
            peer_id = tasks.hub.known_as.get(task.task_id)
            try:
                if peer_id is not None and await tasks.calls.knows(task.task_id, peer_id):
                    return
                facts = facts_from_wire(await tasks.calls.stat(task.task_id))
                if _is_lost(task, facts):
                    await shelf.importer.offer_again(task, facts)
                    return
                wish = Download(type=tasks.kind, url=task.url, metadata_only=True)
                download = await tasks.prepare(task.task_id, wish, persistent=task.persistent)
                view = await tasks.hub.open_as(task.task_id, download, linger=True)
                await view.close()
            except OdonataError as error:
                _log.info("report_failed", task_id=task.task_id, error=error.detail)


def _is_lost(task: StoredTask, facts: PersistentFacts) -> bool:
    """It was whole in the swarm, and the last copy that the scheduler knew of has gone."""
    return (
        task.kind is TaskType.PERSISTENT_CACHE
        and task.persistent
        and facts.state == LOST
        and is_same_upload(task, facts.created_at_s)
    )
