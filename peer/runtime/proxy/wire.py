"""One TCP connection as a stream of bytes, bounded both ways.

An asyncio protocol rather than asyncio's streams, which cost twice the CPU for bulk data, and
rather than sockets of our own: a transport can be turned into TLS, and writing the same buffer to
it again and again is as good as sendfile, which saves us half the CPU and costs a reader on the
same host as much, since it finds nothing in its cache. Knows nothing of HTTP.

Reading stops when READ_HIGH bytes wait. `write` returns when the kernel (or TLS) has taken all of
it: so a slow reader holds up whoever writes to it, and what was written can be overwritten. One
task reads, one task writes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from peer.runtime.proxy.option import ProxyCounters

# One receive of the event loop is up to 256 KiB; one may wait while another is worked on.
READ_HIGH: Final = 256 * 1024
# How long a closing connection may take to get rid of what is in its write buffer.
FLUSH_S: Final = 30.0

_RESET: Final = struct.pack("ii", 1, 0)


class Wire(asyncio.Protocol):
    """A connection. `on_open` is called when it is made, `on_end` when the other side ends it."""

    def __init__(
        self, counters: ProxyCounters, on_open: Callable[[Wire], None] | None = None
    ) -> None:
        self.on_end: Callable[[], None] | None = None
        self._counters = counters
        self._on_open = on_open
        self._transport: asyncio.Transport | None = None
        self._received: deque[bytes] = deque()
        self._received_bytes = 0
        self._reading_paused = False
        self._ended = False
        self._lost = False
        self._is_tls = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()

    # --- asyncio's side ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # So that `write` waits for the last byte. The limit is reached beyond it, but in TLS at it.
        self._transport.set_write_buffer_limits(high=1 if self._is_tls else 0, low=0)
        if self._on_open is not None:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._received_bytes += len(data)
        self._readable.set()
        if self._received_bytes >= READ_HIGH and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._readable.set()
        self._tell_end()
        # We may still write: the other side has only finished its half. TLS has no halves.
        return not self._is_tls

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # whoever reads or writes is told by an error of its own
        self._lost = True
        self._readable.set()
        self._writable.set()
        self._closed.set()
        self._tell_end()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- our side ---------------------------------------------------------------------------------

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "used before the connection was made"
        return self._transport

    @property
    def ended(self) -> bool:
        """The other side sends no more, or is gone."""
        return self._ended or self._lost

    @property
    def waiting_bytes(self) -> int:
        """Bytes that came and were not read yet."""
        return self._received_bytes

    def address(self, which: str) -> tuple[str, int]:
        """`which`: sockname or peername."""
        name = cast("tuple[str, int]", self.transport.get_extra_info(which) or ("", 0))
        return name[0], name[1]

    async def read(self, limit: int = READ_HIGH) -> bytes:
        """Some bytes, at most `limit`; b"" at the end. ConnectionError if the connection broke."""
        while not self._received:
            if self._ended:
                return b""
            if self._lost:
                raise ConnectionResetError("the connection was closed")
            self._readable.clear()
            await self._readable.wait()
        data = self._received.popleft()
        if len(data) > limit:
            self._received.appendleft(data[limit:])
            data = data[:limit]
        self._received_bytes -= len(data)
        self._resume_reading()
        return data

    def unread(self, data: bytes) -> None:
        """What was read too much: it is read again next."""
        if data:
            self._received.appendleft(data)
            self._received_bytes += len(data)

    async def write(self, *chunks: bytes | bytearray | memoryview, stall_s: float) -> None:
        """Hand bytes over and wait until all of them are taken.

        ConnectionError if the connection is gone, TimeoutError if nothing moves for `stall_s`.
        """
        if self._lost:
            raise ConnectionResetError("the connection was closed")
        if len(chunks) == 1:
            self.transport.write(chunks[0])
        else:
            self.transport.writelines(chunks)
        counters = self._counters
        waiting = self.transport.get_write_buffer_size()
        counters.max_buffered_bytes = max(counters.max_buffered_bytes, waiting)
        if self._writable.is_set():
            return
        counters.writes_paused += 1
        async with asyncio.timeout(stall_s):
            await self._writable.wait()
        if self._lost:
            raise ConnectionResetError("the connection was closed")

    async def opened(self, context: ssl.SSLContext, *, handshake_s: float) -> Wire:
        """The same connection inside TLS, of which we are the server; this one is used no more.

        Nothing may be read between the invitation to TLS and this: see `hold`. ssl.SSLError,
        ConnectionError, TimeoutError; the connection is closed then.
        """
        inner = Wire(self._counters)
        inner._is_tls = True
        self._lost = True
        self._closed.set()  # nobody will tell this one
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self.transport, inner, context, server_side=True, ssl_handshake_timeout=handshake_s
            )
        except BaseException:
            self.transport.abort()
            raise
        if transport is None:
            raise ConnectionResetError("the connection was closed in the middle of the handshake")
        inner.connection_made(transport)
        return inner

    def hold(self) -> None:
        """Take nothing in from now on: what comes is for whoever has the connection next."""
        self._reading_paused = True
        self.transport.pause_reading()

    def end_writing(self) -> None:
        """Say that no more comes; reading goes on."""
        if not self._lost and not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    async def close(self) -> None:
        """Send what waits, within FLUSH_S, and close."""
        try:
            self.transport.close()
            async with asyncio.timeout(FLUSH_S):
                await self._closed.wait()
        except TimeoutError:
            pass
        finally:
            self.abort()

    async def linger(self, time_s: float) -> None:
        """Close so that the other side can read all we sent, though we did not read all it sent.

        Closing at once would make the kernel send a reset, which destroys what is on its way.
        """
        self.end_writing()
        try:
            async with asyncio.timeout(time_s):
                while await self.read():
                    pass
        except (TimeoutError, ConnectionError):
            pass
        await self.close()

    def abort(self, *, reset: bool = False) -> None:
        """Close at once. `reset`: so that the other side can't take it for a clean end."""
        if self._lost:
            return
        if reset:
            sock = cast("socket.socket | None", self.transport.get_extra_info("socket"))
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _resume_reading(self) -> None:
        if not self._reading_paused or self._received_bytes >= READ_HIGH:
            return
        if not self._lost and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    def _tell_end(self) -> None:
        tell, self.on_end = self.on_end, None
        if tell is not None:
            tell()
