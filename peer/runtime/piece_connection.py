"""A child's connections to its parents: opened, and kept for the next piece where both are ours.

A stock parent closes after each piece. One of ours takes a greeting first, and then any number of
requests: that saves a handshake of one round trip (three with TLS) and a slow start for each piece.
What lies idle for long is closed, and what turns out to be dead is opened anew by who asked.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from odonata.errors import ProtocolError, UnavailableError
from odonata.wire import vortex
from odonata.wire.message import Value
from peer.runtime.piece_wire import PieceWire, PlainWire, TlsWire

CONNECT_TIMEOUT_S: Final = 2.0  # Dragonfly's; with TLS the handshake is in it

IDLE_S: Final = 10.0
"""A connection that nobody used for so long is closed: shorter than a parent keeps it, so that it
is rarely the parent who closes first."""

IDLE_MAX: Final = 256
"""Kept in all; the one that lies the longest is closed first. A descriptor each."""

LIMITED_RECEIVE_BUFFER_BYTES: Final = 256 * 1024
"""Under a rate limit the kernel must not take in what we are not allowed to read yet: its buffer
grows to 6 MiB, more than a piece, and the parent would believe the piece delivered."""


class ParentAddress(Value, frozen=True, kw_only=True):
    """Where a parent serves its pieces, and how. `ip` is a literal, never a name."""

    ip: str
    port: int
    takes_greetings: bool = False
    speaks_tls: bool = False


class PieceConnections:
    """One for the whole daemon. Not closed explicitly: `close` drops what lies idle."""

    def __init__(
        self,
        greeting: vortex.Greeting | None,
        *,
        tls: ssl.SSLContext | None = None,
        tls_only: bool = False,
        narrow: bool = False,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`greeting` None: keep nothing. `tls_only`: no piece from a parent without it.

        `narrow`: there is a rate limit (see LIMITED_RECEIVE_BUFFER_BYTES).
        """
        self._greeting = greeting
        self._tls = tls
        self._tls_only = tls_only
        self._narrow = narrow
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock
        self._idle: OrderedDict[PieceWire, tuple[ParentAddress, float]] = OrderedDict()
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> int:
        """Connections kept for the next piece."""
        return len(self._idle)

    def take(self, address: ParentAddress) -> PieceWire | None:
        """One that lies idle and is still good, the freshest first; the caller owns it now."""
        for wire in [one for one, (place, _) in reversed(self._idle.items()) if place == address]:
            del self._idle[wire]
            if wire.is_quiet:
                return wire
            wire.close()
        return None

    async def open(self, address: ParentAddress) -> PieceWire:
        """A new one, greeted if that is of use. Errors: UnavailableError, ProtocolError."""
        if self._tls_only and not (self._tls and address.speaks_tls):
            raise UnavailableError(
                f"parent {address.ip}:{address.port} offers no TLS, and "
                "storage.server.tls.required forbids anything else"
            )
        connection = _new_socket(address.ip)
        try:
            if self._narrow:
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, LIMITED_RECEIVE_BUFFER_BYTES
                )
            return await self._connected(connection, address)
        except BaseException:
            connection.close()
            raise

    async def _connected(self, connection: socket.socket, address: ParentAddress) -> PieceWire:
        where = f"{address.ip}:{address.port}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await loop.sock_connect(connection, (address.ip, address.port))
                wire: PieceWire = PlainWire(connection)
                if self._tls is not None and address.speaks_tls:
                    wire = await _secured(connection, self._tls)
        except TimeoutError:
            reason = f"no answer within {self._connect_timeout_s:g} s"
        except ssl.SSLError as error:
            reason = (
                f"TLS failed ({error.reason or error}): are both certificates of one authority?"
            )
        except OSError as error:
            reason = reason_of(error)
        else:
            if self._keeps(address):
                assert self._greeting is not None, "else it keeps nothing"
                await wire.send(vortex.encode_greeting(self._greeting), more=True)
            return wire
        raise UnavailableError(f"can't connect to parent {where}: {reason}")

    def keep(self, wire: PieceWire, address: ParentAddress) -> None:
        """The exchange is over, and all of its bytes were read: for the next one, or closed."""
        if not self._keeps(address):
            wire.close()
            return
        self._idle[wire] = (address, self._clock() + IDLE_S)
        while len(self._idle) > IDLE_MAX:
            oldest, _ = self._idle.popitem(last=False)
            oldest.close()
        self._expire_later()

    def close(self) -> None:
        """Close what lies idle; nothing is kept any more."""
        self._greeting = None
        if self._expiry is not None:
            self._expiry.cancel()
        while self._idle:
            self._idle.popitem()[0].close()

    def _keeps(self, address: ParentAddress) -> bool:
        return self._greeting is not None and address.takes_greetings

    def _expire_later(self) -> None:
        if self._expiry is None and self._idle:
            _, expires_s = next(iter(self._idle.values()))
            delay_s = max(0.0, expires_s - self._clock())
            self._expiry = asyncio.get_running_loop().call_later(delay_s, self.expire)

    def expire(self) -> None:
        """Close what has lain idle for long; called when it is time."""
        self._expiry = None
        now_s = self._clock()
        while self._idle and next(iter(self._idle.values()))[1] <= now_s:
            self._idle.popitem(last=False)[0].close()
        self._expire_later()


async def _secured(connection: socket.socket, tls: ssl.SSLContext) -> TlsWire:
    """The certificate must be of our authority; who it names is not looked at: see `piece_tls`."""
    wrapped = tls.wrap_socket(connection, do_handshake_on_connect=False)
    wire = TlsWire(wrapped)
    try:
        await wire.shake_hands()
    except BaseException:
        wire.close()
        raise
    return wire


def reason_of(error: OSError) -> str:
    """The system's word (asyncio replaces it by a text of its own), or that of TLS."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return os.strerror(error.errno) if error.errno else str(error)


def _new_socket(ip: str) -> socket.socket:
    """A non-blocking socket for an IP literal; names are refused, they would be looked up."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        socket.inet_pton(family, ip)
    except OSError:
        raise ProtocolError(f"parent address {ip[:80]!r} is not an IP literal") from None
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
