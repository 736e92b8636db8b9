"""A TaskHub in memory for tests: contents that arrive when a test says so, in real files.

Segments carry real descriptors, so that whoever sends them can use any system call. Nothing is
downloaded; `MemoryHub.put` says what a URL holds, `MemoryTask.arrive` and `fail` what comes of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from odonata.errors import OdonataError, SourceError
from odonata.ids import task_id_of
from odonata.wire.message import ByteRange, Download, Piece, TrafficType
from peer.runtime.port import Segment

MIB = 1024 * 1024


class MemoryTask:
    """What one URL holds, of which `arrived` bytes from the start are here."""

    def __init__(
        self,
        path: Path,
        content: bytes,
        header: Mapping[str, str],
        *,
        arrived: int,
        length_known: bool,
        piece_length: int,
    ) -> None:
        self.path = path
        self.content = content
        self.header = dict(header)
        self.piece_length = piece_length
        self.length_known = length_known
        self.error: OdonataError | None = None
        self.arrived = 0
        self.asked_bytes = 0
        """How far readers have asked for segments: what they took at most."""
        self._changed = asyncio.Event()
        path.write_bytes(b"")
        self.arrive(arrived)

    @property
    def complete(self) -> bool:
        return self.arrived == len(self.content)

    def arrive(self, count: int) -> None:
        """`count` more bytes of the content are here."""
        with self.path.open("ab") as file:
            file.write(self.content[self.arrived : self.arrived + count])
        self.arrived = min(self.arrived + count, len(self.content))
        self._tell()

    def fail(self, error: OdonataError) -> None:
        """The download gives up: readers get what is here, then the error."""
        self.error = error
        self._tell()

    async def until(self, offset: int) -> None:
        """Return when bytes before `offset` (at most all) are here; raise the download's error."""
        while self.arrived < min(offset, len(self.content)):
            if self.error is not None:
                raise self.error
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class MemoryView:
    """A caller's hold on a MemoryTask."""

    def __init__(self, hub: MemoryHub, task: MemoryTask, download: Download) -> None:
        self._hub = hub
        self._task = task
        self._wanted = download.range
        self.task_id = task_id_of(download)
        self.peer_id = "127.0.0.1-test-memory"
        self.was_local = task.complete
        self._open = True

    @property
    def content_length(self) -> int | None:
        return len(self._task.content) if self._task.length_known else None

    @property
    def piece_length(self) -> int:
        return self._task.piece_length

    @property
    def response_header(self) -> Mapping[str, str]:
        return self._task.header

    async def read(self, wanted: ByteRange | None = None) -> AsyncGenerator[Segment]:
        start = wanted.start if wanted else 0
        end = start + wanted.length if wanted else len(self._task.content)
        fd = os.open(self._task.path, os.O_RDONLY)
        try:
            while start < end:
                await self._task.until(start + 1)
                stop = min(end, self._task.arrived, start + self._task.piece_length)
                self._task.asked_bytes = max(self._task.asked_bytes, stop)
                yield Segment(fd=fd, offset=start, length=stop - start)
                start = stop
        finally:
            os.close(fd)

    async def pieces(self) -> AsyncIterator[Piece]:
        length, task = self.piece_length, self._task
        for number in range(-(-len(task.content) // length)):
            offset = number * length
            size = min(length, len(task.content) - offset)
            await task.until(offset + size)
            yield Piece(
                number=number, offset=offset, length=size, traffic_type=TrafficType.LOCAL_PEER
            )

    async def done(self) -> None:
        end = len(self._task.content)
        await self._task.until(self._wanted.start + self._wanted.length if self._wanted else end)

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._hub.closed(self)


class MemoryHub:
    """A TaskHub: `opened` lists what was asked for, `views` counts the views not closed yet."""

    def __init__(self, folder: Path) -> None:
        self.lingering: bool | None = None
        """Whether the latest download goes on without its caller."""
        self.opened: list[Download] = []
        self.views = 0
        self.gate: Callable[[Download], Awaitable[None]] | None = None
        """Awaited in `open`, for tests of what happens meanwhile."""
        self._folder = folder
        self._tasks: dict[str, MemoryTask] = {}
        self._errors: dict[str, OdonataError] = {}
        self._closed = asyncio.Event()

    def put(
        self,
        url: str,
        content: bytes,
        header: Mapping[str, str] | None = None,
        *,
        arrived: int | None = None,
        length_known: bool = True,
        piece_length: int = 4 * MIB,
    ) -> MemoryTask:
        """`url` holds `content`, of which `arrived` bytes (None: all) are here already."""
        task = MemoryTask(
            self._folder / f"task-{len(self._tasks)}",
            content,
            header or {},
            arrived=len(content) if arrived is None else arrived,
            length_known=length_known,
            piece_length=piece_length,
        )
        self._tasks[url] = task
        return task

    def refuse(self, url: str, error: OdonataError) -> None:
        """Opening `url` fails with `error`."""
        self._errors[url] = error

    def task_id(self, download: Download) -> str:
        return task_id_of(download)

    async def open(self, download: Download, *, linger: bool = True) -> MemoryView:
        self.opened.append(download)
        self.lingering = linger
        if self.gate is not None:
            await self.gate(download)
        if download.url in self._errors:
            raise self._errors[download.url]
        task = self._tasks.get(download.url)
        if task is None:
            raise SourceError(f"nothing at {download.url}", status_code=404)
        if not task.length_known and not task.complete:
            await task.until(1)
        self.views += 1
        return MemoryView(self, task, download)

    def closed(self, view: MemoryView) -> None:
        del view  # counted, not named
        self.views -= 1
        self._closed.set()
        self._closed = asyncio.Event()

    async def all_closed(self) -> None:
        """Return when no view is open."""
        while self.views:
            await self._closed.wait()
