"""Vortex packets, laid out by hand from the specification, and bytes that no peer should send."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import NotFoundError, PeerRefusedError, PieceGivenError, ProtocolError
from odonata.wire import vortex
from odonata.wire.message import Piece, TrafficType
from odonata.wire.vortex import (
    AnswerParser,
    Greeting,
    PieceRequest,
    Refusal,
    RefusalCode,
    RequestTag,
    Tag,
    encode_content_head,
    encode_greeting,
    encode_refusal,
    encode_request,
    greeting_value_length,
    parse_greeting,
    parse_header,
    parse_metadata,
    parse_refusal,
    parse_request,
    request_value_length,
)

TASK_ID = "0123456789abcdef" * 4
REQUEST = PieceRequest(task_id=TASK_ID, number=3)
PIECE = Piece(
    number=3,
    offset=12_582_912,
    length=4_194_304,
    digest="crc32:42",
    parent_id="p1",
    traffic_type=TrafficType.REMOTE_PEER,
    cost_s=2.0,
    created_at_s=1_700_000_000.0,
)
# dfdaemon's layout, field by field, big-endian: 45 bytes, "crc32:42" and "p1".
METADATA = b"".join(
    (
        b"\0\0\0\3",
        b"\0\0\0\0\0\xc0\0\0",
        b"\0\0\0\0\0\x40\0\0",
        b"\0\0\0\x08",
        b"crc32:42",
        b"\0\0\0\2",
        b"p1",
        b"\1",
        b"\0\0\0\0\0\0\0\2",
        b"\0\0\0\0\x65\x53\xf1\0",
    )
)
CONTENT_HEAD = b"\x07\x01\0\0\0\x3b" + b"\0\0\0\x37" + METADATA
ERROR = b"\x09\xff\0\0\0\x0a" + b"\2" + b"no piece!"

REQUESTS = st.builds(
    PieceRequest,
    task_id=st.text(alphabet="0123456789abcdef", min_size=64, max_size=64),
    number=st.integers(0, vortex.PIECE_NUMBER_MAX),
    tag=st.sampled_from(RequestTag),
)
PIECES = st.builds(
    Piece,
    number=st.integers(0, vortex.PIECE_NUMBER_MAX),
    offset=st.integers(0, vortex.OFFSET_MAX),
    length=st.integers(0, vortex.CONTENT_LENGTH_MAX),
    digest=st.text(alphabet=st.characters(codec="utf-8"), max_size=64),
    parent_id=st.text(alphabet=st.characters(codec="utf-8"), max_size=256),
    traffic_type=st.sampled_from(TrafficType),
    cost_s=st.integers(0, 2**40).map(float),
    created_at_s=st.integers(0, 2**40).map(float),
)


def parse_answer(request: PieceRequest, stream: bytes) -> tuple[Piece | Refusal, list[int], bytes]:
    """Read an answer as a socket's reader does: the answer, the steps it took, what is left."""
    parser, at = AnswerParser(request), 0
    steps: list[int] = []
    while parser.need:
        steps.append(parser.need)
        at += parser.need
        parser.feed(stream[at - parser.need : at])
    return parser.answer, steps, stream[at:]


# --- layout ---------------------------------------------------------------------------------------


def test_a_request_is_laid_out_as_specified() -> None:
    expected = b"\x07\x00\0\0\0\x44" + TASK_ID.encode() + b"\0\0\0\3"
    assert encode_request(REQUEST, packet_id=7) == expected
    header = parse_header(expected[:6])
    assert (header.id, header.tag, header.length) == (7, Tag.DOWNLOAD_PIECE, 68)
    assert request_value_length(header) == 68
    assert parse_request(header, expected[6:]) == REQUEST


def test_a_content_head_is_laid_out_as_specified() -> None:
    assert len(METADATA) == 45 + len("crc32:42") + len("p1")
    assert encode_content_head(REQUEST, PIECE, packet_id=7) == CONTENT_HEAD


def test_an_answer_is_read_in_steps_of_6_4_and_m_bytes() -> None:
    answer, steps, rest = parse_answer(REQUEST, CONTENT_HEAD + b"piece bytes")
    assert answer == PIECE
    assert steps == [6, 4, len(METADATA)]
    assert rest == b"piece bytes"


def test_an_error_is_laid_out_as_specified() -> None:
    refusal = Refusal(code=RefusalCode.NOT_FOUND, message="no piece!")
    assert encode_refusal(refusal, packet_id=9) == ERROR
    answer, steps, rest = parse_answer(REQUEST, ERROR)
    assert answer == refusal
    assert steps == [6, 10]
    assert rest == b""


@pytest.mark.parametrize(
    ("tag", "request_byte", "answer_byte"),
    [
        (RequestTag.STANDARD, 0, 1),
        (RequestTag.PERSISTENT, 2, 3),
        (RequestTag.PERSISTENT_CACHE, 4, 5),
    ],
)
def test_each_kind_of_piece_has_its_pair_of_tags(
    tag: RequestTag, request_byte: int, answer_byte: int
) -> None:
    request = msgspec.structs.replace(REQUEST, tag=tag)
    assert encode_request(request)[1] == request_byte
    assert encode_content_head(request, PIECE)[1] == answer_byte


# --- there and back -------------------------------------------------------------------------------


@given(REQUESTS, st.integers(0, 255))
def test_requests_come_back(request: PieceRequest, packet_id: int) -> None:
    data = encode_request(request, packet_id=packet_id)
    header = parse_header(data[:6])
    assert header.id == packet_id
    assert parse_request(header, data[6:]) == request


@given(REQUESTS, PIECES)
def test_content_heads_come_back(request: PieceRequest, piece: Piece) -> None:
    request = msgspec.structs.replace(request, number=piece.number)
    answer, _, rest = parse_answer(request, encode_content_head(request, piece))
    assert answer == piece
    assert rest == b""


@given(
    st.sampled_from(RefusalCode),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=200)
    | st.integers(0, 20_000).map(lambda count: "é" * count),
)
def test_refusals_come_back_and_long_ones_are_cut(code: RefusalCode, message: str) -> None:
    answer, _, rest = parse_answer(REQUEST, encode_refusal(Refusal(code=code, message=message)))
    assert isinstance(answer, Refusal)
    assert answer.code is code
    assert message.startswith(answer.message)
    assert answer.message == message or len(message.encode()) > vortex.ERROR_MESSAGE_LENGTH_MAX
    assert rest == b""


def test_times_are_cut_to_whole_seconds() -> None:
    piece = msgspec.structs.replace(PIECE, cost_s=2.9, created_at_s=1_700_000_000.9)
    assert encode_content_head(REQUEST, piece, packet_id=7) == CONTENT_HEAD


# --- what a refusal means -------------------------------------------------------------------------


def test_a_parent_without_the_piece_is_not_one_that_refuses() -> None:
    missing = Refusal(code=RefusalCode.NOT_FOUND, message="gone").to_error()
    assert isinstance(missing, NotFoundError)
    assert "not_found" in missing.detail
    assert "gone" in missing.detail
    for code in (RefusalCode.UNKNOWN, RefusalCode.INVALID_ARGUMENT, RefusalCode.INTERNAL):
        assert isinstance(Refusal(code=code, message="x" * 10**4).to_error(), PeerRefusedError)
        assert len(Refusal(code=code, message="x" * 10**4).to_error().detail) < 600


def test_unknown_codes_and_broken_text_are_still_refusals() -> None:
    assert parse_refusal(b"\x63caf\xff") == Refusal(code=RefusalCode.UNKNOWN, message="caf\ufffd")


def test_an_unknown_traffic_type_does_not_matter() -> None:
    odd = METADATA[:-17] + b"\x2a" + METADATA[-16:]
    assert parse_metadata(odd) == PIECE


# --- hostile bytes --------------------------------------------------------------------------------


def refuses(request: PieceRequest, stream: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        parse_answer(request, stream)
    return caught.value.detail


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"\0\x08\0\0\0\x44", "tag 8"),
        (b"\0\xfd\0\0\0\x44", "tag 253"),
        (b"\0\x03\0\0\0\x3b", "PERSISTENT_PIECE_CONTENT"),
        (b"\0\x00\0\0\0\x44", "DOWNLOAD_PIECE"),
        (b"\0\xfe\0\0\0\0", "CLOSE"),
        (b"\0\x01\0\0\0\0", "content packet's length 0"),
        (b"\0\x01\0\0\0\x30", "content packet's length 48"),
        (b"\0\x01\xff\xff\xff\xff", "content packet's length 4294967295"),
        (b"\0\xff\xff\xff\xff\xff", "error length 4294967295"),
        (b"\0\xff\0\0\0\0", "error length 0"),
    ],
)
def test_a_header_that_is_not_allowed_ends_the_answer_at_once(header: bytes, said: str) -> None:
    parser = AnswerParser(REQUEST)
    with pytest.raises(ProtocolError, match=said):
        parser.feed(header)


@pytest.mark.parametrize("metadata_length", [0, 0x36, 0x38, 0xFFFFFFFF])
def test_metadata_must_fill_its_packet(metadata_length: int) -> None:
    stream = CONTENT_HEAD[:6] + struct.pack(">I", metadata_length)
    assert "does not fill" in refuses(REQUEST, stream)


def test_another_piece_than_asked_for_is_refused() -> None:
    other = msgspec.structs.replace(REQUEST, number=4)
    assert refuses(other, CONTENT_HEAD) == "asked for piece 4, got 3"


@pytest.mark.parametrize(
    ("at", "patch", "said"),
    [
        (12, b"\0\0\0\0\x10\0\0\1", "more than 256 MiB"),
        (12, b"\xff" * 8, "more than 256 MiB"),
        (4, b"\xff" * 8, "offset"),
        (20, b"\0\0\0\x20", "digest length 32"),
        (20, b"\xff\xff\xff\xff", "digest length 4294967295"),
        (20, b"\0\0\0\x1d", "before its parent id"),
        (20, b"\0\0\0\7", "parent id length"),
        (24, b"\xff", "digest is not UTF-8"),
        (32, b"\0\0\0\3", "ends with 16 bytes"),
        (32, b"\0\0\0\1", "ends with 18 bytes"),
        (36, b"\xff", "parent id is not UTF-8"),
    ],
)
def test_metadata_that_lies_is_refused(at: int, patch: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        parse_metadata(METADATA[:at] + patch + METADATA[at + len(patch) :])


@given(st.integers(0, len(METADATA) - 1))
def test_metadata_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        parse_metadata(METADATA[:length])


@given(st.integers(0, len(CONTENT_HEAD) - 1))
def test_an_answer_cut_short_is_never_an_answer(length: int) -> None:
    refuses(REQUEST, CONTENT_HEAD[:length])


def test_no_answer_before_the_end_and_no_bytes_after_it() -> None:
    parser = AnswerParser(REQUEST)
    with pytest.raises(ProtocolError, match="6 more bytes were due"):
        _ = parser.answer
    for start, end in ((0, 6), (6, 16)):
        parser.feed(ERROR[start:end])
    with pytest.raises(ProtocolError, match="where 0 were due"):
        parser.feed(b"")


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_an_answer_or_a_protocol_error(data: bytes, well_begun: bool) -> None:
    stream = CONTENT_HEAD[:10] + data if well_begun else data
    parser, at = AnswerParser(REQUEST), 0
    try:
        while parser.need:
            # Whatever comes, the parser never asks for more than one packet's largest value.
            assert parser.need <= vortex.ERROR_VALUE_LENGTH_MAX
            at += parser.need
            parser.feed(stream[at - parser.need : at])
    except ProtocolError:
        return
    assert isinstance(parser.answer, (Piece, Refusal))


@given(st.binary(min_size=45, max_size=120), st.integers(0, 44), st.binary(max_size=8))
def test_damaged_metadata_is_a_piece_within_limits_or_a_protocol_error(
    noise: bytes, at: int, patch: bytes
) -> None:
    for data in (noise, METADATA[:at] + patch + METADATA[at + len(patch) :]):
        try:
            piece = parse_metadata(data)
        except ProtocolError:
            continue
        assert piece.length <= vortex.CONTENT_LENGTH_MAX
        assert piece.offset <= vortex.OFFSET_MAX
        assert len(piece.digest) + len(piece.parent_id) + 45 <= len(data)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"\0\x01\0\0\0\x44", "PIECE_CONTENT asks for no piece"),
        (b"\0\x06\0\0\0\x44", "DOWNLOAD_CACHE_PIECE asks for no piece"),
        (b"\0\xff\0\0\0\x44", "ERROR asks for no piece"),
        (b"\0\x00\0\0\0\x43", "request length 67"),
        (b"\0\x00\xff\xff\xff\xff", "request length 4294967295"),
    ],
)
def test_a_request_header_that_is_not_allowed_is_refused(header: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        request_value_length(parse_header(header))


@pytest.mark.parametrize("task_id", [b"../" + b"a" * 61, b"\xff" * 64, b"a" * 63 + b"\0"])
def test_a_task_id_that_could_leave_its_folder_is_refused(task_id: bytes) -> None:
    header = parse_header(b"\0\x00\0\0\0\x44")
    with pytest.raises(ProtocolError, match="letters and digits"):
        parse_request(header, task_id + b"\0\0\0\0")


@given(st.binary(max_size=80))
def test_random_requests_are_requests_or_protocol_errors(data: bytes) -> None:
    try:
        header = parse_header(data[:6])
        request = parse_request(header, data[6:])
    except ProtocolError:
        return
    assert len(request.task_id) == 64


# --- what we refuse to send -----------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["short", "a" * 65, "é" * 64, "0f" * 64])
def test_a_task_id_that_does_not_fit_is_refused(task_id: str) -> None:
    with pytest.raises(ProtocolError, match="64 ASCII characters"):
        encode_request(PieceRequest(task_id=task_id, number=0))


@pytest.mark.parametrize("number", [-1, 2**32])
def test_a_number_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(ProtocolError, match="piece number"):
        encode_request(PieceRequest(task_id=TASK_ID, number=number))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digest", "x" * 257),
        ("parent_id", "x" * 1025),
        ("length", vortex.CONTENT_LENGTH_MAX + 1),
        ("offset", -1),
        ("number", 2**32),
    ],
)
def test_a_piece_that_does_not_fit_is_refused(field: str, value: str | int) -> None:
    with pytest.raises(ProtocolError, match=field.replace("_", " ").replace("length", "piece")):
        encode_content_head(REQUEST, msgspec.structs.replace(PIECE, **{field: value}))


# --- greetings ------------------------------------------------------------------------------------


def test_a_greeting_says_who() -> None:
    greeting = Greeting(host_id="10.0.0.1-node")
    packet = encode_greeting(greeting, packet_id=9)
    assert packet == bytes([9, 200, 0, 0, 0, 13]) + b"10.0.0.1-node"
    header = parse_header(packet[:6])
    assert (header.tag, greeting_value_length(header)) == (Tag.GREETING, 13)
    assert parse_greeting(packet[6:]) == greeting


def test_impatience_is_in_the_packet_id_alone() -> None:
    packet = encode_request(msgspec.structs.replace(REQUEST, is_patient=False))
    assert packet == b"\1" + encode_request(REQUEST)[1:]


def test_an_exclusive_request_says_so_in_the_packet_id_alone() -> None:
    packet = encode_request(msgspec.structs.replace(REQUEST, is_exclusive=True))
    assert packet == b"\2" + encode_request(REQUEST)[1:]
    both = msgspec.structs.replace(REQUEST, is_exclusive=True, is_patient=False)
    assert encode_request(both)[:1] == b"\3"


def test_one_that_may_be_passed_on_says_so_in_the_packet_id_alone() -> None:
    packet = encode_request(msgspec.structs.replace(REQUEST, is_passed_on=True))
    assert packet == b"\4" + encode_request(REQUEST)[1:]


def test_one_that_is_asked_ahead_says_so_in_the_packet_id_alone() -> None:
    packet = encode_request(msgspec.structs.replace(REQUEST, is_ahead=True))
    assert packet == b"\10" + encode_request(REQUEST)[1:]


@given(st.lists(st.integers(0, vortex.PIECE_NUMBER_MAX), min_size=1, max_size=1500))
def test_what_is_given_to_others_comes_back(numbers: list[int]) -> None:
    packet = encode_refusal(vortex.given_to_others(numbers))
    answer, _, _ = parse_answer(REQUEST, packet)
    assert isinstance(answer, Refusal)
    error = answer.to_error()
    assert isinstance(error, PieceGivenError)
    assert error.given == tuple(numbers[: vortex.GIVEN_MAX])


@given(st.text(max_size=200))
def test_what_is_no_number_is_given_to_nobody(message: str) -> None:
    error = Refusal(code=RefusalCode.GIVEN, message=message).to_error()
    assert isinstance(error, PieceGivenError)
    assert all(0 <= number < 10**10 for number in error.given)


def test_a_long_host_id_is_cut_between_characters() -> None:
    packet = encode_greeting(Greeting(host_id="é" * 1000))
    assert parse_greeting(packet[6:]).host_id == "é" * 256


@pytest.mark.parametrize("length", [0, 513])
def test_a_greeting_of_another_length_is_refused(length: int) -> None:
    header = parse_header(bytes([0, 200]) + length.to_bytes(4, "big"))
    with pytest.raises(ProtocolError, match="greeting length"):
        greeting_value_length(header)
    with pytest.raises(ProtocolError, match="greeting length"):
        parse_greeting(b"x" * length)


def test_a_greeting_asks_for_nothing() -> None:
    header = parse_header(encode_greeting(Greeting(host_id="h"))[:6])
    with pytest.raises(ProtocolError, match="GREETING"):
        request_value_length(header)
