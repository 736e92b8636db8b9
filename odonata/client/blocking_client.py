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

from pathlib import Path
from typing import Self, Unpack

from odonata.client.calls import Calls, blocking
from odonata.client.link import Link
from odonata.client.reader import Reader
from odonata.client.supply import Supply, supply_for
from odonata.client.wish import Options, make_download


class Client:
    """For any number of threads, each call in its own. Each holds what it was asked for, no more.

    `endpoint`: the daemon's unix socket; None: $ODONATA_DAEMON_SOCKET, else the usual place.
    `files` False: have bytes sent, though the daemon's files could be opened here.
    """

    def __init__(self, endpoint: Path | str | None = None, *, files: bool = True) -> None:
        self._link = Link(endpoint, files=files)
        self._calls = Calls(self._link)

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

    download = blocking(Calls.download)
    follow = blocking(Calls.follow)
    stat = blocking(Calls.stat)

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

    # --- folders ---

    list = blocking(Calls.list)
    look = blocking(Calls.look)

    # --- tasks ---

    stat_task = blocking(Calls.stat_task)
    tasks = blocking(Calls.tasks)
    delete = blocking(Calls.delete)

    def task_id(self, url: str, **options: Unpack[Options]) -> str:
        """The id under which the swarm knows this content."""
        return self._calls.task_id(url, **options)
