"""The two ways to the daemon: with asyncio, and without. Calls are made here, and explained.

A link is opened when it is first used. One that found nobody is opened anew for the next call, so
that a daemon which has been started meanwhile is found at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from odonata.client.endpoint import check_endpoint, explain, find_endpoint, is_gone
from odonata.errors import UnavailableError
from odonata.grpc_client import closing_is_unavailable, open_blocking_channel, open_channel
from odonata.grpc_stub import download_stub
from odonata.wire.dragonfly import download_request_to_wire
from odonata.wire.message import Download

_aio: Any = grpc.aio  # it ships without types
_EOF = _aio.EOF


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

    @asynccontextmanager
    async def downloading(
        self, download: Download, *, timeout_s: float | None, metadata: Sequence[tuple[str, str]]
    ) -> AsyncGenerator[Callable[[], Awaitable[Any]]]:
        """A DownloadTask, which ends with the context; what waits for its next message."""
        async with self.explained():
            request = download_request_to_wire(download)
            call = self.stub.DownloadTask(request, timeout=timeout_s, metadata=metadata)
            with cut_off(call):
                yield partial(next_of, call)

    @asynccontextmanager
    async def explained(self) -> AsyncGenerator[None]:
        """Around calls: their failures as OdonataError."""
        channel = self._channel
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

    @asynccontextmanager
    async def downloading(
        self, download: Download, *, timeout_s: float | None, metadata: Sequence[tuple[str, str]]
    ) -> AsyncGenerator[Callable[[], Awaitable[Any]]]:
        """As of the other link."""
        with self.explained():
            request = download_request_to_wire(download)
            call = self.stub.DownloadTask(request, timeout=timeout_s, metadata=metadata)

            async def next_message() -> Any:
                return next(call, None)

            with cut_off(call):
                yield next_message

    @contextmanager
    def explained(self) -> Generator[None]:
        """Around calls: their failures as OdonataError."""
        channel = self._channel
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


async def next_of(call: Any) -> Any:
    """The next message of a call with asyncio; None: there are no more."""
    message = await call.read()
    return None if message is _EOF else message


@contextmanager
def cut_off(call: Any) -> Generator[None]:
    """Whatever ends this ends the call."""
    try:
        yield
    finally:
        with suppress(asyncio.InvalidStateError):
            call.cancel()
