"""Sources: where content comes from when no peer has it. The table of schemes, and a paced stream.

A kind of source is one class (the protocol `Source`) and one line in `open_sources`; what fsspec
knows is one line in `source_scheme.SCHEMES`. Everything else in the daemon sees one `Source` and
one `ObjectStore` that look at the scheme of the URL. Nothing of fsspec is loaded before a URL asks
for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, Self

from odonata.errors import CallerError
from odonata.wire.origin import NO_OPTIONS, Entry, OriginOptions
from peer.runtime.limit import slice_bytes
from peer.runtime.port import KnownContent, ObjectStore, RateLimit, Source, SourceStream
from peer.runtime.source_fsspec import FsspecSource
from peer.runtime.source_http import HttpOptions, HttpSource
from peer.runtime.source_hub import HubSource
from peer.runtime.source_registry import RegistrySource
from peer.runtime.source_scheme import SCHEMES, FsspecPlace

SCHEME_MAX = 32  # characters looked at; no scheme is longer, and a message need not be


class _ClosableSource(Source, Protocol):
    async def close(self) -> None: ...


class OpenSources(Source, Protocol):
    """A `Source` that a daemon opens and closes. With `put` and `length` an `ObjectStore`, too."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...


class Sources:
    """A `Source` for every scheme in a table, and an `ObjectStore` for those that can be written.

    Close it when the daemon ends.
    """

    def __init__(
        self,
        by_scheme: Mapping[str, _ClosableSource],
        stores: Mapping[str, ObjectStore] | None = None,
    ) -> None:
        self._by_scheme = dict(by_scheme)
        self._stores = dict(stores or {})

    @property
    def schemes(self) -> tuple[str, ...]:
        """What can be asked for, ascending."""
        return tuple(sorted(self._by_scheme))

    async def open(
        self,
        url: str,
        header: Mapping[str, str],
        *,
        offset: int = 0,
        end: int | None = None,
        options: OriginOptions = NO_OPTIONS,
    ) -> SourceStream:
        """See `Source.open`. A scheme that is not in the table is a CallerError."""
        return await self._of(url).open(url, header, offset=offset, end=end, options=options)

    async def list(
        self, url: str, header: Mapping[str, str], options: OriginOptions = NO_OPTIONS
    ) -> tuple[Entry, ...]:
        """See `Source.list`."""
        return await self._of(url).list(url, header, options)

    async def compare(
        self,
        url: str,
        header: Mapping[str, str],
        known: KnownContent,
        options: OriginOptions = NO_OPTIONS,
    ) -> str | None:
        """See `Source.compare`."""
        return await self._of(url).compare(url, header, known, options)

    async def put(self, url: str, path: Path, options: OriginOptions = NO_OPTIONS) -> None:
        """See `ObjectStore.put`."""
        await self._writable(url).put(url, path, options)

    async def length(self, url: str, options: OriginOptions = NO_OPTIONS) -> int | None:
        """See `ObjectStore.length`."""
        return await self._writable(url).length(url, options)

    def _of(self, url: str) -> _ClosableSource:
        scheme = _scheme_of(url)
        source = self._by_scheme.get(scheme)
        if source is None:
            raise CallerError(
                f"no source for the scheme {scheme!r}: use one of {', '.join(self.schemes)}"
            )
        return source

    def _writable(self, url: str) -> ObjectStore:
        scheme = _scheme_of(url)
        store = self._stores.get(scheme)
        if store is None:
            raise CallerError(
                f"nothing can be written to {scheme}:// URLs: use one of {', '.join(self._stores)}"
            )
        return store

    async def close(self) -> None:
        """Close each source once."""
        async with AsyncExitStack() as stack:
            for source in set(self._by_scheme.values()):
                stack.push_async_callback(source.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _scheme_of(url: str) -> str:
    return url[:SCHEME_MAX].partition(":")[0].lower()


def open_sources(http: HttpOptions | None = None, place: FsspecPlace | None = None) -> Sources:
    """Every source this daemon has."""
    web = HttpSource(http or HttpOptions())
    rest = FsspecSource(place or FsspecPlace())
    return Sources(
        {
            "http": web,
            "https": web,
            "hf": HubSource(web),
            "oci": RegistrySource(web),
            **dict.fromkeys(SCHEMES, rest),
        },
        stores={name: rest for name, scheme in SCHEMES.items() if scheme.put is not None},
    )


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
