"""One stream of a connection: the messages that came in, the answer that goes out.

Bytes are made here and queued at the connection (`outgoing`). Messages that flow control holds back
wait here; how many a handler may let wait is the handler's bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from odonata.grpc_h2 import frame
from odonata.grpc_h2.frame import Code
from odonata.grpc_h2.message import PREFIX, PREFIX_BYTES

if TYPE_CHECKING:
    from odonata.grpc_h2.call_head import CallHead
    from odonata.grpc_h2.connection import H2Connection
    from odonata.grpc_h2.message import MessageReader


class Sink(Protocol):
    """Whoever serves the stream. Nothing it does may raise."""

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """The messages that arrived with one read, in order."""

    def on_end(self) -> None:
        """The client says no more."""

    def on_reset(self) -> None:
        """The stream is over before its answer was: the client went, or broke the rules."""

    def on_fault(self, status: int, reason: str) -> None:
        """A message could not be taken: end the call with `status` (a gRPC code)."""

    def on_sent(self) -> None:
        """All messages that waited have left."""


class H2Stream:
    """Made by the connection. `sink` is set by whoever was told that it opened."""

    __slots__ = (
        "closed",
        "connection",
        "head",
        "headers_sent",
        "held",
        "id",
        "inbox",
        "last_words",
        "out",
        "owed",
        "pending",
        "reader",
        "remote_ended",
        "send_window",
        "sink",
        "touched",
        "window",
    )

    def __init__(
        self,
        connection: H2Connection,
        stream_id: int,
        head: CallHead,
        reader: MessageReader,
        windows: tuple[int, int],
    ) -> None:
        self.connection = connection
        self.out = connection.out
        self.id = stream_id
        self.head = head
        self.reader = reader
        self.window, self.send_window = windows
        """Bytes that the client, and that we, may still send."""
        self.sink: Sink | None = None
        self.inbox: list[bytes] = []
        self.owed = 0
        """Bytes taken that the client was not given back yet."""
        self.held = 0
        """Bytes of messages that the handler has not taken, as it told us."""
        self.touched = False
        self.remote_ended = False
        self.headers_sent = False
        self.closed = False
        self.pending: deque[memoryview] = deque()
        self.last_words: bytes | None = None
        """Trailers that wait for the pending messages."""

    def send_headers(self, block: bytes) -> None:
        """Begin the answer, once."""
        if self.closed or self.headers_sent:
            return
        self.headers_sent = True
        self.out.put_headers(self.id, block, ends=False)

    def send_message(self, payload: bytes) -> bool:
        """Send a message; False if (some of) it waits for the client's leave."""
        if self.closed or self.last_words is not None:
            return True
        out, length = self.out, len(payload)
        size = length + PREFIX_BYTES
        if not self.pending and size <= self.send_window and out.takes(size):
            self.send_window -= size
            out.put_message(self.id, payload)
            return True
        self.pending.append(memoryview(PREFIX.pack(0, length) + payload))
        out.block(self)
        return not self.pending

    def end(self, block: bytes) -> None:
        """End the answer with these trailers, after what waits."""
        if self.closed or self.last_words is not None:
            return
        self.last_words = block
        if not self.pending:
            self.connection.finish(self)

    def on_sent(self) -> None:
        """All that waited has left: tell the handler, or end."""
        if self.last_words is not None:
            self.connection.finish(self)
        elif self.sink is not None:
            self.sink.on_sent()

    def drop_pending(self) -> bool:
        """Forget the messages that wait; False if one of them has left in part."""
        is_whole = not self.pending or _is_whole(self.pending[0])
        self.pending.clear()
        self.out.unblock(self)
        return is_whole

    def reset(self, code: Code) -> None:
        """Break the stream off."""
        if not self.closed:
            self.out.put(frame.rst_stream(self.id, code))
            self.connection.forget(self)

    def hold(self, n_bytes: int) -> None:
        """The handler has `n_bytes` more (or, negative, less) of messages waiting for it."""
        self.held += n_bytes
        self.connection.incoming.hold(self, n_bytes)


def _is_whole(waiting: memoryview) -> bool:
    whole = waiting.obj
    assert isinstance(whole, bytes), "made by send_message"
    return len(waiting) == len(whole)
