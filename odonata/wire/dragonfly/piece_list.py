"""Several pieces in one SyncPiecesResponse, between our own programs.

A parent that holds a whole content names its pieces one message after the other: hundreds, at a
tenth of a millisecond of CPU each on either side. A child of ours says that it takes lists
(`feature.TAKES_PIECE_LISTS`); then the message of one piece names the others as well, in a field
that Dragonfly's API does not have (see `extension`). Where they are served is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from dragonfly_api import dfdaemon_pb2
from google.protobuf.unknown_fields import UnknownFieldSet

from odonata.errors import ProtocolError
from odonata.wire.dragonfly.extension import varint
from odonata.wire.message import Piece

PIECES_FIELD: Final = 50_002
"""In a SyncPiecesResponse, bytes: MessagePack of [number, offset, length] of each other piece."""

PIECES_MAX: Final = 1024
"""In one message: 18 KiB, and more than a content has as a rule (500)."""

_BYTES: Final = 2  # wire type

_Place = tuple[int, int, int]


def add_pieces(message: dfdaemon_pb2.SyncPiecesResponse, pieces: Sequence[Piece]) -> None:
    """Name these pieces in `message`, too; at most PIECES_MAX."""
    assert len(pieces) <= PIECES_MAX, "more than one message carries"
    if pieces:
        data = msgspec.msgpack.encode([(one.number, one.offset, one.length) for one in pieces])
        message.MergeFromString(varint(PIECES_FIELD << 3 | _BYTES) + varint(len(data)) + data)


def added_pieces(message: dfdaemon_pb2.SyncPiecesResponse) -> list[_Place]:
    """(number, offset, length) of each; ProtocolError if that is not what is there."""
    unknown = UnknownFieldSet(message)
    for field in (unknown[index] for index in range(len(unknown))):
        if field.field_number == PIECES_FIELD and field.wire_type == _BYTES:
            try:
                places = msgspec.msgpack.decode(field.data, type=list[_Place])
            except msgspec.DecodeError as error:
                raise ProtocolError(f"a list of pieces can't be read: {error}") from error
            if len(places) > PIECES_MAX or any(min(place) < 0 for place in places):
                raise ProtocolError("a list of pieces is too long, or has a number below 0")
            return places
    return []
