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

from odonata.errors import ProtocolError
from odonata.wire.dragonfly.extension import add_bytes, bytes_in
from odonata.wire.message import Piece

PIECES_FIELD: Final = 50_020
"""In a SyncPiecesResponse, bytes: MessagePack of [number, offset, length] of each other piece."""

PIECES_MAX: Final = 1024
"""In one message: 18 KiB, and more than a content has as a rule (500)."""

_Place = tuple[int, int, int]


def add_pieces(message: dfdaemon_pb2.SyncPiecesResponse, pieces: Sequence[Piece]) -> None:
    """Name these pieces in `message`, too; at most PIECES_MAX."""
    assert len(pieces) <= PIECES_MAX, "more than one message carries"
    if pieces:
        places = [(one.number, one.offset, one.length) for one in pieces]
        add_bytes(message, PIECES_FIELD, msgspec.msgpack.encode(places))


def added_pieces(message: dfdaemon_pb2.SyncPiecesResponse) -> list[_Place]:
    """(number, offset, length) of each; ProtocolError if that is not what is there."""
    told = bytes_in(message, PIECES_FIELD)
    if not told:
        return []
    try:
        places = msgspec.msgpack.decode(told, type=list[_Place])
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a list of pieces can't be read: {error}") from error
    if len(places) > PIECES_MAX or any(min(place) < 0 for place in places):
        raise ProtocolError("a list of pieces is too long, or has a number below 0")
    return places
