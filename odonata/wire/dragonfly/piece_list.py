"""Several pieces in one message, between our own programs.

A parent that holds a whole content names its pieces one message after the other: hundreds, at a
tenth of a millisecond of CPU each on either side. A child of ours says that it takes lists
(`feature.TAKES_PIECE_LISTS`); then the message of one piece names the others as well, in a field
that Dragonfly's API does not have (see `extension`). Where they are served is the same for all.

A child that says so (`feature.TAKES_COMING`) is told of pieces as well that its parent is still
being sent. Their messages look the same, and a field says what they are.

So is a user told what has landed, by a daemon of ours, who says that it follows a download
(`feature.PIECES_TOGETHER`): ten messages a second are enough to look at.

And so does a download tell a scheduler of ours what its parents brought, if that takes it
(`feature.TAKES_PIECES_TOGETHER`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from dragonfly_api import dfdaemon_pb2, scheduler_pb2

from odonata.errors import ProtocolError
from odonata.wire.dragonfly.extension import add_bytes, bytes_in
from odonata.wire.message import Piece, TrafficType

PIECES_FIELD: Final = 50_020
"""In a SyncPiecesResponse, bytes: MessagePack of [number, offset, length] of each other piece."""

ARRIVED_FIELD: Final = 50_021
"""In a DownloadPieceFinishedResponse, bytes: MessagePack of [number, offset, length, traffic type]
of each other piece."""

REPORTED_FIELD: Final = 50_022
"""In a DownloadPieceFinishedRequest, bytes: MessagePack of [number, offset, length, digest, parent
id, seconds it took, Unix time] of each other piece; parents brought them all."""

COMING_FIELD: Final = 50_023
"""In a SyncPiecesResponse, any bytes: the parent has none of its pieces yet, but is being sent them
and passes them on."""

PIECES_MAX: Final = 1024
"""In one message: 18 KiB, and more than a content has as a rule (500)."""

_Place = tuple[int, int, int]
_Arrival = tuple[int, int, int, int]
_Report = tuple[int, int, int, str, str, float, float]
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


def say_coming(message: dfdaemon_pb2.SyncPiecesResponse) -> None:
    """Say of the pieces in `message` that they are still on their way to us."""
    add_bytes(message, COMING_FIELD, b"1")


def is_coming(message: dfdaemon_pb2.SyncPiecesResponse) -> bool:
    """Whether the parent does not have them yet."""
    return bool(bytes_in(message, COMING_FIELD))


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


def add_reported(
    message: scheduler_pb2.DownloadPieceFinishedRequest, pieces: Sequence[Piece]
) -> None:
    """Report these pieces, too; at most PIECES_MAX."""
    assert len(pieces) <= PIECES_MAX, "more than one message carries"
    if pieces:
        reports = [
            (p.number, p.offset, p.length, p.digest, p.parent_id, p.cost_s, p.created_at_s)
            for p in pieces
        ]
        add_bytes(message, REPORTED_FIELD, msgspec.msgpack.encode(reports))


def added_reported(message: scheduler_pb2.DownloadPieceFinishedRequest) -> tuple[Piece, ...]:
    """The other pieces; ProtocolError if that is not what is there."""
    told = bytes_in(message, REPORTED_FIELD)
    if not told:
        return ()
    try:
        reports = msgspec.msgpack.decode(told, type=list[_Report])
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a list of pieces can't be read: {error}") from error
    if len(reports) > PIECES_MAX or any(min(row[:3]) < 0 for row in reports):
        raise ProtocolError("a list of pieces is too long, or has a number below 0")
    return tuple(
        Piece(
            number=number,
            offset=offset,
            length=length,
            digest=digest,
            parent_id=parent_id,
            traffic_type=TrafficType.REMOTE_PEER,
            cost_s=cost_s,
            created_at_s=created_at_s,
        )
        for number, offset, length, digest, parent_id, cost_s, created_at_s in reports
    )


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
