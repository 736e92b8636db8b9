"""What a connection sends: bytes queued for one write, and the windows that the client opens.

A message leaves at once if all windows have room and the socket takes more, else it waits in its
stream; whoever waits takes turns, one frame each. A message leaves with one DATA frame if it may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.grpc_h2 import frame
from odonata.grpc_h2.frame import HEAD, MESSAGE_FRAME_HEAD, Code, ConnectionFault
from odonata.grpc_h2.message import PREFIX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from odonata.grpc_h2.limits import H2Limits
    from odonata.grpc_h2.stream import H2Stream


class Outgoing:
    """The sending side of one connection. `on_output`: something is to be sent, out of the blue."""

    def __init__(self, limits: H2Limits, on_output: Callable[[], None]) -> None:
        self.initial_window = frame.DEFAULT_WINDOW_BYTES
        """What a new stream may send, in bytes."""
        self.is_receiving = True
        """What came is being acted on, and whoever carries the connection sends after it."""
        self._burst_bytes = limits.burst_bytes
        self._frame_bytes_max = limits.max_frame_bytes
        self._on_output = on_output
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._window = frame.DEFAULT_WINDOW_BYTES
        self._max_frame = frame.DEFAULT_FRAME_BYTES
        self._blocked: dict[int, H2Stream] = {}
        self._is_held_back = False

    # --- what the carrier does --------------------------------------------------------------------

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
            self.pump()

    # --- what is to be sent -----------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Queue bytes to be sent."""
        if not self._out and not self.is_receiving:
            self._on_output()
        self._out.append(data)
        self._out_bytes += len(data)

    def put_headers(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        """Queue a header block."""
        self.put(frame.headers(stream_id, block, frame.DEFAULT_FRAME_BYTES, ends=ends))

    def takes(self, size: int) -> bool:
        """Whether a message of `size` bytes, its head included, may leave at once as one frame."""
        return (
            size <= self._max_frame
            and size <= self._window
            and not self._is_held_back
            and self._out_bytes < self._burst_bytes
        )

    def put_message(self, stream_id: int, payload: bytes) -> None:
        """Queue a message for which `takes` said yes."""
        length = len(payload)
        size = length + PREFIX_BYTES
        self._window -= size
        self.put(MESSAGE_FRAME_HEAD.pack(size << 8, 0, stream_id, 0, length) + payload)

    # --- what waits -------------------------------------------------------------------------------

    @property
    def blocked_count(self) -> int:
        """How many streams have something that waits."""
        return len(self._blocked)

    def block(self, stream: H2Stream) -> None:
        """`stream` has something that waits."""
        self._blocked[stream.id] = stream
        if not self._is_held_back:
            self.pump()

    def unblock(self, stream: H2Stream) -> None:
        """`stream` has nothing any more that waits."""
        self._blocked.pop(stream.id, None)

    def pump(self) -> None:
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
        return min(self._window, self._burst_bytes - self._out_bytes)

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
        self._window -= sent
        # The next stream in turn is another one.
        del self._blocked[stream.id]
        if pending:
            self._blocked[stream.id] = stream
        self.put(HEAD.pack(sent << 8 | frame.DATA, 0, stream.id) + part)
        if not pending:
            stream.on_sent()

    # --- what the client allows -------------------------------------------------------------------

    def widen(self, more: int) -> None:
        """The client takes `more` bytes on the connection. Raises ConnectionFault."""
        if more == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        self._window += more
        if self._window > frame.MAX_WINDOW_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
        self.pump()

    def set_initial_window(self, value: int, streams: Iterable[H2Stream]) -> None:
        """The client takes `value` bytes on each stream, also on those. Raises ConnectionFault."""
        if value > frame.MAX_WINDOW_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")
        more = value - self.initial_window
        self.initial_window = value
        for stream in streams:
            stream.send_window += more
            if stream.send_window > frame.MAX_WINDOW_BYTES:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is too large")

    def set_max_frame(self, value: int) -> None:
        """The client takes frames of `value` bytes. Raises ConnectionFault."""
        if not frame.DEFAULT_FRAME_BYTES <= value < 1 << 24:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")
        self._max_frame = min(value, self._frame_bytes_max)
