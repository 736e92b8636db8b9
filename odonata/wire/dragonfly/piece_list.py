"""Several pieces in one message, between our own programs.

A parent that holds a whole content names its pieces one message after the other: hundreds, at a
tenth of a millisecond of CPU each on either side. A child of ours says that it takes lists
(`feature.TAKES_PIECE_LISTS`); then the message of one piece names the others as well, in a field
that Dragonfly's API does not have (see `extension`). Where they are served is the same for all.

So is a user told what has landed, by a daemon of ours, who says that it follows a download
(`feature.PIECES_TOGETHER`): ten messages a second are enough to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from dragonfly_api import dfdaemon_pb2

from odonata.errors import ProtocolError
from odonata.wire.dragonfly.extension import add_bytes, bytes_in
from odonata.wire.message import Piece, TrafficType

PIECES_FIELD: Final = 50_020
"""In a SyncPiecesResponse, bytes: MessagePack of [number, offset, length] of each other piece."""

ARRIVED_FIELD: Final = 50_021
"""In a DownloadPieceFinishedResponse, bytes: MessagePack of [number, offset, length, traffic type]
of each other piece."""

PIECES_MAX: Final = 1024
"""In one message: 18 KiB, and more than a content has as a rule (500)."""

_Place = tuple[int, int, int]
_Arrival = tuple[int, int, int, int]
_Row = TypeVar("_Row", _Place, _Arrival)


def add_pieces(message: dfdaemon_pb2.SyncPiecesResponse, pieces: Sequence[Piece]) -> None:
    """Name these pieces in `message`, too; at most PIECES_MAX."""
    assert len(pieces) <= PIECES_MAX, "more than one message carries"
    if pieces:
        places = [(one.number, one.offset, one.length) for one in pieces]
        add_bytes(message, PIECES_FIELD, msgspec.msgpack.encode(places))


def added_pieces(message: dfdaemon_pb2.SyncPiecesResponse) -> list[_Place]:
    """(number, offset, length) of each; ProtocolError if that is not what is there."""
    return _listed(bytes_in(message, PIECES_FIELD), list[_Place])


def add_arrived(
    message: dfdaemon_pb2.DownloadPieceFinishedResponse, pieces: Sequence[Piece]
) -> None:
    """Say that these pieces have landed, too; at most PIECES_MAX."""
    assert len(pieces) <= PIECES_MAX, "more than one message carries"
    if pieces:
        arrivals = [(one.number, one.offset, one.length, int(one.traffic_type)) for one in pieces]
        add_bytes(message, ARRIVED_FIELD, msgspec.msgpack.encode(arrivals))


def added_arrived(message: dfdaemon_pb2.DownloadPieceFinishedResponse) -> tuple[Piece, ...]:
    """The other pieces, without digests; ProtocolError if that is not what is there."""
    arrivals = _listed(bytes_in(message, ARRIVED_FIELD), list[_Arrival])
    try:
        return tuple(
            Piece(number=number, offset=offset, length=length, traffic_type=TrafficType(kind))
            for number, offset, length, kind in arrivals
        )
    except ValueError as error:
        raise ProtocolError(f"a list of pieces can't be read: {error}") from error


def _listed(told: bytes, kind: type[list[_Row]]) -> list[_Row]:
    if not told:
        return []
    try:
        rows = msgspec.msgpack.decode(told, type=kind)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a list of pieces can't be read: {error}") from error
    if len(rows) > PIECES_MAX or any(min(row) < 0 for row in rows):
        raise ProtocolError("a list of pieces is too long, or has a number below 0")
    return rows
