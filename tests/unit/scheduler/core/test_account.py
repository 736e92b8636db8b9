"""Records on behalf of peers that write none themselves."""

import pytest
from support.scheduler_world import PIECE_LENGTH, World, download, host

from odonata.telemetry.record import DownloadRecord, PieceRecord
from odonata.wire.message import (
    Piece,
    PieceBackToSourceFailed,
    PieceFailed,
    PieceFinished,
    SourceAnswer,
    TrafficType,
)
from scheduler.core.account import NAMED_PARENT_LIMIT, PEER, SEED, Account, Named
from scheduler.core.limits import Limits


@pytest.fixture
def world() -> World:
    """p2 downloads from p1, which is at the source; nothing is recorded so far."""
    made = World()
    made.announce(host("h1"), host("h2"))
    made.origin_fetcher("p1", "h1")
    made.register("p2", "h2", download(size=3 * PIECE_LENGTH))
    made.started("p2")
    made.records.clear()
    return made


def pieces(world: World) -> list[PieceRecord]:
    return [one for one in world.records if isinstance(one, PieceRecord)]


def downloads(world: World) -> list[DownloadRecord]:
    return [one for one in world.records if isinstance(one, DownloadRecord)]


def test_a_piece_is_joined_with_the_latest_answer_that_named_its_parent(world: World) -> None:
    world.now = 4.0
    world.piece("p2", 1, "p1", cost_s=0.25)
    world.reschedule("p2")
    world.piece("p2", 2, "p1")
    first, second = pieces(world)
    assert first == PieceRecord(
        at_s=4.0,
        decision_id="p2#1",
        task_id="t",
        child_id="p2",
        child_host_id="h2",
        parent_id="p1",
        parent_host_id="h1",
        traffic="remote_peer",
        number=1,
        length=PIECE_LENGTH,
        total_s=0.25,
        result="ok",
        written_by="scheduler",
    )
    assert second.decision_id == "p2#2"


def test_a_piece_of_a_peer_that_was_never_named_has_no_decision(world: World) -> None:
    world.announce(host("h3", seed=True))
    world.origin_fetcher("p3", "h3")
    world.piece("p2", 1, "p3")
    (record,) = pieces(world)
    assert (record.decision_id, record.parent_id, record.parent_host_id) == ("", "p3", "h3")
    assert record.traffic == "seed_peer"


def test_a_failure_has_no_time_and_maybe_no_number(world: World) -> None:
    world.say("p2", PieceFailed(parent_id="p1", number=2, temporary=False))
    world.say("p2", PieceFailed(parent_id="p1"))
    first, second = pieces(world)
    assert (first.result, first.reason, first.number) == ("failed", "permanent", 2)
    assert (first.total_s, first.length, first.decision_id) == (0.0, 0, "p2#1")
    assert (second.result, second.reason, second.number) == ("failed", "temporary", -1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no answer"),
        (SourceAnswer(message="gone: http://secret/", status_code=404), "status 404"),
    ],
)
def test_a_failure_of_the_source_tells_no_text_of_it(
    world: World, answer: SourceAnswer | None, reason: str
) -> None:
    world.say("p1", PieceBackToSourceFailed(number=0, answer=answer))
    (record,) = pieces(world)
    assert (record.traffic, record.result, record.reason) == ("back_to_source", "failed", reason)
    assert (record.decision_id, record.parent_id) == ("", "")


def test_what_makes_no_sense_is_not_recorded(world: World) -> None:
    beyond = Limits().piece_number_limit
    world.piece("p2", beyond, "p1")
    assert not pieces(world)
    world.piece("p2", 0, "p1", cost_s=-1.0)
    (record,) = pieces(world)
    assert record.total_s == 0.0


def test_a_piece_from_the_own_disk_is_no_transfer(world: World) -> None:
    piece = Piece(number=0, offset=0, length=9, traffic_type=TrafficType.LOCAL_PEER)
    world.say("p2", PieceFinished(piece=piece))
    assert not pieces(world)


def test_a_download_sums_up_who_gave_what(world: World) -> None:
    world.announce(host("s1", seed=True))
    world.origin_fetcher("sp", "s1")
    world.now = 2.0
    world.piece("p2", 0, "p1")
    world.piece("p2", 1, "sp")
    world.piece("p2", 2, length=5)
    world.now = 3.0
    world.finished("p2")
    (record,) = downloads(world)
    assert record == DownloadRecord(
        at_s=3.0,
        started_at_s=0.0,
        task_id="t",
        child_id="p2",
        child_host_id="h2",
        is_seed=False,
        content_length=3 * PIECE_LENGTH,
        piece_length=PIECE_LENGTH,
        from_peers_bytes=PIECE_LENGTH,
        from_seeds_bytes=PIECE_LENGTH,
        from_source_bytes=5,
        piece_count=3,
        decision_count=1,
        first_piece_s=2.0,
        result="ok",
    )


def test_each_end_is_recorded_once(world: World) -> None:
    world.failed("p2")
    world.closed("p2")
    world.failed_from_source("p1")
    ends = [(one.child_id, one.result, one.reason) for one in downloads(world)]
    assert ends == [("p2", "failed", "gave up"), ("p1", "failed", "source failed")]
    assert downloads(world)[0].first_piece_s is None


def test_a_broken_stream_is_an_end(world: World) -> None:
    world.closed("p2")
    (record,) = downloads(world)
    assert (record.result, record.reason) == ("failed", "stream closed")


def test_what_is_under_way_when_the_stream_has_ended_is_not_recorded(world: World) -> None:
    world.finished("p2")
    world.records.clear()
    world.piece("p2", 1, "p1")
    assert not world.records


def test_the_parents_remembered_are_bounded(world: World) -> None:
    account, parent, child = Account(), world.peer("p1"), world.peer("p2")
    for count in range(1, 2 * NAMED_PARENT_LIMIT):
        parent.id = f"p{count}"
        account.name(count, [parent])
    assert len(account.parent_ids) == len(account.host_ids) == NAMED_PARENT_LIMIT
    assert len(account.answers) == NAMED_PARENT_LIMIT
    parent.id = "p1"
    assert "p1" not in account.parent_ids
    account.name(1000, [parent])
    assert account.giver(child, "p1") == Named("p2#1000", "p1", "h1", PEER)


def test_of_two_answers_that_name_a_parent_the_later_counts(world: World) -> None:
    account, child = Account(), world.peer("p2")
    p1, p2 = world.peer("p1"), world.peer("p2")
    p2.host.is_seed = True
    account.name(1, [p1, p2])
    account.name(2, [p1])
    assert account.giver(child, "p1").decision == "p2#2"
    assert account.giver(child, "p2") == Named("p2#1", "p2", "h2", SEED)
    assert account.parent_ids == ("p2", "p1")
    assert account.giver(child, "h1").parent_id == "", "a host is no parent"
