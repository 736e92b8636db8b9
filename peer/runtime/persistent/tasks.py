"""All that this host does with tasks of one kind, persistent or persistent cache.

What the scheduler knows of a task decides: its length and pieces, and until when it lives. Without
a scheduler only what is whole on this disk can be had. Which pieces come from whom is the core's
business, imports are `importer`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog
from msgspec.structs import replace

from odonata.errors import (
    NotFoundError,
    OdonataError,
    PreconditionError,
    UnavailableError,
)
from odonata.piece import piece_count, piece_length_for
from odonata.wire.dragonfly.persistent import (
    LocalCopy,
    PersistentFacts,
    PersistentTaskMessage,
    facts_from_wire,
)
from odonata.wire.message import Download, TaskType, Tenure
from peer.runtime.hub import Hub
from peer.runtime.local_task import describe_task
from peer.runtime.persistent.kind_storage import renew
from peer.runtime.persistent.scheduler_calls import SchedulerCalls
from peer.runtime.port import StoredTask

UPLOADED: Final = "Succeeded"
"""The state of a task that can be had; the words are the wire's."""
UPLOADING: Final = "Uploading"

_TOLD_BY_KIND: Final = {
    TaskType.PERSISTENT: "persistent task",
    TaskType.PERSISTENT_CACHE: "persistent cache task",
}

_log = structlog.get_logger("task")


class PersistentTasks:
    """The tasks of `kind`; `hub` downloads them."""

    def __init__(
        self,
        kind: TaskType,
        hub: Hub,
        calls: SchedulerCalls,
        *,
        default_ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`default_ttl_s`: of a copy that was not told its own. `clock`: Unix time."""
        self.kind = kind
        self.hub = hub
        self.calls = calls
        self._default_ttl_s = default_ttl_s
        self._clock = clock
        self._name = _TOLD_BY_KIND[kind]

    # --- downloads ------------------------------------------------------------------------------

    async def prepare(self, task_id: str, download: Download, *, persistent: bool) -> Download:
        """`download` with all that is known of the task, ready for the hub.

        `persistent`: the copy is to be a replica. Errors: NotFoundError, PreconditionError (it is
        not there yet, or lost), UnavailableError.
        """
        try:
            facts = facts_from_wire(await self.calls.stat(task_id))
        except (NotFoundError, UnavailableError, PreconditionError) as error:
            if self._held_in_time(task_id) is None:
                raise self._explained(task_id, error) from error
            _log.info("served_without_scheduler", task_id=task_id, reason=error.detail)
            return replace(download, disable_back_to_source=True)
        if facts.state != UPLOADED:
            # Also of a persistent task: its storage may still hold the object of before.
            what_to_do = self._what_to_do(facts.state)
            raise PreconditionError(f"the {self._name} {task_id} is {facts.state}: {what_to_do}")
        tenure = Tenure(persistent=persistent, ttl_s=facts.ttl_s, created_at_s=facts.created_at_s)
        held = self.hub.storage.get(task_id)
        if held is not None:
            await renew(held, tenure)
        return self._described(download, facts, tenure)

    def _described(self, download: Download, facts: PersistentFacts, tenure: Tenure) -> Download:
        length = facts.content_length
        piece_length = facts.piece_length or piece_length_for(length)
        return replace(
            download,
            tag=download.tag or facts.tag or None,
            application=download.application or facts.application or None,
            actual_content_length=length,
            actual_piece_length=piece_length,
            actual_piece_count=piece_count(length, piece_length),
            disable_back_to_source=self.kind is TaskType.PERSISTENT_CACHE,
            metadata_only=download.metadata_only or tenure.persistent,
            always_schedule=True,
            tenure=tenure,
        )

    def _held_in_time(self, task_id: str) -> StoredTask | None:
        """A whole copy here whose time is not over."""
        task = self.hub.storage.get(task_id)
        if task is None or not task.finished:
            return None
        expires_at_s = task.created_at_s + self._ttl_s(task)
        return task if self._clock() < expires_at_s else None

    def _ttl_s(self, task: StoredTask) -> float:
        return self._default_ttl_s if task.ttl_s is None else task.ttl_s

    def _what_to_do(self, state: str) -> str:
        if state == UPLOADING:
            return "its first copy is being made, ask again when that is done"
        if self.kind is TaskType.PERSISTENT:
            return (
                "its import failed; `odonata store import` it again, or see by `odonata get` what "
                "the storage holds"
            )
        return "no host holds it any more; `odonata cache import` it again"

    def _explained(self, task_id: str, error: OdonataError) -> OdonataError:
        if not isinstance(error, NotFoundError):
            return error
        return NotFoundError(
            f"there is no {self._name} {task_id}: it was never imported, its time to live is over, "
            f"or its scheduler lost it; import it again ({error.detail})"
        )

    # --- what there is --------------------------------------------------------------------------

    async def stat(self, task_id: str) -> PersistentTaskMessage:
        """What the scheduler knows. Raises NotFoundError and others."""
        try:
            return await self.calls.stat(task_id)
        except NotFoundError as error:
            raise self._explained(task_id, error) from error

    def stat_local(self, task_id: str) -> LocalCopy:
        """What is here. Raises NotFoundError."""
        task = self.hub.storage.get(task_id)
        if task is None:
            raise NotFoundError(f"the {self._name} {task_id} is not on this host")
        return self._copy(task)

    def list_local(self) -> list[LocalCopy]:
        """All that are here, whole or in part."""
        return [self._copy(task) for task in self.hub.storage.tasks()]

    def _copy(self, task: StoredTask) -> LocalCopy:
        known = describe_task(task)
        return LocalCopy(
            task_id=task.task_id,
            persistent=task.persistent,
            ttl_s=self._ttl_s(task),
            piece_length=task.piece_length,
            content_length=task.content_length,
            created_at_s=known.created_at_s,
            updated_at_s=known.updated_at_s,
            finished_at_s=known.finished_at_s,
        )

    # --- changes --------------------------------------------------------------------------------

    async def keep(self, task_id: str, *, persistent: bool) -> None:
        """The scheduler's word: keep this copy whatever the disk says, or let it off.

        Raises NotFoundError if there is no whole copy to be kept.
        """
        task = self.hub.storage.get(task_id)
        if task is None or (persistent and not task.finished):
            raise NotFoundError(f"the {self._name} {task_id} is not whole on this host")
        await task.keep(
            Tenure(persistent=persistent, ttl_s=self._ttl_s(task), created_at_s=task.created_at_s)
        )
        if persistent:
            _log.info("replica_promised", task_id=task_id)
        else:
            _log.info("replica_released", task_id=task_id)

    async def delete(self, task_id: str) -> None:
        """Remove it here and have the scheduler forget it; other copies go when disks want room.

        Raises NotFoundError if neither knows it.
        """
        if self.hub.storage.get(task_id) is None:
            await self.stat(task_id)  # a scheduler says nothing of a task it does not know
        await self.hub.delete(task_id)
        await self.calls.delete(task_id)
        _log.info("persistent_task_removed", task_id=task_id, kind=str(self.kind.name.lower()))

    async def forget(self, task_id: str, peer_id: str | None) -> None:
        """Tell the scheduler that the copy of `peer_id` was collected here. Best effort."""
        if peer_id is None:
            return  # of a run before: the scheduler has forgotten it with the host
        try:
            await self.calls.forget_copy(task_id, peer_id)
        except OdonataError as error:
            _log.info("removal_unheard", task_id=task_id, code=error.code, error=error.detail)
