"""Sources: where content comes from when no peer has it. The table of schemes, and a paced stream.

A kind of source is one class with `open` (the protocol `Source`) and one line in `open_sources`.
Everything else in the daemon sees one `Source` that looks at the scheme of the URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Protocol, Self

from odonata.errors import CallerError
from peer.runtime.limit import slice_bytes
from peer.runtime.port import RateLimit, Source, SourceStream
from peer.runtime.source_http import HttpOptions, HttpSource

SCHEME_MAX = 32  # characters looked at; no scheme is longer, and a message need not be


class _ClosableSource(Source, Protocol):
    async def close(self) -> None: ...


class OpenSources(Source, Protocol):
    """A `Source` that a daemon opens and closes. With `put` and `length` an `ObjectStore`, too."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...


class Sources:
    """A `Source` for every scheme in a table. Close it when the daemon ends."""

    def __init__(self, by_scheme: Mapping[str, _ClosableSource]) -> None:
        self._by_scheme = dict(by_scheme)

    @property
    def schemes(self) -> tuple[str, ...]:
        """What can be asked for, ascending."""
        return tuple(sorted(self._by_scheme))

    async def open(
        self, url: str, header: Mapping[str, str], *, offset: int = 0, end: int | None = None
    ) -> SourceStream:
        """See `Source.open`. A scheme that is not in the table is a CallerError."""
        scheme = url[:SCHEME_MAX].partition(":")[0].lower()
        source = self._by_scheme.get(scheme)
        if source is None:
            raise CallerError(
                f"no source for the scheme {scheme!r}: use one of {', '.join(self.schemes)}"
            )
        return await source.open(url, header, offset=offset, end=end)

    async def close(self) -> None:
        """Close each source once."""
        async with AsyncExitStack() as stack:
            for source in set(self._by_scheme.values()):
                stack.push_async_callback(source.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def open_sources(http: HttpOptions | None = None) -> Sources:
    """Every source this daemon has."""
    web = HttpSource(http or HttpOptions())
    return Sources({"http": web, "https": web})


class LimitedStream:
    """A `SourceStream` that reads no faster than a limit lets it: the sender is slowed down."""

    def __init__(self, stream: SourceStream, limit: RateLimit) -> None:
        self._stream = stream
        self._limit = limit
        self._slice_bytes = slice_bytes(limit)
        self._allowance = 0  # acquired, but not read yet

    @property
    def offset(self) -> int:
        return self._stream.offset

    @property
    def content_length(self) -> int | None:
        return self._stream.content_length

    @property
    def ranges(self) -> bool:
        return self._stream.ranges

    @property
    def response_header(self) -> Mapping[str, str]:
        return self._stream.response_header

    async def read_into(self, buffer: memoryview) -> int:
        """See `SourceStream.read_into`; waits for the limit first."""
        wanted = min(len(buffer), self._slice_bytes)
        if self._allowance == 0 and wanted > 0:
            await self._limit.acquire(wanted)
            self._allowance = wanted
        count = await self._stream.read_into(buffer[: min(wanted, self._allowance)])
        self._allowance -= count
        return count

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stream.__aexit__(*exc)
