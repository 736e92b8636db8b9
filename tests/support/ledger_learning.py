"""The part of the second opinion (`scheduler_ledger`) on tasks whose holders are still to come.

Peers that lost their scheduler in the middle of a download wait for each other, and for a while
after a restart so does everybody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.core.event import HostAnnounced, SchedulerEvent

if TYPE_CHECKING:
    from scheduler.core.limits import Limits


class Learning:
    """Tells whether waiting children of a task may hope for those who are still to come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._began_at_s: float | None = None
        self._restarting_until_s = 0.0
        self._until_s: dict[str, float] = {}  # by task id; also when that is over, for once is all

    @property
    def task_ids(self) -> set[str]:
        return set(self._until_s)

    def hear(self, event: SchedulerEvent, now: float) -> None:
        """Mind when the scheduler began, and that hosts return to it."""
        if self._began_at_s is None:
            self._began_at_s = now
        until_s = self._began_at_s + self._limits.learning_s
        if isinstance(event, HostAnnounced) and event.returns and now < until_s:
            self._restarting_until_s = until_s

    def ask(self, task_id: str, *, resumes: bool, now: float) -> None:
        """A peer has come for parents, and nobody in the task is of use to anybody."""
        if task_id in self._until_s:
            return
        if resumes:
            self._until_s[task_id] = now + self._limits.learning_s
        elif now < self._restarting_until_s:
            self._until_s[task_id] = self._restarting_until_s

    def forget(self, task_id: str) -> None:
        self._until_s.pop(task_id, None)

    def is_on(self, task_id: str, now: float) -> bool:
        return now < self._until_s.get(task_id, now)
