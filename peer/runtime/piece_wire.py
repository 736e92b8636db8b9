"""The bytes of one connection between a parent and a child: plain TCP, or TLS over it.

    readable -> take what is there -> ...        writable -> give what fits -> ...

Nothing here knows what the bytes mean. Both kinds look alike, so that who asks for a piece and who
sends one need not care; but a plain one lets the kernel move the content (sendfile, few wake-ups),
while TLS has to carry every byte through this process.

All methods run on the event loop's thread and never block, unless they say otherwise. Errors are
those of the system (OSError; those of TLS are among them) and TimeoutError.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, Self

from peer.core.pace import Pace

RECEIVE_WAKE_BYTES: Final = 2 * 1024 * 1024
"""Read when so much has arrived (the kernel caps it at half of the largest receive buffer: 3 MiB
by default). Measured over loopback, CPU-s/GB of receiving alone: 0.84 reading whatever is there (90
KiB at a time), 0.54 with 512 KiB, 0.41 with 1 MiB; of a whole fetch: 1.06 with 1 MiB, 0.92 with
2 MiB."""

TLS_RECORD_BYTES: Final = 16 * 1024 + 256  # RFC 8446, section 5.2
TLS_SLICE_BYTES: Final = 256 * 1024
"""Of the content file, read and encrypted at a time: large enough to be cheap, and the loop serves
others after each (0.2 ms)."""

NO_LINGER: Final = struct.pack("ii", 1, 0)
"""Of SO_LINGER: on, for no time at all."""

# tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info of <linux/tcp.h>: there since Linux
# 4.1, never moved.
_TCP_BYTES_ACKED: Final = 120
_TCP_BYTES_RECEIVED: Final = 128
_TCP_INFO_BYTES: Final = _TCP_BYTES_RECEIVED + 8

# What an SSLSocket raises instead of BlockingIOError.
_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class PieceWire(Protocol):
    """One open connection. Use as a context manager: leaving closes it."""

    pace: Pace
    """How fast content came over it."""

    @property
    def is_quiet(self) -> bool:
        """Nothing has come that was not read, and the other side has not hung up."""
        ...

    @property
    def is_cheap_to_take(self) -> bool:
        """`take` only copies: the loop may do it."""
        ...

    async def receive_up_to(self, data: bytes, length: int) -> bytes:
        """Read on until `data` has `length` bytes; fewer only at the end. Never a byte more."""
        ...

    async def receive_some(self, limit: int) -> bytes:
        """Whatever comes, at most `limit` bytes; b"" at the end."""
        ...

    async def arrival(self, length: int) -> None:
        """Return once so much can be taken, or RECEIVE_WAKE_BYTES; a hint: it may be less."""
        ...

    def hurry(self) -> None:
        """Have whoever waits for an `arrival` be content with what is there, or comes next."""
        ...

    def take(self, data: memoryview, patience_s: float = 0.0) -> int:
        """Read what is there into `data`, without waiting; 0 if nothing is, yet.

        With `patience_s`, which is for threads only, it may wait so long in all for `data` to be
        full. Of any thread, by one at a time. EOFError: nothing is there, and nothing will come.
        """
        ...

    async def send(self, data: bytes, *, more: bool = False) -> None:
        """Send all of `data`. `more`: the next bytes follow at once. TimeoutError: see `stall`."""
        ...

    async def send_file(self, fd: int, position: int, length: int) -> int:
        """Send some of `length` bytes of the file, at least one; 0: the file ends there."""
        ...

    def received_bytes(self) -> int | None:
        """What the other side has sent so far in all; None if only we can count it."""
        ...

    def arrived_bytes(self) -> int | None:
        """What the other side has acknowledged so far in all; None if nobody can say."""
        ...

    def on_departure(self, act: Callable[[], None]) -> Callable[[], None]:
        """Call `act` once if the other side closes; returns what ends the watch.

        Nothing may be read meanwhile.
        """
        ...

    def forget_unsent(self) -> None:
        """Have `close` drop what the kernel has taken, and not sent yet."""
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class PlainWire:
    """A TCP connection. `stall_timeout_s`: the other side must take a byte within that time."""

    def __init__(self, connection: socket.socket, stall_timeout_s: float | None = None) -> None:
        self._connection = connection
        self._stall_timeout_s = stall_timeout_s
        self._loop = asyncio.get_running_loop()
        self.pace = Pace()

    @property
    def is_quiet(self) -> bool:
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def is_cheap_to_take(self) -> bool:
        return True

    async def receive_up_to(self, data: bytes, length: int) -> bytes:
        while len(data) < length:
            more = await self.receive_some(length - len(data))
            if not more:
                break
            data += more
        return data

    async def receive_some(self, limit: int) -> bytes:
        while True:
            try:
                return self._connection.recv(limit)
            except _WOULD_BLOCK:
                await self._readable()

    async def peek(self, length: int) -> bytes:
        """The first `length` bytes that come, left where they are; fewer only at the end."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)
        try:
            await self._readable()
            return self._connection.recv(length, socket.MSG_PEEK)
        finally:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    async def arrival(self, length: int) -> None:
        """The kernel wakes us when so much is there, not for each segment."""
        connection = self._connection
        wake = min(RECEIVE_WAKE_BYTES, max(1, length - self._undelivered()))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wake)
        try:
            await self._readable()
        finally:
            if wake > 1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def hurry(self) -> None:
        """The kernel looks at once whether that is enough."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _undelivered(self) -> int:
        """Bytes, at most, that were read from the socket and not taken yet."""
        return 0

    def take(self, data: memoryview, patience_s: float = 0.0) -> int:
        """All there is: of a reset uvloop tells once, and it comes after the bytes."""
        if patience_s > 0.0:
            return self._take_within(data, patience_s)
        position = 0
        while position < len(data):
            try:
                count = self._connection.recv_into(data[position:])
            except _WOULD_BLOCK:
                break
            if count == 0:
                if position:
                    break
                raise EOFError
            position += count
        return position

    def _take_within(self, data: memoryview, patience_s: float) -> int:
        """A few system calls for each RECEIVE_WAKE_BYTES, and the loop sleeps meanwhile."""
        connection, position = self._connection, 0
        arrival = select.poll()
        arrival.register(connection, select.POLLIN)
        ends_at_s = time.monotonic() + patience_s
        try:
            while position < len(data) and (left_s := ends_at_s - time.monotonic()) > 0.0:
                wake = min(RECEIVE_WAKE_BYTES, len(data) - position)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wake)
                arrival.poll(left_s * 1000)
                position += self.take(data[position:])
        except EOFError:
            if not position:
                raise
        finally:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return position

    async def send(self, data: bytes, *, more: bool = False) -> None:
        flags = socket.MSG_MORE if more else 0
        while data:
            try:
                data = data[self._connection.send(data, flags) :]
            except BlockingIOError:
                await self._writable()

    async def send_file(self, fd: int, position: int, length: int) -> int:
        while True:
            try:
                return os.sendfile(self._connection.fileno(), fd, position, length)
            except BlockingIOError:
                await self._writable()

    def received_bytes(self) -> int | None:
        """As Linux' tcp_info has it: what is in the kernel counts too. 0 if that is over."""
        return self._count(_TCP_BYTES_RECEIVED) or 0

    def arrived_bytes(self) -> int | None:
        return self._count(_TCP_BYTES_ACKED)

    def _count(self, place: int) -> int | None:
        """A number of eight bytes in Linux' tcp_info; None: the connection is over."""
        try:
            info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return None
        if len(info) < _TCP_INFO_BYTES:
            return None
        return int.from_bytes(info[place : place + 8], sys.byteorder)

    def on_departure(self, act: Callable[[], None]) -> Callable[[], None]:
        """A stock child keeps its side open until it has read the head of the answer."""
        fileno = self._connection.fileno()

        def look() -> None:
            self._loop.remove_reader(fileno)
            try:
                # Of a TLS connection, too, what counts is whether its socket is at its end.
                here = socket.socket.recv(self._connection, 1, socket.MSG_PEEK)
            except OSError:
                here = b""
            if not here:  # else it says more than it should, and that alone is no reason
                act()

        self._loop.add_reader(fileno, look)

        def unwatch() -> None:
            self._loop.remove_reader(fileno)

        return unwatch

    def forget_unsent(self) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- waiting ---

    async def _readable(self) -> None:
        await self._ready(self._loop.add_reader, self._loop.remove_reader)

    async def _writable(self) -> None:
        """Return when the socket takes bytes again; TimeoutError if the other side reads none."""
        async with asyncio.timeout(self._stall_timeout_s):
            await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def _ready(
        self,
        add: Callable[[int, Callable[[], object]], object],
        remove: Callable[[int], object],
    ) -> None:
        fileno = self._connection.fileno()
        ready: asyncio.Future[None] = self._loop.create_future()
        add(fileno, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            remove(fileno)


class TlsWire(PlainWire):
    """TLS over a TCP connection, after `shake_hands`."""

    def __init__(self, connection: ssl.SSLSocket, stall_timeout_s: float | None = None) -> None:
        super().__init__(connection, stall_timeout_s)
        self._tls = connection

    async def shake_hands(self) -> None:
        """Agree on keys, and check the other side's certificate. ssl.SSLError if that fails."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._readable()
            except ssl.SSLWantWriteError:
                await self._writable()
            else:
                return

    @property
    def is_quiet(self) -> bool:
        """Session tickets may lie there after the handshake: what can be read decides."""
        try:
            self._tls.recv(1)
        except _WOULD_BLOCK:
            return True
        except OSError:
            return False
        return False

    @property
    def is_cheap_to_take(self) -> bool:
        return False

    def _undelivered(self) -> int:
        """What is decrypted, and at most a record that OpenSSL has read a part of."""
        return self._tls.pending() + TLS_RECORD_BYTES

    def take(self, data: memoryview, patience_s: float = 0.0) -> int:
        """What OpenSSL holds is not seen by who waits at the socket, so nobody does."""
        del patience_s
        return super().take(data)

    async def arrival(self, length: int) -> None:
        """What was decrypted already is there, whatever the socket says."""
        if length > self._tls.pending() or not length:
            await super().arrival(length)

    async def send(self, data: bytes, *, more: bool = False) -> None:
        del more  # a record of its own, whatever follows
        await self._send(memoryview(data))

    async def send_file(self, fd: int, position: int, length: int) -> int:
        data = os.pread(fd, min(length, TLS_SLICE_BYTES), position)
        await self._send(memoryview(data))
        return len(data)

    async def _send(self, data: memoryview) -> None:
        while data:
            try:
                # OpenSSL wants the very same bytes again after it had no room for them.
                data = data[self._tls.send(data) :]
            except ssl.SSLWantReadError:
                await self._readable()
            except (BlockingIOError, ssl.SSLWantWriteError):
                await self._writable()

    def received_bytes(self) -> int | None:
        return None


@asynccontextmanager
async def while_there(wire: PieceWire) -> AsyncGenerator[None]:
    """While we have nothing to send: TimeoutError as soon as the other side closes."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as patience:
        unwatch = wire.on_departure(lambda: patience.reschedule(loop.time()))
        try:
            yield
        finally:
            unwatch()
