"""Carries out a preheat that was planned: at most so many contents, and hosts for each, at a time.

A job runs behind its request, for up to an hour; how it went is logged and counted, for nobody
waits for it. It has succeeded if every content arrived at one of its hosts at least. Failures of
single hosts besides are told, with the first reasons, but don't spoil it. No failure is hidden: a
job that brought nothing is a failed one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from odonata.errors import (
    CallerError,
    CapacityError,
    OdonataError,
    SourceError,
    UnavailableError,
    describe,
)
from odonata.redaction import redact_text
from odonata.wire.message import Host
from scheduler.core.preheat import Assignment
from scheduler.runtime.daemon_calls import DaemonCalls
from scheduler.runtime.side_by_side import for_each

JOBS_MAX: Final = 64
"""Preheats at a time. Each may have a thousand calls under way; they share `CALLS_MAX`."""
REASONS_MAX: Final = 20
"""Failures of one job that are logged one by one; the others are only counted."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done. `kind` is "image" or "file", `url` what was asked for."""

    kind: str
    url: str
    assignments: tuple[Assignment, ...]
    task_limit: int
    host_limit: int
    timeout_s: float


@dataclass(slots=True)
class PreheatCounts:
    """Jobs by (kind, "success" or "failure"), and fetches of single hosts by the latter alone."""

    jobs: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    fetches: Counter[str] = field(default_factory=Counter[str])
    running: int = 0


class PreheatJobs:
    """Runs jobs behind their requests. `unreachable` is told of seeds that nobody answers for."""

    def __init__(
        self, calls: DaemonCalls, unreachable: Callable[[Assignment, Host, str], None]
    ) -> None:
        self._calls = calls
        self._unreachable = unreachable
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.counts = PreheatCounts()

    def check_room(self) -> None:
        """Refuse a job there is no room for.

        Raises CapacityError if as many run as may, UnavailableError if this scheduler stops.
        """
        if self._closing:
            raise UnavailableError("the scheduler shuts down")
        if len(self._tasks) >= JOBS_MAX:
            raise CapacityError(f"{JOBS_MAX} preheats are running: try again when some are done")

    def start(self, job: Job) -> None:
        """Begin a job. Raises as `check_room` does."""
        self.check_room()
        task = asyncio.get_running_loop().create_task(self._run(job), name="preheat")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Wait until all jobs that run now are done."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def close(self) -> None:
        """Take no more jobs and end those that run. What they asked for goes on by itself."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await self.wait()

    async def _run(self, job: Job) -> None:
        url = redact_text(job.url)
        _log.info("preheat_started", kind=job.kind, url=url, count=len(job.assignments))
        self.counts.running += 1
        run = _Run(job, self._calls, self._unreachable, self.counts.fetches)
        result = "failure"
        try:
            reason = await run.to_the_end()
            if reason is None:
                result = "success"
                _log.info("preheat_finished", kind=job.kind, url=url, **run.told())
            else:
                _log.error("preheat_failed", kind=job.kind, url=url, reason=reason, **run.told())
        except Exception:  # noqa: BLE001  # supervises the job: a bug must be seen and counted
            _log.exception("preheat_crashed", kind=job.kind, url=url)
        except asyncio.CancelledError:
            _log.warning("preheat_cut_off", kind=job.kind, url=url, **run.told())
            raise
        finally:
            self.counts.running -= 1
            self.counts.jobs[job.kind, result] += 1


class _Run:
    """One job under way."""

    def __init__(
        self,
        job: Job,
        calls: DaemonCalls,
        unreachable: Callable[[Assignment, Host, str], None],
        fetches: Counter[str],
    ) -> None:
        self._job = job
        self._calls = calls
        self._report_unreachable = unreachable
        self._fetches = fetches
        self._arrived: set[str] = set()
        self._dead: set[str] = set()
        self._n_good = 0
        self._n_failed = 0
        self._first_reason = ""
        self._end_s = asyncio.get_running_loop().time() + job.timeout_s

    async def to_the_end(self) -> str | None:
        """Run all assignments; None if it is a success, else why not."""
        await for_each(self._job.assignments, self._job.task_limit, self._carry_out)
        missing = [one for one in self._job.assignments if one.task_id not in self._arrived]
        if not missing:
            return None
        what = f"{len(missing)} of {len(self._job.assignments)} contents arrived nowhere"
        return f"{what}: {self._first_reason or 'no host is left'}"

    def told(self) -> dict[str, int]:
        """Numbers for the log."""
        return {"count": self._n_good, "failures": self._n_failed}

    async def _carry_out(self, assignment: Assignment) -> None:
        if assignment.is_either:
            await self._by_one_of(assignment)
        else:

            async def fetch(host: Host) -> None:
                await self._fetch(assignment, host)

            await for_each(assignment.hosts, self._job.host_limit, fetch)

    async def _by_one_of(self, assignment: Assignment) -> None:
        for host in assignment.hosts:
            if host.id in self._dead:
                continue
            error = await self._fetch(assignment, host)
            if error is None or _repeats(error) or self._left_s() <= 0:
                return

    async def _fetch(self, assignment: Assignment, host: Host) -> OdonataError | None:
        left_s = self._left_s()
        if left_s <= 0:
            error: OdonataError = CapacityError(
                f"the preheat's {self._job.timeout_s:g} s are over: allow more by its timeout"
            )
        else:
            try:
                await self._calls.fetch(host, assignment.download, left_s)
            except OdonataError as failure:
                error = failure
            else:
                self._n_good += 1
                self._fetches["success"] += 1
                self._arrived.add(assignment.task_id)
                return None
        self._note(assignment, host, error)
        return error

    def _left_s(self) -> float:
        return self._end_s - asyncio.get_running_loop().time()

    def _note(self, assignment: Assignment, host: Host, error: OdonataError) -> None:
        self._n_failed += 1
        self._fetches["failure"] += 1
        reason = redact_text(describe(error))
        self._first_reason = self._first_reason or reason
        if isinstance(error, UnavailableError) and host.id not in self._dead:
            self._dead.add(host.id)
            self._report_unreachable(assignment, host, reason)
        if self._n_failed <= REASONS_MAX:
            _log.warning(
                "preheat_fetch_failed",
                kind=self._job.kind,
                task_id=assignment.task_id,
                host_id=host.id,
                url=redact_text(assignment.download.url),
                reason=reason,
            )


def _repeats(error: OdonataError) -> bool:
    """Whether another seed would hear the same: it is the request's fault, or the source spoke."""
    if isinstance(error, SourceError):
        return error.status_code is not None
    return isinstance(error, CallerError)
