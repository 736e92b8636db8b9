"""One HTTP/2 connection of a server, bytes in and bytes out.

Theory of operation
===================

`receive` takes what the socket read, acts on every whole frame in it, and then hands each stream
the messages that came, all those of one read together. What is to be sent gathers in a list that
`take` empties: so the answers to one read leave with one write. The clock is an argument.

Flow control, inwards: the client may send a window's worth on each stream and on the connection.
What it sent is given back once half a window is owed, and not while handlers leave more than the
backlog's bound untaken. Outwards: a message leaves at once if all windows have room, else it waits
in its stream; whoever waits takes turns, one frame each.

A fault of one stream ends that stream with RST_STREAM, a fault of the connection ends everything
with GOAWAY; both by RFC 9113's rules. Streams are forgotten when both sides have ended: frames that
arrive for one that is gone are taken for late ones and dropped, as the RFC allows.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from odonata.grpc_h2 import frame
from odonata.grpc_h2.call_head import CallHead, http_block
from odonata.grpc_h2.calm import Budget
from odonata.grpc_h2.frame import HEAD, MESSAGE_FRAME_HEAD, Code, ConnectionFault, StreamFault
from odonata.grpc_h2.header import HeaderMemory, HeaderReader, TooManyFieldsError
from odonata.grpc_h2.limits import H2Limits
from odonata.grpc_h2.message import PREFIX_BYTES, MessageFault, MessageReader
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
        self.is_ready = False
        """Whether the client has said who it is: preface and SETTINGS."""
        self._limits = limits
        self._host = host
        self._headers = HeaderReader(memory, max_list_bytes=limits.max_header_list_bytes)
        self._controls = Budget("control frames", limits.control_burst, limits.control_per_s)
        self._resets = Budget("streams that were reset", limits.reset_burst, limits.reset_per_s)
        self._now = 0.0
        self._rest: bytes = b""
        self._got_preface = False
        self._touched: list[H2Stream] = []
        self._last_id = 0
        self._block: bytearray | None = None
        self._block_of = (0, 0, 0)  # stream id, flags, frames
        # Receiving.
        self._window = limits.connection_window_bytes
        self._owed = 0
        self._held = 0
        self._partial = 0
        # Sending.
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._is_receiving = True
        self._send_window = frame.DEFAULT_WINDOW_BYTES
        self._initial_send_window = frame.DEFAULT_WINDOW_BYTES
        self._max_frame = frame.DEFAULT_FRAME_BYTES
        self._blocked: dict[int, H2Stream] = {}
        self._is_held_back = False
        self._greet()
        self._is_receiving = False

    # --- what the carrier does --------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take in what the socket read at `now` (seconds)."""
        if self.is_over:
            return
        self._now = now
        self._is_receiving = True
        try:
            self._take_frames(data)
        except ConnectionFault as fault:
            self._fail(fault)
        self._deliver()
        self._is_receiving = False

    def take(self) -> bytes:
        """What is to be sent now; empty if nothing is."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._out_bytes = 0
        return data

    def hold_back(self) -> None:
        """The socket takes no more for now: messages wait."""
        self._is_held_back = True

    def go_on(self) -> None:
        """The socket takes more. Also after each `take`: what waited may be more than a burst."""
        self._is_held_back = False
        if self._blocked:
            self._pump()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.put(frame.frame(frame.PING, 0, 0, _ALIVE))

    def leave(self) -> None:
        """Say goodbye: calls that are on their way already are still taken.

        The client hears of it before the number of the last call is fixed, when it answers a ping
        (`leave_now` fixes it without waiting).
        """
        if not self.is_leaving and not self.is_over:
            self.is_leaving = True
            self.put(frame.goaway(frame.MAX_STREAM_ID, Code.NO_ERROR))
            self.put(frame.frame(frame.PING, 0, 0, _GOODBYE))

    def leave_now(self) -> None:
        """Say goodbye: what was not begun by now is not taken."""
        if not self.is_over and not self.has_left:
            self.is_leaving = self.has_left = True
            self.put(frame.goaway(self._last_id, Code.NO_ERROR))

    def lost(self) -> None:
        """The socket is gone: every call is over."""
        self.is_over = True
        for stream in tuple(self.streams.values()):
            self._abandon(stream)

    def buffered(self) -> Buffered:
        """Count what is remembered."""
        return Buffered(
            frame=len(self._rest),
            header_block=len(self._block or b""),
            unfinished_messages=self._partial,
            untaken_messages=self._held,
            blocked_streams=len(self._blocked),
        )

    # --- what streams do --------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Queue bytes to be sent."""
        if not self._out and not self._is_receiving:
            self._host.on_output()
        self._out.append(data)
        self._out_bytes += len(data)

    def put_headers(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        """Queue a header block."""
        self.put(frame.headers(stream_id, block, frame.DEFAULT_FRAME_BYTES, ends=ends))

    def takes(self, size: int) -> bool:
        """Whether a message of `size` bytes, its head included, may leave at once as one frame."""
        return (
            size <= self._max_frame
            and size <= self._send_window
            and not self._is_held_back
            and self._out_bytes < self._limits.burst_bytes
        )

    def put_message(self, stream_id: int, payload: bytes) -> None:
        """Queue a message for which `takes` said yes."""
        length = len(payload)
        size = length + PREFIX_BYTES
        self._send_window -= size
        self.put(MESSAGE_FRAME_HEAD.pack(size << 8, 0, stream_id, 0, length) + payload)

    def block(self, stream: H2Stream) -> None:
        """`stream` has something that waits."""
        self._blocked[stream.id] = stream
        if not self._is_held_back:
            self._pump()

    def unblock(self, stream: H2Stream) -> None:
        """`stream` has nothing any more that waits."""
        self._blocked.pop(stream.id, None)

    def finish(self, stream: H2Stream) -> None:
        """Send a stream's last words; it is over then."""
        assert stream.last_words is not None, "finish() is for streams with last words"
        self.put_headers(stream.id, stream.last_words, ends=True)
        if not stream.remote_ended:
            # RFC 9113 §8.1: the answer is whole, and the rest of the request is not needed.
            self.put(frame.rst_stream(stream.id, Code.NO_ERROR))
        self.forget(stream)

    def forget(self, stream: H2Stream) -> None:
        """The stream is over, for both sides."""
        if stream.closed:
            return
        stream.closed = True
        self.unblock(stream)
        self._held -= stream.held
        stream.held = 0
        if stream.reader.part is not None:
            self._partial -= len(stream.reader.part)
            stream.reader.part = None
        stream.pending.clear()
        del self.streams[stream.id]
        if not self.streams:
            self._host.on_idle()

    def hold(self, stream: H2Stream, n_bytes: int) -> None:
        """The handler of `stream` has so much more, or less, waiting for it."""
        if stream.closed:
            stream.held = 0
            return
        self._held += n_bytes
        if n_bytes < 0:
            self._give_back(stream)
            self._give_back_all()

    # --- frames -----------------------------------------------------------------------------------

    def _greet(self) -> None:
        limits = self._limits
        ours = {
            frame.HEADER_TABLE_SIZE: 0,
            frame.MAX_CONCURRENT_STREAMS: limits.max_streams,
            frame.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            frame.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
        }
        self.put(frame.settings_frame(ours))
        more = limits.connection_window_bytes - frame.DEFAULT_WINDOW_BYTES
        if more > 0:
            self.put(frame.window_update(0, more))

    def _take_frames(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0
        if not self._got_preface:
            at = self._take_preface(data)
            if not at:
                self._rest = data
                return
        size, unpack = len(data), HEAD.unpack_from
        while size - at >= frame.HEAD_BYTES:
            word, flags, stream_id = unpack(data, at)
            begin = at + frame.HEAD_BYTES
            end = begin + (word >> 8)
            if end - begin > frame.DEFAULT_FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is longer than we allow")
            if end > size:
                break
            if word & 0xFF == frame.DATA and self._block is None and self.is_ready:
                self._data(data, begin, end, flags, stream_id & frame.MAX_STREAM_ID)
            else:
                stream_id &= frame.MAX_STREAM_ID
                self._take_frame(word & 0xFF, flags, stream_id, data[begin:end])
            at = end
        self._rest = data[at:]

    def _take_preface(self, data: bytes) -> int:
        expected = frame.PREFACE
        if len(data) < len(expected):
            if not expected.startswith(data):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            return 0
        if not data.startswith(expected):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
        self._got_preface = True
        return len(expected)

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if not self.is_ready:
            if kind != frame.SETTINGS or flags & frame.ACK:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.is_ready = True
        if self._block is not None:
            if kind != frame.CONTINUATION or stream_id != self._block_of[0]:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
            self._continue(flags, payload)
        elif kind == frame.HEADERS:
            self._begin_headers(flags, stream_id, payload)
        elif kind == frame.WINDOW_UPDATE:
            self._window_update(stream_id, payload)
        elif kind == frame.RST_STREAM:
            self._rst_stream(stream_id, payload)
        elif kind in (frame.CONTINUATION, frame.PUSH_PROMISE):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame that no client may send here")
        else:
            self._take_control(kind, flags, stream_id, payload)

    def _take_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Frames that are no part of a call."""
        self._controls.spend(self._now)
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
            self.put(frame.frame(frame.PING, frame.ACK, 0, payload))
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
        self.put(frame.frame(frame.SETTINGS, frame.ACK, 0))
        self._pump()

    def _set(self, key: int, value: int) -> None:
        if key == frame.INITIAL_WINDOW_SIZE:
            if value > frame.MAX_WINDOW_BYTES:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
            more = value - self._initial_send_window
            self._initial_send_window = value
            for stream in self.streams.values():
                stream.send_window += more
                if stream.send_window > frame.MAX_WINDOW_BYTES:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
        elif key == frame.MAX_FRAME_SIZE:
            if not frame.DEFAULT_FRAME_BYTES <= value < 1 << 24:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")
            self._max_frame = min(value, self._limits.max_frame_bytes)
        elif key == frame.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    # --- headers ----------------------------------------------------------------------------------

    def _begin_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        payload = frame.unpadded(payload, flags)
        if flags & frame.PRIORITISED:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS is too short")
            payload = payload[5:]
        if flags & frame.END_HEADERS:
            self._take_headers(stream_id, flags, payload)
        else:
            self._block = bytearray(payload)
            self._block_of = (stream_id, flags, 0)

    def _continue(self, flags: int, payload: bytes) -> None:
        assert self._block is not None, "only while a block is open"
        stream_id, first_flags, n_frames = self._block_of
        self._block += payload
        limits = self._limits
        is_too_long = len(self._block) > limits.max_header_block_bytes
        if is_too_long or n_frames >= limits.max_continuations:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block is too long")
        self._block_of = (stream_id, first_flags, n_frames + 1)
        if flags & frame.END_HEADERS:
            block, self._block = bytes(self._block), None
            self._take_headers(stream_id, first_flags, block)

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
                self.put_headers(stream_id, http_block(_FIELDS_TOO_LARGE), ends=True)
            self.put(frame.rst_stream(stream_id, Code.NO_ERROR))
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
            self.put(frame.rst_stream(stream_id, code))

    def _take_trailers(self, stream_id: int, *, ends: bool) -> None:
        """A client's trailers say nothing in gRPC but that it has ended."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if stream.remote_ended or not ends:
            self._break(stream, Code.PROTOCOL_ERROR)
            return
        stream.remote_ended = True
        self._touch(stream)

    def _open(self, stream_id: int, head: CallHead, *, ends: bool) -> None:
        self._last_id = stream_id
        limits = self._limits
        if self.has_left or len(self.streams) >= limits.max_streams:
            self._resets.spend(self._now)
            self.put(frame.rst_stream(stream_id, Code.REFUSED_STREAM))
            return
        reader = MessageReader(head.encoding, limits.max_message_bytes, limits.max_inflated_bytes)
        windows = (limits.stream_window_bytes, self._initial_send_window)
        stream = H2Stream(self, stream_id, head, reader, windows)
        stream.remote_ended = ends
        self.streams[stream_id] = stream
        if head.http_status != 200:
            stream.end(http_block(head.http_status))
            return
        self._host.on_open(stream)
        if ends:
            self._touch(stream)

    # --- data -------------------------------------------------------------------------------------

    def _data(self, data: bytes, at: int, end: int, flags: int, stream_id: int) -> None:
        length = end - at
        self._window -= length
        if self._window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the connection's window")
        self._owed += length
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_ended:
            self._stray_data(stream, stream_id)
            return
        stream.window -= length
        stream.owed += length
        if stream.window < 0:
            self._break(stream, Code.FLOW_CONTROL_ERROR)
            return
        if flags & frame.PADDED:
            payload = frame.unpadded(data[at:end], flags)
            data, at, end = payload, 0, len(payload)
        if flags & frame.END_STREAM:
            stream.remote_ended = True
        elif at == end:
            self._controls.spend(self._now)
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
            self._partial += (0 if part is None else len(part)) - had
            if fault is None and self._partial > self._limits.max_partial_bytes:
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
            self._break(stream, Code.STREAM_CLOSED)
        elif stream_id > self._last_id or stream_id % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA of a stream that was never opened")

    def _deliver(self) -> None:
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
                    sink.on_fault(13, "the call ends in the middle of a message")
                else:
                    sink.on_end()
        self._give_back(stream)

    def _give_back(self, stream: H2Stream) -> None:
        limits = self._limits
        if (
            stream.owed >= limits.stream_window_bytes // 2
            and stream.held <= limits.stream_backlog_bytes
            and not stream.remote_ended
            and not stream.closed
        ):
            self.put(frame.window_update(stream.id, stream.owed))
            stream.window += stream.owed
            stream.owed = 0

    def _give_back_all(self) -> None:
        limits = self._limits
        if (
            self._owed >= limits.connection_window_bytes // 2
            and self._held <= limits.connection_backlog_bytes
            and not self.is_over
        ):
            self.put(frame.window_update(0, self._owed))
            self._window += self._owed
            self._owed = 0

    # --- sending ----------------------------------------------------------------------------------

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        more = frame.U32.unpack(payload)[0] & frame.MAX_STREAM_ID
        if stream_id == 0:
            if more == 0:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self._send_window += more
            if self._send_window > frame.MAX_WINDOW_BYTES:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
            self._pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._must_have_been(stream_id)
            return
        stream.send_window += more
        if more == 0:
            self._break(stream, Code.PROTOCOL_ERROR)
        elif stream.send_window > frame.MAX_WINDOW_BYTES:
            self._break(stream, Code.FLOW_CONTROL_ERROR)
        elif stream.pending:
            self._pump()

    def _pump(self) -> None:
        """Send what waits, one frame of each stream in turn, while there is room."""
        while self._blocked and self._room() > 0:
            is_stuck = True
            for stream in tuple(self._blocked.values()):
                room = self._room()
                if room <= 0:
                    break
                if stream.send_window > 0:
                    is_stuck = False
                    self._send_some(stream, min(room, stream.send_window, self._max_frame))
            if is_stuck:
                return

    def _room(self) -> int:
        if self._is_held_back:
            return 0
        return min(self._send_window, self._limits.burst_bytes - self._out_bytes)

    def _send_some(self, stream: H2Stream, n_bytes: int) -> None:
        pending = stream.pending
        first = pending[0]
        part = first[:n_bytes]
        sent = len(part)
        if sent == len(first):
            pending.popleft()
        else:
            pending[0] = first[sent:]
        stream.send_window -= sent
        self._send_window -= sent
        # The next stream in turn is another one.
        del self._blocked[stream.id]
        if pending:
            self._blocked[stream.id] = stream
        self.put(HEAD.pack(sent << 8 | frame.DATA, 0, stream.id) + part)
        if pending:
            return
        if stream.last_words is not None:
            self.finish(stream)
        elif stream.sink is not None:
            stream.sink.on_sent()

    # --- ends -------------------------------------------------------------------------------------

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._must_have_been(stream_id)
            self._controls.spend(self._now)
            return
        self._resets.spend(self._now)
        self._abandon(stream)

    def _must_have_been(self, stream_id: int) -> None:
        if stream_id > self._last_id or stream_id % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of a stream that was never opened")

    def _break(self, stream: H2Stream, code: Code) -> None:
        """A fault of one stream."""
        self.put(frame.rst_stream(stream.id, code))
        self._abandon(stream)

    def _abandon(self, stream: H2Stream) -> None:
        self.forget(stream)
        stream.inbox.clear()
        if stream.sink is not None:
            stream.sink.on_reset()

    def _touch(self, stream: H2Stream) -> None:
        if not stream.touched and not stream.closed:
            stream.touched = True
            self._touched.append(stream)

    def _fail(self, fault: ConnectionFault) -> None:
        self.fault = fault
        self.put(frame.goaway(self._last_id, fault.code, fault.reason))
        self.lost()


def _too_much_at_once(limits: H2Limits) -> MessageFault:
    text = f"unfinished messages of more than {limits.max_partial_bytes} bytes on one connection"
    return MessageFault(8, text)
