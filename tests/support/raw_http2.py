"""Just enough HTTP/2 to look at a gRPC server's frames one by one, without a library in between.

Headers are sent as literals and never decoded: the flags of the frames tell what these tests ask.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PATIENCE_S = 20


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def ends_stream(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


class RawHttp2:
    """One connection; its first call is stream 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
        self._writer.write(head + struct.pack(">I", stream) + payload)
        await self._writer.drain()

    async def call(self, stream: int, path: str, more: dict[str, str] | None = None) -> None:
        """Open a gRPC call that has no end yet; `more` header fields."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
            **(more or {}),
        }
        block = b"".join(_literal(name, value) for name, value in fields.items())
        await self.send(HEADERS, END_HEADERS, stream, block)

    async def message(self, stream: int, payload: bytes) -> None:
        """One gRPC message; the call goes on."""
        await self.send(DATA, 0, stream, struct.pack(">BI", 0, len(payload)) + payload)

    async def frame(self) -> Frame:
        """The next frame; settings and pings of the server are answered on the way."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                head = await self._reader.readexactly(9)
                length = int.from_bytes(head[:3], "big")
                payload = await self._reader.readexactly(length)
                frame = Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                if frame.kind in (SETTINGS, PING) and not frame.flags & ACK:
                    answer = frame.payload if frame.kind == PING else b""
                    await self.send(frame.kind, ACK, 0, answer)
                    continue
                return frame

    async def until(self, kind: int, stream: int) -> list[Frame]:
        """Frames of `stream` up to and with the first of `kind`."""
        frames: list[Frame] = []
        while not frames or frames[-1].kind != kind:
            frame = await self.frame()
            assert frame.kind != GOAWAY, frame.payload
            if frame.stream == stream:
                frames.append(frame)
        return frames


def _literal(name: str, value: str) -> bytes:
    # RFC 7541 §6.2.2: literal, not indexed, new name; lengths below 127 fit into their first byte.
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


@asynccontextmanager
async def raw_http2(ip: str, port: int) -> AsyncGenerator[RawHttp2]:
    """A connection with the preface sent."""
    reader, writer = await asyncio.open_connection(ip, port)
    raw = RawHttp2(reader, writer)
    writer.write(_PREFACE)
    await raw.send(SETTINGS, 0, 0)
    try:
        yield raw
    finally:
        writer.close()
        await writer.wait_closed()
