"""The daemon of this host, asked with asyncio. Its twin without is `blocking_client`.

    async with AsyncClient() as client:
        await client.download("https://host/model.bin", Path("model.bin"))
        head = await client.read("https://host/model.bin", 0, 16)
        async with await client.open("https://host/model.bin") as reader:
            async for chunk in reader: ...

The daemon fetches, from peers first; nothing is fetched here, and no daemon is started. Cancel a
task, and its call ends at the daemon, too. Errors are those of `odonata.errors`.
"""

from __future__ import annotations

import builtins
import time
from pathlib import Path
from typing import Self, Unpack

from dragonfly_api import dfdaemon_pb2

from odonata.client.answer import arrived_in, began_in, deadline_s, to_follow, to_know
from odonata.client.async_reader import AsyncReader
from odonata.client.link import AsyncLink, cut_off, next_of
from odonata.client.listing import MAX_ENTRIES, Walk
from odonata.client.stat import Stat, stat_of
from odonata.client.supply import Supply, supply_for
from odonata.client.tally import Downloaded, OnProgress, Tally
from odonata.client.wish import Options, header_of, make_download, origin_options, part, to_file
from odonata.errors import ProtocolError
from odonata.ids import task_id_of
from odonata.wire.dragonfly import LocalTask, download_request_to_wire, local_task_from_wire
from odonata.wire.dragonfly.origin import list_request_to_wire, listing_from_wire
from odonata.wire.message import ByteRange, Download
from odonata.wire.origin import Entry, Listing


class AsyncClient:
    """For one event loop. Any number of calls at once; each holds what it was asked for, no more.

    `endpoint`: the daemon's unix socket; None: $ODONATA_DAEMON_SOCKET, else the usual place.
    `files` False: have bytes sent, though the daemon's files could be opened here.
    """

    def __init__(self, endpoint: Path | str | None = None, *, files: bool = True) -> None:
        self._link = AsyncLink(endpoint, files=files)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end with UnavailableError."""
        await self._link.close()

    @property
    def endpoint(self) -> Path:
        """The daemon's socket."""
        return self._link.endpoint

    # --- contents ---

    async def download(
        self,
        url: str,
        path: Path | str,
        *,
        overwrite: bool = False,
        force_hard_link: bool = False,
        on_progress: OnProgress | None = None,
        **options: Unpack[Options],
    ) -> Downloaded:
        """Have the daemon write the whole content to `path`: all of it, checked, or nothing.

        The daemon writes, so `path` is on this host and in a folder that its user may write to.
        What is held here already is not fetched again, also after an interruption.
        """
        wish = make_download(url, options)
        written = to_file(wish, Path(path), overwrite=overwrite, force_hard_link=force_hard_link)
        return await self.follow(written, on_progress)

    async def follow(self, download: Download, on_progress: OnProgress | None = None) -> Downloaded:
        """`download`, for a request that was made by hand."""
        began_s = time.monotonic()
        tally = Tally()
        async with self._link.explained():
            call = self._link.stub.DownloadTask(
                download_request_to_wire(download),
                timeout=deadline_s(download),
                metadata=to_follow(download),
            )
            with cut_off(call):
                first = await next_of(call)
                if first is None:
                    raise ProtocolError("the daemon said nothing of the content: update it")
                began = began_in(first)
                tally.start(began.started)
                while True:
                    if on_progress is not None:
                        on_progress(tally.progress)
                    message = await next_of(call)
                    if message is None:
                        break
                    tally.add(arrived_in(message).piece)
        path = Path(download.output_path or "")
        return tally.end(download.url, path, began.task_id, time.monotonic() - began_s)

    async def read(
        self,
        url: str,
        start: int = 0,
        length: int | None = None,
        **options: Unpack[Options],
    ) -> bytes:
        """`length` bytes from `start` on, fewer only at the end of the content; None: the rest.

        Only the pieces that hold them are fetched. Raises CallerError if the content ends before
        `start`.
        """
        supply = supply_for(start, length)
        async with AsyncReader(self._link, make_download(url, options), supply) as reader:
            data = await reader.read_at(start, length)
            await reader.finish()
            supply.check_start(start)
            return data

    async def open(self, url: str, **options: Unpack[Options]) -> AsyncReader:
        """The content as a file to read. Nothing is asked before the first read.

        Whoever jumps can't check a digest of the whole: `read` and `open_part` do.
        """
        return AsyncReader(self._link, make_download(url, options), Supply())

    async def open_part(
        self, url: str, start: int = 0, length: int | None = None, **options: Unpack[Options]
    ) -> AsyncReader:
        """The same, for who reads these bytes in order, and no others (None: to the end).

        Nothing else is fetched ahead. A digest is checked by `finish`, if all is read.
        """
        reader = AsyncReader(self._link, make_download(url, options), supply_for(start, length))
        await reader.seek(start)
        return reader

    async def stat(self, url: str, **options: Unpack[Options]) -> Stat:
        """What is known of the content, by this host, its peers or else the origin."""
        wish = part(make_download(url, options), ByteRange(start=0, length=1))
        async with self._link.explained():
            call = self._link.stub.DownloadTask(
                download_request_to_wire(wish), timeout=deadline_s(wish), metadata=to_know(wish)
            )
            with cut_off(call):
                message = await next_of(call)
        if message is None:
            raise ProtocolError("the daemon said nothing of the content: update it")
        return stat_of(url, began_in(message))

    # --- folders ---

    async def list(
        self,
        url: str,
        *,
        recursive: bool = False,
        max_entries: int = MAX_ENTRIES,
        **options: Unpack[Options],
    ) -> builtins.list[Entry]:
        """What lies below the folder `url` of an origin that can say it (s3, hf, hdfs, ...)."""
        walk = Walk(url, recursive=recursive, max_entries=max_entries)
        while (folder := walk.next_url()) is not None:
            walk.found(folder, await self.look(folder, **options))
        return walk.entries

    async def look(self, url: str, **options: Unpack[Options]) -> Listing:
        """What the origin says of `url` itself, and of what lies below it."""
        timeout_s = make_download(url, options).timeout_s
        request = list_request_to_wire(url, header_of(options), origin_options(options))
        async with self._link.explained():
            answer = await self._link.stub.ListTaskEntries(request, timeout=timeout_s)
        return listing_from_wire(answer)

    # --- tasks ---

    def task_id(self, url: str, **options: Unpack[Options]) -> str:
        """The id under which the swarm knows this content."""
        return task_id_of(make_download(url, options))

    async def stat_task(self, task_id: str) -> LocalTask:
        """What this host holds of a task. Raises NotFoundError."""
        request = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)
        async with self._link.explained():
            return local_task_from_wire(await self._link.stub.StatLocalTask(request))

    async def tasks(self) -> builtins.list[LocalTask]:
        """What this host holds."""
        async with self._link.explained():
            answer = await self._link.stub.ListLocalTasks(dfdaemon_pb2.ListLocalTasksRequest())
        return [local_task_from_wire(task) for task in answer.tasks]

    async def delete(self, task_id: str, *, everywhere: bool = True) -> None:
        """Remove a task from this host; `everywhere`: and tell the scheduler so.

        Raises NotFoundError.
        """
        async with self._link.explained():
            if everywhere:
                await self._link.stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=task_id))
            else:
                request = dfdaemon_pb2.DeleteLocalTaskRequest(task_id=task_id)
                await self._link.stub.DeleteLocalTask(request)
