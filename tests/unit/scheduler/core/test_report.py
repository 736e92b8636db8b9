"""What reports change, and that none is answered."""

import pytest
from support.scheduler_world import (
    PIECE_LENGTH,
    World,
    closes,
    download,
    host,
    sent_to_source,
)

from odonata.wire.message import ByteRange, Download, Piece, PieceFinished
from scheduler.core.effect import CloseStream, SchedulerEffect
from scheduler.core.event import PeerSpoke, PiecesFinished
from scheduler.core.limits import Limits


@pytest.fixture
def world() -> World:
    """p1 is at the source; p2 downloads from it."""
    made = World()
    made.announce(host("h1"), host("h2"), host("h3"))
    made.origin_fetcher("p1", "h1")
    made.register("p2", "h2")
    made.started("p2")
    return made


def test_reports_are_not_answered(world: World) -> None:
    assert not world.started("p2")
    assert not world.at_source("p1")
    assert not world.piece("p1", 0)
    assert not world.piece("p2", 0, "p1")
    assert not world.piece_failed("p2", "p1")
    assert not world.source_refused("p1", None)


def test_a_piece_counts_for_child_and_parent(world: World) -> None:
    world.now = 5.0
    world.piece("p2", 1, "p1", cost_s=0.25)
    child, parent = world.peer("p2"), world.peer("p1")
    assert child.pieces.numbers() == (1,)
    assert len(child.costs) == 1
    assert child.piece_at_s == 5.0
    assert parent.updated_at_s == parent.host.updated_at_s == 5.0
    assert parent.piece_at_s == 0.0


def test_piece_numbers_are_bounded() -> None:
    world = World(Limits(piece_number_limit=10))
    world.announce(host("h1"))
    world.origin_fetcher("p1", "h1")
    for number in (9, 10, -1):
        world.piece("p1", number)
    assert world.peer("p1").pieces.numbers() == (9,)


def test_a_temporary_failure_blames_the_parent(world: World) -> None:
    world.piece_failed("p2", "p1", temporary=False)
    assert world.peer("p1").host.upload_failed_count == 0
    world.piece_failed("p2", "p1")
    world.piece_failed("p2", "nobody")
    assert world.peer("p1").host.upload_failed_count == 1
    assert sent_to_source(world.reschedule("p2")) == ["p2"]


def test_terminal_messages_end_the_stream_with_ok(world: World) -> None:
    assert closes(world.finished_from_source("p1")) == {"p1": "ok"}
    assert world.task().state == "Succeeded"
    assert closes(world.finished("p2")) == {"p2": "ok"}
    assert world.peer("p2").state == "Succeeded"
    assert not world.finished("p2")  # whatever is said afterwards is not heard


def test_a_peer_that_gave_up(world: World) -> None:
    assert closes(world.failed("p2")) == {"p2": "ok"}
    assert world.peer("p2").state == "Failed"
    assert world.peer("p1").host.concurrent_upload_count == 0


def test_a_part_from_the_source_is_no_whole_copy(world: World) -> None:
    part = ByteRange(start=0, length=5)
    world.register("p3", "h3", download(source=True, part=part))
    world.at_source("p3")
    assert closes(world.finished_from_source("p3")) == {"p3": "ok"}
    assert world.peer("p3").state == "Succeeded"
    assert world.task().state == "Running"


def test_the_task_fails_with_the_last_who_could_help(world: World) -> None:
    world.register("p3", "h3", download(source=True, size=9))
    world.at_source("p3")
    world.failed_from_source("p3")
    assert world.task().state == "Running"  # p1 is still at it
    assert world.task().content_length == 9
    world.failed_from_source("p1")
    assert world.task().state == "Failed"  # p2 still runs, but has nobody to get the bytes from
    assert world.task().content_length is None


def test_a_peer_that_heard_no_from_the_source_is_not_offered(world: World) -> None:
    world.source_refused("p1", 401)
    assert sent_to_source(world.register("p3", "h3")) == ["p3"]  # p2 has nobody but p1


def unsized_fetcher(what: Download | None = None) -> World:
    """p1 fetches from the source and did not know the size when it registered."""
    world = World()
    world.announce(host("h1"), host("h2"))
    world.register("p1", "h1", what or download(source=True))
    world.at_source("p1")
    return world


def test_a_whole_copy_from_the_source_gives_the_size() -> None:
    world = unsized_fetcher()
    world.piece("p1", 1)
    world.piece("p1", 0)
    world.piece("p1", 1)  # said twice
    assert world.task().content_length is None
    world.finished_from_source("p1")
    assert world.task().content_length == 2 * PIECE_LENGTH
    assert world.task().piece_count == 2


def test_one_short_piece_from_the_source_gives_the_size() -> None:
    world = unsized_fetcher()
    world.piece("p1", 0, length=10)
    world.finished_from_source("p1")
    assert (world.task().content_length, world.task().piece_count) == (10, 1)


@pytest.mark.parametrize(
    ("what", "numbers"),
    [
        (download(source=True), ()),
        (download(source=True), (1, 2)),
        (download(source=True), (0, 2)),
        (download(source=True, part=ByteRange(start=0, length=5)), (0, 1)),
    ],
    ids=["no piece", "not from 0", "a hole", "a part"],
)
def test_other_fetches_prove_no_size(what: Download, numbers: tuple[int, ...]) -> None:
    world = unsized_fetcher(what)
    for number in numbers:
        world.piece("p1", number)
    world.finished_from_source("p1")
    assert world.task().content_length is None


def test_one_peer_that_fails_by_itself_at_the_source_does_not_send_everybody_there() -> None:
    world = World()
    world.announce(*(host(f"h{number}") for number in range(5)))
    for number in range(5):
        world.register(f"p{number}", f"h{number}")
    world.source_refused("p0", None)
    assert sent_to_source(world.failed_from_source("p0")) == ["p1"]
    assert world.task().state == "Running"
    world.at_source("p1")  # p2 is given p1
    world.piece("p1", 0)
    world.closed("p2")
    # The source is well: p1's failure is its own, too.
    assert len(sent_to_source(world.failed_from_source("p1"))) == 1


def test_two_in_a_row_that_fail_at_the_source_mean_that_it_is_down() -> None:
    world = World()
    world.announce(*(host(f"h{number}") for number in range(5)))
    for number in range(5):
        world.register(f"p{number}", f"h{number}")
    assert sent_to_source(world.failed_from_source("p0")) == ["p1"]
    assert sent_to_source(world.failed_from_source("p1")) == ["p2", "p3", "p4"]


def test_pieces_that_are_reported_together_are_the_same_as_one_by_one() -> None:
    def world(*, together: bool) -> tuple[World, list[SchedulerEffect]]:
        one = World()
        one.announce(host("h1"))
        one.announce(host("h2"))
        one.origin_fetcher("p1", "h1")
        one.register("p2", "h2")
        messages = tuple(
            PieceFinished(
                piece=Piece(
                    number=number,
                    offset=number * PIECE_LENGTH,
                    length=PIECE_LENGTH,
                    parent_id="p1",
                    cost_s=0.1 * (number + 1),
                )
            )
            for number in range(6)
        )
        one.now += 1.0
        if together:
            event = PiecesFinished(host_id="h2", task_id="t", peer_id="p2", messages=messages)
            return one, one.handle(event)
        effects: list[SchedulerEffect] = []
        for message in messages:
            spoke = PeerSpoke(host_id="h2", task_id="t", peer_id="p2", message=message)
            effects += one.handle(spoke)
        return one, effects

    (a, effects_a), (b, effects_b) = world(together=True), world(together=False)
    assert effects_a == effects_b
    for peer_id in ("p1", "p2"):
        left, right = a.core.state.peers[peer_id], b.core.state.peers[peer_id]
        assert left.pieces.numbers() == right.pieces.numbers()
        assert left.costs.latest_and_others() == right.costs.latest_and_others()
        assert left.host.history == right.host.history
        assert left.host.received == right.host.received
        assert left.host.standing == right.host.standing
        assert left.updated_at_s == right.updated_at_s
    assert len(a.core.state.peers["p2"].pieces) == 6


def test_pieces_of_nobody_end_the_stream() -> None:
    one = World()
    message = PieceFinished(piece=Piece(number=0, offset=0, length=1))
    event = PiecesFinished(host_id="h", task_id="t", peer_id="nobody", messages=(message,))
    effects = one.handle(event)
    assert [type(effect) for effect in effects] == [CloseStream]
