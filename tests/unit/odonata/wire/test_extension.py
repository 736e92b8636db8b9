"""What our programs say beyond the API, and that nobody else stumbles over it."""

from __future__ import annotations

import pytest
from dragonfly_api import scheduler_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from msgspec.structs import replace

from odonata.errors import ProtocolError
from odonata.wire.digest_list import pack, unpack
from odonata.wire.dragonfly import (
    PeerRequest,
    answer_from_wire,
    answer_to_wire,
    request_from_wire,
    request_to_wire,
)
from odonata.wire.dragonfly.extension import (
    ASKS_DIGESTS_FIELD,
    FAR_SHARE_FIELD,
    PIECE_DIGESTS_FIELD,
    STRONG_DIGEST_FIELD,
    WRONG_DIGEST_FIELD,
    add_bytes,
    say_wrong_digest,
    wrong_digest_in,
)
from odonata.wire.message import (
    AskDigests,
    FarShare,
    PeerMessage,
    Piece,
    PieceBackToSourceFinished,
    PieceDigests,
    PieceFailed,
    PieceFinished,
    SchedulerAnswer,
    Started,
    TrafficType,
)

ACCUSATION = PieceFailed(parent_id="p", number=3, wrong_digest=True)


def on_the_wire(message: PeerMessage) -> bytes:
    request = PeerRequest(host_id="h", task_id="t", peer_id="c", message=message)
    data: bytes = request_to_wire(request).SerializeToString()
    return data


@pytest.mark.parametrize(("wrong_digest", "by_list"), [(True, False), (True, True), (False, False)])
def test_an_accusation_comes_back_as_it_went(wrong_digest: bool, by_list: bool) -> None:
    message = PieceFailed(parent_id="p", number=3, wrong_digest=wrong_digest, by_list=by_list)
    read = scheduler_pb2.AnnouncePeerRequest.FromString(on_the_wire(message))
    assert request_from_wire(read).message == message


def test_a_parser_of_the_api_reads_the_rest_as_ever() -> None:
    plain = scheduler_pb2.AnnouncePeerRequest.FromString(
        on_the_wire(PieceFailed(parent_id="p", number=3))
    )
    marked = scheduler_pb2.AnnouncePeerRequest.FromString(on_the_wire(ACCUSATION))
    assert json_format.MessageToDict(marked) == json_format.MessageToDict(plain)
    marked.download_piece_failed_request.DiscardUnknownFields()
    assert marked == plain


def test_it_is_an_ordinary_field_to_a_parser_that_knows_it() -> None:
    """Written by hand, read by protobuf: with a schema that has the field."""
    file = descriptor_pb2.FileDescriptorProto(name="extended.proto", package="x", syntax="proto3")
    message = file.message_type.add(name="Failed")
    optional = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    kinds = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="parent_id", number=2, type=kinds.TYPE_STRING, label=optional)
    message.field.add(
        name="wrong_digest", number=WRONG_DIGEST_FIELD, type=kinds.TYPE_BOOL, label=optional
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    extended = message_factory.GetMessageClass(pool.FindMessageTypeByName("x.Failed"))
    wire = scheduler_pb2.DownloadPieceFailedRequest(parent_id="p")
    say_wrong_digest(wire)
    read = extended.FromString(wire.SerializeToString())
    assert json_format.MessageToDict(read) == {"parentId": "p", "wrongDigest": True}


def test_the_number_is_free() -> None:
    numbers = [
        field.number
        for message in scheduler_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    ]
    assert max(numbers) < 100 < WRONG_DIGEST_FIELD


def test_other_unknown_fields_accuse_nobody() -> None:
    message = scheduler_pb2.DownloadPieceFailedRequest.FromString(b"\x0a\x01x\xfa\x7f\x01y")
    assert wrong_digest_in(message) == (False, False)


# --- strong digests -------------------------------------------------------------------------------

STRONG = bytes(range(32))


def reported(strong: bytes) -> PieceBackToSourceFinished:
    return PieceBackToSourceFinished(
        piece=Piece(
            number=3,
            offset=12,
            length=4,
            digest="crc32:7",
            traffic_type=TrafficType.BACK_TO_SOURCE,
            strong_digest=strong,
        )
    )


def read(data: bytes) -> PeerMessage:
    return request_from_wire(scheduler_pb2.AnnouncePeerRequest.FromString(data)).message


@pytest.mark.parametrize("message", [reported(STRONG), reported(b""), AskDigests(), Started()])
def test_what_peers_say_of_strong_digests_comes_back_as_it_went(message: PeerMessage) -> None:
    assert read(on_the_wire(message)) == message


@pytest.mark.parametrize("traffic", [TrafficType.LOCAL_PEER, TrafficType.REMOTE_PEER])
def test_of_pieces_that_were_there_before_it_is_told_and_of_no_parents(
    traffic: TrafficType,
) -> None:
    piece = replace(reported(STRONG).piece, traffic_type=traffic)
    is_told = traffic is TrafficType.LOCAL_PEER
    expected = PieceFinished(piece=piece if is_told else replace(piece, strong_digest=b""))
    assert read(on_the_wire(PieceFinished(piece=piece))) == expected


def test_a_parser_of_the_api_reads_a_report_as_ever() -> None:
    plain = scheduler_pb2.AnnouncePeerRequest.FromString(on_the_wire(reported(b"")))
    marked = scheduler_pb2.AnnouncePeerRequest.FromString(on_the_wire(reported(STRONG)))
    assert json_format.MessageToDict(marked) == json_format.MessageToDict(plain)


@pytest.mark.parametrize("strong", [bytes(32), b"short", bytes(33)])
def test_what_can_not_be_a_digest_is_none(strong: bytes) -> None:
    message = read(on_the_wire(reported(strong)))
    assert isinstance(message, PieceBackToSourceFinished)
    assert message.piece.strong_digest == b""


@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize("numbers", [(), (0,), (0, 1, 2), (5, 7, 8, 70_000)])
def test_digests_come_back_as_they_were_told(numbers: tuple[int, ...], is_last: bool) -> None:
    digests = dict.fromkeys(numbers, STRONG)
    told = PieceDigests(packed=pack(digests), is_last=is_last)
    data = answer_to_wire(told).SerializeToString()
    read_back = answer_from_wire(scheduler_pb2.AnnouncePeerResponse.FromString(data))
    assert read_back == told
    assert unpack(told.packed) == digests
    assert len(data) <= 16 + 40 * len(numbers)


def test_a_digest_can_be_taken_back() -> None:
    told = PieceDigests(packed=pack({3: b"", 4: STRONG}))
    assert answer_from_wire(answer_to_wire(told)) == told
    assert unpack(told.packed) == {3: b"", 4: STRONG}


@pytest.mark.parametrize("cut", [1, 31, 33, 39])
def test_digests_that_are_cut_short_are_the_schedulers_fault(cut: int) -> None:
    wire = answer_to_wire(PieceDigests(packed=pack({3: STRONG})))
    data = wire.SerializeToString()
    head = len(data) - (1 + 8 + 32)
    body = data[head:-cut]
    tag = PIECE_DIGESTS_FIELD << 3 | 2
    assert data.startswith(_varint(tag))
    broken = scheduler_pb2.AnnouncePeerResponse.FromString(_varint(tag) + _varint(len(body)) + body)
    with pytest.raises(ProtocolError, match="cut short"):
        answer_from_wire(broken)


@pytest.mark.parametrize("ours", [PieceDigests(packed=pack({})), FarShare(index=1, count=2)])
def test_the_fields_of_the_api_go_before_ours(ours: SchedulerAnswer) -> None:
    """An answer with parents is one with parents, whatever else is in it."""
    wire = scheduler_pb2.AnnouncePeerResponse()
    wire.empty_task_response.SetInParent()
    wire.MergeFromString(answer_to_wire(ours).SerializeToString())
    assert type(answer_from_wire(wire)).__name__ == "EmptyTask"


def test_numbers_of_fields_are_not_used_twice() -> None:
    fields = [
        WRONG_DIGEST_FIELD,
        STRONG_DIGEST_FIELD,
        ASKS_DIGESTS_FIELD,
        PIECE_DIGESTS_FIELD,
        FAR_SHARE_FIELD,
    ]
    assert len(set(fields)) == len(fields)


# --- parts of gateways ----------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "count"), [(0, 1), (1, 2), (63, 64)])
def test_a_part_comes_back_as_it_was_told(index: int, count: int) -> None:
    share = FarShare(index=index, count=count)
    data = answer_to_wire(share).SerializeToString()
    assert answer_from_wire(scheduler_pb2.AnnouncePeerResponse.FromString(data)) == share


def test_a_part_is_so_on_the_wire() -> None:
    data = answer_to_wire(FarShare(index=1, count=2)).SerializeToString()
    assert data.hex() == "aab5180201" + "02"


@pytest.mark.parametrize("told", [b"\x01", b"\x00\x01\x02", b"\x02\x02", b"\x00\x00", b"\x00\x41"])
def test_what_can_be_no_part_is_the_schedulers_fault(told: bytes) -> None:
    wire = scheduler_pb2.AnnouncePeerResponse()
    add_bytes(wire, FAR_SHARE_FIELD, told)
    with pytest.raises(ProtocolError, match="the scheduler's answer"):
        answer_from_wire(wire)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
