"""The segment: a file to which records are appended, whole up to the last byte that was written.

    file    = MAGIC header-frame record-frame*
    frame   = length (u32) crc (u32) payload
    payload = MessagePack of a SegmentHeader or a Record

All numbers are little-endian. The CRC-32 covers the length and the payload, so that a tail of
zeros, which a power cut can leave behind, is no frame either. A writer that dies leaves at most one
torn frame at the end, which readers leave out; whatever stands before it is whole. Nothing is ever
changed in place, so a segment may be read while it grows.

A codec of bytes and binary files: it opens, locks and names nothing (see `folder`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, TypeVar

import msgspec

from odonata.digest import crc32
from odonata.errors import StorageError
from odonata.telemetry.record import SCHEMA_VERSION, Record
from odonata.wire.message import Value

MAGIC: Final = b"\x89ODNTEL\n"
"""Not text in any encoding; the newline shows what a transfer as text did to it."""

FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""A decision with 10,000 candidates takes 6 MiB. A length beyond this is damage, and what it
promises is not worth the memory."""

_FRAME: Final = struct.Struct("<II")
_LENGTH: Final = struct.Struct("<I")
_PayloadT = TypeVar("_PayloadT")


class SegmentError(StorageError):
    """A file that is no segment, or whose writer died before the header was whole."""

    code = "segment"


class NewerSegmentError(SegmentError):
    """A segment in a format that this version can't read."""


class RecordError(StorageError):
    """A record that can't be written: a number out of range, text that is no text, too long."""

    code = "record"


class Origin(Value, frozen=True, kw_only=True):
    """Who wrote: a host's name and a program's ("scheduler", "daemon")."""

    host: str = ""
    program: str = ""


class SegmentHeader(Value, frozen=True, kw_only=True, tag="segment"):
    """First frame of every segment."""

    schema_version: int = SCHEMA_VERSION
    origin: Origin
    clock_offset_s: float
    """Add it to a record's `at_s` for seconds since 1970."""
    created_at_s: float
    """Seconds since 1970."""


def _plain(value: object) -> object:
    """Turn a scalar of numpy into one of Python, without importing numpy."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"a {type(value).__name__} is no part of a record")
    return item()


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_header_decoder: Final = msgspec.msgpack.Decoder(SegmentHeader)
_record_decoder: Final[msgspec.msgpack.Decoder[Record]] = msgspec.msgpack.Decoder(Record)


def encode_header(header: SegmentHeader) -> bytes:
    """What a segment begins with."""
    return MAGIC + _frame(_encoder.encode(header))


def encode_record(record: Record) -> bytes:
    """The frame of one record. RecordError if it can't be written."""
    try:
        payload = _encoder.encode(record)
    except (OverflowError, TypeError, ValueError) as error:
        raise RecordError(f"a {type(record).__name__} can't be written: {error}") from None
    if len(payload) > FRAME_BYTES_MAX:
        raise RecordError(
            f"a {type(record).__name__} of {len(payload)} bytes is too long: "
            f"at most {FRAME_BYTES_MAX}"
        )
    return _frame(payload)


def _frame(payload: bytes) -> bytes:
    length = _LENGTH.pack(len(payload))
    return length + _LENGTH.pack(crc32(payload, crc32(length))) + payload


class SegmentReader:
    """Reads the segment in `file`, up to the length that it has now.

    Iterate once for its records. `lost_bytes`, afterwards: what stands behind the last whole frame,
    and frames that hold no record this version knows. SegmentError at once if there is no whole
    header, NewerSegmentError if this version can't read it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.lost_bytes = 0
        self.header = self._read_header()

    def _read_header(self) -> SegmentHeader:
        magic = self._file.read(len(MAGIC))
        payload = self._next() if magic == MAGIC else None
        if payload is None:
            raise SegmentError("no header: not a segment, or its writer died at once")
        header = _decoded(_header_decoder, payload)
        if header is None or header.schema_version > SCHEMA_VERSION:
            written = "in another format" if header is None else f"as {header.schema_version}"
            raise NewerSegmentError(
                f"written {written}, this version reads up to {SCHEMA_VERSION}: update Odonata"
            )
        return header

    def __iter__(self) -> Iterator[Record]:
        whole = self._file.tell()
        while (payload := self._next()) is not None:
            whole = self._file.tell()
            record = _decoded(_record_decoder, payload)
            if record is None:
                self.lost_bytes += _FRAME.size + len(payload)
            else:
                yield record
        self.lost_bytes += self._end - whole

    def _next(self) -> bytes | None:
        """The payload of the frame at the file's position; None: torn, or the end."""
        head = self._file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return None
        length, crc = _FRAME.unpack(head)
        if length > min(FRAME_BYTES_MAX, self._end - self._file.tell()):
            return None
        payload = self._file.read(length)
        whole = len(payload) == length and crc32(payload, crc32(head[: _LENGTH.size])) == crc
        return payload if whole else None


def _decoded(decoder: msgspec.msgpack.Decoder[_PayloadT], payload: bytes) -> _PayloadT | None:
    try:
        return decoder.decode(payload)
    except (ValueError, RecursionError):  # of msgspec; the frame is whole, but not of our making
        return None
