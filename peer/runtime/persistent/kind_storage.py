"""The tasks of one kind in a storage that holds all kinds, as a `Storage` of their own.

A hub of standard tasks must not hear of persistent ones, and the other way round. What a persistent
task is made with, the scheduler has told: length, pieces and tenure, so that a download begins with
the facts known.
"""

from __future__ import annotations

from typing import Final

from odonata.wire.message import Download, TaskType, Tenure
from peer.runtime.port import Storage, StoredTask

SAME_UPLOAD_S: Final = 0.001
"""Two tellings of one upload's time differ by less: it travels in nanoseconds, and a float holds
today's Unix time to about 0.2 us. Two uploads of one id are a scheduler's turn apart at least."""


class KindStorage:
    """The tasks of `kind` in `everything`."""

    def __init__(self, everything: Storage, kind: TaskType) -> None:
        self._everything = everything
        self._kind = kind

    def get(self, task_id: str) -> StoredTask | None:
        """See `Storage.get`."""
        task = self._everything.get(task_id)
        return task if task is not None and task.kind is self._kind else None

    def tasks(self) -> tuple[StoredTask, ...]:
        """See `Storage.tasks`."""
        return tuple(task for task in self._everything.tasks() if task.kind is self._kind)

    async def create(self, task_id: str, download: Download) -> StoredTask:
        """See `Storage.create`; with what `download` says of content and tenure."""
        task = await self._everything.create(task_id, download)
        if download.tenure is not None:
            await renew(task, download.tenure)
            if download.actual_content_length is not None and download.actual_piece_length:
                await task.learn(download.actual_content_length, download.actual_piece_length, {})
        return task

    async def delete(self, task_id: str) -> bool:
        """See `Storage.delete`."""
        if self.get(task_id) is None:
            return False
        return await self._everything.delete(task_id)


def is_same_upload(task: StoredTask, created_at_s: float) -> bool:
    """The copy is of the upload that the scheduler dates so."""
    return abs(task.created_at_s - created_at_s) < SAME_UPLOAD_S


async def renew(task: StoredTask, tenure: Tenure) -> None:
    """Note the tenure; what was held of another upload of this id is forgotten.

    A replica stays one, whoever downloads it besides: only the scheduler lets it off.
    """
    if task.ttl_s is None or is_same_upload(task, tenure.created_at_s):
        persistent = tenure.persistent or task.persistent
    else:
        await task.reset()
        persistent = tenure.persistent
    await task.keep(
        Tenure(persistent=persistent, ttl_s=tenure.ttl_s, created_at_s=tenure.created_at_s)
    )
