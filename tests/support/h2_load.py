"""A load of gRPC calls that costs its sender little: every frame is made before the clock starts.

Each call is a list of messages, each in a DATA frame of its own, as gRPC's clients send them. On
each connection a few calls are under way at a time; when one has ended the next one begins. A call
is sent *ahead* (all at once), or *closed*: its first message, and the others one by one, each with
a write of its own, once the answer to the first has come.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import cast

from odonata.grpc_h2 import frame
from odonata.grpc_h2.header import block_of

WINDOW_BYTES = 2**30


class LoadError(Exception):
    """A call did not end as it should."""


@dataclass
class Call:
    """One prepared call: the messages as DATA frames, their stream id still missing."""

    messages: Sequence[bytes]
    sent: int = 0
    is_answered: bool = False


@dataclass
class Plan:
    """What every connection works on. `calls` is drawn from by all of them."""

    calls: Iterator[Sequence[bytes]]
    block: bytes
    is_closed: bool
    per_connection: int
    half_closes: bool
    finished: int = 0
    failures: list[str] = field(default_factory=list[str])


def headers_of(path: str, timeout: str = "") -> bytes:
    """The header block of a call, as a stock client writes it."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "127.0.0.1"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "load/1"),
    ]
    if timeout:
        fields.append(("grpc-timeout", timeout))
    return block_of(fields)


class LoadConnection(asyncio.Protocol):
    """One connection that sends calls of the plan until there are none."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ids = count(1, 2)
        self._open: dict[int, Call] = {}
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = self._transport = cast("asyncio.Transport", transport)
        ours = {frame.INITIAL_WINDOW_SIZE: WINDOW_BYTES, frame.ENABLE_PUSH: 0}
        transport.write(
            frame.PREFACE + frame.settings_frame(ours) + frame.window_update(0, WINDOW_BYTES)
        )
        for _ in range(self._plan.per_connection):
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or LoadError("the server closed the connection"))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _begin(self) -> None:
        messages = next(self._plan.calls, None)
        if messages is None:
            if not self._open and not self.done.done():
                self.done.set_result(None)
            return
        stream_id = next(self._ids)
        call = self._open[stream_id] = Call(messages)
        first = 1 if self._plan.is_closed else len(messages)
        head = frame.headers(stream_id, self._plan.block, frame.DEFAULT_FRAME_BYTES, ends=False)
        data = [self._data(stream_id, message) for message in messages[:first]]
        if self._plan.half_closes:
            data[-1] = self._data(stream_id, messages[first - 1], frame.END_STREAM)
        self._write(head + b"".join(data))
        call.sent = first

    def _data(self, stream_id: int, message: bytes, flags: int = 0) -> bytes:
        head = frame.HEAD.pack((len(message) + 5) << 8 | frame.DATA, flags, stream_id)
        return head + struct.pack(">BI", 0, len(message)) + message

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= frame.HEAD_BYTES:
            word, flags, stream_id = frame.HEAD.unpack_from(data, at)
            end = at + frame.HEAD_BYTES + (word >> 8)
            if end > len(data):
                break
            self._take(word & 0xFF, flags, stream_id, data[at + frame.HEAD_BYTES : end])
            at = end
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frame.SETTINGS and not flags & frame.ACK:
            self._write(frame.frame(frame.SETTINGS, frame.ACK, 0))
        elif kind == frame.PING and not flags & frame.ACK:
            self._write(frame.frame(frame.PING, frame.ACK, 0, payload))
        elif kind == frame.GOAWAY:
            raise LoadError(f"GOAWAY: {payload!r}")
        elif kind == frame.DATA:
            self._answered(stream_id)
            # grpcio's server stops when what it sent is not acknowledged.
            self._write(frame.window_update(0, len(payload)))
        if kind in (frame.HEADERS, frame.DATA) and flags & frame.END_STREAM:
            self._ended(stream_id, payload)

    def _answered(self, stream_id: int) -> None:
        call = self._open.get(stream_id)
        if call is None or call.is_answered or not self._plan.is_closed:
            return
        call.is_answered = True
        self._send_next(stream_id, call)

    def _send_next(self, stream_id: int, call: Call) -> None:
        if stream_id in self._open and call.sent < len(call.messages):
            self._write(self._data(stream_id, call.messages[call.sent]))
            call.sent += 1
            asyncio.get_running_loop().call_soon(self._send_next, stream_id, call)

    def _ended(self, stream_id: int, trailers: bytes) -> None:
        call = self._open.pop(stream_id, None)
        if call is None:
            return
        if call.sent < len(call.messages):
            self._plan.failures.append(f"ended after {call.sent} messages: {trailers!r}")
        self._plan.finished += 1
        self._begin()


async def run_load(
    address: tuple[str, int],
    path: str,
    calls: Sequence[Sequence[bytes]],
    *,
    is_closed: bool = False,
    half_closes: bool = False,
    connections: int = 32,
    per_connection: int = 2,
) -> None:
    """Make all `calls`, each a list of serialised messages.

    `half_closes`: the client ends its side with the last message, as for a unary call; else the
    server ends a call.
    """
    plan = Plan(iter(calls), headers_of(path), is_closed, per_connection, half_closes)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: LoadConnection(plan), *address)
        for _ in range(min(connections, len(calls)))
    ]
    try:
        await asyncio.gather(*(protocol.done for _, protocol in made))
    finally:
        for transport, _ in made:
            transport.close()
    if plan.failures or plan.finished != len(calls):
        raise LoadError(f"{plan.finished} of {len(calls)} calls: {plan.failures[:3]}")
