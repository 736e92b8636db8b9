"""Threads for disk and index work, and the rule that work once begun is not torn by a cancellation.

Blocking calls never run on the event loop: a piece write takes 0.6-1.7 ms from the page cache and
far longer when the volume is busy. Nothing here knows what the work is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from odonata.errors import StorageError

DISK_THREADS = max(2, min(4, os.cpu_count() or 1))
"""Pieces received, checked and written at once. More threads than cores only wait for each other,
for the lock of the file they write to and for the interpreter's (1 GiB on two cores: 1.17 CPU-s of
a child with two, 1.24 with four); more than four are not needed for any link."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Workers:
    """A small pool for content files, and one thread of its own for the index."""

    def __init__(self, disk_threads: int = DISK_THREADS) -> None:
        self._disk = ThreadPoolExecutor(disk_threads, thread_name_prefix="odonata-disk")
        self._index = ThreadPoolExecutor(1, thread_name_prefix="odonata-index")
        self._closed = False

    async def disk(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `work` in the pool."""
        self._check_open()
        return await asyncio.wrap_future(self._disk.submit(work, *args, **kwargs))

    async def index(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `work` in the index's thread, in the order of the calls."""
        self._check_open()
        return await asyncio.wrap_future(self._index.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs, then end the threads."""
        self._closed = True
        self._disk.shutdown(wait=True)
        self._index.shutdown(wait=True)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("storage is closed: the daemon is ending")


class KeyedLocks:
    """One lock for each key in use, first come, first served; a key nobody holds costs nothing."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        """Keys in use."""
        return len(self._locks)

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncGenerator[None]:
        """Be the only one at `key`."""
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work`; if the caller is cancelled meanwhile, finish it first, then be cancelled.

    So a buffer handed to a thread is free when the call returns, however it returns, and memory and
    index never disagree because somebody stopped waiting in between.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            await _cancellation_ignored(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: the cancellation is what the caller gets
        raise


async def _cancellation_ignored(task: asyncio.Task[Any]) -> None:
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        return  # a second cancellation changes nothing: the first one is raised at the end
