"""One download, script by script: the scheduler's answers, parents, ends of every kind."""

from __future__ import annotations

from typing import get_args

import pytest
from support.download import PIECE, URL, Script, asked, kinds, messages, of, piece_of, runs

from odonata.errors import (
    DiskFullError,
    StorageError,
    UnavailableError,
)
from odonata.wire.message import (
    ByteRange,
    Download,
    EmptyTask,
    Failed,
    MetadataOnly,
    NeedBackToSource,
    PieceFinished,
    Register,
    Reschedule,
    TrafficType,
)
from peer.core.effect import (
    AskParentMeta,
    CancelReason,
    CloseStream,
    Complete,
    ConnectParent,
    DropParent,
    FetchPiece,
    FetchSource,
    GiveUp,
    LearnMeta,
    OpenSource,
    SeekScheduler,
    Send,
    StopSource,
)
from peer.core.event import (
    Begun,
    Cancelled,
    DownloadEvent,
    ParentConnected,
    ParentHolds,
    PieceStored,
    ReaderWaiting,
    SchedulerFound,
    SchedulerLost,
    SourceEnded,
    SourceFailed,
    StorageFailed,
    Ticked,
    Wanted,
)
from peer.core.lifecycle import IllegalStepError, State
from peer.core.limits import DownloadLimits

NO_SOURCE = Download(url=URL, disable_back_to_source=True)


# --- the normal way -------------------------------------------------------------------------------


def test_registers_at_once_and_brings_everything_from_parents() -> None:
    script = Script(length=2 * PIECE)
    (register,) = messages(script.begin())
    assert isinstance(register, Register)
    assert register.download == Download(url=URL)

    assert kinds(script.name("a", "b")) == ["Send", "ConnectParent", "ConnectParent"]
    (learned,) = script.connect("a")
    assert learned == LearnMeta(
        content_length=2 * PIECE, piece_length=PIECE, response_header={"Etag": "x"}
    )
    assert script.connect("b") == []
    (fetch,) = script.holds("a", 0, 1)
    assert isinstance(fetch, FetchPiece)
    assert fetch.peer_id == "a"
    assert (fetch.offset, fetch.length) == (fetch.number * PIECE, PIECE)
    other = 1 - fetch.number
    assert asked(script.holds("b", other)) == [("b", other)]
    assert kinds(script.stored("a", fetch.number)) == ["Send"]
    assert kinds(script.stored("b", other)) == [
        "Send",
        "Send",
        "CloseStream",
        "DropParent",
        "DropParent",
        "Complete",
    ]
    assert kinds(script.said) == [
        "Register",
        "Started",
        "PieceFinished",
        "PieceFinished",
        "Finished",
    ]
    finished = [m.piece for m in script.said if isinstance(m, PieceFinished)]
    assert {(p.parent_id, p.number) for p in finished} == {("a", fetch.number), ("b", other)}
    assert {p.traffic_type for p in finished} == {TrafficType.REMOTE_PEER}
    assert of(script.effects, Complete) == [Complete(whole=True)]
    assert script.core.state is State.COMPLETE


def test_everything_held_is_complete_without_a_word() -> None:
    script = Script(length=2 * PIECE)
    assert script.begin(content_length=2 * PIECE, piece_length=PIECE, held=(0, 1)) == [
        Complete(whole=True)
    ]


def test_resumed_download_registers_with_what_it_knows_and_fetches_the_rest() -> None:
    script = Script(length=3 * PIECE)
    script.begin(content_length=3 * PIECE, piece_length=PIECE, held=(1,))
    (register,) = script.said
    assert isinstance(register, Register)
    assert register.download.actual_content_length == 3 * PIECE
    assert register.download.actual_piece_count == 3
    script.name("a")
    (fetch,) = asked(script.holds("a", 0, 1, 2))
    (second,) = asked(script.stored(*fetch))
    assert {fetch[1], second[1]} == {0, 2}
    script.stored(*second)
    assert script.core.state is State.COMPLETE


def test_empty_task() -> None:
    script = Script(length=0)
    script.begin()
    effects = script.answer(EmptyTask())
    assert kinds(effects) == ["LearnMeta", "Send", "Send", "CloseStream", "Complete"]
    assert of(effects, LearnMeta)[0].content_length == 0
    assert kinds(messages(effects)) == ["Started", "Finished"]


def test_empty_answer_for_a_content_that_is_not_empty_goes_to_the_source() -> None:
    script = Script(length=2 * PIECE)
    script.begin(content_length=2 * PIECE, piece_length=PIECE, held=(0,))
    assert runs(script.answer(EmptyTask())) == [(1, None)]


def test_metadata_answer_that_nobody_asked_for_changes_nothing() -> None:
    script = Script()
    script.begin()
    assert script.answer(MetadataOnly()) == []
    assert script.core.state is State.REGISTERING


# --- a scheduler that must be told the size -------------------------------------------------------


def test_stock_scheduler_is_told_the_size() -> None:
    script = Script(length=2 * PIECE)
    assert script.begin(needs_size=True) == [OpenSource(first=0)]
    (register,) = messages(script.opened())
    assert isinstance(register, Register)
    assert register.download.actual_content_length == 2 * PIECE
    assert StopSource(first=0) in script.name("a")


@pytest.mark.parametrize(
    ("length", "download", "asks"),
    [
        (PIECE, Download(url=URL), False),
        (PIECE + 1, Download(url=URL), True),
        (PIECE, Download(url=URL, always_schedule=True), True),
        (PIECE, NO_SOURCE, True),
        (9 * PIECE, Download(url=URL, range=ByteRange(start=5, length=PIECE)), False),
        (9 * PIECE, Download(url=URL, range=ByteRange(start=5, length=PIECE + 1)), True),
    ],
)
def test_stock_rule_small_contents_go_straight_to_the_source(
    length: int, download: Download, *, asks: bool
) -> None:
    script = Script(length=length, download=download)
    script.begin(needs_size=True)
    effects = script.opened()
    assert bool(messages(effects)) is asks
    assert bool(of(effects, FetchSource)) is not asks


def test_small_contents_ask_our_own_scheduler() -> None:
    assert messages(Script(length=1).begin())


def test_stock_scheduler_can_not_be_told_an_unknown_length() -> None:
    script = Script()
    script.begin(needs_size=True)
    effects = script.opened(length=None)
    assert kinds(effects) == ["LearnMeta", "FetchSource"]


# --- when parents do not suffice ------------------------------------------------------------------


def test_no_parent_left_asks_for_others() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.holds("a", 0)
    script.stored("a", 0)
    effects = script.ended("a")
    assert kinds(effects) == ["DropParent", "Send"]
    assert messages(effects) == [
        Reschedule(parent_ids=("a",), description="not all pieces are downloaded from parents")
    ]
    assert kinds(script.name("b")) == ["ConnectParent"]
    assert asked(script.holds("b", 1)) == [("b", 1)]


def test_rounds_without_a_piece_end_at_the_source() -> None:
    script = Script()
    script.swarm("p0")
    for i in range(1, 5):
        assert kinds(messages(script.ended(f"p{i - 1}"))) == ["Reschedule"]
        script.name(f"p{i}")
    effects = script.ended("p4")
    assert kinds(effects) == ["DropParent", "Send", "CloseStream", "FetchSource"]
    assert isinstance(messages(effects)[0], Failed)
    script.from_source(0)
    assert kinds(script.said)[-1] == "Failed"


def test_a_piece_starts_the_count_of_rounds_anew() -> None:
    script = Script(length=40 * PIECE)
    script.swarm("p0")
    for i in range(20):
        script.holds(f"p{i}", i)
        script.stored(f"p{i}", i)
        assert kinds(messages(script.ended(f"p{i}"))) == ["Reschedule"]
        script.name(f"p{i + 1}")
    assert script.core.state is State.SWARMING


def test_stall_blames_only_the_silent_first_then_everybody() -> None:
    script = Script()
    script.swarm("silent", "alive")
    script.now += 15
    script.holds("alive")
    message = None
    while not isinstance(message, Reschedule):
        message = next(iter(messages(script.tick())), None)
    assert message.parent_ids == ("silent",)
    script.name("alive", "third")
    message = None
    while not isinstance(message, Reschedule):
        message = next(iter(messages(script.tick())), None)
    assert message.parent_ids == ("alive", "third")


def test_scheduler_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    script = Script()
    script.begin()
    assert script.tick_until(FetchSource).first == 0
    assert kinds(script.said) == ["Register", "BackToSourceStarted"]


def test_reschedule_that_is_not_answered_ends_at_the_source() -> None:
    script = Script()
    script.swarm("a")
    script.ended("a")
    assert script.tick_until(FetchSource).first == 0


def test_pieces_still_come_while_others_are_asked_for() -> None:
    script = Script(length=PIECE, limits=DownloadLimits(beside=False))
    script.swarm("a")
    while script.core.state is not State.RESCHEDULING:
        script.tick()
    assert asked(script.holds("a", 0)) == [("a", 0)]
    assert kinds(script.stored("a", 0))[-1] == "Complete"


def test_source_takes_only_what_no_parent_offers() -> None:
    script = Script(length=5 * PIECE)
    script.swarm("a")
    script.holds("a", 1, 3)
    effects = script.answer(NeedBackToSource())
    assert runs(effects) == [(0, 0)]
    script.opened()
    script.from_source(0)
    assert runs(script(SourceEnded(first=0))) == [(2, 2)]


def test_source_takes_over_what_a_parent_offered_and_lost() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.holds("a", 0)
    assert runs(script.answer(NeedBackToSource())) == [(1, None)]
    script.opened()
    script.from_source(1)
    script(SourceEnded(first=1))
    effects = script.ended("a", finished=False)
    assert runs(effects) == []  # one break is no end: what it offered may still come
    assert script.tick_until(ConnectParent).parent.peer_id == "a"
    effects = script.ended("a", finished=False)
    assert runs(effects) == [(0, 0)]


def test_parents_that_offer_and_do_not_bring_are_left_for_the_source() -> None:
    script = Script(length=2 * PIECE, limits=DownloadLimits(piece_timeout_s=1.0))
    script.swarm("a")
    script.holds("a", 0, 1)
    effects = script.answer(NeedBackToSource())
    assert runs(effects) == []
    script.tick_until(FetchSource)
    assert kinds(script.effects).count("DropParent") == 1


def test_dead_source_does_not_end_what_parents_bring() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.holds("a", 0)
    script.answer(NeedBackToSource())
    script.opened()
    script.from_source(1)
    script(SourceEnded(first=1))
    assert script.core.state is State.SOURCING
    assert kinds(script.stored("a", 0))[-1] == "Complete"
    assert kinds(script.said)[-1] == "BackToSourceFinished"


# --- the scheduler is lost ------------------------------------------------------------------------


def test_lost_before_the_first_answer() -> None:
    script = Script()
    script.begin()
    assert kinds(script(SchedulerLost(reason="broken"))) == ["SeekScheduler"]
    assert script.core.state is State.ALONE
    lost_at = script.now
    assert script.tick_until(FetchSource).first == 0
    assert 8.0 <= script.now - lost_at <= 16.0
    assert kinds(script.said) == ["Register"]


def test_each_of_a_burst_has_a_patience_of_its_own() -> None:
    patiences: set[float] = set()
    for seed in range(20):
        script = Script(seed=seed)
        script.begin()
        script(SchedulerLost(reason="broken"))
        script.tick_until(FetchSource)
        patiences.add(script.now)
    assert len(patiences) == 20
    assert max(patiences) - min(patiences) > 4.0


def test_refused_before_the_first_answer_is_the_source_at_once() -> None:
    script = Script()
    script.begin()
    refused = SchedulerLost(reason="priority 1 may not", refused=True)
    assert kinds(script(refused)) == ["FetchSource"]


def test_found_before_anything_came_registers_as_one_who_comes_from_elsewhere() -> None:
    script = Script()
    script.begin()
    script(SchedulerLost(reason="broken"))
    (send,) = script(SchedulerFound())
    assert send == Send(message=Register(download=Download(url=URL), resumes=True))
    assert script.core.state is State.REGISTERING
    assert kinds(script.name("a")) == ["Send", "ConnectParent"]


def test_begins_alone_while_the_scheduler_is_away() -> None:
    script = Script()
    assert kinds(script.begin(scheduler=False, lost_s=2.0)) == ["SeekScheduler"]
    assert kinds(script(SchedulerFound())) == ["Send"]
    assert script.core.state is State.REGISTERING

    late = Script()
    assert runs(late.begin(scheduler=False, lost_s=100.0)) == [(0, None)]


def test_found_in_the_middle_goes_on_with_its_parents_and_tells_what_it_holds() -> None:
    script = Script(length=4 * PIECE)
    script.swarm("a")
    script.holds("a", 0, 1, 2, 3)
    script.stored("a", 0)
    script.stored("a", 1)
    script(SchedulerLost(reason="broken"))
    before = len(script.said)
    script(SchedulerFound())
    (register,) = script.said[before:]
    assert isinstance(register, Register)
    assert register.resumes
    assert not register.download.need_back_to_source
    assert register.download.actual_content_length == 4 * PIECE
    script.stored("a", 2)  # while the scheduler thinks about it
    script.name("b")
    assert kinds(script.said[before + 1 :]) == [
        "PieceFinished",
        "Started",
        "PieceFinished",
        "PieceFinished",
        "PieceFinished",
    ]
    held = [m.piece for m in script.said[before + 3 :] if isinstance(m, PieceFinished)]
    assert [piece.number for piece in held] == [0, 1, 2]
    assert {piece.traffic_type for piece in held} == {TrafficType.LOCAL_PEER}
    assert [piece.length for piece in held] == [PIECE] * 3
    script.stored("a", 3)
    assert script.core.state is State.COMPLETE
    assert kinds(script.said)[-1] == "Finished"


def test_found_in_the_middle_may_be_done_before_it_is_answered() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.holds("a", 0, 1)
    script.stored("a", 0)
    script(SchedulerLost(reason="broken"))
    script(SchedulerFound())
    script.stored("a", 1)
    assert script.core.state is State.COMPLETE
    assert kinds(script.said)[-2:] == ["Started", "Finished"]


def test_found_at_the_source_says_that_it_is_there() -> None:
    script = Script(length=2 * PIECE)
    script.begin()
    script.answer(NeedBackToSource())
    script.opened()
    script.from_source(0)
    assert kinds(script(SchedulerLost(reason="broken"))) == ["SeekScheduler"]
    before = len(script.said)
    script(SchedulerFound())
    (register,) = script.said[before:]
    assert isinstance(register, Register)
    assert register.resumes
    assert register.download.need_back_to_source
    script.answer(NeedBackToSource(description="as it asked"))
    assert kinds(script.said[before + 1 :]) == ["BackToSourceStarted", "PieceFinished"]
    script.from_source(1)
    assert kinds(script.said[before + 3 :])[0] == "PieceBackToSourceFinished"


def test_lost_again_and_again_without_an_answer_patience_still_ends() -> None:
    script = Script()
    script.begin()
    lost_at = script.now
    for _ in range(100):
        effects = script(SchedulerLost(reason="broken"))
        seek = next((one for one in effects if isinstance(one, SeekScheduler)), None)
        if seek is None:
            break
        script.now += seek.pause_s
        script(SchedulerFound())
    else:
        raise AssertionError("it looks for ever")
    if script.core.state is State.ALONE:
        script.tick_until(FetchSource)
    assert script.now - lost_at < 60.0


def test_lost_while_swarming_goes_on_with_the_parents() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.holds("a", 0)
    assert kinds(script(SchedulerLost(reason="broken"))) == ["SeekScheduler"]
    assert script.core.state is State.ALONE
    script.stored("a", 0)
    assert asked(script.holds("a", 1)) == [("a", 1)]
    assert kinds(script.stored("a", 1)) == ["DropParent", "Complete"]
    assert kinds(script.said) == ["Register", "Started"]


def test_lost_and_the_parents_end_then_the_source_brings_the_rest() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.holds("a", 0)
    script.stored("a", 0)
    script(SchedulerLost(reason="broken"))
    assert runs(script.ended("a")) == []
    assert script.tick_until(FetchSource).first == 1


def test_lost_and_the_parents_stall_then_the_source() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script(SchedulerLost(reason="broken"))
    assert script.tick_until(FetchSource).first == 0


def test_lost_with_the_source_disabled_names_the_scheduler() -> None:
    script = Script(length=2 * PIECE, download=NO_SOURCE)
    script.swarm("a")
    script(SchedulerLost(reason="connection reset"))
    script.ended("a")
    gave_up = script.tick_until(GiveUp)
    assert isinstance(gave_up.error, UnavailableError)
    assert "connection reset" in script.error


def test_lost_at_the_source_goes_on_there() -> None:
    script = Script(length=PIECE)
    script.begin()
    script.answer(NeedBackToSource())
    script.opened()
    assert kinds(script(SchedulerLost(reason="broken"))) == ["SeekScheduler"]
    assert kinds(script.from_source(0)) == ["StopSource", "Complete"]


# --- unknown length -------------------------------------------------------------------------------


def test_unknown_length_from_parents() -> None:
    script = Script(length=2 * PIECE)
    script.begin()
    script.name("a")
    script(ParentConnected(peer_id="a"))  # it does not know yet
    assert script.holds("a", 0) == [AskParentMeta(peer_id="a")]
    effects = script(ParentConnected(peer_id="a", piece_length=PIECE))  # it still can't say
    assert kinds(effects) == ["LearnMeta", "FetchPiece"]
    assert of(effects, LearnMeta)[0].content_length is None
    script.stored("a", 0)
    assert asked(script.holds("a", 1)) == [("a", 1)]
    script.stored("a", 1)
    assert script.core.state is State.SWARMING
    assert script.ended("a") == [AskParentMeta(peer_id="a")]
    effects = script(ParentConnected(peer_id="a", content_length=2 * PIECE, piece_length=PIECE))
    assert kinds(effects)[0] == "LearnMeta"
    assert kinds(effects)[-1] == "Complete"


def test_length_learned_late_asks_nothing_before() -> None:
    script = Script()
    script.begin()
    script.name("a")
    assert kinds(script.holds("a", 0, 1)) == ["AskParentMeta"]
    assert script.holds("a", 2) == []  # asked already
    effects = script.connect("a")
    assert kinds(effects) == ["LearnMeta", "FetchPiece"]


def test_parents_that_never_say_the_length_lead_to_the_source() -> None:
    script = Script()
    script.begin()
    script.name("a")
    script.holds("a", 0)
    script(ParentConnected(peer_id="a"))
    script.stored("a", 0)
    script.ended("a")
    effects = script(ParentConnected(peer_id="a"))
    assert kinds(messages(effects)) == ["Reschedule"]
    assert runs(script.answer(NeedBackToSource())) == [(1, None)]


# --- facts that do not fit ------------------------------------------------------------------------


def test_parent_with_another_length_is_blamed() -> None:
    script = Script()
    script.swarm("a", "b")
    effects = script(ParentConnected(peer_id="b", content_length=1, piece_length=PIECE))
    assert effects[0] == DropParent(peer_id="b", reason=CancelReason.BLAMED)
    assert kinds(messages(effects)) == ["PieceFailed"]
    assert script.name("a", "b") == []


def test_parent_with_pieces_off_the_grid_is_blamed() -> None:
    script = Script()
    script.begin()
    script.name("a", "b")
    script.holds("b", 0, 3)
    bad = piece_of(0, 9 * PIECE, 2 * PIECE)
    script(ParentHolds(peer_id="a", pieces=(bad,)))
    effects = script.connect("b")
    assert DropParent(peer_id="a", reason=CancelReason.BLAMED) in effects


# --- ranges and readers ---------------------------------------------------------------------------


def test_range_needs_only_its_pieces() -> None:
    download = Download(url=URL, range=ByteRange(start=PIECE + 5, length=PIECE))
    script = Script(length=5 * PIECE, download=download)
    script.swarm("a")
    fetched: list[int] = []
    effects = script.holds("a", 0, 1, 2, 3, 4)
    while script.core.state is not State.COMPLETE:
        ((_, number),) = asked(effects)
        fetched.append(number)
        effects = script.stored("a", number)
    assert sorted(fetched) == [1, 2]
    assert of(script.effects, Complete) == [Complete(whole=False)]


def test_another_reader_adds_what_it_wants() -> None:
    download = Download(url=URL, range=ByteRange(start=0, length=1))
    script = Script(length=3 * PIECE, download=download)
    script.swarm("a")
    assert asked(script.holds("a", 0, 1, 2)) == [("a", 0)]
    script(Wanted(range=ByteRange(start=2 * PIECE, length=1)))
    assert asked(script.stored("a", 0)) == [("a", 2)]
    script(Wanted())
    assert asked(script.stored("a", 2)) == [("a", 1)]
    assert script.stored("a", 1)[-1] == Complete(whole=True)


def test_source_brings_the_readers_part_first() -> None:
    script = Script(length=6 * PIECE)
    script.begin(content_length=6 * PIECE, piece_length=PIECE, held=(1, 4))
    script(ReaderWaiting(number=3))
    assert runs(script.answer(NeedBackToSource())) == [(2, 3)]


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("disk_full", "kind"), [(True, DiskFullError), (False, StorageError)])
def test_storage_that_fails_ends_the_download(*, disk_full: bool, kind: type[Exception]) -> None:
    script = Script()
    script.swarm("a")
    effects = script(StorageFailed(reason="volume is full", disk_full=disk_full))
    assert kinds(effects) == ["Send", "CloseStream", "DropParent", "GiveUp"]
    assert messages(effects) == [Failed(description="volume is full")]
    assert isinstance(of(effects, GiveUp)[0].error, kind)


def test_cancelled() -> None:
    script = Script()
    script.begin()
    script.answer(NeedBackToSource())
    effects = script(Cancelled())
    assert messages(effects) == [Failed(description="cancelled")]
    assert kinds(effects) == ["Send", "CloseStream", "StopSource", "GiveUp"]


def test_nothing_happens_after_the_end() -> None:
    script = Script(length=PIECE)
    script.begin(content_length=PIECE, piece_length=PIECE, held=(0,))
    late: list[DownloadEvent] = [
        Begun(),
        Ticked(),
        Cancelled(),
        Wanted(),
        SchedulerLost(reason="x"),
        PieceStored(peer_id="a", piece=piece_of(0, PIECE)),
        SourceFailed(first=0, reason="x"),
    ]
    for event in late:
        assert script(event) == []


def test_nothing_happens_before_the_beginning() -> None:
    script = Script()
    for event in (Wanted(), ReaderWaiting(number=0), Ticked()):
        assert script(event) == []
    with pytest.raises(IllegalStepError, match="before Begun"):
        script(SchedulerLost(reason="x"))


def test_cancelled_before_the_beginning() -> None:
    script = Script()
    assert script(Cancelled()) == []
    assert kinds(script.begin()) == ["GiveUp"]


def test_second_begun_is_a_bug_with_a_story() -> None:
    script = Script()
    script.begin()
    with pytest.raises(IllegalStepError, match="second Begun"):
        script.begin()


def test_late_answers_of_the_scheduler_change_nothing() -> None:
    script = Script()
    script.begin()
    script.answer(NeedBackToSource())
    for answer in (EmptyTask(), NeedBackToSource(), MetadataOnly()):
        assert script.answer(answer) == []
    assert script.core.state is State.SOURCING


# --- what is out of time --------------------------------------------------------------------------


def test_events_of_parents_that_were_dropped_change_nothing() -> None:
    script = Script()
    script.swarm("a")
    assert script.connect("ghost") == []
    assert script.holds("ghost", 0) == []
    assert script.ended("ghost") == []


def test_every_event_is_told_in_the_story_without_secrets() -> None:
    script = Script(download=Download(url=URL, request_header={"Authorization": "Bearer s3cret"}))
    script.swarm("a")
    assert not any("s3cret" in line for line in script.core.story())
    assert len(get_args(DownloadEvent)) == 23


def test_close_stream_is_the_last_word() -> None:
    script = Script(length=PIECE)
    script.swarm("a")
    script.holds("a", 0)
    script.stored("a", 0)
    names = kinds(script.effects)
    assert names.count("CloseStream") == 1
    assert "Send" not in names[names.index("CloseStream") :]
    assert of(script.effects, CloseStream)
