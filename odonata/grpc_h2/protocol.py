"""Carries one HTTP/2 connection over a socket: reads, writes, and the clocks of a connection.

Answers to one read leave with one write. While the socket takes no more, nothing is read either, so
that a client which does not read can't make the server remember what it would tell it. No call is
served here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog

from odonata.grpc_h2.connection import H2Connection
from odonata.grpc_service import Metadata

if TYPE_CHECKING:
    from odonata.grpc_h2.call import ListeningCall, TaskCall
    from odonata.grpc_h2.call_head import CallHead
    from odonata.grpc_h2.header import HeaderMemory
    from odonata.grpc_h2.limits import H2Limits
    from odonata.grpc_h2.stream import H2Stream

# What the kernel has not taken yet, before messages wait.
_WRITE_BUFFER_BYTES: Final = 512 * 1024

# Clocks of connections are looked at no more often than this.
_LEAST_WAIT_S: Final = 0.05

_ids = count(1)

_log = structlog.get_logger(__name__)


class Owner(Protocol):
    """The server."""

    @property
    def limits(self) -> H2Limits: ...
    @property
    def memory(self) -> HeaderMemory[CallHead]: ...
    @property
    def connections(self) -> dict[int, H2Protocol]: ...
    @property
    def calls(self) -> Calls: ...
    @property
    def has_stopped(self) -> bool:
        """It takes no connection any more; one that was accepted before may still be made."""
        ...

    def head_block_of(self, metadata: Metadata) -> bytes: ...
    def serve(self, carrier: H2Protocol, stream: H2Stream) -> None: ...


class Calls(Protocol):
    """The calls that run on a server."""

    def add(self, call: TaskCall | ListeningCall) -> None: ...
    def discard(self, call: TaskCall | ListeningCall) -> None: ...


class H2Protocol(asyncio.Protocol):
    """One client's connection; also what handlers know as `context.connection`."""

    def __init__(self, owner: Owner) -> None:
        self.id = next(_ids)
        """Unique among the connections of this process."""
        self.peer = ""
        self.loop = asyncio.get_running_loop()
        self.calls = owner.calls
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._lost: list[Callable[[], None]] | None = []
        self._h2 = H2Connection(owner.limits, owner.memory, self)
        self._is_flush_due = False
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None
        now = self.loop.time()
        self._began_s = self._read_s = self._idle_s = now
        self._pinged_s: float | None = None
        self._left_s: float | None = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the connection is gone (at once, if it is)."""
        if self._lost is None:
            callback()
        else:
            self._lost.append(callback)

    def head_block_of(self, metadata: Metadata) -> bytes:
        """The headers of an answer with these initial metadata."""
        return self._owner.head_block_of(metadata)

    def leave(self) -> None:
        """The server stops: take no more calls."""
        self._h2.leave_now()

    def close(self) -> None:
        """Send what is left and close."""
        if self._transport is not None and not self._transport.is_closing():
            self._flush()
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # --- of the socket ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's are no subclasses of it.
        transport = self._transport = cast("asyncio.Transport", transport)
        owner = self._owner
        if owner.has_stopped:
            transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        is_wrong = tls is not None and tls.selected_alpn_protocol() != "h2"
        if is_wrong or len(owner.connections) >= owner.limits.max_connections:
            _log.warning("connection_refused", reason="no h2" if is_wrong else "too many")
            transport.abort()
            return
        owner.connections[self.id] = self
        self.peer = _peer_of(transport)
        transport.set_write_buffer_limits(_WRITE_BUFFER_BYTES)
        self._flush()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._read_s = now = self.loop.time()
        self._h2.receive(data, now)
        self._flush()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. Who sends no more is not answered any more."""
        return False

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_paused = True
        self._h2.out.hold_back()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._h2.out.go_on()
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio passes it
        """See asyncio.Protocol."""
        self._owner.connections.pop(self.id, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._h2.lost()
        callbacks, self._lost = self._lost or [], None
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001  # somebody else's; the others must hear of it too
                _log.exception("connection_callback_crashed")

    # --- of the connection ------------------------------------------------------------------------

    def on_open(self, stream: H2Stream) -> None:
        """See connection.Host."""
        self._owner.serve(self, stream)

    def on_output(self) -> None:
        """See connection.Host."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush_due)

    def on_idle(self) -> None:
        """See connection.Host."""
        self._idle_s = self.loop.time()
        if self._h2.has_left:
            self.loop.call_soon(self.close)

    def _flush_due(self) -> None:
        self._is_flush_due = False
        self._flush()

    def _flush(self) -> None:
        transport, h2 = self._transport, self._h2
        if transport is None or transport.is_closing():
            return
        out = h2.out
        data = out.take()
        while data:
            transport.write(data)
            if self._is_paused:
                break
            out.go_on()
            data = out.take()
        if h2.is_over:
            self._tell_fault()
            transport.close()

    def _tell_fault(self) -> None:
        if self._h2.fault is not None:
            _log.info("connection_broken_off", client=self.peer, reason=self._h2.fault.reason)

    # --- clocks -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look at all clocks, and again when the next one may have run out."""
        if self._transport is None or self._transport.is_closing():
            return
        now = self.loop.time()
        deadlines = [self._watch_life(now), self._watch_age(now)]
        self._flush()
        wait_s = max(_LEAST_WAIT_S, min(deadlines) - now)
        self._timer = self.loop.call_later(wait_s, self._watch)

    def _watch_life(self, now: float) -> float:
        limits = self._owner.limits
        if not self._h2.is_ready:
            until_s = self._began_s + limits.handshake_timeout_s
            if now >= until_s:
                self.abort()
            # Once it is ready, keepalive counts.
            return min(until_s, now + self._shortest_silence_s)
        is_busy = bool(self._h2.streams)
        time_s = limits.call_keepalive_time_s if is_busy else limits.keepalive_time_s
        timeout_s = limits.call_keepalive_timeout_s if is_busy else limits.keepalive_timeout_s
        if self._pinged_s is not None and self._read_s >= self._pinged_s:
            self._pinged_s = None
        if self._pinged_s is None and now >= self._read_s + time_s:
            self._h2.ping()
            self._pinged_s = now
        # A call may begin at any moment, and is looked after from then on.
        soon_s = now + self._shortest_silence_s
        if self._pinged_s is None:
            return min(self._read_s + time_s, soon_s)
        until_s = self._pinged_s + timeout_s
        if now >= until_s:
            _log.info("connection_silent", client=self.peer)
            self.abort()
        return min(until_s, soon_s)

    @property
    def _shortest_silence_s(self) -> float:
        limits = self._owner.limits
        return min(limits.keepalive_time_s, limits.call_keepalive_time_s)

    def _watch_age(self, now: float) -> float:
        limits = self._owner.limits
        if self._left_s is not None:
            until_s = self._left_s + limits.age_grace_s
            if now >= until_s:
                self.close()
            return until_s
        ends_s = self._began_s + limits.max_age_s
        if not self._h2.streams:
            ends_s = min(ends_s, self._idle_s + limits.max_idle_s)
        if now >= ends_s:
            self._left_s = now
            self._h2.leave()
            return now + limits.age_grace_s
        # A call that ends meanwhile makes the connection idle no earlier than now.
        return min(ends_s, now + limits.max_idle_s)


def _peer_of(transport: asyncio.Transport) -> str:
    name: Any = transport.get_extra_info("peername")
    if not name or isinstance(name, str | bytes):
        return "unix:"
    return f"ipv6:[{name[0]}]:{name[1]}" if ":" in name[0] else f"ipv4:{name[0]}:{name[1]}"
