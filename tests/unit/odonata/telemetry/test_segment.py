"""Segments: what was written comes back; what is torn or damaged is left out, and nothing else."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import record as make
from support.record_strategy import records as records_strategy

from odonata.digest import crc32
from odonata.telemetry.record import SCHEMA_VERSION, Record
from odonata.telemetry.segment import (
    FRAME_BYTES_MAX,
    MAGIC,
    NewerSegmentError,
    Origin,
    RecordError,
    SegmentError,
    SegmentHeader,
    SegmentReader,
    encode_header,
    encode_record,
)

HEADER = SegmentHeader(
    origin=Origin(host="host1", program="daemon"), clock_offset_s=1.5e9, created_at_s=1.6e9
)
SOME: list[Record] = [make.decision(), make.piece(1), make.download(), make.piece(2)]


def frames(records: list[Record]) -> list[bytes]:
    return [encode_record(record) for record in records]


def read(data: bytes) -> tuple[list[Record], int]:
    """The records, and the bytes that were lost."""
    reader = SegmentReader(io.BytesIO(data))
    records = list(reader)
    return records, reader.lost_bytes


def framed(payload: bytes) -> bytes:
    length = len(payload).to_bytes(4, "little")
    return length + crc32(length + payload).to_bytes(4, "little") + payload


@given(st.lists(records_strategy, max_size=8))
def test_what_was_written_comes_back(records: list[Record]) -> None:
    reader = SegmentReader(io.BytesIO(encode_header(HEADER) + b"".join(frames(records))))
    assert reader.header == HEADER
    # Compared as bytes: NaN is not equal to itself.
    assert frames(list(reader)) == frames(records)
    assert reader.lost_bytes == 0


def test_a_segment_torn_at_any_byte_gives_every_whole_record_before_it() -> None:
    data = encode_header(HEADER)
    ends = [len(data)]
    for frame in frames(SOME):
        data += frame
        ends.append(len(data))
    for cut in range(len(data) + 1):
        if cut < ends[0]:
            with pytest.raises(SegmentError, match="no header"):
                read(data[:cut])
            continue
        count = sum(end <= cut for end in ends) - 1
        assert read(data[:cut]) == (SOME[:count], cut - ends[count])


def test_a_flipped_bit_anywhere_ends_the_segment_there() -> None:
    head = encode_header(HEADER)
    parts = frames(SOME)
    data = head + b"".join(parts)
    start = len(head)
    for number, frame in enumerate(parts):
        for at in range(start, start + len(frame)):
            damaged = bytearray(data)
            damaged[at] ^= 1 << at % 8
            assert read(bytes(damaged)) == (SOME[:number], len(data) - start)
        start += len(frame)


@pytest.mark.parametrize("tail", [bytes(8), bytes(4096), b"\xff" * 100, MAGIC])
def test_a_tail_that_is_no_frame_is_lost(tail: bytes) -> None:
    """Zeros are what a power cut leaves on some file systems."""
    data = encode_header(HEADER) + b"".join(frames(SOME))
    assert read(data + tail) == (SOME, len(tail))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(SegmentError):
        read(data)
    records, lost = read(encode_header(HEADER) + data)
    assert records == []
    assert lost == len(data)


@given(st.binary(max_size=60))
def test_whole_frames_without_a_record_are_passed_over(payload: bytes) -> None:
    strange = framed(payload)
    first, second = frames(SOME[:2])
    assert read(encode_header(HEADER) + first + strange + second) == (SOME[:2], len(strange))


def test_a_length_beyond_the_bound_is_not_believed() -> None:
    payload = bytes(FRAME_BYTES_MAX + 1)
    assert read(encode_header(HEADER) + framed(payload)) == ([], len(payload) + 8)


def test_what_comes_while_it_is_read_is_left_for_the_next_reader() -> None:
    file = io.BytesIO(encode_header(HEADER) + frames(SOME)[0])
    reader = SegmentReader(file)
    position = file.tell()
    file.seek(0, io.SEEK_END)
    file.write(frames(SOME)[1])
    file.seek(position)
    assert list(reader) == SOME[:1]
    assert reader.lost_bytes == 0


def test_a_newer_version_is_told_from_damage() -> None:
    newer = msgspec.structs.replace(HEADER, schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(NewerSegmentError, match="update Odonata"):
        read(encode_header(newer))
    with pytest.raises(NewerSegmentError):
        read(MAGIC + framed(msgspec.msgpack.encode({"type": "other"})))


def test_fields_of_a_later_minor_version_are_passed_over() -> None:
    plain = msgspec.to_builtins(make.piece(7))
    payload = msgspec.msgpack.encode({**plain, "added_later": 1})
    assert read(encode_header(HEADER) + framed(payload)) == ([make.piece(7)], 0)


def test_numbers_of_numpy_are_numbers() -> None:
    given_ = msgspec.structs.replace(
        make.piece(3), total_s=np.float64(0.5), length=np.int64(4 << 20)
    )
    assert read(encode_header(HEADER) + encode_record(given_))[0] == [make.piece(3)]


@pytest.mark.parametrize(
    "change",
    [{"reason": "\ud800"}, {"length": 2**64}, {"total_s": object()}],
    ids=["no text", "no int of 64 bits", "no number"],
)
def test_a_record_that_cannot_be_written_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="PieceRecord can't be written"):
        encode_record(msgspec.structs.replace(make.piece(), **change))


def test_a_record_that_is_too_long_is_refused() -> None:
    with pytest.raises(RecordError, match="too long"):
        encode_record(msgspec.structs.replace(make.piece(), reason="x" * FRAME_BYTES_MAX))
