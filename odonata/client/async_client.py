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

from pathlib import Path
from typing import Self, Unpack

from odonata.client.async_reader import AsyncReader
from odonata.client.calls import Calls
from odonata.client.link import AsyncLink
from odonata.client.supply import Supply, supply_for
from odonata.client.wish import Options, make_download


class AsyncClient(Calls):
    """For one event loop. Any number of calls at once; each holds what it was asked for, no more.

    `endpoint`: the daemon's unix socket; None: $ODONATA_DAEMON_SOCKET, else the usual place.
    `files` False: have bytes sent, though the daemon's files could be opened here.
    """

    def __init__(self, endpoint: Path | str | None = None, *, files: bool = True) -> None:
        self._link = AsyncLink(endpoint, files=files)
        super().__init__(self._link)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end with UnavailableError."""
        await self._link.close()

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
