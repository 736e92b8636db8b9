"""What our programs say beyond the API, and that nobody else stumbles over it."""

from __future__ import annotations

import pytest
from dragonfly_api import scheduler_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from odonata.wire.dragonfly import PeerRequest, request_from_wire, request_to_wire
from odonata.wire.dragonfly.extension import (
    WRONG_DIGEST_FIELD,
    say_wrong_digest,
    wrong_digest_in,
)
from odonata.wire.message import PieceFailed

ACCUSATION = PieceFailed(parent_id="p", number=3, wrong_digest=True)


def on_the_wire(message: PieceFailed) -> bytes:
    request = PeerRequest(host_id="h", task_id="t", peer_id="c", message=message)
    data: bytes = request_to_wire(request).SerializeToString()
    return data


@pytest.mark.parametrize("wrong_digest", [True, False])
def test_an_accusation_comes_back_as_it_went(wrong_digest: bool) -> None:
    message = PieceFailed(parent_id="p", number=3, wrong_digest=wrong_digest)
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
