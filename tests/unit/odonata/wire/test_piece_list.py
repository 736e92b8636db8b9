"""Pieces in one message, and what the message says of them."""

from __future__ import annotations

from dragonfly_api import dfdaemon_pb2

from odonata.wire.dragonfly.piece_list import add_pieces, added_pieces, is_coming, say_coming
from odonata.wire.message import Piece

PIECES = tuple(Piece(number=n, offset=n * 10, length=10) for n in (4, 7))


def message() -> dfdaemon_pb2.SyncPiecesResponse:
    return dfdaemon_pb2.SyncPiecesResponse(number=1, offset=10, length=10, ip="10.0.0.1")


def test_other_pieces_come_back() -> None:
    told = message()
    add_pieces(told, PIECES)
    again = dfdaemon_pb2.SyncPiecesResponse.FromString(told.SerializeToString())
    assert added_pieces(again) == [(4, 40, 10), (7, 70, 10)]
    assert not is_coming(again)


def test_that_they_are_still_coming_is_said_of_all() -> None:
    told = message()
    add_pieces(told, PIECES)
    say_coming(told)
    again = dfdaemon_pb2.SyncPiecesResponse.FromString(told.SerializeToString())
    assert is_coming(again)
    assert len(added_pieces(again)) == 2


def test_whoever_does_not_know_the_field_reads_the_rest() -> None:
    told = message()
    say_coming(told)
    known = {field.name: value for field, value in told.ListFields()}
    assert known == {"number": 1, "offset": 10, "length": 10, "ip": "10.0.0.1"}
