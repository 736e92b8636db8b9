"""Cuts what a client sends into frames, and puts header blocks together. What they mean is others'.

Checked is what needs no knowledge of streams: the preface, that SETTINGS come first, lengths, and
that nothing interrupts a header block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from odonata.grpc_h2 import frame
from odonata.grpc_h2.frame import HEAD, Code, ConnectionFault

if TYPE_CHECKING:
    from odonata.grpc_h2.limits import H2Limits


class OnData(Protocol):
    """Takes a DATA frame: its payload is `data[at:end]`, padding and all."""

    def __call__(self, data: bytes, at: int, end: int, flags: int, stream_id: int, /) -> None: ...


class OnHeaders(Protocol):
    """Takes a whole header block, with the flags of its first frame."""

    def __call__(self, stream_id: int, flags: int, block: bytes, /) -> None: ...


class OnFrame(Protocol):
    """Takes a frame of any other kind."""

    def __call__(self, kind: int, flags: int, stream_id: int, payload: bytes, /) -> None: ...


class FrameReader:
    """Reads one connection. Who is called may raise ConnectionFault: nothing is read after that."""

    def __init__(
        self, limits: H2Limits, on_data: OnData, on_headers: OnHeaders, on_frame: OnFrame
    ) -> None:
        self.is_ready = False
        """Whether the client has said who it is: preface and SETTINGS."""
        self.rest: bytes = b""
        """The beginning of a frame that has not come whole."""
        self.block: bytearray | None = None
        """A header block that has not come whole."""
        self._limits = limits
        self._on_data = on_data
        self._on_headers = on_headers
        self._on_frame = on_frame
        self._got_preface = False
        self._block_of = (0, 0, 0)  # stream id, flags, frames

    def read(self, data: bytes) -> None:
        """Take in what came, and act on every whole frame. Raises ConnectionFault."""
        if self.rest:
            data = self.rest + data
        at = 0
        if not self._got_preface:
            at = self._take_preface(data)
            if not at:
                self.rest = data
                return
        size, unpack, on_data = len(data), HEAD.unpack_from, self._on_data
        while size - at >= frame.HEAD_BYTES:
            word, flags, stream_id = unpack(data, at)
            begin = at + frame.HEAD_BYTES
            end = begin + (word >> 8)
            if end - begin > frame.DEFAULT_FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is longer than we allow")
            if end > size:
                break
            if word & 0xFF == frame.DATA and self.block is None and self.is_ready:
                on_data(data, begin, end, flags, stream_id & frame.MAX_STREAM_ID)
            else:
                stream_id &= frame.MAX_STREAM_ID
                self._take_frame(word & 0xFF, flags, stream_id, data[begin:end])
            at = end
        self.rest = data[at:]

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
        if self.block is not None:
            if kind != frame.CONTINUATION or stream_id != self._block_of[0]:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
            self._continue(flags, payload)
        elif kind == frame.HEADERS:
            self._begin_headers(flags, stream_id, payload)
        elif kind in (frame.CONTINUATION, frame.PUSH_PROMISE):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame that no client may send here")
        else:
            self._on_frame(kind, flags, stream_id, payload)

    def _begin_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        payload = frame.unpadded(payload, flags)
        if flags & frame.PRIORITISED:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS is too short")
            payload = payload[5:]
        if flags & frame.END_HEADERS:
            self._on_headers(stream_id, flags, payload)
        else:
            self.block = bytearray(payload)
            self._block_of = (stream_id, flags, 0)

    def _continue(self, flags: int, payload: bytes) -> None:
        assert self.block is not None, "only while a block is open"
        stream_id, first_flags, n_frames = self._block_of
        self.block += payload
        limits = self._limits
        is_too_long = len(self.block) > limits.max_header_block_bytes
        if is_too_long or n_frames >= limits.max_continuations:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block is too long")
        self._block_of = (stream_id, first_flags, n_frames + 1)
        if flags & frame.END_HEADERS:
            block, self.block = bytes(self.block), None
            self._on_headers(stream_id, first_flags, block)
