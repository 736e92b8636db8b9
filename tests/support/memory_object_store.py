"""An object storage in memory: what daemons under test read from and write to as s3://...

    store = MemoryObjectStore()
    store.objects["s3://b/k"] = b"..."

`reads` counts the bytes asked for, by URL; `puts` keeps what each put was told. `fail_next_put`
makes one fail; `gate` is awaited in a put, for tests of what happens meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from odonata.errors import OdonataError, SourceError
from odonata.wire.origin import NO_OPTIONS, Entry, OriginOptions
from peer.runtime.port import KnownContent


class _Body:
    """A `SourceStream` of bytes."""

    def __init__(self, content: bytes, offset: int, end: int | None) -> None:
        self.content_length: int | None = len(content)
        self.offset = offset
        self.ranges = True
        self.response_header: Mapping[str, str] = {}
        self._rest = memoryview(content)[offset : len(content) if end is None else end]

    async def read_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None


class MemoryObjectStore:
    """A `Source` and an `ObjectStore`; daemons may share it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads: Counter[str] = Counter()
        self.puts: list[tuple[str, OriginOptions]] = []
        self.fail_next_put: OdonataError | None = None
        self.gate: Callable[[], Awaitable[object]] | None = None

    async def open(
        self,
        url: str,
        header: Mapping[str, str],
        *,
        offset: int = 0,
        end: int | None = None,
        **_: Any,
    ) -> _Body:
        if url not in self.objects:
            raise SourceError(f"there is no object {url}", status_code=404)
        content = self.objects[url]
        self.reads[url] += (len(content) if end is None else end) - offset
        return _Body(content, offset, end)

    async def list(
        self, url: str, header: Mapping[str, str], options: OriginOptions = NO_OPTIONS
    ) -> tuple[Entry, ...]:
        found = sorted(name for name in self.objects if name.startswith(url))
        return tuple(Entry(url=one, content_length=len(self.objects[one])) for one in found)

    async def compare(
        self, url: str, header: Mapping[str, str], known: KnownContent, options: OriginOptions
    ) -> str | None:
        length = len(self.objects.get(url, b""))
        return None if known.content_length == length else f"it has {length} bytes"

    async def put(self, url: str, path: Path, options: OriginOptions) -> None:
        if self.gate is not None:
            await self.gate()
        if self.fail_next_put is not None:
            error, self.fail_next_put = self.fail_next_put, None
            raise error
        self.objects[url] = await asyncio.to_thread(path.read_bytes)
        self.puts.append((url, options))

    async def length(self, url: str, options: OriginOptions) -> int | None:
        content = self.objects.get(url)
        return None if content is None else len(content)

    async def close(self) -> None:
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None
