"""What our programs say in fields that Dragonfly's API does not have.

A field of an unknown number is valid protobuf: whoever does not know it skips it, in every
language, and reads the rest as if it were not there. Numbers from 50,000 on are kept free for use
within organisations, and the API's own stay below 100. (Metadata, which `feature` uses, belongs to
a stream, not to a message.)
"""

from __future__ import annotations

from typing import Final

from dragonfly_api import scheduler_pb2
from google.protobuf.unknown_fields import UnknownFieldSet

WRONG_DIGEST_FIELD: Final = 50_001
"""In a DownloadPieceFailedRequest, a varint: 1 if the bytes had another digest than their sender
named."""

_VARINT: Final = 0
_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80


def say_wrong_digest(message: scheduler_pb2.DownloadPieceFailedRequest) -> None:
    """Add to `message` that the bytes were wrong."""
    tag = WRONG_DIGEST_FIELD << 3 | _VARINT
    message.MergeFromString(_varint(tag) + _varint(1))


def says_wrong_digest(message: scheduler_pb2.DownloadPieceFailedRequest) -> bool:
    """Whether the sender says that the bytes were wrong."""
    unknown = UnknownFieldSet(message)
    fields = [unknown[number] for number in range(len(unknown))]
    return any(
        field.field_number == WRONG_DIGEST_FIELD and field.wire_type == _VARINT and field.data == 1
        for field in fields
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)
