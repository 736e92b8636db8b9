"""A tap on the wire between HTTP/1.1 clients and a server: passes every byte on and takes notes.

A registry's access log does not tell which range was asked for; the tap does. Its link has a rate,
so that the middle of a download can be made as wide as a test needs. It never answers itself and
changes nothing. Bodies of requests are not understood: push past it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_READ_BYTES = 64 * 1024
_START_TIMEOUT_S = 10.0
_CATCH_UP_S = 0.2  # a late wake-up on a busy machine is no reason to carry less
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/\d+")

Span = tuple[int, int]
"""First byte and end (exclusive)."""


@dataclass
class Exchange:
    """One request and what came back so far. `sent_bytes`: of the body, as the server sent them."""

    method: str
    path: str
    range: str | None
    user_agent: str
    status: int = 0
    length: int = 0
    content_range: str | None = None
    sent_bytes: int = 0
    over: bool = False

    @property
    def span(self) -> Span:
        """Which bytes of the content were really sent."""
        found = _CONTENT_RANGE.fullmatch(self.content_range or "")
        first = int(found[1]) if found else 0
        return first, first + self.sent_bytes


@dataclass
class _Side:
    """One direction of a connection, cut into heads and bodies."""

    on_head: Callable[[str, dict[str, str]], int]
    """Takes the first line and the headers; returns the length of the body."""
    on_body: Callable[[int], None]
    on_end: Callable[[], None]
    buffer: bytearray = field(default_factory=bytearray)
    body_left: int = 0

    def feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self.body_left:
                n_bytes = min(self.body_left, len(rest))
                self.body_left -= n_bytes
                self.on_body(n_bytes)
                rest = rest[n_bytes:]
            else:
                rest = self._feed_head(rest)
            if not self.body_left and not self.buffer:
                self.on_end()

    def _feed_head(self, data: memoryview) -> memoryview:
        before = len(self.buffer)
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return data[len(data) :]
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        header = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self.buffer.clear()
        self.body_left = self.on_head(lines[0], header)
        return data[end + 4 - before :]


class HttpTap:
    """Listens on a free port of 127.0.0.1, in a thread of its own, as long as the context lasts."""

    def __init__(self, server_port: int, *, rate_bytes_per_s: float | None = None) -> None:
        self._server_port = server_port
        self._rate_bytes_per_s = rate_bytes_per_s
        self._free_at_s = 0.0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http-tap")
        self._stopping = asyncio.Event()
        self.port = 0
        self.exchanges: list[Exchange] = []

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(_START_TIMEOUT_S), "the tap did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    @property
    def sent_bytes(self) -> int:
        """Of all bodies."""
        return sum(exchange.sent_bytes for exchange in self.exchanges)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        running: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._connection(reader, writer))
            running.add(task)
            task.add_done_callback(running.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_READ_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes both ways until either side ends."""
        server_reader, server_writer = await asyncio.open_connection(
            "127.0.0.1", self._server_port, limit=_READ_BYTES
        )
        waiting: deque[Exchange] = deque()
        up = asyncio.ensure_future(_pump(reader, server_writer, self._requests(waiting)))
        down = asyncio.ensure_future(_pump(server_reader, writer, _responses(waiting), self._carry))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            for exchange in waiting:
                exchange.over = True
            for end in (writer, server_writer):
                end.close()
                with suppress(ConnectionError):
                    await end.wait_closed()

    def _requests(self, waiting: deque[Exchange]) -> _Side:
        def on_head(line: str, header: dict[str, str]) -> int:
            method, target, _ = line.split(" ", 2)
            exchange = Exchange(method, target, header.get("range"), header.get("user-agent", ""))
            self.exchanges.append(exchange)
            waiting.append(exchange)
            return int(header.get("content-length", 0))

        return _Side(on_head=on_head, on_body=lambda _: None, on_end=lambda: None)

    async def _carry(self, n_bytes: int) -> None:
        """Return when the link has carried `n_bytes`; all connections share it."""
        if self._rate_bytes_per_s is None:
            return
        now_s = self._loop.time()
        self._free_at_s = max(now_s - _CATCH_UP_S, self._free_at_s)
        self._free_at_s += n_bytes / self._rate_bytes_per_s
        await asyncio.sleep(self._free_at_s - now_s)


def _responses(waiting: deque[Exchange]) -> _Side:
    def on_head(line: str, header: dict[str, str]) -> int:
        exchange = waiting[0]
        exchange.status = int(line.split(" ")[1])
        exchange.content_range = header.get("content-range")
        assert "transfer-encoding" not in header, "the tap reads bodies by their length alone"
        exchange.length = int(header.get("content-length", 0))
        bodiless = exchange.method == "HEAD" or exchange.status in {204, 304}
        return 0 if bodiless else exchange.length

    def on_body(n_bytes: int) -> None:
        waiting[0].sent_bytes += n_bytes

    def on_end() -> None:
        waiting.popleft().over = True

    return _Side(on_head=on_head, on_body=on_body, on_end=on_end)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    side: _Side,
    carry: Callable[[int], object] | None = None,
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_READ_BYTES):
            if carry is not None:
                await carry(len(data))  # type: ignore[misc]  # a coroutine function
            side.feed(data)
            writer.write(data)
            await writer.drain()
