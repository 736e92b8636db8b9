"""What our programs say in fields that Dragonfly's API does not have.

A field of an unknown number is valid protobuf: whoever does not know it skips it, in every
language, and reads the rest as if it were not there. Numbers from 50,000 on are kept free for use
within organisations, and the API's own stay below 100. (Metadata, which `feature` uses, belongs to
a stream, not to a message.)
"""

from __future__ import annotations

from typing import Final

from dragonfly_api import scheduler_pb2
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from odonata.digest import STRONG_DIGEST_BYTES
from odonata.errors import ProtocolError
from odonata.wire import digest_list
from odonata.wire.digest_list import TAKEN_BACK
from odonata.wire.message import MAX_FAR_SHARE_COUNT, FarShare, PieceDigests

_Report = (
    scheduler_pb2.DownloadPieceBackToSourceFinishedRequest
    | scheduler_pb2.DownloadPieceFinishedRequest
)

WRONG_DIGEST_FIELD: Final = 50_001
"""In a DownloadPieceFailedRequest, a varint: 1 if the bytes had another digest than their sender
named, 2 if they had another than the scheduler told (`PieceDigests`)."""

STRONG_DIGEST_FIELD: Final = 50_002
"""In a DownloadPieceBackToSourceFinishedRequest, bytes: the strong digest of the piece. In a
DownloadPieceFinishedRequest of a piece that was there before, too: it had come from the source."""

ASKS_DIGESTS_FIELD: Final = 50_003
"""In a DownloadPeerStartedRequest, a varint: 1 if it is no such thing but asks for digests."""

PIECE_DIGESTS_FIELD: Final = 50_004
"""In an AnnouncePeerResponse that sets none of its members, bytes: digests of pieces.

A byte, 1 if more follow at once, else 0. Then what `odonata.wire.digest_list` packs."""

FAR_SHARE_FIELD: Final = 50_005
"""In an AnnouncePeerResponse that sets none of its members, bytes: a `FarShare`, two bytes, the
index and the count."""

_LAST: Final = b"\x00"
_MORE_FOLLOW: Final = b"\x01"
_FAR_SHARE_BYTES: Final = 2
_NAMED: Final = 1
_LISTED: Final = 2
_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2
_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80


def say_wrong_digest(
    message: scheduler_pb2.DownloadPieceFailedRequest, *, by_list: bool = False
) -> None:
    """Add to `message` that the bytes were wrong; `by_list`: by what the scheduler told."""
    add_number(message, WRONG_DIGEST_FIELD, _LISTED if by_list else _NAMED)


def wrong_digest_in(message: scheduler_pb2.DownloadPieceFailedRequest) -> tuple[bool, bool]:
    """Whether the sender says that the bytes were wrong, and whether by the scheduler's list."""
    told = numbers_in(message, WRONG_DIGEST_FIELD)
    by_list = _LISTED in told
    return by_list or _NAMED in told, by_list


def say_strong_digest(message: _Report, digest: bytes) -> None:
    """Add the strong digest of the piece."""
    add_bytes(message, STRONG_DIGEST_FIELD, digest)


def strong_digest_in(message: _Report) -> bytes:
    """The strong digest of the piece, empty if there is none, or what can't be one."""
    told = bytes_in(message, STRONG_DIGEST_FIELD)
    is_one = len(told) == STRONG_DIGEST_BYTES and told != TAKEN_BACK
    return told if is_one else b""


def ask_digests(message: scheduler_pb2.DownloadPeerStartedRequest) -> None:
    """Make `message` a question for digests."""
    message.SetInParent()
    add_number(message, ASKS_DIGESTS_FIELD, 1)


def asks_digests(message: scheduler_pb2.DownloadPeerStartedRequest) -> bool:
    """Whether this is a question for digests."""
    return 1 in numbers_in(message, ASKS_DIGESTS_FIELD)


def tell_digests(message: scheduler_pb2.AnnouncePeerResponse, told: PieceDigests) -> None:
    """Make `message` an answer that tells digests."""
    add_bytes(message, PIECE_DIGESTS_FIELD, (_LAST if told.is_last else _MORE_FOLLOW) + told.packed)


def digests_in(message: scheduler_pb2.AnnouncePeerResponse) -> PieceDigests | None:
    """What an answer tells of digests; None if it is none that does. Raises ProtocolError."""
    data = bytes_in(message, PIECE_DIGESTS_FIELD)
    if not data:
        return None
    told = PieceDigests(packed=data[1:], is_last=data[:1] == _LAST)
    digest_list.check(told.packed)
    return told


def tell_far_share(message: scheduler_pb2.AnnouncePeerResponse, told: FarShare) -> None:
    """Make `message` an answer that tells a gateway its part."""
    add_bytes(message, FAR_SHARE_FIELD, bytes((told.index, told.count)))


def far_share_in(message: scheduler_pb2.AnnouncePeerResponse) -> FarShare | None:
    """The part that an answer tells; None if it is none that does. Raises ProtocolError."""
    data = bytes_in(message, FAR_SHARE_FIELD)
    if not data:
        return None
    if len(data) != _FAR_SHARE_BYTES:
        raise ProtocolError(
            f"field {FAR_SHARE_FIELD} of the scheduler's answer has {len(data)} bytes: two are an "
            "index and a count"
        )
    index, count = data
    if not index < count <= MAX_FAR_SHARE_COUNT:
        raise ProtocolError(
            f"the scheduler's answer makes this peer gateway {index} of {count}: counted from 0, "
            f"of {MAX_FAR_SHARE_COUNT} at most"
        )
    return FarShare(index=index, count=count)


def add_number(message: Message, field: int, number: int) -> None:
    """Add a number in a field that the API does not have."""
    message.MergeFromString(varint(field << 3 | _VARINT) + varint(number))


def add_bytes(message: Message, field: int, data: bytes) -> None:
    """Add bytes in a field that the API does not have."""
    head = varint(field << 3 | _LENGTH_DELIMITED) + varint(len(data))
    message.MergeFromString(head + data)


def numbers_in(message: Message, field: int) -> list[int]:
    """All numbers in a field that the API does not have."""
    return [data for data in _unknown(message, field, _VARINT) if isinstance(data, int)]


def bytes_in(message: Message, field: int) -> bytes:
    """What such a field holds, empty if it is not there; the last one counts, as in protobuf."""
    told = _unknown(message, field, _LENGTH_DELIMITED)
    return told[-1] if told and isinstance(told[-1], bytes) else b""


def _unknown(message: Message, number: int, wire_type: int) -> list[object]:
    unknown = UnknownFieldSet(message)
    fields = [unknown[place] for place in range(len(unknown))]
    return [
        field.data
        for field in fields
        if field.field_number == number and field.wire_type == wire_type
    ]


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)
