"""What this daemon says of the tasks on its disk (StatLocalTask, ListLocalTasks)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from odonata.errors import NotFoundError
from odonata.redaction import redact_text
from odonata.wire.dragonfly import LocalTask
from peer.runtime.port import Storage, StoredTask


@runtime_checkable
class _Stamped(Protocol):
    """A stored task that knows when (those on a disk do)."""

    @property
    def created_at_s(self) -> float: ...
    @property
    def used_at_s(self) -> float: ...


def describe_task(task: StoredTask) -> LocalTask:
    """What is known of `task`."""
    created_at_s = used_at_s = 0.0
    if isinstance(task, _Stamped):
        created_at_s, used_at_s = task.created_at_s, task.used_at_s
    return LocalTask(
        task_id=task.task_id,
        url=redact_text(task.url),
        held_count=len(task.held()),
        piece_length=task.piece_length,
        content_length=task.content_length,
        response_header=dict(task.response_header),
        created_at_s=created_at_s,
        updated_at_s=used_at_s,
        finished_at_s=used_at_s if task.finished else None,
    )


def stat_task(storage: Storage, task_id: str) -> LocalTask:
    """What is known of the task `task_id`. Raises NotFoundError."""
    task = storage.get(task_id)
    if task is None:
        raise NotFoundError(f"task {task_id} is not on this host")
    return describe_task(task)
