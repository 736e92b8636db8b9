"""What `odonata get` says while a file comes."""

from __future__ import annotations

import io

from odonata.client import Progress
from odonata.client.tally import Tally
from odonata.wire.dragonfly import TaskStarted
from odonata.wire.message import Piece, TrafficType
from peer.get_progress import Lines, origin_of


def piece(number: int, traffic: TrafficType, length: int = 1024) -> Piece:
    return Piece(number=number, offset=number * 1024, length=length, traffic_type=traffic)


def test_bytes_are_told_by_where_they_came_from() -> None:
    tally = Tally()
    assert origin_of(tally.progress) == ""
    for number in range(3):
        tally.add(piece(number, TrafficType.REMOTE_PEER))
    tally.add(piece(3, TrafficType.BACK_TO_SOURCE))
    assert tally.progress.arrived == 4096
    assert origin_of(tally.progress) == "peers 75 %, source 25 %"


def test_an_unknown_length_is_no_length() -> None:
    tally = Tally()
    tally.start(TaskStarted(content_length=2**64 - 1))
    assert tally.progress.content_length is None
    tally.start(TaskStarted(content_length=0))
    assert tally.progress.content_length == 0


def test_without_a_terminal_the_last_line_says_all() -> None:
    out = io.StringIO()
    lines = Lines(out, "blob")
    lines.told(Progress(content_length=1024))
    lines.told(Progress(content_length=1024, from_local=1024))
    lines.done("/tmp/blob")
    assert out.getvalue().startswith("/tmp/blob: 1.0 KiB, ")
    assert out.getvalue().endswith("this disk 100 %\n")
