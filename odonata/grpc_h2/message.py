"""gRPC's messages inside the bytes of one stream: five bytes of head, then the message.

A message is kept in pieces until it is whole; how much of that a connection may hold is counted by
whoever owns the reader.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final

from odonata.grpc_h2.call_head import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED

PREFIX: Final = Struct(">BI")
PREFIX_BYTES: Final = 5

# zlib's own numbers: a window of 32 KiB, and "detect gzip or zlib by its head".
_ANY_HEAD: Final = zlib.MAX_WBITS | 32


class MessageFault(Exception):  # noqa: N818  # like the faults of the frames; never leaves the codec
    """A message that can't be taken: the call ends with `status` (a gRPC code)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class MessageReader:
    """Cuts the bytes of one stream into messages.

    `max_bytes`: of one message; `max_inflated_bytes`: of one that came compressed.
    """

    __slots__ = ("_encoding", "_max_bytes", "_max_inflated_bytes", "part")

    def __init__(self, encoding: str, max_bytes: int, max_inflated_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._max_inflated_bytes = max_inflated_bytes
        self.part: bytearray | None = None
        """The message that is not whole yet, with its head."""

    def feed(self, data: bytes, at: int, end: int, inbox: list[bytes]) -> None:
        """Take `data[at:end]`; append the messages that are whole now. Raises MessageFault."""
        part = self.part
        if part is None:
            at = self._cut(data, at, end, inbox)
            if at < end:
                self.part = bytearray(data[at:end])
            return
        part += data[at:end]
        if len(part) < PREFIX_BYTES or len(part) < PREFIX_BYTES + self._length(part):
            return
        whole = bytes(part)
        at = self._cut(whole, 0, len(whole), inbox)
        self.part = bytearray(whole[at:]) if at < len(whole) else None

    def _cut(self, data: bytes, at: int, end: int, inbox: list[bytes]) -> int:
        unpack, limit = PREFIX.unpack_from, self._max_bytes
        while end - at >= PREFIX_BYTES:
            compressed, length = unpack(data, at)
            if length > limit:
                raise self._too_long(length)
            begin = at + PREFIX_BYTES
            if begin + length > end:
                return at
            at = begin + length
            message = data[begin:at]
            inbox.append(self._plain(message, compressed) if compressed else message)
        return at

    def _length(self, part: bytearray) -> int:
        length: int = PREFIX.unpack_from(part)[1]
        if length > self._max_bytes:
            raise self._too_long(length)
        return length

    def _too_long(self, length: int) -> MessageFault:
        text = f"a message of {length} bytes: this server takes {self._max_bytes}"
        return MessageFault(RESOURCE_EXHAUSTED, text)

    def _plain(self, message: bytes, compressed: int) -> bytes:
        if compressed != 1:
            raise MessageFault(INTERNAL, f"a message's compressed flag is {compressed}: 0 or 1")
        if self._encoding == "identity":
            raise MessageFault(INTERNAL, "a compressed message, but no grpc-encoding said how")
        if self._encoding not in ("gzip", "deflate"):
            raise MessageFault(UNIMPLEMENTED, f"grpc-encoding {self._encoding} is not supported")
        inflater = zlib.decompressobj(_ANY_HEAD)
        try:
            plain = inflater.decompress(message, self._max_inflated_bytes + 1)
        except zlib.error as error:
            raise MessageFault(INTERNAL, f"a compressed message is damaged: {error}") from error
        if len(plain) > self._max_inflated_bytes:
            text = f"a compressed message has more than {self._max_inflated_bytes} bytes: send less"
            raise MessageFault(RESOURCE_EXHAUSTED, text)
        if not inflater.eof:
            raise MessageFault(INTERNAL, "a compressed message is cut short")
        return plain
