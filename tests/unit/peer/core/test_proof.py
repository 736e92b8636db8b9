"""What of a download is proved: by a list that comes before, between and after the pieces."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace
from support.download import PIECE, URL, Script, asked, kinds, messages, of, piece_of

from odonata.errors import StorageError, WrongContentError
from odonata.wire.digest_list import pack
from odonata.wire.message import (
    AskDigests,
    ByteRange,
    Download,
    EmptyTask,
    Failed,
    Finished,
    NeedBackToSource,
    PieceDigests,
    PieceFailed,
    PieceFinished,
)
from peer.core.effect import (
    CheckPiece,
    CheckWhole,
    Complete,
    ConnectParent,
    DownloadEffect,
    GiveUp,
    LearnDigests,
)
from peer.core.event import (
    FailureReason,
    PieceChecked,
    PieceStored,
    SchedulerFound,
    SchedulerLost,
    SourceFailed,
    SourcePieceStored,
    WholeChecked,
)
from peer.core.limits import DownloadLimits
from peer.core.proof import digests_of_whole

LIMITS = DownloadLimits()
HEX = hashlib.sha256(b"").hexdigest()
BLOB = f"https://registry.test/v2/library/thing/blobs/sha256:{HEX}"


def strong(number: int) -> bytes:
    return bytes([number + 1]) * 32


def listed(*numbers: int, is_last: bool = True) -> PieceDigests:
    return PieceDigests(packed=pack({n: strong(n) for n in numbers}), is_last=is_last)


def swarm(*peer_ids: str, length: int = 4 * PIECE, download: Download | None = None) -> Script:
    """A download with these parents under a scheduler that tells digests; nothing is asked yet."""
    script = Script(length=length, download=download)
    script.begin(tells_digests=True)
    script.name(*peer_ids)
    script.connect(*peer_ids)
    return script


def stored(script: Script, peer_id: str, number: int, *, proved: bool) -> list[DownloadEffect]:
    script.now += 0.1
    piece = replace(
        piece_of(number, script.length), strong_digest=strong(number) if proved else b""
    )
    return script(PieceStored(peer_id=peer_id, piece=piece))


# --- asking ---------------------------------------------------------------------------------------


def test_it_asks_when_it_is_about_to_fetch_what_it_knows_no_digest_of() -> None:
    script = swarm("a")
    assert AskDigests() not in script.said
    assert AskDigests() in messages(script.holds("a", 0, 1))


def test_it_asks_no_second_time_before_it_was_answered() -> None:
    script = swarm("a")
    script.holds("a", 0, 1)
    script.now += 10.0
    script.holds("a", 2, 3)
    script.answer(listed(is_last=False))
    assert script.said.count(AskDigests()) == 1


def test_it_asks_again_after_a_while_and_only_for_what_it_does_not_know() -> None:
    script = swarm("a", length=12 * PIECE)
    script.holds("a", 0)
    script.answer(listed(0, 1))
    script.now += LIMITS.ask_interval_s
    script.holds("a", 1)
    assert script.said.count(AskDigests()) == 1, "its digest is known"
    script.holds("a", 2)
    stored(script, "a", 0, proved=True)
    stored(script, "a", 1, proved=True)
    assert asked(script.effects)[-1] == ("a", 2)
    assert script.said.count(AskDigests()) == 2


def test_who_was_told_all_when_it_was_given_parents_asks_nothing() -> None:
    script = Script()
    script.begin(tells_digests=True)
    script.name("a")
    assert of(script.answer(listed(0, 1, 2, 3)), LearnDigests)
    script.connect("a")
    script.holds("a", 0, 1, 2, 3)
    for number in range(4):
        stored(script, "a", number, proved=True)
    assert AskDigests() not in script.said
    assert Finished() in script.said


def test_another_scheduler_is_asked_nothing_and_nothing_is_waited_for() -> None:
    script = Script(length=PIECE)
    script.swarm("a")
    script.holds("a", 0)
    assert of(stored(script, "a", 0, proved=False), Complete)
    assert AskDigests() not in script.said


# --- pieces that came before their digests --------------------------------------------------------


def test_an_unproved_piece_is_checked_as_soon_as_its_digest_is_told() -> None:
    script = swarm("a")
    script.holds("a", 0, 1, 2, 3)
    stored(script, "a", 2, proved=False)
    stored(script, "a", 1, proved=False)
    effects = script.answer(listed(1, 2))
    assert kinds(effects)[:2] == ["LearnDigests", "CheckPiece"]
    assert of(effects, CheckPiece) == [CheckPiece(number=1)], "one at a time"
    assert of(script(PieceChecked(number=1, is_right=True)), CheckPiece) == [CheckPiece(number=2)]
    assert not of(script(PieceChecked(number=2, is_right=True)), CheckPiece)


def test_a_proved_piece_is_not_checked_again() -> None:
    script = swarm("a")
    script.answer(listed(0))
    script.holds("a", 0, 1)
    stored(script, "a", 0, proved=True)
    assert not of(script.answer(listed(1)), CheckPiece)


def test_it_is_whole_only_when_what_can_be_proved_is_proved() -> None:
    script = swarm("a", length=PIECE)
    script.holds("a", 0)
    assert not of(stored(script, "a", 0, proved=False), Complete), "an answer is on its way"
    assert kinds(script.answer(listed(0))) == ["LearnDigests", "CheckPiece"]
    effects = script(PieceChecked(number=0, is_right=True))
    assert Finished() in messages(effects)
    assert of(effects, Complete)


def test_what_nobody_told_a_digest_of_is_taken_as_it_is() -> None:
    script = swarm("a", length=PIECE)
    script.holds("a", 0)
    stored(script, "a", 0, proved=False)
    assert of(script.answer(listed()), Complete)


def test_an_answer_that_does_not_come_is_not_waited_for_long() -> None:
    script = swarm("a", length=PIECE)
    script.holds("a", 0)
    asked_at = script.now
    stored(script, "a", 0, proved=False)
    script.tick_until(Complete, at_most=2)
    assert script.now == asked_at + LIMITS.digest_patience_s


def test_a_scheduler_that_is_gone_is_not_waited_for() -> None:
    script = swarm("a", length=PIECE)
    script.holds("a", 0)
    stored(script, "a", 0, proved=False)
    assert of(script(SchedulerLost(reason="gone")), Complete)


def test_at_the_end_it_asks_for_what_was_fetched_since_it_asked_last() -> None:
    script = swarm("a", length=2 * PIECE)
    script.holds("a", 0)
    script.answer(listed())
    script.holds("a", 1)  # too soon to ask again
    stored(script, "a", 0, proved=False)
    assert script.said.count(AskDigests()) == 1
    assert messages(stored(script, "a", 1, proved=False))[-1] == AskDigests()
    script.answer(listed(0, 1))
    script(PieceChecked(number=0, is_right=True))
    assert of(script(PieceChecked(number=1, is_right=True)), Complete)


def test_a_wrong_piece_is_fetched_anew_from_others_and_its_sender_accused() -> None:
    script = swarm("liar", "b", length=2 * PIECE)
    script.holds("liar", 0, 1)
    stored(script, "liar", 0, proved=False)
    script.answer(listed(0, 1))
    effects = script(PieceChecked(number=0, is_right=False))
    accused = PieceFailed(parent_id="liar", number=0, wrong_digest=True, by_list=True)
    assert accused in messages(effects)
    assert [one.parent.peer_id for one in of(effects, ConnectParent)] == ["b"]
    script.holds("b", 0)
    assert asked(script.effects)[-1] == ("b", 0)


def test_who_left_is_accused_too() -> None:
    script = swarm("liar", "b", length=2 * PIECE)
    script.holds("liar", 0)
    stored(script, "liar", 0, proved=False)
    script.name("b")  # "liar" is not named any more
    script.answer(listed(0))
    messages_now = messages(script(PieceChecked(number=0, is_right=False)))
    assert PieceFailed(parent_id="liar", number=0, wrong_digest=True, by_list=True) in messages_now


def test_what_is_on_the_disk_from_before_is_checked_when_its_digest_is_told() -> None:
    script = Script(length=2 * PIECE)
    script.begin(tells_digests=True, content_length=2 * PIECE, piece_length=PIECE, held=(0,))
    script.name("a")
    assert of(script.answer(listed(0, 1)), CheckPiece) == [CheckPiece(number=0)]
    effects = script(PieceChecked(number=0, is_right=False))
    assert not [one for one in messages(effects) if isinstance(one, PieceFailed)]


def test_a_parent_refused_by_the_list_is_accused_by_it_and_the_list_asked_for_anew() -> None:
    script = swarm("liar", "b", length=2 * PIECE)
    script.answer(listed(0, 1))
    script.holds("liar", 0)
    effects = script.failed("liar", 0, FailureReason.LISTED_DIGEST)
    accused = PieceFailed(parent_id="liar", number=0, wrong_digest=True, by_list=True)
    assert messages(effects) == [accused, AskDigests()]


def test_a_digest_that_is_another_one_now_makes_a_piece_unproved() -> None:
    script = swarm("a")
    script.answer(listed(0))
    script.holds("a", 0, 1)
    stored(script, "a", 0, proved=True)
    effects = script.answer(PieceDigests(packed=pack({0: b"?" * 32})))
    assert of(effects, CheckPiece) == [CheckPiece(number=0)]


def test_a_digest_that_was_taken_back_proves_nothing() -> None:
    script = swarm("a")
    script.answer(listed(0))
    script.answer(PieceDigests(packed=pack({0: b""})))
    script.holds("a", 0, 1)
    assert not of(stored(script, "a", 0, proved=False), CheckPiece)


def test_what_came_from_the_source_needs_no_proof() -> None:
    script = Script(length=PIECE)
    script.begin(tells_digests=True)
    script.answer(NeedBackToSource())
    script.opened()
    assert not of(script.answer(listed(0)), CheckPiece)
    script.from_source(0)
    assert not of(script.effects, CheckPiece)
    assert of(script.effects, Complete)


def test_a_scheduler_that_was_found_anew_is_told_what_came_from_the_source() -> None:
    script = Script(length=3 * PIECE)
    script.begin(tells_digests=True)
    script.answer(NeedBackToSource())
    script.opened()
    piece = replace(piece_of(0, script.length), strong_digest=strong(0))
    script(SourcePieceStored(piece=piece))
    script(SchedulerLost(reason="gone"))
    script(SchedulerFound(tells_digests=True))
    said = messages(script.answer(NeedBackToSource()))
    (told,) = (one.piece for one in said if isinstance(one, PieceFinished))
    assert (told.number, told.strong_digest) == (0, strong(0))


def test_a_disk_that_never_answers_does_not_hold_the_download_up_for_ever() -> None:
    script = swarm("a", length=PIECE)
    script.holds("a", 0)
    stored(script, "a", 0, proved=False)
    script.answer(listed(0))
    given_up = script.tick_until(GiveUp)
    assert isinstance(given_up.error, StorageError)
    assert Finished() not in script.said


# --- the whole ------------------------------------------------------------------------------------


def test_a_blob_is_checked_once_before_it_is_called_whole() -> None:
    script = swarm("a", length=PIECE, download=Download(url=BLOB))
    script.answer(listed(0))
    script.holds("a", 0)
    effects = stored(script, "a", 0, proved=True)
    assert of(effects, CheckWhole) == [CheckWhole(digests=(f"sha256:{HEX}",))]
    assert not of(effects, Complete)
    assert Finished() not in script.said
    script.now += LIMITS.check_patience_s  # it may take a while
    effects = script(WholeChecked())
    assert Finished() in messages(effects)
    assert of(effects, Complete) == [Complete(whole=True)]


def test_nobody_is_told_that_wrong_content_is_here_and_a_single_suspect_is_accused() -> None:
    script = swarm("a", "b", length=2 * PIECE, download=Download(url=BLOB))
    script.answer(listed(1))
    script.holds("a", 0)
    script.holds("b", 1)
    stored(script, "a", 0, proved=False)
    stored(script, "b", 1, proved=True)
    script.answer(listed())
    effects = script(WholeChecked(reason="it is not"))
    assert messages(effects) == [
        PieceFailed(parent_id="a", wrong_digest=True),
        Failed(description="it is not"),
    ]
    (given_up,) = of(effects, GiveUp)
    assert isinstance(given_up.error, WrongContentError)
    assert Finished() not in script.said


def test_no_piece_is_checked_while_the_whole_is() -> None:
    script = swarm("a", "b", length=PIECE, download=Download(url=BLOB))
    script.holds("a", 0)
    stored(script, "a", 0, proved=False)
    assert of(script.answer(listed()), CheckWhole)
    assert not of(script.answer(listed(0)), CheckPiece), "one after the other"
    script(WholeChecked(reason="it is not"))
    assert of(script.effects, GiveUp)


def test_of_several_suspects_none_is_called_a_liar() -> None:
    script = swarm("a", "b", length=2 * PIECE, download=Download(url=BLOB))
    script.holds("a", 0)
    script.holds("b", 1)
    stored(script, "a", 0, proved=False)
    stored(script, "b", 1, proved=False)
    script.answer(listed())
    failures = [
        one
        for one in messages(script(WholeChecked(reason="it is not")))
        if isinstance(one, PieceFailed)
    ]
    assert [(one.parent_id, one.wrong_digest) for one in failures] == [("a", False), ("b", False)]


def test_a_part_of_a_blob_is_not_checked_as_a_whole() -> None:
    part = ByteRange(start=0, length=1)
    script = swarm("a", length=2 * PIECE, download=Download(url=BLOB, range=part))
    script.answer(listed(0))
    script.holds("a", 0)
    effects = stored(script, "a", 0, proved=True)
    assert of(effects, Complete) == [Complete(whole=False)]


def test_an_empty_blob_is_checked_to_its_end_although_the_scheduler_says_that_it_is_empty() -> None:
    script = Script(length=0, download=Download(url=BLOB))
    script.begin()
    script.name("a")
    assert kinds(script.connect("a"))[-1] == "CheckWhole"
    assert not of(script.answer(EmptyTask()), Complete)
    assert of(script(WholeChecked()), Complete)


def test_while_the_whole_is_checked_nothing_but_the_end_of_patience_wakes_it() -> None:
    script = Script(length=0, download=Download(url=BLOB))
    script.begin(needs_size=True)
    assert of(script.opened(), CheckWhole)
    script(SourceFailed(first=0, reason="connection reset"))
    checked_from = script.now
    script.tick_until(GiveUp, at_most=3)
    assert script.now - checked_from == pytest.approx(LIMITS.check_patience_s)


def test_an_operator_may_leave_the_whole_unchecked() -> None:
    script = Script(
        length=PIECE, download=Download(url=BLOB), limits=DownloadLimits(verify_whole=False)
    )
    script.swarm("a")
    script.holds("a", 0)
    assert of(stored(script, "a", 0, proved=False), Complete)


def test_which_digests_a_whole_content_must_have() -> None:
    named, wanted = f"sha256:{HEX}", "sha512:" + 128 * "a"
    assert digests_of_whole(Download(url=URL)) == ()
    assert digests_of_whole(Download(url=BLOB)) == (named,)
    assert digests_of_whole(Download(url=BLOB, digest=named)) == (named,)
    assert digests_of_whole(Download(url=BLOB, digest=wanted)) == (named, wanted)
    part = ByteRange(start=0, length=1)
    assert digests_of_whole(Download(url=URL, digest=wanted, range=part)) == ()
