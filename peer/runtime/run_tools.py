"""What the parts of a running download share: the daemon's tools, and the way to report.

Values and types, and the joining of two limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from odonata.errors import DiskFullError, OdonataError, PreconditionError
from odonata.telemetry.record import NoRecorder, Recorder
from odonata.tracing.span import NO_TRACER, Tracer
from peer.core.event import DownloadEvent, SchedulerFound, StorageFailed
from peer.core.run_record import RunRecord
from peer.runtime.buffer import BufferPool
from peer.runtime.channel import ChannelPool
from peer.runtime.conversation import Conversation
from peer.runtime.host_info import HostFacts
from peer.runtime.known_address import KnownAddresses
from peer.runtime.limit import Unlimited
from peer.runtime.port import AheadAsker, PieceFetcher, RateLimit, Source, StoredTask

Tell = Callable[[DownloadEvent], Awaitable[None]]
"""Hand in an event; returns when its effects were carried out."""


async def find_no_scheduler(_task_id: str) -> SchedulerFound:
    """Wait for ever: there is no scheduler to be found."""
    await asyncio.Event().wait()
    return SchedulerFound()


@dataclass(frozen=True, kw_only=True)
class RunTools:
    """What all downloads of a daemon share."""

    facts: HostFacts
    fetcher: PieceFetcher
    source: Source
    source_limit: RateLimit
    """For what is read from sources."""
    buffers: BufferPool
    parents: ChannelPool
    converse: Callable[[str, str], Conversation]
    """(task id, peer id) -> a new stream to the scheduler of that task."""
    find_scheduler: Callable[[str], Awaitable[SchedulerFound]] = find_no_scheduler
    """task id -> waits until its scheduler answers; what it is like."""
    verify_whole: bool = True
    """As `DownloadLimits.verify_whole`."""
    known: KnownAddresses = field(default_factory=KnownAddresses)
    asker: AheadAsker | None = None
    """None: nobody is asked ahead."""
    recorder: Recorder = field(default_factory=NoRecorder)
    tracer: Tracer = NO_TRACER


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """One download: its task, its name, and how its helpers start work and report."""

    task: StoredTask
    peer_id: str
    tools: RunTools
    record: RunRecord
    tell: Tell
    put: Callable[[DownloadEvent], None]
    """Like `tell`, without waiting: for who is called by the loop itself."""
    start: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
    """A child task of the download, by name."""
    learned: asyncio.Event
    """How long the content is, and its pieces: what comes can be stored."""
    changed: Callable[[str], None]
    """The content is another one now than what is held, and why: this download is over."""


class _Both:
    """Passes what two limits let pass."""

    def __init__(self, first: RateLimit, second: RateLimit) -> None:
        self._first = first
        self._second = second

    async def acquire(self, n_bytes: int) -> None:
        await self._first.acquire(n_bytes)
        await self._second.acquire(n_bytes)


def both(first: RateLimit, second: RateLimit) -> RateLimit:
    """One limit that is as narrow as each of them."""
    if isinstance(first, Unlimited):
        return second
    return first if isinstance(second, Unlimited) else _Both(first, second)


class ContentChangedError(PreconditionError):
    """What the source says contradicts what is stored: the task must begin anew."""


def storage_failed(error: OdonataError) -> StorageFailed:
    """The event for storage's errors."""
    return StorageFailed(reason=error.detail, disk_full=isinstance(error, DiskFullError))
