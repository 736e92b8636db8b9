"""What a peer wants, whom it blocks, and the story it tells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scheduler_world import World, host

from odonata.wire.message import ByteRange, Download
from scheduler.core.lifecycle import IllegalTransitionError, PeerTrigger
from scheduler.core.peer import UNKNOWN_RANGE, covers, requested_range


def part(start: int, length: int) -> ByteRange:
    return ByteRange(start=start, length=length)


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        (None, None, True),
        (None, part(5, 5), True),
        (None, UNKNOWN_RANGE, True),
        (part(0, 10), None, False),
        (part(0, 10), part(0, 10), True),
        (part(0, 10), part(9, 1), True),
        (part(0, 10), part(9, 2), False),
        (part(1, 10), part(0, 2), False),
        (UNKNOWN_RANGE, part(0, 1), False),
        (part(0, 10), UNKNOWN_RANGE, False),
    ],
)
def test_covers(held: ByteRange | None, wanted: ByteRange | None, expected: bool) -> None:
    assert covers(held, wanted) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Accept": "x"}, None),
        ({"Range": "bytes=0-0"}, part(0, 1)),
        ({"range": " bytes = 10-19 "}, part(10, 10)),
        ({"Range": "bytes=10-"}, UNKNOWN_RANGE),
        ({"Range": "bytes=-5"}, UNKNOWN_RANGE),
        ({"Range": "bytes=9-3"}, UNKNOWN_RANGE),
        ({"Range": "bytes=0-1,4-5"}, UNKNOWN_RANGE),
        ({"Range": "bytes=0-" + "9" * 40}, UNKNOWN_RANGE),
    ],
)
def test_range_from_the_header(headers: dict[str, str], expected: ByteRange | None) -> None:
    assert requested_range(Download(url="http://x/y", request_header=headers)) == expected


def test_range_field_wins() -> None:
    wanted = Download(url="http://x/y", range=part(1, 2), request_header={"Range": "bytes=0-0"})
    assert requested_range(wanted) == part(1, 2)


@given(st.text(max_size=30))
def test_any_header_is_taken(text: str) -> None:
    assert requested_range(Download(url="http://x/y", request_header={"Range": text})) is not None


def world_of_two() -> World:
    world = World()
    world.announce(host("h1"), host("h2"))
    world.origin_fetcher("p1", "h1")
    world.register("p2", "h2")
    return world


def test_a_block_ends_with_the_life_of_the_blocked() -> None:
    world = world_of_two()
    child = world.peer("p2")
    child.block(world.peer("p1"), limit=10)
    assert child.blocks(world.peer("p1"))
    world.closed("p1")
    world.origin_fetcher("p1", "h1")
    assert not child.blocks(world.peer("p1"))


def test_blocks_are_bounded() -> None:
    world = world_of_two()
    child = world.peer("p1")
    for limit in (1, 1):
        child.block(world.peer("p2"), limit)
        child.block(child, limit)
    assert list(child.blocked) == ["p1"]


def test_story_tells_the_transitions() -> None:
    world = world_of_two()
    story = world.peer("p1").story()
    assert "Pending -> ReceivedNormal" in story
    assert "ReceivedNormal -> BackToSource" in story
    with pytest.raises(IllegalTransitionError, match="ReceivedNormal -> BackToSource"):
        world.peer("p1").move(PeerTrigger.REGISTER_NORMAL, 1.0)
