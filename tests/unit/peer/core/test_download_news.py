"""Answers of the scheduler that a download did not ask for, and how it counts them."""

from __future__ import annotations

from support.download import PIECE, URL, Script, asked, kinds, messages, of

from odonata.wire.message import (
    Download,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    Reschedule,
)
from peer.core.effect import (
    CancelReason,
    ConnectParent,
    DropParent,
    FetchPiece,
)
from peer.core.event import (
    Cancelled,
    FailureReason,
    SchedulerLost,
    SourceFailed,
)
from peer.core.lifecycle import State

NO_SOURCE = Download(url=URL, disable_back_to_source=True)


# --- answers that nobody asked for ----------------------------------------------------------------


def test_parents_may_be_added_at_any_time_while_it_swarms() -> None:
    script = Script(length=4 * PIECE)
    script.swarm("a")
    script.holds("a", *range(4))
    effects = script.name("b")
    assert [e.parent.peer_id for e in of(effects, ConnectParent)] == ["b"]
    assert not of(effects, DropParent), "the others go on"
    assert script.core.state is State.SWARMING
    script.connect("b")
    assert asked(script.holds("b", *range(4)))[0][0] == "b"


def test_who_waited_in_reserve_keeps_the_answer_that_chose_him_when_another_one_repeats_him() -> (
    None
):
    """A piece of his is the outcome of that answer, not of the latest."""
    script = Script(length=PIECE)
    script.swarm("a")
    script.name("a", "reserve")
    script.name("new", "a", "reserve")
    script.holds("a", 0)
    script.failed("a", 0, FailureReason.NOT_FOUND)
    script.wait(1.0)
    script.connect("reserve", "new")
    (fetch,) = of(script.holds("reserve", 0), FetchPiece)
    assert fetch.decision == 2
    script.failed("reserve", 0, FailureReason.NOT_FOUND)
    (fetch,) = of(script.holds("new", 0), FetchPiece)
    assert fetch.decision == 3


def test_parents_that_are_pushed_before_the_answer_end_the_wait_and_the_answer_adds_to_them() -> (
    None
):
    script = Script(length=2 * PIECE)
    script.swarm("a")
    assert kinds(messages(script.ended("a"))) == ["Reschedule"]
    script.name("pushed")
    assert script.core.state is State.SWARMING
    effects = script.name("asked for")
    assert [e.parent.peer_id for e in of(effects, ConnectParent)] == ["asked for"]


def test_parents_named_at_the_source_bring_what_it_is_not_bringing() -> None:
    script = Script(length=3 * PIECE)
    script.begin()
    script.answer(NeedBackToSource())
    script.opened()
    effects = script.name("a")
    assert kinds(effects) == ["ConnectParent"], "it is at the source, and says no more"
    assert script.core.state is State.SOURCING
    script.connect("a")
    assert asked(script.holds("a", 0, 1, 2)) == [], "all of it is asked for at the source"
    script.from_source(0)
    effects = script(SourceFailed(first=0, reason="reset"))
    fetches = asked(effects)
    assert fetches
    assert {who for who, _ in fetches} == {"a"}


def test_parents_named_while_it_is_alone_or_ended_are_not_heard() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script(SchedulerLost(reason="gone"))
    assert script.core.state is State.ALONE
    assert script.name("b") == []
    script(Cancelled())
    assert script.name("c") == []


def test_answers_with_parents_are_counted_and_each_fetch_names_the_one_that_gave_its_parent() -> (
    None
):
    script = Script(length=40 * PIECE)
    assert script.core.decisions == 0
    script.begin()
    script.answer(MetadataOnly())
    script.name("a", "b")
    script.connect("a", "b")
    first = of(script.holds("a", *range(10)), FetchPiece)
    assert [(f.decision, f.concurrency) for f in first] == [(1, 1)]
    script.answer(NormalTask(parents=()))  # names nobody: no decision
    script.name("c", "a", "b")
    script.connect("c")
    fetches = [
        *of(script.holds("b", *range(10, 20)), FetchPiece),
        *of(script.holds("c", *range(20, 30)), FetchPiece),
    ]
    assert [(f.peer_id, f.decision, f.concurrency) for f in fetches] == [("b", 1, 2), ("c", 2, 3)]
    assert of(script.stored("a", first[0].number), FetchPiece)[0].decision == 1
    assert script.core.decisions == 2


def test_who_is_not_named_any_more_brings_what_is_on_its_way_and_goes() -> None:
    script = Script(length=40 * PIECE)
    script.swarm("a", "b")
    (first,) = of(script.holds("a", *range(10)), FetchPiece)
    script.holds("b", 30)
    assert not of(script.name("b", "c"), DropParent), "a is bringing a piece"
    effects = script.stored("a", first.number)
    assert [(e.peer_id, e.reason) for e in of(effects, DropParent)] == [("a", CancelReason.DROPPED)]
    assert all(number == 30 for _, number in asked(effects))
    assert [e.peer_id for e in of(script.name("c"), DropParent)] == [], "b is bringing one, too"
    script.stored("b", 30)
    reschedule = next(iter(messages(script.ended("c"))), None)
    assert isinstance(reschedule, Reschedule)
    assert reschedule.parent_ids == ("c",), "who was let go is not complained about"


def test_answers_are_counted_where_they_are_of_no_use() -> None:
    script = Script(length=2 * PIECE)
    script.begin()
    script.answer(NeedBackToSource())
    script.name("a")
    assert script.core.decisions == 1
