"""A parent that has all of a content of one piece is asked for it together with its list."""

from __future__ import annotations

import msgspec
import pytest
from support.download import PIECE, Script, asked, kinds, messages, of, parent_of

from odonata.piece import PIECE_LENGTH_MAX
from odonata.wire.message import AskDigests, NormalTask, Parent, PeerMessage, TaskFacts
from peer.core.effect import (
    AskAhead,
    CancelPiece,
    Complete,
    ConnectParent,
    DownloadEffect,
    FetchPiece,
    LearnMeta,
)
from peer.core.event import FailureReason, ParentConnected, ParentEnded
from peer.core.limits import DownloadLimits

LENGTH = 5000


def holder(
    peer_id: str = "a",
    *,
    state: str = "Succeeded",
    pieces: int = 1,
    length: int | None = LENGTH,
    seed: bool = False,
) -> Parent:
    facts = TaskFacts(id="t", content_length=length, piece_count=pieces)
    return msgspec.structs.replace(parent_of(peer_id, seed=seed), state=state, task=facts)


def begun(*parents: Parent, limits: DownloadLimits | None = None) -> Script:
    script = Script(length=LENGTH, limits=limits)
    script.begin()
    script.answer(NormalTask(parents=parents))
    return script


@pytest.mark.parametrize("seed", [False, True])
def test_its_only_piece_is_asked_for_before_it_has_said_a_word(seed: bool) -> None:
    script = begun(holder(seed=seed))
    assert len(of(script.effects, ConnectParent)) == 1
    (fetch,) = of(script.effects, FetchPiece)
    assert (fetch.peer_id, fetch.number, fetch.offset, fetch.length) == ("a", 0, 0, LENGTH)
    assert fetch.is_early


def test_the_piece_ends_the_download_once_the_facts_are_there() -> None:
    script = begun(holder())
    script.connect("a")
    assert len(of(script.effects, LearnMeta)) == 1
    script.holds("a", 0)
    assert asked(script.effects) == [("a", 0)], "not once more when it is listed"
    script.stored("a", 0)
    script.wait(2.0)
    assert len(of(script.effects, Complete)) == 1


@pytest.mark.parametrize(
    "parent",
    [
        holder(state="Running"),
        holder(pieces=2, length=2 * PIECE),
        holder(pieces=0, length=None),
        holder(length=PIECE_LENGTH_MAX + 1),
    ],
    ids=["not all", "two pieces", "nothing known", "longer than pieces are"],
)
def test_others_are_asked_for_what_they_list(parent: Parent) -> None:
    assert not of(begun(parent).effects, FetchPiece)


def test_the_rule_can_be_switched_off() -> None:
    assert not of(begun(holder(), limits=DownloadLimits(ask_early=False)).effects, FetchPiece)


def test_one_is_asked_at_a_time() -> None:
    script = begun(holder("a"), holder("b"))
    assert len(asked(script.effects)) == 1


def test_facts_that_contradict_the_scheduler_end_it() -> None:
    script = begun(holder())
    told = script(ParentConnected(peer_id="a", content_length=LENGTH + 1, piece_length=PIECE))
    assert "DropParent" in kinds(told), "it lies, or the scheduler does"
    assert not of(told, LearnMeta)


def questions(effects: list[DownloadEffect]) -> list[PeerMessage]:
    return [message for message in messages(effects) if isinstance(message, AskDigests)]


def begun_under_ours() -> Script:
    """The scheduler tells digests, by itself or when it is asked."""
    script = Script(length=LENGTH)
    script.begin(tells_digests=True)
    script.answer(NormalTask(parents=(holder(),)))
    script.connect("a")
    script.holds("a", 0)
    return script


def test_the_digest_is_not_asked_for_as_long_as_it_may_still_be_told() -> None:
    script = begun_under_ours()
    assert not questions(script.effects)


def test_it_is_asked_for_when_the_piece_is_there_and_it_was_not_told() -> None:
    script = begun_under_ours()
    told = script.stored("a", 0)
    assert len(questions(told)) == 1
    assert not of(told, Complete)
    script.wait(5.0)
    assert len(questions(script.effects)) == 1
    assert len(of(script.effects, Complete)) == 1


def test_what_it_lacks_after_all_is_asked_for_when_it_is_listed() -> None:
    script = begun(holder())
    script.connect("a")
    script.failed("a", 0, FailureReason.NOT_FOUND)
    assert len(asked(script.effects)) == 1
    told = script.holds("a", 0)
    (fetch,) = of(told, FetchPiece)
    assert not fetch.is_early


def test_what_it_gives_to_somebody_else_is_not_asked_for_again_because_it_is_listed() -> None:
    script = begun(holder("a", seed=True), holder("b", state="Running"))
    script.connect("a")
    script.failed("a", 0, FailureReason.GIVEN)
    assert not of(script.holds("a", 0), FetchPiece)


def test_a_host_that_has_moved_is_asked_again_soon() -> None:
    script = begun(holder())
    script.connect("a")
    script.failed("a", 0, FailureReason.REFUSED)
    script.holds("a", 0)
    script.wait(1.0)
    assert asked(script.effects) == [("a", 0), ("a", 0)]


def test_a_parent_that_breaks_off_costs_no_more_than_before() -> None:
    script = begun(holder())
    script(ParentEnded(peer_id="a", finished=False, reason="gone"))
    script.failed("a", 0, FailureReason.UNREACHABLE)
    assert not of(script.effects, CancelPiece)
    script.wait(5.0)
    assert len(of(script.effects, ConnectParent)) <= 2


# --- ahead of the scheduler -----------------------------------------------------------------------


def ahead(limits: DownloadLimits | None = None, **facts: object) -> Script:
    """A download that knows of a seed on `host-s`."""
    script = Script(length=LENGTH, limits=limits)
    script.begin(ahead_host_id="host-s", **facts)
    return script


def test_a_seed_that_was_met_is_asked_after_the_scheduler_and_before_it_has_answered() -> None:
    script = ahead()
    assert kinds(script.effects) == ["Send", "AskAhead"]
    assert of(script.effects, AskAhead) == [AskAhead(host_id="host-s")]


def test_it_is_the_parent_then_whatever_the_order_of_the_scheduler() -> None:
    script = ahead()
    script.answer(NormalTask(parents=(holder("a"), holder("b"), holder("s", seed=True))))
    (connect,) = of(script.effects, ConnectParent)
    assert connect.parent.peer_id == "s"
    assert asked(script.effects) == [("s", 0)]


@pytest.mark.parametrize(
    "named",
    [
        (holder("a"), holder("b")),
        (holder("a"), holder("b"), holder("s", state="Running", seed=True)),
    ],
)
def test_somebody_else_is_if_it_is_not_named_or_has_not_all(named: tuple[Parent, ...]) -> None:
    script = ahead()
    script.answer(NormalTask(parents=named))
    assert asked(script.effects) == [("a", 0)]


@pytest.mark.parametrize(
    "script",
    [
        ahead(DownloadLimits(ask_ahead=False)),
        ahead(content_length=LENGTH, piece_length=PIECE),
        ahead(scheduler=False),
        ahead(needs_size=True),
    ],
    ids=["switched off", "known already", "no scheduler", "it must be sized first"],
)
def test_nobody_is_asked_ahead_where_that_is_of_no_use(script: Script) -> None:
    assert not of(script.effects, AskAhead)
