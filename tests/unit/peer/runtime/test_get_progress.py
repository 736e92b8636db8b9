"""What `odonata get` counts and says."""

from __future__ import annotations

import io
from pathlib import Path

from odonata.wire.dragonfly import TaskStarted
from odonata.wire.message import Piece, TrafficType
from peer.get_progress import Lines, Tally


def piece(number: int, traffic: TrafficType, length: int = 1024) -> Piece:
    return Piece(number=number, offset=number * 1024, length=length, traffic_type=traffic)


def test_bytes_are_told_by_where_they_came_from() -> None:
    tally = Tally()
    assert tally.origin() == ""
    for number in range(3):
        tally.add(piece(number, TrafficType.REMOTE_PEER))
    tally.add(piece(3, TrafficType.BACK_TO_SOURCE))
    assert tally.arrived == 4096
    assert tally.origin() == "peers 75 %, source 25 %"


def test_an_unknown_length_is_no_length() -> None:
    tally = Tally()
    tally.start(TaskStarted(content_length=2**64 - 1))
    assert tally.total is None
    tally.start(TaskStarted(content_length=0))
    assert tally.total == 0


def test_without_a_terminal_the_last_line_says_all() -> None:
    out = io.StringIO()
    lines = Lines(out, "blob")
    lines.started(TaskStarted(content_length=1024))
    lines.arrived(piece(0, TrafficType.LOCAL_PEER))
    lines.done(Path("/tmp/blob"))
    assert out.getvalue().startswith("/tmp/blob: 1.0 KiB, ")
    assert out.getvalue().endswith("this disk 100 %\n")
