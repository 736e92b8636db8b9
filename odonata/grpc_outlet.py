"""Listeners (see `odonata.grpc_service`) on grpcio's stack, which knows coroutines only.

The responses gather in a bounded queue and leave in order, one by one, as fast as the client reads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from odonata.errors import OdonataError
from odonata.grpc_service import (
    MAX_QUEUED_RESPONSES,
    WRITE_TIMEOUT_S,
    Listener,
    Metadata,
    Outlet,
    not_read_in_time,
    too_many_unread,
)


class QueuedOutlet:
    """An outlet whose responses wait in a queue until `drain` writes them."""

    def __init__(self, metadata: Metadata = ()) -> None:
        self._metadata = metadata
        self._responses: deque[Any] = deque()
        self._news = asyncio.Event()
        self._error: OdonataError | None = None
        self.has_ended = False
        """Whether it is decided how the call ends (responses may still be on their way)."""

    @property
    def connection(self) -> None:
        """Grpcio does not tell."""
        return

    def invocation_metadata(self) -> Metadata:
        """See Outlet."""
        return self._metadata

    def write(self, response: Any) -> bool:
        """See Outlet."""
        if self.has_ended:
            return False
        if len(self._responses) >= MAX_QUEUED_RESPONSES:
            self._responses.clear()
            self.end(too_many_unread())
            return False
        self._responses.append(response)
        self._news.set()
        return True

    def end(self, error: OdonataError | None = None) -> None:
        """See Outlet."""
        if not self.has_ended:
            self.has_ended = True
            self._error = error
            self._news.set()

    async def drain(
        self,
        write: Callable[[Any], Awaitable[None]],
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> OdonataError | None:
        """Write responses until the call is ended; return the error it was ended with."""
        while True:
            while self._responses:
                try:
                    async with asyncio.timeout(timeout_s):
                        await write(self._responses.popleft())
                except TimeoutError:
                    return not_read_in_time()
            if self.has_ended:
                return self._error
            self._news.clear()
            await self._news.wait()


def listened(implementation: Callable[[Outlet], Listener]) -> Any:
    """A method that makes listeners as a coroutine that reads and writes."""

    async def converse(requests: AsyncIterator[Any], context: Any) -> None:
        outlet = QueuedOutlet(tuple(context.invocation_metadata() or ()))
        listener = implementation(outlet)
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(_read(requests, listener, outlet))
                error = await outlet.drain(context.write)
                reader.cancel()
        finally:
            listener.on_close()
        if error is not None:
            raise error

    return converse


async def _read(requests: AsyncIterator[Any], listener: Listener, outlet: QueuedOutlet) -> None:
    try:
        async for request in requests:
            if outlet.has_ended:
                return
            listener.on_messages((request,))
        listener.on_end()
    except OdonataError as error:
        outlet.end(error)
