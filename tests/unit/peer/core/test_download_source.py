"""One download, script by script: its source, and a seed that is triggered to go there."""

from __future__ import annotations

from support.download import PIECE, URL, Script, asked, kinds, messages, of, runs

from odonata.errors import (
    SourceError,
    UnavailableError,
)
from odonata.piece import MIB
from odonata.wire.message import (
    BackToSourceFailed,
    ByteRange,
    Download,
    EmptyTask,
    Failed,
    MetadataOnly,
    NeedBackToSource,
    PieceBackToSourceFailed,
    PieceBackToSourceFinished,
    Register,
    SourceAnswer,
    SourceShare,
    TrafficType,
)
from peer.core.effect import (
    Complete,
    FetchSource,
    GiveUp,
    LearnMeta,
    OpenSource,
    StopSource,
)
from peer.core.event import (
    SchedulerLost,
    SourceEnded,
    SourceFailed,
    Wanted,
)
from peer.core.lifecycle import State
from peer.core.limits import DownloadLimits
from peer.core.source_streams import FIRST_BYTES

SEED = Download(url=URL, need_back_to_source=True)
NO_SOURCE = Download(url=URL, disable_back_to_source=True)
HEAD = OpenSource(first=0, offset=0, end=FIRST_BYTES)
BLOCK = FIRST_BYTES // PIECE
"""What is asked for first, in pieces."""


# --- the source -----------------------------------------------------------------------------------


def test_told_to_go_to_the_source() -> None:
    script = Script(length=2 * PIECE)
    script.begin()
    assert kinds(script.answer(NeedBackToSource(description="first"))) == ["Send", "OpenSource"]
    assert kinds(script.opened()) == ["LearnMeta", "FetchSource"]
    (first,) = messages(script.from_source(0))
    assert isinstance(first, PieceBackToSourceFinished)
    assert first.piece.traffic_type is TrafficType.BACK_TO_SOURCE
    assert kinds(script.from_source(1)) == ["Send", "Send", "CloseStream", "StopSource", "Complete"]
    assert kinds(script.said)[-1] == "BackToSourceFinished"


def test_no_scheduler_means_source_at_once() -> None:
    script = Script(length=PIECE)
    assert runs(script.begin(scheduler=False)) == [(0, None)]
    script.opened()
    assert kinds(script.from_source(0)) == ["StopSource", "Complete"]
    assert script.said == []


def test_empty_content_from_the_source() -> None:
    script = Script(length=0)
    script.begin(scheduler=False)
    assert kinds(script.opened()) == ["LearnMeta", "StopSource", "Complete"]


def test_unknown_length_from_the_source_is_learned_at_the_end() -> None:
    script = Script(length=PIECE + 1)
    script.begin(scheduler=False)
    (learned,) = script.opened(length=None)
    assert learned == LearnMeta(content_length=None, piece_length=PIECE)
    assert script.from_source(0) == []
    assert script.from_source(1) == []
    effects = script(SourceEnded(first=0, content_length=PIECE + 1))
    assert kinds(effects) == ["LearnMeta", "Complete"]


def test_source_that_ends_short_is_never_a_complete_file() -> None:
    script = Script(length=2 * PIECE, limits=DownloadLimits(source_attempts=1))
    script.begin(scheduler=False)
    script.opened()
    script.from_source(0)
    (gave_up,) = script(SourceEnded(first=0, content_length=2 * PIECE))
    assert isinstance(gave_up, GiveUp)
    assert "ended before piece 1" in script.error


def test_source_that_ends_without_saying_its_length_is_not_complete() -> None:
    script = Script(limits=DownloadLimits(source_attempts=1))
    script.begin(scheduler=False)
    script.opened(length=None)
    script.from_source(0)
    script(SourceEnded(first=0))
    assert "did not say how long" in script.error


def test_origin_dies_half_way_then_error_with_its_status_and_what_is_held_stays() -> None:
    script = Script(length=3 * PIECE)
    script.begin()
    script.answer(NeedBackToSource())
    script.opened()
    script.from_source(0)
    answer = SourceAnswer(message="gone", status_code=502, header={"Via": "x"})
    for first in (0, 1, 1):
        assert script(SourceFailed(first=first, reason="reset", answer=answer)) == []
        assert script.tick_until(FetchSource).first == 1  # from the first missing piece
    effects = script(SourceFailed(first=1, reason="reset", answer=answer))
    assert kinds(effects) == ["Send", "Send", "CloseStream", "GiveUp"]
    failed, last = messages(effects)
    assert failed == PieceBackToSourceFailed(answer=answer, description=script.error)
    assert isinstance(last, BackToSourceFailed)
    error = of(effects, GiveUp)[0].error
    assert isinstance(error, SourceError)
    assert (error.status_code, error.header) == (502, {"Via": "x"})


def test_progress_forgives_earlier_failures() -> None:
    script = Script(length=40 * PIECE)
    script.begin(scheduler=False)
    script.opened()
    for number in range(39):
        script.from_source(number)
        script(SourceFailed(first=number or 0, reason="reset"))
        assert script.tick_until(FetchSource).first == number + 1
    assert script.core.state is State.SOURCING


def test_fatal_source_failure_is_not_retried() -> None:
    script = Script()
    script.begin(scheduler=False)
    answer = SourceAnswer(message="no", status_code=404)
    (gave_up,) = script(SourceFailed(first=0, reason="404", answer=answer, fatal=True))
    assert isinstance(gave_up, GiveUp)
    assert isinstance(gave_up.error, SourceError)
    assert gave_up.error.status_code == 404


def test_content_that_changed_at_the_source_is_an_error_not_a_mixture() -> None:
    script = Script()
    script.begin(content_length=4 * PIECE, piece_length=PIECE, held=(0,), scheduler=False)
    effects = script.opened(length=5 * PIECE)
    assert kinds(effects) == ["StopSource", "GiveUp"]
    assert "changed at the source" in script.error


def test_source_that_says_nothing_is_given_up_in_the_end() -> None:
    script = Script()
    script.begin(scheduler=False)
    script.tick_until(GiveUp)
    assert "nothing came from the source" in script.error


def test_disabled_source_is_never_asked() -> None:
    script = Script(download=NO_SOURCE)
    script.begin()
    effects = script.answer(NeedBackToSource(description="nobody has it"))
    assert kinds(effects) == ["Send", "CloseStream", "GiveUp"]
    assert isinstance(messages(effects)[0], Failed)
    error = of(effects, GiveUp)[0].error
    assert isinstance(error, UnavailableError)
    assert "disable_back_to_source" in error.detail


def test_a_reader_who_may_ask_the_source_lets_the_download_ask_it() -> None:
    script = Script(length=PIECE, download=NO_SOURCE)
    script.begin()
    script(Wanted(disable_back_to_source=True))
    assert script(Wanted()) == []
    assert runs(script(SchedulerLost(reason="refused", refused=True))) == [(0, None)]


def test_a_range_of_unknown_content_asks_for_the_head_first() -> None:
    wanted = ByteRange(start=3 * PIECE, length=2 * PIECE)
    script = Script(length=8 * PIECE, download=Download(url=URL, range=wanted))
    assert kinds(script.begin(scheduler=False)) == ["OpenSource"]
    effects = script.opened()
    assert kinds(effects) == ["LearnMeta", "StopSource", "FetchSource"]
    assert runs(effects) == [(3, 4)]


def test_a_range_at_the_start_goes_on_with_the_request_for_the_head() -> None:
    wanted = ByteRange(start=0, length=1)
    script = Script(length=8 * PIECE, download=Download(url=URL, range=wanted))
    script.begin(scheduler=False)
    assert script.opened()[1:] == [FetchSource(first=0, last=0)]


def test_a_range_of_a_source_without_ranges_reads_from_the_start() -> None:
    wanted = ByteRange(start=3 * PIECE, length=PIECE)
    script = Script(length=8 * PIECE, download=Download(url=URL, range=wanted))
    script.begin(scheduler=False)
    assert script.opened(ranges=False)[1:] == [FetchSource(first=0, last=3)]


def test_who_wants_everything_meanwhile_goes_on_with_the_request_for_the_head() -> None:
    wanted = ByteRange(start=3 * PIECE, length=PIECE)
    script = Script(length=8 * PIECE, download=Download(url=URL, range=wanted))
    script.begin(scheduler=False)
    effects = [*script(Wanted()), *script.opened()]
    assert [one for one in effects if not isinstance(one, LearnMeta)] == [FetchSource(first=0)]


def test_a_source_that_fails_before_its_head_is_asked_again() -> None:
    wanted = ByteRange(start=3 * PIECE, length=PIECE)
    script = Script(length=8 * PIECE, download=Download(url=URL, range=wanted))
    script.begin(scheduler=False)
    script(SourceFailed(first=0, reason="reset"))
    assert script.tick_until(OpenSource).first == 0


# --- a triggered seed -----------------------------------------------------------------------------


def test_seed_brings_the_blob_with_one_request() -> None:
    script = Script(length=3 * PIECE, download=SEED)
    assert script.begin() == [HEAD]
    effects = script.opened()
    assert kinds(effects) == ["LearnMeta", "Send"]
    (register,) = messages(effects)
    assert isinstance(register, Register)
    told = register.download
    assert told.need_back_to_source
    assert (told.actual_content_length, told.actual_piece_length) == (3 * PIECE, PIECE)
    assert told.actual_piece_count == 3
    effects = script.answer(NeedBackToSource())
    assert kinds(effects) == ["Send", "FetchSource"]
    assert effects[1] == FetchSource(first=0)
    for number in range(3):
        script.from_source(number)
    assert kinds(script.said) == [
        "Register",
        "BackToSourceStarted",
        *["PieceBackToSourceFinished"] * 3,
        "BackToSourceFinished",
    ]
    assert kinds(script.effects)[-1] == "Complete"
    assert len(of(script.effects, OpenSource)) == len(of(script.effects, FetchSource)) == 1


def test_seed_of_unknown_length_registers_without_it() -> None:
    script = Script(download=SEED)
    script.begin()
    (register,) = messages(script.opened(length=None))
    assert isinstance(register, Register)
    assert register.download.actual_content_length is None
    assert register.download.actual_piece_length is None


def test_seed_whose_source_refuses_does_not_register() -> None:
    script = Script(download=SEED)
    script.begin()
    answer = SourceAnswer(message="no", status_code=401, header={"WWW-Authenticate": "Bearer"})
    (gave_up,) = script(SourceFailed(first=0, reason="401", answer=answer, fatal=True))
    assert isinstance(gave_up, GiveUp)
    assert isinstance(gave_up.error, SourceError)
    assert gave_up.error.header == {"WWW-Authenticate": "Bearer"}
    assert script.said == []


def test_seed_tries_to_open_the_source_again() -> None:
    script = Script(download=SEED)
    script.begin()
    assert script(SourceFailed(first=0, reason="connection refused")) == []
    assert script.tick_until(OpenSource) == HEAD


def test_seed_of_an_empty_content_registers_so_that_others_learn_it() -> None:
    script = Script(length=0, download=SEED)
    script.begin()
    (register,) = messages(script.opened())
    assert isinstance(register, Register)
    assert register.download.actual_content_length == 0
    effects = script.answer(EmptyTask())
    assert kinds(messages(effects)) == ["Started", "Finished"]
    assert kinds(effects)[-2:] == ["StopSource", "Complete"]


def test_seed_that_is_sent_to_the_source_for_nothing() -> None:
    script = Script(length=0, download=SEED)
    script.begin()
    script.opened()
    effects = script.answer(NeedBackToSource())
    assert kinds(messages(effects)) == ["BackToSourceStarted", "BackToSourceFinished"]
    assert kinds(effects)[-1] == "Complete"


def test_seed_that_holds_everything_tells_a_scheduler_that_forgot() -> None:
    script = Script(length=PIECE, download=SEED)
    (register,) = messages(script.begin(content_length=PIECE, piece_length=PIECE, held=(0,)))
    assert isinstance(register, Register)
    assert register.download.metadata_only
    effects = script.answer(MetadataOnly())
    assert kinds(effects) == ["Send", "Send", "CloseStream", "Complete"]
    assert kinds(messages(effects)) == ["Started", "Finished"]


def test_report_that_nobody_answers_ends_by_itself() -> None:
    script = Script(length=PIECE, download=SEED)
    script.begin(content_length=PIECE, piece_length=PIECE, held=(0,))
    assert script.tick_until(Complete).whole


def test_report_ends_when_the_scheduler_is_lost() -> None:
    script = Script(length=PIECE, download=SEED)
    script.begin(content_length=PIECE, piece_length=PIECE, held=(0,))
    assert script(SchedulerLost(reason="broken")) == [Complete(whole=True)]


def test_seed_that_is_given_parents_closes_the_source() -> None:
    script = Script(download=SEED)
    script.begin()
    script.opened()
    assert kinds(script.name("other", seeds=())) == ["Send", "StopSource", "ConnectParent"]
    assert script(SourceFailed(first=0, reason="late")) == []
    assert script.core.state is State.SWARMING


def test_resumed_seed_asks_only_for_what_is_missing() -> None:
    script = Script(length=6 * PIECE, download=SEED)
    script.begin(content_length=6 * PIECE, piece_length=PIECE, held=(0, 1, 3))
    assert runs(script.answer(NeedBackToSource())) == [(2, 2)]
    script.opened()
    script.from_source(2)
    assert runs(script(SourceEnded(first=2))) == [(4, None)]
    script.from_source(4)
    assert kinds(script.from_source(5))[-1] == "Complete"


def test_a_seed_cuts_what_its_user_chose_and_asks_for_whole_pieces_of_it() -> None:
    chosen = Download(url=URL, need_back_to_source=True, piece_length=5 * MIB)
    script = Script(download=chosen)
    assert script.begin() == [OpenSource(first=0, offset=0, end=15 * MIB)]


def test_a_first_request_that_ends_within_a_piece_is_given_up_for_one_of_pieces() -> None:
    """Nobody knew that they would be so long."""
    script = Script(length=600 * 64 * MIB, download=SEED)
    script.begin()
    script.opened()
    effects = script.answer(NeedBackToSource())
    assert kinds(effects) == ["Send", "StopSource", "FetchSource"]
    assert runs(effects) == [(0, 0)]


def test_a_source_that_ignores_ranges_goes_on_with_the_first_request() -> None:
    script = Script(length=8 * PIECE, download=SEED)
    script.begin()
    script.opened(ranges=False)
    assert runs(script.answer(NeedBackToSource())) == [(0, None)]
    assert not of(script.effects, StopSource)


def test_who_goes_for_itself_asks_for_everything_at_once() -> None:
    script = Script(length=40 * PIECE)
    script.begin()
    assert runs(script(SchedulerLost(reason="refused", refused=True))) == [(0, None)]
    script.opened()
    for number in range(20):
        script.now += 0.5
        assert runs(script.from_source(number)) == []


def test_resumed_seed_whose_source_ignores_ranges_reads_past_what_it_holds() -> None:
    script = Script(length=4 * PIECE, download=SEED)
    script.begin(content_length=4 * PIECE, piece_length=PIECE, held=(0, 2))
    assert runs(script.answer(NeedBackToSource())) == [(1, 1)]
    effects = script.opened(ranges=False)
    assert effects == [StopSource(first=1), FetchSource(first=0, last=None, skip=(0, 2))]
    assert script.opened(ranges=False) == []


def test_open_source_that_breaks_while_waiting_is_opened_anew() -> None:
    script = Script(download=SEED)
    script.begin()
    script.opened()
    assert script(SourceFailed(first=0, reason="idle connection closed")) == []
    assert runs(script.answer(NeedBackToSource())) == [(0, None)]


def test_seed_without_a_scheduler_goes_on_with_the_open_request() -> None:
    script = Script(download=SEED)
    script.begin()
    assert kinds(script(SchedulerLost(reason="connect refused"))) == ["SeekScheduler"]
    assert kinds(script.opened()) == ["LearnMeta", "FetchSource"]


# --- several seeds --------------------------------------------------------------------------------

SIXTEEN = 16 * PIECE


def shared(index: int, *, told: int | None = SIXTEEN, length: int = SIXTEEN) -> Script:
    """A seed that was told which of two it is, and what the first one found."""
    download = Download(
        url=URL,
        need_back_to_source=True,
        source_share=SourceShare(index=index, count=2),
        actual_content_length=told,
    )
    return Script(length=length, download=download)


def test_the_first_of_two_seeds_stops_where_the_others_part_begins() -> None:
    script = shared(0, told=None)
    assert script.begin() == [HEAD]
    script.opened()
    assert runs(script.answer(NeedBackToSource())) == [(0, BLOCK - 1)]
    script.name(seeds=("fellow",))
    script.connect("fellow")
    script.holds("fellow", 8)
    asked_for = [run for number in range(BLOCK) for run in runs(script.from_source(number))]
    assert asked_for == [(BLOCK, 7)]
    script(SourceEnded(first=0, content_length=SIXTEEN))
    assert [run for number in range(BLOCK, 8) for run in runs(script.from_source(number))] == []
    assert not of(script.effects, StopSource)
    # The fellow has hardly begun: it is helped from the other end.
    assert runs(script(SourceEnded(first=BLOCK, content_length=SIXTEEN))) == [(15, None)]


def test_the_second_seed_asks_for_nothing_but_its_part() -> None:
    script = shared(1)
    end = (8 + BLOCK) * PIECE
    assert script.begin() == [OpenSource(first=8, offset=8 * PIECE, end=end)]
    effects = script.opened()
    assert kinds(effects) == ["LearnMeta", "Send"]
    (register,) = messages(effects)
    assert isinstance(register, Register)
    assert register.download.actual_content_length == SIXTEEN
    assert runs(script.answer(NeedBackToSource())) == [(8, 7 + BLOCK)]


def test_a_part_in_the_middle_ends_where_the_next_one_begins() -> None:
    download = Download(
        url=URL,
        need_back_to_source=True,
        source_share=SourceShare(index=1, count=3),
        actual_content_length=24 * PIECE,
    )
    script = Script(length=24 * PIECE, download=download)
    end = (8 + BLOCK) * PIECE
    assert script.begin() == [OpenSource(first=8, offset=8 * PIECE, end=end)]


def test_pieces_of_the_other_part_come_from_the_other_seed() -> None:
    script = shared(1)
    script.begin()
    script.opened()
    script.answer(NeedBackToSource())
    script.name(seeds=("first",))
    script.connect("first")
    assert asked(script.holds("first", 0)) == [("first", 0)]
    assert script.stored("first", 0)


def test_a_fellow_that_is_silent_is_made_up_for() -> None:
    script = shared(1)
    script.begin()
    script.opened()
    script.answer(NeedBackToSource())
    script.name(seeds=("first",))
    for number in range(8, 16):
        script.from_source(number)
    for first in (8, 8 + BLOCK):
        script(SourceEnded(first=first, content_length=SIXTEEN))
    assert script.tick_until(FetchSource).first == 7  # from the end, a block at a time


def test_a_second_seed_that_was_told_another_length_goes_by_the_source_alone() -> None:
    script = shared(1, told=40 * PIECE)
    (opened,) = script.begin()
    assert opened == OpenSource(first=20, offset=20 * PIECE, end=(20 + BLOCK) * PIECE)
    assert script.opened() == [StopSource(first=20), HEAD]
    assert kinds(script.opened()) == ["LearnMeta", "Send"]
    assert runs(script.answer(NeedBackToSource())) == [(0, BLOCK - 1)]


def test_where_ranges_are_ignored_the_second_seed_asks_for_nothing() -> None:
    script = shared(1)
    script.begin()
    effects = script.opened(ranges=False, length=None)
    assert kinds(effects) == ["LearnMeta", "StopSource", "Send"]
    assert runs(script.answer(NeedBackToSource())) == []
    script.name(seeds=("first",))
    script.connect("first")
    assert asked(script.holds("first", 0)) == [("first", 0)]
