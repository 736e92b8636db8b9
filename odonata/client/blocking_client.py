"""The daemon of this host, asked without asyncio. Its twin with is `async_client`.

    with Client() as client:
        client.download("https://host/model.bin", Path("model.bin"))
        head = client.read("https://host/model.bin", 0, 16)
        with client.open("https://host/model.bin") as reader:
            shutil.copyfileobj(reader, out)

On grpc's blocking calls: no thread and no event loop of its own. The daemon fetches, from peers
first; nothing is fetched here, and no daemon is started. An interrupted call ends at the daemon,
too. Errors are those of `odonata.errors`.
"""

from __future__ import annotations

import builtins
import time
from pathlib import Path
from typing import Self, Unpack

from dragonfly_api import dfdaemon_pb2

from odonata.client.answer import arrived_in, began_in, deadline_s, to_follow, to_know
from odonata.client.link import Link, cut_off
from odonata.client.listing import MAX_ENTRIES, Walk
from odonata.client.reader import Reader
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


class Client:
    """For any number of threads, each call in its own. Each holds what it was asked for, no more.

    `endpoint`: the daemon's unix socket; None: $ODONATA_DAEMON_SOCKET, else the usual place.
    `files` False: have bytes sent, though the daemon's files could be opened here.
    """

    def __init__(self, endpoint: Path | str | None = None, *, files: bool = True) -> None:
        self._link = Link(endpoint, files=files)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end with UnavailableError."""
        self._link.close()

    @property
    def endpoint(self) -> Path:
        """The daemon's socket."""
        return self._link.endpoint

    # --- contents ---

    def download(
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
        return self.follow(written, on_progress)

    def follow(self, download: Download, on_progress: OnProgress | None = None) -> Downloaded:
        """`download`, for a request that was made by hand."""
        began_s = time.monotonic()
        tally = Tally()
        with self._link.explained():
            call = self._link.stub.DownloadTask(
                download_request_to_wire(download),
                timeout=deadline_s(download),
                metadata=to_follow(download),
            )
            with cut_off(call):
                first = next(call, None)
                if first is None:
                    raise ProtocolError("the daemon said nothing of the content: update it")
                began = began_in(first)
                tally.start(began.started)
                while True:
                    if on_progress is not None:
                        on_progress(tally.progress)
                    message = next(call, None)
                    if message is None:
                        break
                    tally.add(arrived_in(message).piece)
        path = Path(download.output_path or "")
        return tally.end(download.url, path, began.task_id, time.monotonic() - began_s)

    def read(
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
        with Reader(self._link, make_download(url, options), supply) as reader:
            data = reader.read_at(start, length)
            reader.finish()
            supply.check_start(start)
            return data

    def open(self, url: str, **options: Unpack[Options]) -> Reader:
        """The content as a file to read. Nothing is asked before the first read.

        Whoever jumps can't check a digest of the whole: `read` and `open_part` do.
        """
        return Reader(self._link, make_download(url, options), Supply())

    def open_part(
        self, url: str, start: int = 0, length: int | None = None, **options: Unpack[Options]
    ) -> Reader:
        """The same, for who reads these bytes in order, and no others (None: to the end).

        Nothing else is fetched ahead. A digest is checked by `finish`, if all is read.
        """
        reader = Reader(self._link, make_download(url, options), supply_for(start, length))
        reader.seek(start)
        return reader

    def stat(self, url: str, **options: Unpack[Options]) -> Stat:
        """What is known of the content, by this host, its peers or else the origin."""
        wish = part(make_download(url, options), ByteRange(start=0, length=1))
        with self._link.explained():
            call = self._link.stub.DownloadTask(
                download_request_to_wire(wish), timeout=deadline_s(wish), metadata=to_know(wish)
            )
            with cut_off(call):
                message = next(call, None)
        if message is None:
            raise ProtocolError("the daemon said nothing of the content: update it")
        return stat_of(url, began_in(message))

    # --- folders ---

    def list(
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
            walk.found(folder, self.look(folder, **options))
        return walk.entries

    def look(self, url: str, **options: Unpack[Options]) -> Listing:
        """What the origin says of `url` itself, and of what lies below it."""
        timeout_s = make_download(url, options).timeout_s
        request = list_request_to_wire(url, header_of(options), origin_options(options))
        with self._link.explained():
            answer = self._link.stub.ListTaskEntries(request, timeout=timeout_s)
        return listing_from_wire(answer)

    # --- tasks ---

    def task_id(self, url: str, **options: Unpack[Options]) -> str:
        """The id under which the swarm knows this content."""
        return task_id_of(make_download(url, options))

    def stat_task(self, task_id: str) -> LocalTask:
        """What this host holds of a task. Raises NotFoundError."""
        request = dfdaemon_pb2.StatLocalTaskRequest(task_id=task_id)
        with self._link.explained():
            return local_task_from_wire(self._link.stub.StatLocalTask(request))

    def tasks(self) -> builtins.list[LocalTask]:
        """What this host holds."""
        with self._link.explained():
            answer = self._link.stub.ListLocalTasks(dfdaemon_pb2.ListLocalTasksRequest())
        return [local_task_from_wire(task) for task in answer.tasks]

    def delete(self, task_id: str, *, everywhere: bool = True) -> None:
        """Remove a task from this host; `everywhere`: and tell the scheduler so.

        Raises NotFoundError.
        """
        with self._link.explained():
            if everywhere:
                self._link.stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=task_id))
            else:
                request = dfdaemon_pb2.DeleteLocalTaskRequest(task_id=task_id)
                self._link.stub.DeleteLocalTask(request)
