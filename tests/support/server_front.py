"""A port before a plain server: takes off TLS, if it has a certificate, and passes the bytes on.

with ServerFront(port, signed) as front:
    ... https://NAME:{front.port} is http://127.0.0.1:{port} ...
    front.lead_to(other)
    ... and now http://127.0.0.1:{other} ...
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from typing import Self

from support.certificates import Signed

_READ_BYTES = 256 * 1024
_START_TIMEOUT_S = 10.0


class ServerFront:
    """A server in a thread of its own, on a free port of loopback."""

    def __init__(self, port: int, signed: Signed | None = None) -> None:
        """`signed` None: no TLS, here neither."""
        self._context: ssl.SSLContext | None = None
        if signed is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(*signed)
        self._behind = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server-front")
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_START_TIMEOUT_S)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_START_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lead_to(self, port: int) -> None:
        """Stand before another server from now on; connections to the former one break off."""
        self._behind = port
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(_START_TIMEOUT_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._take, "127.0.0.1", 0, ssl=self._context, limit=_READ_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        await self._hang_up()

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a server's callback is a task"
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._behind)
            await asyncio.gather(_pass(reader, back), _pass(there, writer))
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass  # one side is gone, or told to go: so is the other
        finally:
            self._tasks.discard(task)
            writer.close()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_READ_BYTES):
            sink.write(data)
            await sink.drain()
    finally:
        with suppress(ConnectionError, RuntimeError):
            sink.close()
