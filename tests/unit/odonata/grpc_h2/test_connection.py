"""The HTTP/2 codec, frame by frame: messages, flow control both ways, ends, and hostile clients."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace

import pytest
from hpack import Decoder, Encoder
from support.h2_peer import FIELDS, Frame, Pair, data, message, opening

from odonata.grpc_h2 import frame
from odonata.grpc_h2.call_head import head_block, status_block
from odonata.grpc_h2.frame import Code
from odonata.grpc_h2.header import block_of
from odonata.grpc_h2.limits import H2Limits

SMALL = H2Limits(
    max_streams=3,
    stream_window_bytes=65_535,
    connection_window_bytes=200_000,
    stream_backlog_bytes=1000,
    max_message_bytes=100_000,
    max_inflated_bytes=50_000,
    max_partial_bytes=150_000,
    control_burst=50,
    control_per_s=1.0,
    reset_burst=20,
    reset_per_s=1.0,
)


def goodbye(frames: list[Frame]) -> tuple[int, Code]:
    """Last stream and code of the GOAWAY that must be among the frames."""
    payload = next(one.payload for one in frames if one.kind == frame.GOAWAY)
    last, code = struct.unpack(">II", payload[:8])
    return last, Code(code)


def resets(frames: list[Frame]) -> list[tuple[int, Code]]:
    return [
        (one.stream, Code(struct.unpack(">I", one.payload)[0]))
        for one in frames
        if one.kind == frame.RST_STREAM
    ]


def granted(frames: list[Frame], stream: int) -> int:
    """Bytes given back by WINDOW_UPDATE."""
    return sum(
        struct.unpack(">I", one.payload)[0]
        for one in frames
        if one.kind == frame.WINDOW_UPDATE and one.stream == stream
    )


def status(frames: list[Frame], stream: int) -> dict[str, str]:
    """The last header block of a stream."""
    block = [f.payload for f in frames if f.kind == frame.HEADERS and f.stream == stream][-1]
    return {str(key): str(value) for key, value in Decoder().decode(block)}


# --- calls ----------------------------------------------------------------------------------------


def test_a_call_from_end_to_end() -> None:
    pair = Pair(echoes=True)
    pair.say(opening(1), data(1, message(b"hello"), ends=True))
    frames = pair.heard()
    assert [(one.kind, one.flags & frame.END_STREAM) for one in frames] == [
        (frame.HEADERS, 0),
        (frame.DATA, 0),
        (frame.HEADERS, 1),
    ]
    assert frames[1].payload == message(b"hello")
    assert status(frames, 1) == {"grpc-status": "0"}
    assert pair.calls[0].ended == 1
    assert not pair.server.streams


def test_messages_of_one_read_come_together_whatever_the_frames() -> None:
    pair = Pair()
    whole = b"".join(message(bytes([n]) * n) for n in range(50))
    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    pair.say(opening(1), *(data(1, piece) for piece in pieces))
    assert pair.calls[0].messages == [bytes([n]) * n for n in range(50)]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 13, 64])
def test_reads_may_be_cut_anywhere(step: int) -> None:
    pair = Pair(echoes=True, greets=False)
    said = b"".join(
        [
            frame.PREFACE,
            frame.settings_frame({}),
            opening(1),
            data(1, message(b"a" * 300)),
            opening(3),
            data(3, message(b"b"), ends=True),
            data(1, message(b""), ends=True),
        ]
    )
    for at in range(0, len(said), step):
        pair.say(said[at : at + step])
    assert [call.messages for call in pair.calls] == [[b"a" * 300, b""], [b"b"]]
    assert [call.ended for call in pair.calls] == [1, 1]


def test_padding_and_priority_are_taken_off() -> None:
    pair = Pair()
    block = block_of(FIELDS)
    flags = frame.END_HEADERS | frame.PADDED | frame.PRIORITISED
    pair.say(frame.frame(frame.HEADERS, flags, 1, b"\x03" + bytes(5) + block + b"pad"))
    padded = b"\x02" + message(b"x") + b"\0\0"
    pair.say(frame.frame(frame.DATA, frame.PADDED | frame.END_STREAM, 1, padded))
    assert pair.calls[0].messages == [b"x"]
    assert pair.calls[0].ended == 1


def test_header_blocks_may_be_continued() -> None:
    pair = Pair()
    block = block_of([*FIELDS, ("long", "x" * 40_000)])
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    pair.say(
        frame.frame(frame.HEADERS, 0, 1, parts[0]),
        frame.frame(frame.CONTINUATION, 0, 1, parts[1]),
        frame.frame(frame.CONTINUATION, frame.END_HEADERS, 1, parts[2]),
    )
    assert dict(pair.calls[0].stream.head.metadata)["long"] == "x" * 40_000


def test_a_client_that_uses_the_header_table_is_understood() -> None:
    pair = Pair()
    encoder = Encoder()
    for stream in (1, 3, 5):
        path = "/x.Y/Z" if stream == 3 else "/a.B/C"
        fields = [(k, path if k == ":path" else v) for k, v in FIELDS]
        block = encoder.encode([*fields, ("trace", "t" * 20)])
        pair.say(frame.frame(frame.HEADERS, frame.END_HEADERS, stream, block))
    assert [call.stream.head.path for call in pair.calls] == ["/a.B/C", "/x.Y/Z", "/a.B/C"]
    assert all(dict(call.stream.head.metadata)["trace"] == "t" * 20 for call in pair.calls)


def test_what_a_block_means_depends_on_the_table_it_was_sent_with() -> None:
    """The same bytes, another meaning: they must not be remembered across tables."""
    pair = Pair()
    encoder = Encoder()
    for stream, name in ((1, "one"), (3, "two"), (5, "one")):
        block = encoder.encode([*FIELDS, ("name", name)])
        pair.say(frame.frame(frame.HEADERS, frame.END_HEADERS, stream, block))
    names = [dict(call.stream.head.metadata)["name"] for call in pair.calls]
    assert names == ["one", "two", "one"]


def test_trailers_of_a_client_end_its_side() -> None:
    pair = Pair(echoes=True)
    trailers = block_of([("x-check", "1")])
    flags = frame.END_HEADERS | frame.END_STREAM
    pair.say(opening(1), data(1, message(b"m")), frame.frame(frame.HEADERS, flags, 1, trailers))
    assert pair.calls[0].ended == 1
    assert status(pair.heard(), 1) == {"grpc-status": "0"}


def test_an_answer_before_the_request_has_ended_releases_the_client() -> None:
    pair = Pair()
    pair.say(opening(1))
    pair.calls[0].stream.end(status_block(5, "no", alone=True))
    assert resets(pair.heard()) == [(1, Code.NO_ERROR)]
    pair.say(data(1, message(b"late")), frame.rst_stream(1, Code.CANCEL), frame.window_update(1, 5))
    assert pair.heard() == []
    assert pair.calls[0].messages == []


@pytest.mark.parametrize(
    ("fields", "http_status"),
    [
        ([("content-type", "text/html")], "415"),
        ([(":method", "GET")], "405"),
    ],
)
def test_what_is_no_grpc_is_answered_in_http(
    fields: list[tuple[str, str]], http_status: str
) -> None:
    pair = Pair()
    replaced = {**dict(FIELDS), **dict(fields)}
    block = block_of(list(replaced.items()))
    pair.say(frame.frame(frame.HEADERS, frame.END_HEADERS, 1, block))
    assert status(pair.heard(), 1)[":status"] == http_status
    assert pair.calls == []


# --- messages -------------------------------------------------------------------------------------


def test_compressed_messages_are_inflated_within_bounds() -> None:
    pair = Pair(SMALL)
    pair.say(opening(1, ("grpc-encoding", "gzip")), data(1, message(gzip.compress(b"a" * 999), 1)))
    assert pair.calls[0].messages == [b"a" * 999]
    pair.say(data(1, message(gzip.compress(bytes(50_001)), 1)))
    assert pair.calls[0].faults[0][0] == 8
    assert status(pair.heard(), 1)["grpc-status"] == "8"


@pytest.mark.parametrize(
    ("encoding", "payload", "expected"),
    [
        ("identity", message(b"x", 1), 13),
        ("br", message(b"x", 1), 12),
        ("gzip", message(b"not gzip", 1), 13),
        ("gzip", message(gzip.compress(b"cut short" * 9, mtime=0)[:-9], 1), 13),
        ("gzip", message(b"x", 2), 13),
        ("identity", struct.pack(">BI", 0, 100_001), 8),
    ],
)
def test_messages_that_can_not_be_taken_end_the_call(
    encoding: str, payload: bytes, expected: int
) -> None:
    pair = Pair(SMALL)
    pair.say(opening(1, ("grpc-encoding", encoding)), data(1, payload))
    assert [code for code, _ in pair.calls[0].faults] == [expected]
    assert pair.calls[0].messages == []
    assert not pair.server.streams
    assert not pair.server.is_over


def test_half_a_message_at_the_end_is_a_fault() -> None:
    pair = Pair()
    pair.say(opening(1), data(1, message(b"abc")[:-1], ends=True))
    assert pair.calls[0].faults[0][0] == 13
    assert pair.calls[0].ended == 0


def test_unfinished_messages_of_a_connection_are_bounded() -> None:
    pair = Pair(SMALL)
    begun = struct.pack(">BI", 0, 90_000) + bytes(16_000)
    for stream in (1, 3):
        pair.say(opening(stream), data(stream, begun))
        for _ in range(4):
            pair.say(data(stream, bytes(16_000)))
            pair.heard()
    assert [len(call.faults) for call in pair.calls] == [0, 1]
    assert pair.calls[1].faults[0][0] == 8


# --- flow control ---------------------------------------------------------------------------------


def test_what_is_taken_is_given_back() -> None:
    pair = Pair(SMALL)
    pair.say(opening(1))
    for _ in range(40):
        pair.say(data(1, message(bytes(9_995))))
        pair.heard()
    assert len(pair.calls[0].messages) == 40


def test_a_handler_that_takes_nothing_stops_the_client() -> None:
    pair = Pair(SMALL)
    pair.say(opening(1), opening(3))
    stream = pair.calls[0].stream
    stream.hold(5000)
    pair.say(*(data(1, message(bytes(9_995))) for _ in range(6)))
    assert granted(pair.heard(), 1) == 0
    stream.hold(-5000)
    assert granted(pair.heard(), 1) == 60_000
    stream.hold(70_000)
    pair.say(*(data(1, message(bytes(9_995))) for _ in range(6)), data(1, bytes(9_000)))
    frames = pair.heard()
    assert resets(frames) == [(1, Code.FLOW_CONTROL_ERROR)]
    assert pair.calls[0].resets == 1
    assert pair.calls[1].resets == 0


def test_more_than_the_connections_window_is_the_end_of_it() -> None:
    # Backlog beyond the bound, so that nothing is given back.
    pair = Pair(replace(SMALL, connection_backlog_bytes=0, stream_backlog_bytes=10**6))
    pair.say(opening(1), opening(3), opening(5))
    for call in pair.calls:
        call.stream.hold(100)
    for _ in range(5):
        for stream in (1, 3, 5):
            pair.say(data(stream, message(bytes(13_995))))
    assert goodbye(pair.heard())[1] is Code.FLOW_CONTROL_ERROR
    assert [call.resets for call in pair.calls] == [1, 1, 1]


def test_a_message_waits_for_the_clients_leave_and_leaves_in_parts() -> None:
    pair = Pair(greets=False)
    pair.say(frame.PREFACE, frame.settings_frame({frame.INITIAL_WINDOW_SIZE: 10}))
    pair.say(opening(1))
    pair.heard()
    stream = pair.calls[0].stream
    stream.send_headers(head_block())
    assert not stream.send_message(b"0123456789")
    stream.end(status_block(0))
    sent = [one for one in pair.heard() if one.kind == frame.DATA]
    assert b"".join(one.payload for one in sent) == message(b"0123456789")[:10]
    pair.say(frame.settings_frame({frame.INITIAL_WINDOW_SIZE: 12}))
    pair.say(frame.window_update(1, 100))
    frames = [one for one in pair.heard() if one.stream == 1]
    assert b"".join(one.payload for one in frames if one.kind == frame.DATA) == b"56789"
    assert frames[-2].kind == frame.HEADERS
    assert not pair.server.streams


def test_the_connections_window_is_shared_in_turns() -> None:
    pair = Pair()
    pair.say(frame.settings_frame({frame.INITIAL_WINDOW_SIZE: 10**6}), opening(1), opening(3))
    for call in pair.calls:
        call.stream.send_message(bytes(100_000))
    first = [one for one in pair.heard() if one.kind == frame.DATA]
    assert sum(len(one.payload) for one in first) == 65_535
    pair.say(frame.window_update(0, 60_000))
    more = [one for one in pair.heard() if one.kind == frame.DATA]
    assert {one.stream for one in more} == {1, 3}
    assert sum(len(one.payload) for one in more) == 60_000


def test_a_socket_that_takes_no_more_holds_messages_back() -> None:
    pair = Pair()
    pair.say(opening(1))
    pair.server.out.hold_back()
    assert not pair.calls[0].stream.send_message(b"wait")
    assert pair.server.out.take() == b""
    pair.server.out.go_on()
    assert pair.calls[0].sent == 1
    assert [one.payload for one in pair.heard()] == [message(b"wait")]


# --- hostile clients ------------------------------------------------------------------------------

PROTOCOL = Code.PROTOCOL_ERROR
SIZE = Code.FRAME_SIZE_ERROR
BEGUN = frame.frame(frame.HEADERS, 0, 1, b"\x82")
"""A header block that goes on."""


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (frame.frame(frame.DATA, 0, 1, b"x"), PROTOCOL),
        (frame.frame(frame.DATA, 0, 0, b"x"), PROTOCOL),
        (frame.frame(frame.HEADERS, frame.END_HEADERS, 2, block_of(FIELDS)), PROTOCOL),
        (frame.frame(frame.HEADERS, frame.END_HEADERS, 0, block_of(FIELDS)), PROTOCOL),
        (frame.frame(frame.HEADERS, frame.END_HEADERS, 1, b""), PROTOCOL),
        (frame.frame(frame.HEADERS, frame.END_HEADERS | frame.PADDED, 1, b"\xff"), PROTOCOL),
        (frame.frame(frame.HEADERS, frame.END_HEADERS, 1, b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
        (frame.frame(frame.HEADERS, frame.END_HEADERS, 1, b"\xbf"), Code.COMPRESSION_ERROR),
        (
            frame.frame(frame.HEADERS, 0, 1, b"\x82") + frame.frame(frame.PING, 0, 0, bytes(8)),
            PROTOCOL,
        ),
        (frame.frame(frame.HEADERS, 0, 1, b"\x82") + frame.frame(frame.DATA, 0, 1, b""), PROTOCOL),
        (frame.frame(frame.CONTINUATION, 0, 1, b""), PROTOCOL),
        (frame.frame(frame.PUSH_PROMISE, 0, 1, bytes(8)), PROTOCOL),
        (frame.frame(frame.PRIORITY, 0, 0, bytes(5)), PROTOCOL),
        (frame.frame(frame.PRIORITY, 0, 1, bytes(4)), SIZE),
        (frame.frame(frame.RST_STREAM, 0, 1, bytes(4)), PROTOCOL),
        (frame.frame(frame.RST_STREAM, 0, 1, bytes(3)), SIZE),
        (frame.frame(frame.SETTINGS, 0, 1, b""), PROTOCOL),
        (frame.frame(frame.SETTINGS, 0, 0, bytes(5)), SIZE),
        (frame.frame(frame.SETTINGS, frame.ACK, 0, bytes(6)), SIZE),
        (frame.settings_frame({frame.ENABLE_PUSH: 2}), PROTOCOL),
        (frame.settings_frame({frame.INITIAL_WINDOW_SIZE: 2**31}), Code.FLOW_CONTROL_ERROR),
        (frame.settings_frame({frame.MAX_FRAME_SIZE: 100}), PROTOCOL),
        (frame.frame(frame.PING, 0, 0, bytes(7)), SIZE),
        (frame.frame(frame.PING, 0, 1, bytes(8)), PROTOCOL),
        (frame.frame(frame.GOAWAY, 0, 0, bytes(7)), SIZE),
        (frame.frame(frame.WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL),
        (frame.frame(frame.WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
        (frame.window_update(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
        (frame.window_update(7, 1), PROTOCOL),
        (frame.HEAD.pack(16_385 << 8, 0, 1), SIZE),
    ],
)
def test_a_broken_protocol_ends_the_connection(said: bytes, code: Code) -> None:
    pair = Pair()
    pair.say(said)
    assert goodbye(pair.heard())[1] is code
    assert pair.server.is_over
    pair.say(opening(1))
    assert pair.calls == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (opening(1, ("Upper", "x")), PROTOCOL),
        (opening(1, ("connection", "close")), PROTOCOL),
        (opening(1, (":path", "/twice")), PROTOCOL),
        (opening(1, ("value", "a\nb")), PROTOCOL),
        (opening(1, ("grpc-timeout", "soon")), PROTOCOL),
        (opening(1, ("grpc-timeout", "123456789S")), PROTOCOL),
        (opening(1, ("x-bin", "a")), PROTOCOL),
        (frame.frame(frame.HEADERS, frame.END_HEADERS, 1, block_of(FIELDS[1:])), PROTOCOL),
        (opening(1) + frame.frame(frame.WINDOW_UPDATE, 0, 1, bytes(4)), PROTOCOL),
        (opening(1) + frame.window_update(1, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
        (opening(1) + data(1, b"", ends=True) + data(1, b"x"), Code.STREAM_CLOSED),
        (opening(1) + opening(1), PROTOCOL),
    ],
)
def test_a_broken_stream_ends_alone(said: bytes, code: Code) -> None:
    pair = Pair()
    pair.say(said)
    assert resets(pair.heard()) == [(1, code)]
    pair.say(opening(3))
    assert pair.calls[-1].stream.id == 3


def test_what_is_not_http2_is_left_at_once() -> None:
    pair = Pair(greets=False)
    pair.say(b"GET / HT")
    assert pair.server.is_over
    assert goodbye(pair.heard())[1] is PROTOCOL


def test_the_first_frame_is_settings() -> None:
    pair = Pair(greets=False)
    pair.say(frame.PREFACE, frame.frame(frame.PING, 0, 0, bytes(8)))
    assert goodbye(pair.heard())[1] is PROTOCOL


def test_streams_beyond_the_bound_are_refused() -> None:
    pair = Pair(SMALL)
    pair.say(*(opening(stream) for stream in (1, 3, 5, 7)))
    assert resets(pair.heard()) == [(7, Code.REFUSED_STREAM)]
    assert len(pair.server.streams) == 3


@pytest.mark.parametrize(
    "idle",
    [
        frame.frame(frame.PING, 0, 0, bytes(8)),
        frame.settings_frame({}),
        frame.frame(frame.PRIORITY, 0, 1, bytes(5)),
        frame.frame(0x55, 0, 0, b""),
        data(1, b""),
    ],
)
def test_floods_of_frames_that_cost_nothing_end_the_connection(idle: bytes) -> None:
    pair = Pair(SMALL)
    pair.say(opening(1))
    for _ in range(SMALL.control_burst - 2):
        pair.say(idle)
    assert not pair.server.is_over
    pair.now += 10.0  # a slow one goes on
    pair.say(*[idle] * 10)
    assert not pair.server.is_over
    pair.say(*[idle] * SMALL.control_burst)
    assert goodbye(pair.heard())[1] is Code.ENHANCE_YOUR_CALM


def test_rapid_resets_end_the_connection() -> None:
    pair = Pair(SMALL)
    for number in range(SMALL.reset_burst + 1):
        stream = 2 * number + 1
        pair.say(opening(stream), frame.rst_stream(stream, Code.CANCEL))
    assert goodbye(pair.heard())[1] is Code.ENHANCE_YOUR_CALM
    assert all(call.resets == 1 for call in pair.calls)


@pytest.mark.parametrize("size", [0, 1, 16_000])
def test_a_header_block_without_an_end_ends_the_connection(size: int) -> None:
    pair = Pair()
    pair.say(frame.frame(frame.HEADERS, 0, 1, b"\x82"))
    for _ in range(40):
        pair.say(frame.frame(frame.CONTINUATION, 0, 1, bytes(size)))
    assert goodbye(pair.heard())[1] is Code.ENHANCE_YOUR_CALM
    assert pair.calls == []


def test_too_many_fields_refuse_the_call_and_not_the_connection() -> None:
    pair = Pair(replace(SMALL, max_header_list_bytes=1000))
    block = b"\x20" + block_of([*FIELDS, ("long", "x" * 2000)])  # the table has no room
    pair.say(frame.frame(frame.HEADERS, frame.END_HEADERS, 1, block))
    assert status(pair.heard(), 1)[":status"] == "431"
    pair.say(opening(3))
    assert len(pair.calls) == 1


# --- goodbye --------------------------------------------------------------------------------------


def test_a_graceful_goodbye_still_takes_what_was_on_its_way() -> None:
    pair = Pair()
    pair.say(opening(1))
    pair.server.leave()
    frames = pair.heard()
    assert goodbye(frames) == (2**31 - 1, Code.NO_ERROR)
    ping = next(one for one in frames if one.kind == frame.PING)
    pair.say(opening(3), frame.frame(frame.PING, frame.ACK, 0, ping.payload))
    assert goodbye(pair.heard()) == (3, Code.NO_ERROR)
    pair.say(opening(5))
    assert resets(pair.heard()) == [(5, Code.REFUSED_STREAM)]
    assert [call.stream.id for call in pair.calls] == [1, 3]


def test_a_lost_connection_ends_every_call_once() -> None:
    pair = Pair()
    pair.say(opening(1), opening(3), data(3, message(b"x")))
    pair.server.lost()
    pair.server.lost()
    assert [call.resets for call in pair.calls] == [1, 1]
