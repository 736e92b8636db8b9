"""Pieces that a download reports together, to a scheduler of ours."""

from __future__ import annotations

import msgspec
import pytest
from dragonfly_api import scheduler_pb2

from odonata.errors import CallerError
from odonata.wire.dragonfly import (
    PeerRequest,
    add_finished,
    finished_piece_in,
    others_finished_in,
    request_from_wire,
    request_to_wire,
)
from odonata.wire.dragonfly.extension import add_bytes
from odonata.wire.dragonfly.piece_list import PIECES_MAX, REPORTED_FIELD
from odonata.wire.message import Finished, PeerMessage, Piece, PieceFinished

ROW = (1, 4, 4, "crc32:1", "parent", 0.5, 7.0)


def report(number: int) -> PieceFinished:
    return PieceFinished(
        piece=Piece(
            number=number,
            offset=number * 4,
            length=4,
            digest="crc32:1",
            parent_id="parent",
            cost_s=0.25,
            created_at_s=1.7e9,
        )
    )


def message(said: PeerMessage) -> scheduler_pb2.AnnouncePeerRequest:
    wire: scheduler_pb2.AnnouncePeerRequest = request_to_wire(
        PeerRequest(host_id="h", task_id="t", peer_id="p", message=said)
    )
    return wire


@pytest.mark.parametrize("count", [0, 1, PIECES_MAX])
def test_what_is_reported_together_is_read_together(count: int) -> None:
    wire = message(report(0))
    others = tuple(report(number) for number in range(1, count + 1))
    add_finished(wire, others)
    received = scheduler_pb2.AnnouncePeerRequest.FromString(wire.SerializeToString())
    assert finished_piece_in(received) == report(0)
    assert others_finished_in(received) == others
    assert request_from_wire(received).message == report(0), "who knows no lists reads the first"


def test_other_messages_report_no_others() -> None:
    assert others_finished_in(message(Finished())) == ()


@pytest.mark.parametrize(
    "told",
    [
        b"\xc1",
        msgspec.msgpack.encode([ROW[:-1]]),
        msgspec.msgpack.encode([(-1, *ROW[1:])]),
        msgspec.msgpack.encode([("1", *ROW[1:])]),
        msgspec.msgpack.encode([ROW] * (PIECES_MAX + 1)),
    ],
)
def test_what_is_no_list_of_pieces_is_refused(told: bytes) -> None:
    wire = message(report(0))
    add_bytes(wire.download_piece_finished_request, REPORTED_FIELD, told)
    with pytest.raises(CallerError):
        others_finished_in(wire)
