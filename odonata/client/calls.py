"""What both clients ask of the daemon, written once: `AsyncClient` has it, `Client` by `blocking`.

Each call is a coroutine over a `Link`. A link of grpc's blocking calls never suspends one, so that
no event loop is needed to run it to its end.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack

from dragonfly_api import dfdaemon_pb2

from odonata.client.answer import arrived_in, began_in, deadline_s, to_follow, to_know
from odonata.client.link import AnyLink, cut_off, run_blocking
from odonata.client.listing import MAX_ENTRIES, Walk
from odonata.client.stat import Stat, stat_of
from odonata.client.tally import Downloaded, OnProgress, Tally
from odonata.client.wish import Options, header_of, make_download, origin_options, part, to_file
from odonata.errors import ProtocolError
from odonata.ids import task_id_of
from odonata.wire.dragonfly import LocalTask, download_request_to_wire, local_task_from_wire
from odonata.wire.dragonfly.origin import list_request_to_wire, listing_from_wire
from odonata.wire.message import ByteRange, Download
from odonata.wire.origin import Entry, Listing

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Calls:
    """The calls, over a link to the daemon."""

    def __init__(self, way: AnyLink) -> None:
        self._way = way

    @property
    def endpoint(self) -> Path:
        """The daemon's socket."""
        return self._way.endpoint

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
        call = await self._way.begin(
            download_request_to_wire(download),
            timeout_s=deadline_s(download),
            metadata=to_follow(download),
        )
        with cut_off(call):
            first = await call.next_message()
            if first is None:
                raise ProtocolError("the daemon said nothing of the content: update it")
            began = began_in(first)
            tally.start(began.started)
            while True:
                if on_progress is not None:
                    on_progress(tally.progress)
                message = await call.next_message()
                if message is None:
                    break
                arrived = arrived_in(message)
                for piece in (arrived.piece, *arrived.others):
                    tally.add(piece)
        path = Path(download.output_path or "")
        return tally.end(download.url, path, began.task_id, time.monotonic() - began_s)

    async def stat(self, url: str, **options: Unpack[Options]) -> Stat:
        """What is known of the content, by this host, its peers or else the origin."""
        wish = part(make_download(url, options), ByteRange(start=0, length=1))
        call = await self._way.begin(
            download_request_to_wire(wish), timeout_s=deadline_s(wish), metadata=to_know(wish)
        )
        with cut_off(call):
            message = await call.next_message()
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
        answer = await self._way.ask("ListTaskEntries", request, timeout_s=timeout_s)
        return listing_from_wire(answer)

    # --- tasks ---

    def task_id(self, url: str, **options: Unpack[Options]) -> str:
        """The id under which the swarm knows this content."""
        return task_id_of(make_download(url, options))

    async def stat_task(self, task_id: str) -> LocalTask:
        """What this host holds of a task. Raises NotFoundError."""
        request = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)
        return local_task_from_wire(await self._way.ask("StatLocalTask", request))

    async def tasks(self) -> builtins.list[LocalTask]:
        """What this host holds."""
        request = dfdaemon_pb2.ListLocalTasksRequest()
        answer = await self._way.ask("ListLocalTasks", request)
        return [local_task_from_wire(task) for task in answer.tasks]

    async def delete(self, task_id: str, *, everywhere: bool = True) -> None:
        """Remove a task from this host; `everywhere`: and tell the scheduler so.

        Raises NotFoundError.
        """
        if everywhere:
            request = dfdaemon_pb2.DeleteTaskRequest(task_id=task_id)
            await self._way.ask("DeleteTask", request)
        else:
            local = dfdaemon_pb2.DeleteLocalTaskRequest(task_id=task_id)
            await self._way.ask("DeleteLocalTask", local)


def blocking(
    call: Callable[Concatenate[Calls, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[Any, _P], _R]:
    """One of the `Calls` as a method that waits, of what has `_calls` over a blocking link."""

    @wraps(call)
    def wait(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return run_blocking(call(self._calls, *args, **kwargs))

    return wait
