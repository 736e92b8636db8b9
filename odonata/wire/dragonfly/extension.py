"""What our programs say in fields that Dragonfly's API does not have.

A field of an unknown number is valid protobuf: whoever does not know it skips it, in every
language, and reads the rest as if it were not there. Numbers from 50,000 on are kept free for use
within organisations, and the API's own stay below 100. (Metadata, which `feature` uses, belongs to
a stream, not to a message.)
"""

from __future__ import annotations

from typing import Final

from dragonfly_api import dfdaemon_pb2, scheduler_pb2
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
    message.MergeFromString(varint(tag) + varint(1))


def says_wrong_digest(message: scheduler_pb2.DownloadPieceFailedRequest) -> bool:
    """Whether the sender says that the bytes were wrong."""
    unknown = UnknownFieldSet(message)
    fields = [unknown[number] for number in range(len(unknown))]
    return any(
        field.field_number == WRONG_DIGEST_FIELD and field.wire_type == _VARINT and field.data == 1
        for field in fields
    )


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


# --- what our daemon says of a task on its disk ---------------------------------------------------

TASK_URL_FIELD: Final = 50_011
"""In a StatLocalTaskResponse, text: the URL of the task, without its credentials."""
HELD_COUNT_FIELD: Final = 50_012
"""In a StatLocalTaskResponse, a varint: how many whole pieces are on the disk."""

_LENGTH_DELIMITED: Final = 2


def say_task(message: dfdaemon_pb2.StatLocalTaskResponse, url: str, held_count: int | None) -> None:
    """Add to `message` what the API has no field for; "" and None add nothing."""
    extra = b""
    if url:
        text = url.encode("utf-8", "replace")
        tag = TASK_URL_FIELD << 3 | _LENGTH_DELIMITED
        extra += varint(tag) + varint(len(text)) + text
    if held_count is not None:
        extra += varint(HELD_COUNT_FIELD << 3 | _VARINT) + varint(held_count)
    message.MergeFromString(extra)


def told_of_task(message: dfdaemon_pb2.StatLocalTaskResponse) -> tuple[str, int | None]:
    """The URL and the count of held pieces; "" and None if the sender does not say."""
    url, held_count = "", None
    unknown = UnknownFieldSet(message)
    for field in (unknown[number] for number in range(len(unknown))):
        kind = (field.field_number, field.wire_type)
        if kind == (TASK_URL_FIELD, _LENGTH_DELIMITED):
            url = bytes(field.data).decode("utf-8", "replace")
        elif kind == (HELD_COUNT_FIELD, _VARINT):
            held_count = int(field.data)
    return url, held_count
