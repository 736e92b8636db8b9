"""The source for everything that fsspec and its family know, and the way to write there.

One class for all schemes; what differs is a line of `source_scheme.SCHEMES`. A content is read in
chunks, the next one on its way while one is given out, so a stream holds two of them. Before the
last of several chunks is given out the origin is asked whether the content is still the same: a
file whose parts are of two versions is nobody's.

fsspec's own loop (a thread of its own) runs what is asynchronous there, a few threads what is not:
either way the daemon's loop never waits. A cancelled stream stops at once; a blocking call that
nobody waits for ends by its library's timeout, in its thread.

Errors are `source_error`'s.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, cast
from urllib.parse import quote

from odonata.errors import CallerError, SourceError, StorageError
from odonata.url import Url, parse_url
from odonata.wire.origin import NO_OPTIONS, Entry, OriginOptions
from peer.runtime.port import KnownContent
from peer.runtime.source_error import guarded
from peer.runtime.source_scheme import SCHEMES, FsspecPlace, Info, Scheme, validators

CHUNK_BYTES: Final = 4 * 1024 * 1024
"""One request to the origin: a piece of the smallest length. Larger ones cost memory (two for each
stream), smaller ones a round trip each."""
THREADS_MAX: Final = 16
"""Blocking calls at once, of all streams; more wait their turn."""
FILESYSTEMS_MAX: Final = 16
"""Connected filesystem objects that are kept: one for each origin and set of credentials in use."""
CALL_TIMEOUT_S: Final = 62.0
"""For one chunk: 30 s, and its length at 128 KiB/s, the slowest rate that a piece may have."""
PUT_TIMEOUT_S: Final = 900.0
"""For a whole upload: Dragonfly's putTimeout."""
LIST_TIMEOUT_S: Final = 60.0
"""For a whole listing; whoever asked has given up by then."""
ENTRIES_MAX: Final = 10_000
"""Files and folders in one listing: as many files as a preheat takes."""
FOLDERS_MAX: Final = 1000
"""Folders that are looked into for one listing; each is a request."""


class FsspecSource:
    """A `Source` and `ObjectStore` for the schemes of `SCHEMES`. Close it when the daemon ends."""

    def __init__(self, place: FsspecPlace) -> None:
        self._place = place
        self._threads: ThreadPoolExecutor | None = None
        self._kept: OrderedDict[object, Any] = OrderedDict()

    async def open(
        self,
        url: str,
        header: Mapping[str, str],  # noqa: ARG002  # means nothing to these origins
        *,
        offset: int = 0,
        end: int | None = None,
        options: OriginOptions = NO_OPTIONS,
    ) -> FsspecStream:
        """See `Source.open`."""
        if offset < 0 or (end is not None and end <= offset):
            raise CallerError(f"can't ask for bytes {offset} to {end}: the range is empty")
        target = await self._find(url, options)
        info = await target.info()
        length = _length_of(target, info)
        if offset > 0 and offset >= length:
            raise SourceError(
                f"{target.shown}: the source has {length} bytes, and was asked for those from "
                f"{offset} on",
                status_code=416,
            )
        return FsspecStream(target, info, length, offset, length if end is None else end)

    async def list(
        self,
        url: str,
        header: Mapping[str, str],  # noqa: ARG002  # means nothing to these origins
        options: OriginOptions = NO_OPTIONS,
    ) -> tuple[Entry, ...]:
        """See `Source.list`: at most `ENTRIES_MAX` names."""
        target = await self._find(url, options)
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                return await _list(target, url)
        except TimeoutError:
            raise SourceError(
                f"{target.shown}: the listing took more than {LIST_TIMEOUT_S:g} s: ask for a "
                "folder further down"
            ) from None

    async def compare(
        self,
        url: str,
        header: Mapping[str, str],  # noqa: ARG002  # means nothing to these origins
        known: KnownContent,
        options: OriginOptions = NO_OPTIONS,
    ) -> str | None:
        """See `Source.compare`: by length and ETag, or, without one, time of change."""
        target = await self._find(url, options)
        info = await target.info()
        length = _length_of(target, info)
        if known.content_length is not None and known.content_length != length:
            return f"the source has {length} bytes now, and {known.content_length} before"
        now = validators(info)
        for name in ("etag", "last-modified"):
            if name in now and name in known.response_header:
                before = known.response_header[name]
                same = before == now[name]
                return None if same else f"its {name} is {now[name]} now, and {before} before"
        return "the source does not say whether it is the same"

    async def put(self, url: str, path: Path, options: OriginOptions = NO_OPTIONS) -> None:
        """See `ObjectStore.put`: object stores show a new object when it is whole, never before."""
        scheme = _scheme_of(parse_url(url))
        if scheme.put is None:
            raise CallerError("nothing can be written to such a URL: use an object store")
        arguments = scheme.put(options.storage)
        if not await asyncio.to_thread(path.is_file):
            raise StorageError(f"can't read {path}: there is no such file")
        target = await self._find(url, options)
        await target.call("put_file", str(path), target.path, timeout_s=PUT_TIMEOUT_S, **arguments)

    async def length(self, url: str, options: OriginOptions = NO_OPTIONS) -> int | None:
        """See `ObjectStore.length`."""
        target = await self._find(url, options)
        try:
            return _length_of(target, await target.info())
        except SourceError as error:
            if error.status_code == 404:
                return None
            raise

    async def close(self) -> None:
        """Let the connections go; a blocking call under way ends by itself."""
        self._kept.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    # --- inside ---

    async def _find(self, url: str, options: OriginOptions) -> _Target:
        parsed = parse_url(url)
        scheme = _scheme_of(parsed)
        path = scheme.path(parsed)
        key = (parsed.scheme, None if scheme.buckets else _authority(parsed), options)
        fs = self._kept.pop(key, None)
        shown = _shown(parsed)
        if fs is None:
            make = partial(scheme.make, parsed, options, self._place)
            fs = await guarded(shown, self.in_thread(make), CALL_TIMEOUT_S)
        if scheme.kept:
            self._kept[key] = fs
            while len(self._kept) > FILESYSTEMS_MAX:
                self._kept.popitem(last=False)
        return _Target(self, scheme, fs, path, shown)

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """Make a blocking call."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="source")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def call(
        self, target: _Target, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a method of a filesystem, wherever that runs. Raises what the library raises."""
        fs = target.fs
        if fs.async_impl:
            work = getattr(fs, f"_{name}")(*args, **kwargs)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, fs.loop))
        return await self.in_thread(partial(getattr(fs, name), *args, **kwargs))


class _Target:
    """One name at one origin. `shown` is what messages call it: no user, no query."""

    def __init__(
        self, source: FsspecSource, scheme: Scheme, fs: Any, path: str, shown: str
    ) -> None:
        self._source = source
        self.scheme = scheme
        self.fs = fs
        self.path = path
        self.shown = shown

    async def info(self) -> Info:
        """What the origin says of it."""
        own = self.scheme.info
        if own is not None:
            look = partial(own, self.fs, self.path)
            found = await guarded(self.shown, self._source.in_thread(look), CALL_TIMEOUT_S)
        else:
            found = await self.call("info", self.path)
        return cast("Info", found)

    async def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end)."""
        own = self.scheme.read
        if own is None:
            data: bytes = await self.call("cat_file", self.path, start=start, end=end)
            return data
        work = self._source.in_thread(partial(own, self.fs, self.path, start, end))
        own_data: bytes = await guarded(self.shown, work, CALL_TIMEOUT_S)
        return own_data

    async def call(
        self, name: str, *args: Any, timeout_s: float = CALL_TIMEOUT_S, **kwargs: Any
    ) -> Any:
        """`FsspecSource.call` with errors as SourceError."""
        work = self._source.call(self, name, args, kwargs)
        return await guarded(self.shown, work, timeout_s)

    def hang_up(self) -> None:
        """The filesystem is this stream's own: close its connection, whoever waits for it."""
        if self.scheme.hang_up is not None:
            self.scheme.hang_up(self.fs)


class FsspecStream:
    """A `SourceStream` of the bytes [offset, end) of a target that has `length` of them."""

    def __init__(self, target: _Target, info: Info, length: int, offset: int, end: int) -> None:
        self._target = target
        self._info = validators(info)
        self._length = length
        self._first = offset
        self._asked = offset  # up to here a chunk was asked for
        self._end = min(end, length)
        self._chunk = memoryview(b"")
        self._next: asyncio.Task[bytes] | None = None

    @property
    def offset(self) -> int:
        return self._first

    @property
    def content_length(self) -> int | None:
        return self._length

    @property
    def ranges(self) -> bool:
        return True

    @property
    def response_header(self) -> Mapping[str, str]:
        return {**self._info, "content-length": str(self._length), "accept-ranges": "bytes"}

    async def read_into(self, buffer: memoryview) -> int:
        """See `SourceStream.read_into`."""
        if not self._chunk and not await self._receive():
            return 0
        count = min(len(buffer), len(self._chunk))
        buffer[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    async def _receive(self) -> bool:
        """Take the next chunk, and ask for the one behind it; False at the end."""
        coming = self._next or self._ask()
        self._next = None
        if coming is None:
            return False
        try:
            chunk = await coming
        except asyncio.CancelledError:
            coming.cancel()
            raise
        self._next = self._ask()
        if self._next is None and self._asked - self._first > len(chunk):
            await self._check_same()
        self._chunk = memoryview(chunk)
        return True

    def _ask(self) -> asyncio.Task[bytes] | None:
        start, end = self._asked, min(self._asked + CHUNK_BYTES, self._end)
        if start >= end:
            return None
        self._asked = end
        return asyncio.get_running_loop().create_task(self._fetch(start, end))

    async def _fetch(self, start: int, end: int) -> bytes:
        data = await self._target.read(start, end)
        if len(data) != end - start:
            raise SourceError(
                f"{self._target.shown}: was asked for bytes {start} to {end - 1} and sent "
                f"{len(data)} of them"
            )
        return data

    async def _check_same(self) -> None:
        info = await self._target.info()
        if (_length_of(self._target, info), validators(info)) != (self._length, self._info):
            raise SourceError(f"{self._target.shown}: the content changed while it was read")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._chunk = memoryview(b"")
        self._target.hang_up()
        coming, self._next = self._next, None
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])


# --- listing ---


async def _list(target: _Target, url: str) -> tuple[Entry, ...]:
    base = url.partition("?")[0].partition("#")[0].rstrip("/")
    root = target.path.rstrip("/")
    if not url.endswith("/"):
        info = await _info_if_any(target)
        if info.get("type") != "directory":
            return (Entry(url=url, content_length=_length_of(target, info)),)
    entries: dict[str, Entry] = {}
    folders, n_folders = deque([root]), 0
    while folders:
        n_folders += 1
        found = await _names_in(target, folders.popleft())
        for name, info in found.items():
            below = name.removeprefix(f"{root.lstrip('/')}/")
            is_dir = info.get("type") == "directory"
            entry_url = f"{base}/{quote(below)}{'/' if is_dir else ''}"
            length = None if is_dir else _length_of(target, info)
            entries[entry_url] = Entry(url=entry_url, content_length=length, is_dir=is_dir)
            if is_dir:
                folders.append(name if root[:1] != "/" and target.scheme.buckets else f"/{name}")
        if len(entries) > ENTRIES_MAX or n_folders + len(folders) > FOLDERS_MAX:
            raise CallerError(
                f"{target.shown} has more than {ENTRIES_MAX} names or {FOLDERS_MAX} folders below "
                "it: ask for its folders one by one"
            )
    if not entries and target.scheme.buckets:  # a folder is what lies below it, and no more
        raise SourceError(f"{target.shown}: it has nothing there: check the URL", status_code=404)
    return tuple(entries[key] for key in sorted(entries))


async def _info_if_any(target: _Target) -> Info:
    """A store need not know of a folder that has something below it."""
    try:
        return await target.info()
    except SourceError as error:
        if error.status_code != 404:
            raise
        return {"type": "directory"}


async def _names_in(target: _Target, folder: str) -> dict[str, Info]:
    """What is in `folder`, by full name without a leading slash; not the folder itself."""
    infos = cast("list[Info]", await target.call("ls", folder or "/", detail=True))
    own = folder.strip("/")
    found: dict[str, Info] = {}
    for info in infos:
        name = str(info["name"]).strip("/")
        # Stores have objects named "folder/" to mark a folder; a name outside is nobody's business.
        if name.startswith(f"{own}/") or (not own and name):
            found[name] = info
    return found


# --- the target ---


def _scheme_of(url: Url) -> Scheme:
    scheme = SCHEMES.get(url.scheme)
    if scheme is None:
        known = ", ".join(SCHEMES)
        raise CallerError(f"no source for the scheme {url.scheme!r}: use one of {known}")
    return scheme


def _authority(url: Url) -> str:
    return f"{url.username}:{url.password}@{url.host}:{url.port}"


def _shown(url: Url) -> str:
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme}://{url.host or ''}{port}{url.path}"


def _length_of(target: _Target, info: Info) -> int:
    if info.get("type") == "directory":
        raise SourceError(
            f"{target.shown}: names a folder: end it with / to list it, or name a file in it",
            status_code=404,
        )
    size = info.get("size")
    if not isinstance(size, int) or size < 0:
        raise SourceError(f"{target.shown}: the source does not say how long it is")
    return size
