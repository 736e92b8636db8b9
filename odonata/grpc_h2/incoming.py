"""What a connection's DATA brings: messages for the streams, and the windows that the client has.

The client may send a window's worth on each stream and on the connection. What it sent is given
back once half a window is owed, and not while handlers leave more than the backlog's bound untaken.
The messages of one read reach their stream together (`deliver`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.grpc_h2 import frame
from odonata.grpc_h2.call_head import INTERNAL, RESOURCE_EXHAUSTED
from odonata.grpc_h2.frame import Code, ConnectionFault
from odonata.grpc_h2.message import MessageFault

if TYPE_CHECKING:
    from odonata.grpc_h2.connection import H2Connection
    from odonata.grpc_h2.limits import H2Limits
    from odonata.grpc_h2.stream import H2Stream


class Incoming:
    """The receiving side of one connection."""

    def __init__(self, connection: H2Connection, limits: H2Limits) -> None:
        self.held = 0
        """Bytes of messages that handlers have not taken."""
        self.partial = 0
        """Bytes of messages that have not come whole."""
        self._connection = connection
        self._streams = connection.streams
        self._out = connection.out
        self._limits = limits
        self._window = limits.connection_window_bytes
        self._owed = 0
        self._touched: list[H2Stream] = []

    # --- data -------------------------------------------------------------------------------------

    def data(self, data: bytes, at: int, end: int, flags: int, stream_id: int) -> None:
        """A DATA frame with `data[at:end]`. Raises ConnectionFault."""
        length = end - at
        self._window -= length
        if self._window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the connection's window")
        self._owed += length
        stream = self._streams.get(stream_id)
        if stream is None or stream.remote_ended:
            self._stray_data(stream, stream_id)
            return
        stream.window -= length
        stream.owed += length
        if stream.window < 0:
            self._connection.break_off(stream, Code.FLOW_CONTROL_ERROR)
            return
        if flags & frame.PADDED:
            payload = frame.unpadded(data[at:end], flags)
            data, at, end = payload, 0, len(payload)
        if flags & frame.END_STREAM:
            stream.remote_ended = True
        elif at == end:
            self._connection.spend_control()
        if at < end:
            self._feed(stream, data, at, end)
        if not stream.touched:
            stream.touched = True
            self._touched.append(stream)

    def _feed(self, stream: H2Stream, data: bytes, at: int, end: int) -> None:
        reader = stream.reader
        before = reader.part
        had = 0 if before is None else len(before)
        fault: MessageFault | None = None
        try:
            reader.feed(data, at, end, stream.inbox)
        except MessageFault as caught:
            fault = caught
        part = reader.part
        if had or part is not None:
            self.partial += (0 if part is None else len(part)) - had
            if fault is None and self.partial > self._limits.max_partial_bytes:
                fault = _too_much_at_once(self._limits)
        if fault is not None:
            self._refuse_message(stream, fault)

    def _refuse_message(self, stream: H2Stream, fault: MessageFault) -> None:
        stream.inbox.clear()
        if stream.sink is not None:
            stream.sink.on_fault(fault.status, fault.reason)
        if not stream.closed:
            stream.reset(Code.CANCEL)

    def _stray_data(self, stream: H2Stream | None, stream_id: int) -> None:
        if stream is not None:
            self._connection.break_off(stream, Code.STREAM_CLOSED)
        elif not self._connection.was_opened(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA of a stream that was never opened")

    # --- to the streams ---------------------------------------------------------------------------

    def touch(self, stream: H2Stream) -> None:
        """`stream` has something to hear at the end of this read."""
        if not stream.touched and not stream.closed:
            stream.touched = True
            self._touched.append(stream)

    def deliver(self) -> None:
        """Hand each stream what came."""
        touched = self._touched
        if touched:
            self._touched = []
            for stream in touched:
                stream.touched = False
                if not stream.closed:
                    self._deliver_to(stream)
        if self._owed >= self._limits.connection_window_bytes // 2:
            self._give_back_all()

    def _deliver_to(self, stream: H2Stream) -> None:
        sink, inbox = stream.sink, stream.inbox
        if sink is not None:
            if inbox:
                stream.inbox = []
                sink.on_messages(inbox)
            if stream.remote_ended and not stream.closed:
                if stream.reader.part is not None:
                    sink.on_fault(INTERNAL, "the call ends in the middle of a message")
                else:
                    sink.on_end()
        self._give_back(stream)

    # --- windows ----------------------------------------------------------------------------------

    def hold(self, stream: H2Stream, n_bytes: int) -> None:
        """The handler of `stream` has so much more, or less, waiting for it."""
        if stream.closed:
            stream.held = 0
            return
        self.held += n_bytes
        if n_bytes < 0:
            self._give_back(stream)
            self._give_back_all()

    def forget(self, stream: H2Stream) -> None:
        """Nothing of `stream` waits any more."""
        self.held -= stream.held
        stream.held = 0
        if stream.reader.part is not None:
            self.partial -= len(stream.reader.part)
            stream.reader.part = None

    def _give_back(self, stream: H2Stream) -> None:
        limits = self._limits
        if (
            stream.owed >= limits.stream_window_bytes // 2
            and stream.held <= limits.stream_backlog_bytes
            and not stream.remote_ended
            and not stream.closed
        ):
            self._out.put(frame.window_update(stream.id, stream.owed))
            stream.window += stream.owed
            stream.owed = 0

    def _give_back_all(self) -> None:
        limits = self._limits
        if (
            self._owed >= limits.connection_window_bytes // 2
            and self.held <= limits.connection_backlog_bytes
            and not self._connection.is_over
        ):
            self._out.put(frame.window_update(0, self._owed))
            self._window += self._owed
            self._owed = 0


def _too_much_at_once(limits: H2Limits) -> MessageFault:
    text = f"unfinished messages of more than {limits.max_partial_bytes} bytes on one connection"
    return MessageFault(RESOURCE_EXHAUSTED, text)
