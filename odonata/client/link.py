"""The two ways to the daemon: with asyncio, and without. Calls are made here, and explained.

What goes over either is written once, as coroutines: over the blocking one they never suspend, so
that no event loop is needed to run them to their end (`run_blocking`).
A link is opened when it is first used. One that found nobody is opened anew for the next call, so
that a daemon which has been started meanwhile is found at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from odonata.client.endpoint import check_endpoint, explain, find_endpoint, is_gone
from odonata.errors import UnavailableError
from odonata.grpc_client import closing_is_unavailable, open_blocking_channel, open_channel
from odonata.grpc_stub import download_stub

_aio: Any = grpc.aio  # it ships without types
_EOF = _aio.EOF

_R = TypeVar("_R")


class TaskCall(Protocol):
    """A DownloadTask that is under way. Its failures are OdonataErrors."""

    async def next_message(self) -> Any:
        """Wait for it; None: there are no more."""
        ...

    def cancel(self) -> None:
        """End it."""
        ...


class AnyLink(Protocol):
    """A way to the daemon. Failures of its calls are OdonataErrors."""

    files: bool
    """The daemon's files can be opened here, as far as we know."""

    @property
    def endpoint(self) -> Path:
        """The daemon's socket."""
        ...

    async def ask(self, rpc: str, request: Any, *, timeout_s: float | None = None) -> Any:
        """One question, one answer. `timeout_s` None: no limit."""
        ...

    async def begin(
        self, request: Any, *, timeout_s: float | None, metadata: Sequence[tuple[str, str]]
    ) -> TaskCall:
        """A DownloadTask."""
        ...

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Work on the disk."""
        ...


class AsyncLink:
    """For one event loop: that on which it is first used."""

    def __init__(self, endpoint: Path | str | None, *, files: bool = True) -> None:
        self.endpoint = find_endpoint(endpoint)
        self.files = files
        """The daemon's files can be opened here, as far as we know."""
        self._channel: grpc.aio.Channel | None = None

    @property
    def stub(self) -> Any:  # grpc's stubs ship without types
        """DfdaemonDownload. Raises UnavailableError, CallerError if there is no daemon."""
        if self._channel is None:
            check_endpoint(self.endpoint)
            self._channel = open_channel(f"unix:{self.endpoint}")
        return download_stub(self._channel)

    async def ask(self, rpc: str, request: Any, *, timeout_s: float | None = None) -> Any:
        """One question, one answer. `timeout_s` None: no limit."""
        async with self.explained():
            return await getattr(self.stub, rpc)(request, timeout=timeout_s)

    async def begin(
        self, request: Any, *, timeout_s: float | None, metadata: Sequence[tuple[str, str]]
    ) -> TaskCall:
        """A DownloadTask."""
        async with self.explained():
            call = self.stub.DownloadTask(request, timeout=timeout_s, metadata=metadata)
        return _AsyncCall(self, call, self._channel)

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Work on the disk, beside the event loop."""
        return await asyncio.to_thread(work, *arguments)

    @asynccontextmanager
    async def explained(self, channel: grpc.aio.Channel | None = None) -> AsyncGenerator[None]:
        """Around calls over `channel` (None: the one there is): their failures as OdonataError."""
        channel = channel or self._channel
        try:
            with closing_is_unavailable(f"the daemon at {self.endpoint}"):
                yield
        except grpc.aio.AioRpcError as failure:
            if is_gone(failure) and channel in {None, self._channel}:
                await self.close()
            raise explain(failure, self.endpoint) from failure

    async def close(self) -> None:
        """Close; the next call opens it again."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


class Link:
    """For any thread. After a fork the child opens its own."""

    def __init__(self, endpoint: Path | str | None, *, files: bool = True) -> None:
        self.endpoint = find_endpoint(endpoint)
        self.files = files
        """The daemon's files can be opened here, as far as we know."""
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._pid = 0

    @property
    def stub(self) -> Any:  # grpc's stubs ship without types
        """DfdaemonDownload. Raises UnavailableError, CallerError if there is no daemon."""
        with self._lock:
            if self._channel is None or self._pid != os.getpid():
                check_endpoint(self.endpoint)
                self._channel = open_blocking_channel(f"unix:{self.endpoint}")
                self._pid = os.getpid()
            return download_stub(self._channel)

    async def ask(self, rpc: str, request: Any, *, timeout_s: float | None = None) -> Any:
        """As of the other link; it waits where it is called, as does what follows."""
        with self.explained():
            return getattr(self.stub, rpc)(request, timeout=timeout_s)

    async def begin(
        self, request: Any, *, timeout_s: float | None, metadata: Sequence[tuple[str, str]]
    ) -> TaskCall:
        """As of the other link."""
        with self.explained():
            call = self.stub.DownloadTask(request, timeout=timeout_s, metadata=metadata)
        return _BlockingCall(self, call, self._channel)

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """At once."""
        return work(*arguments)

    @contextmanager
    def explained(self, channel: grpc.Channel | None = None) -> Generator[None]:
        """Around calls over `channel` (None: the one there is): their failures as OdonataError."""
        channel = channel or self._channel
        try:
            yield
        except grpc.RpcError as failure:
            told: Any = failure  # a call, too: it has a code
            if is_gone(told) and channel in {None, self._channel}:
                self.close()
            raise explain(told, self.endpoint) from failure
        except ValueError as error:
            if "closed channel" not in str(error):
                raise
            raise UnavailableError(
                f"the connection to the daemon at {self.endpoint} was closed"
            ) from error

    def close(self) -> None:
        """Close; the next call opens it again."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None and self._pid == os.getpid():
            channel.close()


class _AsyncCall:
    """`channel`: what it goes over, which may be another one by the time that it fails."""

    def __init__(self, link: AsyncLink, call: Any, channel: grpc.aio.Channel | None) -> None:
        self._link = link
        self._call = call
        self._channel = channel

    async def next_message(self) -> Any:
        async with self._link.explained(self._channel):
            message = await self._call.read()
        return None if message is _EOF else message

    def cancel(self) -> None:
        self._call.cancel()


class _BlockingCall:
    """As the other. It waits where it is asked."""

    def __init__(self, link: Link, call: Any, channel: grpc.Channel | None) -> None:
        self._link = link
        self._call = call
        self._channel = channel

    async def next_message(self) -> Any:
        with self._link.explained(self._channel):
            return next(self._call, None)

    def cancel(self) -> None:
        self._call.cancel()


@contextmanager
def cut_off(call: TaskCall) -> Generator[None]:
    """Whatever ends this ends the call."""
    try:
        yield
    finally:
        with suppress(asyncio.InvalidStateError):
            call.cancel()


def run_blocking(work: Coroutine[Any, Any, _R]) -> _R:
    """The result of a coroutine over a blocking link, which never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        result: _R = end.value
        return result
    work.close()
    raise AssertionError("a call over a blocking link waited for an event loop")
