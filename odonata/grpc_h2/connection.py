"""One HTTP/2 connection of a server, bytes in and bytes out.

Theory of operation
===================

`receive` takes what the socket read: the `frame_reader` cuts it into frames, each is acted on, and
then each stream is handed the messages that came, all those of one read together. What is to be
sent gathers in `out` until it is taken: so the answers to one read leave with one write. The clock
is an argument.

Who does what: `incoming` feeds what DATA brings to the streams and keeps the windows of the client;
`outgoing` queues what is sent and keeps the windows that the client gives us. Here are the streams,
how they begin and end, and the frames that speak of the connection.

A fault of one stream ends that stream with RST_STREAM, a fault of the connection ends everything
with GOAWAY; both by RFC 9113's rules. Streams are forgotten when both sides have ended: frames that
arrive for one that is gone are taken for late ones and dropped, as the RFC allows.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from odonata.grpc_h2 import frame
from odonata.grpc_h2.call_head import CallHead, http_block
from odonata.grpc_h2.calm import Budget
from odonata.grpc_h2.frame import Code, ConnectionFault, StreamFault
from odonata.grpc_h2.frame_reader import FrameReader
from odonata.grpc_h2.header import HeaderMemory, HeaderReader, TooManyFieldsError
from odonata.grpc_h2.incoming import Incoming
from odonata.grpc_h2.limits import H2Limits
from odonata.grpc_h2.message import MessageReader
from odonata.grpc_h2.outgoing import Outgoing
from odonata.grpc_h2.stream import H2Stream

_FIELDS_TOO_LARGE = 431

# Which pong belongs to a graceful goodbye: "odonata" and a zero.
_GOODBYE = b"odonata\x00"
_ALIVE = b"odonata\x01"


class Host(Protocol):
    """What carries the connection."""

    def on_open(self, stream: H2Stream) -> None:
        """A call begins: set `stream.sink`, or answer at once."""

    def on_output(self) -> None:
        """Something is to be sent though nothing was received."""

    def on_idle(self) -> None:
        """The last call has ended."""


class Buffered(NamedTuple):
    """What a connection remembers for its client: bytes, and streams whose messages wait."""

    frame: int
    header_block: int
    unfinished_messages: int
    untaken_messages: int
    blocked_streams: int


class H2Connection:
    """The server's end. `limits` and `memory` are shared by all connections of a server."""

    def __init__(self, limits: H2Limits, memory: HeaderMemory[CallHead], host: Host) -> None:
        self.streams: dict[int, H2Stream] = {}
        self.is_over = False
        """Nothing is read any more: send what is left and close."""
        self.is_leaving = False
        """Goodbye was said."""
        self.has_left = False
        """No new calls are taken."""
        self.fault: ConnectionFault | None = None
        self._limits = limits
        self._host = host
        self._headers = HeaderReader(memory, max_list_bytes=limits.max_header_list_bytes)
        self._controls = Budget("control frames", limits.control_burst, limits.control_per_s)
        self._resets = Budget("streams that were reset", limits.reset_burst, limits.reset_per_s)
        self._now = 0.0
        self._last_id = 0
        self.out = Outgoing(limits, host.on_output)
        """What is to be sent: its carrier takes it there."""
        self.incoming = Incoming(self, limits)
        self._frames = FrameReader(limits, self.incoming.data, self._take_headers, self._take_frame)
        self._greet()
        self.out.is_receiving = False

    # --- what the carrier does --------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take in what the socket read at `now` (seconds)."""
        if self.is_over:
            return
        self._now = now
        self.out.is_receiving = True
        try:
            self._frames.read(data)
        except ConnectionFault as fault:
            self._fail(fault)
        self.incoming.deliver()
        self.out.is_receiving = False

    @property
    def is_ready(self) -> bool:
        """Whether the client has said who it is: preface and SETTINGS."""
        return self._frames.is_ready

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.out.put(frame.frame(frame.PING, 0, 0, _ALIVE))

    def leave(self) -> None:
        """Say goodbye: calls that are on their way already are still taken.

        The client hears of it before the number of the last call is fixed, when it answers a ping
        (`leave_now` fixes it without waiting).
        """
        if not self.is_leaving and not self.is_over:
            self.is_leaving = True
            self.out.put(frame.goaway(frame.MAX_STREAM_ID, Code.NO_ERROR))
            self.out.put(frame.frame(frame.PING, 0, 0, _GOODBYE))

    def leave_now(self) -> None:
        """Say goodbye: what was not begun by now is not taken."""
        if not self.is_over and not self.has_left:
            self.is_leaving = self.has_left = True
            self.out.put(frame.goaway(self._last_id, Code.NO_ERROR))

    def lost(self) -> None:
        """The socket is gone: every call is over."""
        self.is_over = True
        for stream in tuple(self.streams.values()):
            self._abandon(stream)

    def buffered(self) -> Buffered:
        """Count what is remembered."""
        return Buffered(
            frame=len(self._frames.rest),
            header_block=len(self._frames.block or b""),
            unfinished_messages=self.incoming.partial,
            untaken_messages=self.incoming.held,
            blocked_streams=self.out.blocked_count,
        )

    # --- what streams do --------------------------------------------------------------------------

    def finish(self, stream: H2Stream) -> None:
        """Send a stream's last words; it is over then."""
        assert stream.last_words is not None, "finish() is for streams with last words"
        self.out.put_headers(stream.id, stream.last_words, ends=True)
        if not stream.remote_ended:
            # RFC 9113 §8.1: the answer is whole, and the rest of the request is not needed.
            self.out.put(frame.rst_stream(stream.id, Code.NO_ERROR))
        self.forget(stream)

    def forget(self, stream: H2Stream) -> None:
        """The stream is over, for both sides."""
        if stream.closed:
            return
        stream.closed = True
        self.out.unblock(stream)
        self.incoming.forget(stream)
        stream.pending.clear()
        del self.streams[stream.id]
        if not self.streams:
            self._host.on_idle()

    # --- what the two sides ask -------------------------------------------------------------------

    def was_opened(self, stream_id: int) -> bool:
        """Whether the client has begun such a stream."""
        return stream_id <= self._last_id and stream_id % 2 == 1

    def spend_control(self) -> None:
        """Count a frame that costs the client nothing. Raises ConnectionFault: too many."""
        self._controls.spend(self._now)

    def break_off(self, stream: H2Stream, code: Code) -> None:
        """A fault of one stream."""
        self.out.put(frame.rst_stream(stream.id, code))
        self._abandon(stream)

    # --- frames -----------------------------------------------------------------------------------

    def _greet(self) -> None:
        limits = self._limits
        ours = {
            frame.HEADER_TABLE_SIZE: 0,
            frame.MAX_CONCURRENT_STREAMS: limits.max_streams,
            frame.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            frame.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
        }
        self.out.put(frame.settings_frame(ours))
        more = limits.connection_window_bytes - frame.DEFAULT_WINDOW_BYTES
        if more > 0:
            self.out.put(frame.window_update(0, more))

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frame.WINDOW_UPDATE:
            self._window_update(stream_id, payload)
        elif kind == frame.RST_STREAM:
            self._rst_stream(stream_id, payload)
        else:
            self._take_control(kind, flags, stream_id, payload)

    def _take_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Frames that are no part of a call."""
        self.spend_control()
        if kind == frame.PRIORITY:
            if stream_id == 0:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of no stream")
            if len(payload) != 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")
            return  # RFC 9113 takes no notice of it
        if kind > frame.CONTINUATION:
            return  # to be ignored, whatever it is
        if stream_id != 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of the connection names a stream")
        if kind == frame.SETTINGS:
            self._settings(flags, payload)
        elif kind == frame.PING:
            self._ping(flags, payload)
        elif len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY has 8 bytes or more")

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if not flags & frame.ACK:
            self.out.put(frame.frame(frame.PING, frame.ACK, 0, payload))
        elif payload == _GOODBYE and self.is_leaving:
            self.leave_now()
            if not self.streams:
                self._host.on_idle()

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & frame.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement has no payload")
            return
        if len(payload) % frame.SETTING.size:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a setting has 6 bytes")
        for key, value in frame.SETTING.iter_unpack(payload):
            self._set(key, value)
        self.out.put(frame.frame(frame.SETTINGS, frame.ACK, 0))
        self.out.pump()

    def _set(self, key: int, value: int) -> None:
        if key == frame.INITIAL_WINDOW_SIZE:
            self.out.set_initial_window(value, self.streams.values())
        elif key == frame.MAX_FRAME_SIZE:
            self.out.set_max_frame(value)
        elif key == frame.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    # --- headers ----------------------------------------------------------------------------------

    def _take_headers(self, stream_id: int, flags: int, block: bytes) -> None:
        if not block:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is empty")
        ends = bool(flags & frame.END_STREAM)
        is_new = stream_id > self._last_id
        try:
            head = self._headers.read(block)
        except StreamFault as fault:
            self._refuse_headers(stream_id, fault.code, ends=ends)
            return
        except TooManyFieldsError:
            if is_new:
                self._last_id = stream_id
                self.out.put_headers(stream_id, http_block(_FIELDS_TOO_LARGE), ends=True)
            self.out.put(frame.rst_stream(stream_id, Code.NO_ERROR))
            return
        if is_new:
            self._open(stream_id, head, ends=ends)
        else:
            self._take_trailers(stream_id, ends=ends)

    def _refuse_headers(self, stream_id: int, code: Code, *, ends: bool) -> None:
        """Malformed, or trailers, which have no pseudo fields: the interpreter can't tell."""
        if stream_id in self.streams:
            self._take_trailers(stream_id, ends=ends)
        elif stream_id > self._last_id:
            self._last_id = stream_id
            self.out.put(frame.rst_stream(stream_id, code))

    def _take_trailers(self, stream_id: int, *, ends: bool) -> None:
        """A client's trailers say nothing in gRPC but that it has ended."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if stream.remote_ended or not ends:
            self.break_off(stream, Code.PROTOCOL_ERROR)
            return
        stream.remote_ended = True
        self.incoming.touch(stream)

    def _open(self, stream_id: int, head: CallHead, *, ends: bool) -> None:
        self._last_id = stream_id
        limits = self._limits
        if self.has_left or len(self.streams) >= limits.max_streams:
            self._resets.spend(self._now)
            self.out.put(frame.rst_stream(stream_id, Code.REFUSED_STREAM))
            return
        reader = MessageReader(head.encoding, limits.max_message_bytes, limits.max_inflated_bytes)
        windows = (limits.stream_window_bytes, self.out.initial_window)
        stream = H2Stream(self, stream_id, head, reader, windows)
        stream.remote_ended = ends
        self.streams[stream_id] = stream
        if head.http_status != 200:
            stream.end(http_block(head.http_status))
            return
        self._host.on_open(stream)
        if ends:
            self.incoming.touch(stream)

    # --- streams that are open --------------------------------------------------------------------

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        more = frame.U32.unpack(payload)[0] & frame.MAX_STREAM_ID
        if stream_id == 0:
            self.out.widen(more)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._must_have_been(stream_id)
            return
        stream.send_window += more
        if more == 0:
            self.break_off(stream, Code.PROTOCOL_ERROR)
        elif stream.send_window > frame.MAX_WINDOW_BYTES:
            self.break_off(stream, Code.FLOW_CONTROL_ERROR)
        elif stream.pending:
            self.out.pump()

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._must_have_been(stream_id)
            self.spend_control()
            return
        self._resets.spend(self._now)
        self._abandon(stream)

    def _must_have_been(self, stream_id: int) -> None:
        if not self.was_opened(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of a stream that was never opened")

    def _abandon(self, stream: H2Stream) -> None:
        self.forget(stream)
        stream.inbox.clear()
        if stream.sink is not None:
            stream.sink.on_reset()

    def _fail(self, fault: ConnectionFault) -> None:
        self.fault = fault
        self.out.put(frame.goaway(self._last_id, fault.code, fault.reason))
        self.lost()
