"""A client's end for the HTTP/2 codec without any socket: frames in, frames out, what was heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from odonata.grpc_h2 import frame
from odonata.grpc_h2.call_head import call_head_of, head_block, status_block
from odonata.grpc_h2.connection import H2Connection
from odonata.grpc_h2.header import HeaderMemory, block_of
from odonata.grpc_h2.limits import H2Limits
from odonata.grpc_h2.message import PREFIX
from odonata.grpc_h2.stream import H2Stream


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class Heard:
    """A sink that writes everything down, and echoes messages if it shall."""

    stream: H2Stream
    echoes: bool = False
    messages: list[bytes] = field(default_factory=list[bytes])
    ended: int = 0
    resets: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    sent: int = 0

    def on_messages(self, messages: Sequence[bytes]) -> None:
        assert not self.resets
        assert not self.ended
        self.messages += messages
        if self.echoes:
            self.stream.send_headers(head_block())
            for message in messages:
                self.stream.send_message(message)

    def on_end(self) -> None:
        self.ended += 1
        if self.echoes:
            self.stream.end(status_block(0, alone=not self.stream.headers_sent))

    def on_reset(self) -> None:
        self.resets += 1

    def on_fault(self, status: int, reason: str) -> None:
        self.faults.append((status, reason))
        self.stream.end(status_block(status, reason, alone=not self.stream.headers_sent))

    def on_sent(self) -> None:
        self.sent += 1


class Pair:
    """A connection of a server, and what a client says to it."""

    def __init__(
        self, limits: H2Limits | None = None, *, echoes: bool = False, greets: bool = True
    ) -> None:
        self.limits = limits or H2Limits()
        self.echoes = echoes
        self.calls: list[Heard] = []
        self.outputs = 0
        self.idle = 0
        memory = HeaderMemory(call_head_of, max_blocks=self.limits.remembered_header_blocks)
        self.server = H2Connection(self.limits, memory, self)
        self.now = 0.0
        if greets:
            self.say(frame.PREFACE, frame.settings_frame({}))
            self.heard()

    def on_open(self, stream: H2Stream) -> None:
        heard = Heard(stream, self.echoes)
        stream.sink = heard
        self.calls.append(heard)

    def on_output(self) -> None:
        self.outputs += 1

    def on_idle(self) -> None:
        self.idle += 1

    def say(self, *frames: bytes) -> None:
        """Send frames, all with one read."""
        self.server.receive(b"".join(frames), self.now)

    def heard(self) -> list[Frame]:
        """Everything the server has sent since it was last asked."""
        frames: list[Frame] = []
        out = self.server.out
        data = out.take()
        while data:
            frames += split(data)
            out.go_on()
            data = out.take()
        return frames


def split(data: bytes) -> list[Frame]:
    """Whole frames."""
    frames: list[Frame] = []
    at = 0
    while at < len(data):
        word, flags, stream = frame.HEAD.unpack_from(data, at)
        end = at + frame.HEAD_BYTES + (word >> 8)
        assert end <= len(data), "the server sends whole frames"
        frames.append(Frame(word & 0xFF, flags, stream, data[at + frame.HEAD_BYTES : end]))
        at = end
    return frames


FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def opening(stream: int, *more: tuple[str, str], flags: int = frame.END_HEADERS) -> bytes:
    """HEADERS of a call."""
    return frame.frame(frame.HEADERS, flags, stream, block_of([*FIELDS, *more]))


def data(stream: int, payload: bytes, *, ends: bool = False) -> bytes:
    """DATA as it is."""
    return frame.frame(frame.DATA, frame.END_STREAM if ends else 0, stream, payload)


def message(payload: bytes, compressed: int = 0) -> bytes:
    """A gRPC message."""
    return PREFIX.pack(compressed, len(payload)) + payload
