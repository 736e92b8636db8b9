"""Whom to evict: a pure decision over facts, made without looking at a disk or a clock.

Four rules:
1. A task not used for longer than its time to live goes. Of a persistent or persistent cache task
   the time counts from its upload, used or not, and a replica (`stays`) goes for no other reason.
2. When usage reaches the high mark, the least recently used go until it is at the low one; what
   frees nothing stays.
3. When a download needs more than there is, it counts as used already; but if not even everything
   would make room for it, everything stays.
4. A task that is in use (pinned) or still being downloaded never goes.

Usage is that of the whole volume, or of this daemon's own content when a threshold in bytes is set.
Defaults are Dragonfly's: 30 days, 80 %, 60 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from odonata.wire.message import TaskType, Value


class CollectPolicy(Value, frozen=True, kw_only=True):
    """When to evict. `threshold_bytes` 0: judge the volume, else this daemon's own content."""

    task_ttl_s: float = 30 * 24 * 3600.0
    persistent_task_ttl_s: float = 24 * 3600.0
    """Of a copy that was not told its own time to live; likewise the next."""
    persistent_cache_task_ttl_s: float = 24 * 3600.0
    threshold_bytes: int = 0
    high_percent: float = 80.0
    low_percent: float = 60.0


class Candidate(Value, frozen=True, kw_only=True):
    """What the decision knows of a task. `size_bytes` is what its removal frees.

    `expires_at_s` None: it goes by its last use. `stays`: no disk pressure drops it.
    """

    task_id: str
    size_bytes: int
    used_at_s: float
    in_use: bool
    expires_at_s: float | None = None
    stays: bool = False
    kind: TaskType = TaskType.STANDARD


class Reason(StrEnum):
    """Why a task was evicted."""

    EXPIRED = "expired"
    DISK = "disk"


class Eviction(Value, frozen=True, kw_only=True):
    """One task to remove."""

    task_id: str
    size_bytes: int
    reason: Reason
    kind: TaskType = TaskType.STANDARD


def choose_evictions(
    tasks: Iterable[Candidate],
    *,
    now_s: float,
    policy: CollectPolicy,
    volume_total_bytes: int,
    volume_used_bytes: int,
    needed_bytes: int = 0,
) -> tuple[Eviction, ...]:
    """Tasks to remove, oldest use first; ties by id, so that equal facts give equal answers."""
    everything = tuple(tasks)
    idle = sorted(
        (task for task in everything if not task.in_use),
        key=lambda task: (task.used_at_s, task.task_id),
    )
    if policy.threshold_bytes > 0 and needed_bytes == 0:
        limit, used = policy.threshold_bytes, sum(task.size_bytes for task in everything)
    else:
        limit, used = volume_total_bytes, volume_used_bytes + needed_bytes
    expired = [task for task in idle if _is_expired(task, now_s, policy)]
    evictions = [_evict(task, Reason.EXPIRED) for task in expired]
    used -= sum(task.size_bytes for task in expired)
    gone = {task.task_id for task in expired}
    left = [task for task in idle if task.task_id not in gone and not task.stays]
    freeable = sum(task.size_bytes for task in left)
    in_vain = needed_bytes > 0 and used - freeable > limit
    if used * 100 < policy.high_percent * limit or in_vain:
        return tuple(evictions)
    for task in left:
        if used * 100 <= policy.low_percent * limit:
            break
        if task.size_bytes == 0:
            continue
        evictions.append(_evict(task, Reason.DISK))
        used -= task.size_bytes
    return tuple(evictions)


def _is_expired(task: Candidate, now_s: float, policy: CollectPolicy) -> bool:
    if task.expires_at_s is not None:
        return now_s > task.expires_at_s
    return now_s - task.used_at_s > policy.task_ttl_s


def _evict(task: Candidate, reason: Reason) -> Eviction:
    return Eviction(task_id=task.task_id, size_bytes=task.size_bytes, reason=reason, kind=task.kind)
