"""What a reader asks for, and what it then has: against daemons that answer as they like."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.client.supply import WINDOW_BYTES, Ask, Supply, supply_for
from odonata.errors import CallerError, ProtocolError, SourceError
from odonata.wire.dragonfly import PieceArrived, TaskStarted
from odonata.wire.dragonfly.content_file import ContentFile
from odonata.wire.message import ByteRange, Piece

MIB = 1024 * 1024
UNKNOWN = 2**64 - 1
FILE = ContentFile(path="/x", device=1, inode=2)


def started(length: int, *, finished: bool = False) -> TaskStarted:
    return TaskStarted(content_length=length, is_finished=finished)


def arrived(offset: int, data: bytes) -> PieceArrived:
    return PieceArrived(piece=Piece(number=0, offset=offset, length=len(data)), content=data)


@dataclass
class Daemon:
    """Answers in order, in steps of any size; `says_length` or only by ending."""

    content: bytes
    step: int
    says_length: bool
    in_file: bool
    asked: int = 0
    position: int = 0
    end: int = 0

    def ask(self, supply: Supply, ask: Ask) -> None:
        self.asked += 1
        supply.asked(ask)
        wanted = ask.range or ByteRange(start=0, length=len(self.content))
        assert ask.range is None or ask.range.length > 0
        self.position = wanted.start
        self.end = min(wanted.start + wanted.length, len(self.content))
        length = len(self.content) if self.says_length else UNKNOWN
        supply.began(started(length), FILE if self.in_file else None, trusted=True)

    def answer(self, supply: Supply) -> None:
        if self.position >= self.end:
            supply.ended()
            return
        data = self.content[self.position : min(self.position + self.step, self.end)]
        supply.arrived(arrived(self.position, data))
        self.position += len(data)


def read(daemon: Daemon, supply: Supply, start: int, length: int) -> bytes:
    """As the readers do."""
    out = b""
    while len(out) < length:
        at = start + len(out)
        while (count := supply.ready(at)) is None:
            ask = supply.step(at, length - len(out))
            daemon.answer(supply) if ask is None else daemon.ask(supply, ask)
        count = min(count, length - len(out))
        if not count:
            break
        if supply.in_file:
            out += daemon.content[at : at + count]
        else:
            out += bytes(supply.chunk(at, count))
    return out


@given(
    length=st.integers(0, 400),
    step=st.integers(1, 90),
    window=st.integers(0, 120),
    says_length=st.booleans(),
    in_file=st.booleans(),
    whole=st.booleans(),
    reads=st.lists(st.tuples(st.integers(0, 450), st.integers(1, 200)), min_size=1, max_size=12),
)
def test_any_reading_gives_the_content(
    length: int,
    step: int,
    window: int,
    says_length: bool,
    in_file: bool,
    whole: bool,
    reads: list[tuple[int, int]],
) -> None:
    content = bytes(n % 251 for n in range(length))
    daemon = Daemon(content, step, says_length, in_file)
    supply = Supply(window_bytes=window, whole=whole)
    for start, count in reads:
        assert read(daemon, supply, start, count) == content[start : start + count]


def test_who_reads_on_is_given_the_rest_by_one_question() -> None:
    content = bytes(3 * WINDOW_BYTES)
    daemon = Daemon(content, MIB, says_length=True, in_file=False)
    supply = Supply()
    for start in range(0, len(content), MIB // 2):
        assert len(read(daemon, supply, start, MIB // 2)) == MIB // 2
    assert daemon.asked == 2


def test_who_jumps_asks_for_windows() -> None:
    supply = Supply()
    supply.asked(Ask(range=ByteRange(start=0, length=4)))
    supply.began(started(100 * MIB), None, trusted=True)
    assert supply.step(50 * MIB, 10) == Ask(range=ByteRange(start=50 * MIB, length=WINDOW_BYTES))
    assert supply.step(99 * MIB, 10) == Ask(range=ByteRange(start=99 * MIB, length=MIB))


def test_a_part_asks_for_exactly_itself() -> None:
    assert supply_for(5, 10).step(5, 10) == Ask(range=ByteRange(start=5, length=10))
    assert supply_for(0, None).step(0, 1) == Ask(range=None)


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, -1)])
def test_no_part_is_negative(start: int, length: int) -> None:
    with pytest.raises(CallerError, match="give 0 or more"):
        supply_for(start, length)


def test_what_is_held_in_a_file_is_at_hand_at_once() -> None:
    supply = Supply()
    supply.asked(Ask(range=None))
    held = supply.began(started(100, finished=True), FILE, trusted=True)
    assert held is not None
    assert (held.length, supply.ready(0), supply.ready(99), supply.ready(100)) == (100, 100, 1, 0)


def test_what_must_be_checked_is_waited_for_to_the_end() -> None:
    supply = Supply()
    supply.asked(Ask(range=None))
    assert supply.began(started(100, finished=True), FILE, trusted=False) is None
    assert supply.ready(0) is None


@pytest.mark.parametrize(
    ("again", "file"), [(started(99), FILE), (started(100), ContentFile("/x", 1, 3))]
)
def test_another_content_is_no_continuation(again: TaskStarted, file: ContentFile) -> None:
    supply = Supply()
    supply.asked(Ask(range=None))
    supply.began(started(100), FILE, trusted=True)
    supply.asked(Ask(range=None))
    with pytest.raises(SourceError, match="changed"):
        supply.began(again, file, trusted=True)


def test_another_etag_is_another_content_though_it_is_as_long() -> None:
    supply = Supply()
    for etag in ('"1"', '"1"', '"2"'):
        supply.asked(Ask(range=None))
        told = TaskStarted(content_length=100, response_header={"etag": etag})
        if etag == '"1"':
            supply.began(told, None, trusted=True)
    with pytest.raises(SourceError, match="changed"):
        supply.began(told, None, trusted=True)


def test_what_broke_off_is_asked_for_anew() -> None:
    supply = Supply()
    supply.asked(Ask(range=None))
    supply.began(started(100), FILE, trusted=True)
    supply.arrived(arrived(0, b"x" * 10))
    supply.broke()
    assert (supply.ready(0), supply.ready(10)) == (10, None)
    assert supply.step(10, 1) == Ask(range=ByteRange(start=10, length=90))


def test_a_daemon_that_ends_early_or_out_of_order_is_found_out() -> None:
    supply = Supply()
    supply.asked(Ask(range=None))
    supply.began(started(100), None, trusted=True)
    with pytest.raises(ProtocolError, match="in order"):
        supply.arrived(arrived(10, b"x"))
    with pytest.raises(ProtocolError, match="another number"):
        supply.arrived(PieceArrived(piece=Piece(number=0, offset=0, length=3), content=b"xx"))
    supply.arrived(arrived(0, b"x" * 10))
    with pytest.raises(ProtocolError, match="too early"):
        supply.ended()
