"""Downloads of persistent and persistent cache tasks, script by script: all facts known from the
start, a replica that only tells of itself, and no source where there is none.
"""

from __future__ import annotations

from support.download import PIECE, Script, asked, kinds, messages

from odonata.wire.message import Download, NeedBackToSource, Register, TaskType, Tenure
from peer.core.effect import FetchSource, GiveUp, OpenSource
from peer.core.event import ParentConnected, SchedulerLost
from peer.core.lifecycle import State

LENGTH = 2 * PIECE
CACHED = Download(
    type=TaskType.PERSISTENT_CACHE,
    url="",
    disable_back_to_source=True,
    actual_content_length=LENGTH,
    actual_piece_length=PIECE,
    actual_piece_count=2,
    always_schedule=True,
    metadata_only=True,
    tenure=Tenure(persistent=True, ttl_s=3600, created_at_s=0),
)
STORED = Download(
    type=TaskType.PERSISTENT, url="s3://b/k", always_schedule=True, metadata_only=True
)
FACTS = {"content_length": LENGTH, "piece_length": PIECE}


def test_pieces_come_from_parents_that_say_nothing_of_the_content() -> None:
    script = Script(length=LENGTH, download=CACHED)
    (register,) = messages(script.begin(**FACTS, needs_size=True))
    assert isinstance(register, Register)
    assert not register.download.metadata_only
    assert register.download.tenure == CACHED.tenure
    script.name("a")
    script(ParentConnected(peer_id="a"))
    effects = script.holds("a", 0, 1)
    assert asked(effects)
    for number in (0, 1):
        script.stored("a", number)
    assert script.core.state is State.COMPLETE
    assert kinds(script.said)[-1] == "Finished"


def test_a_replica_that_is_whole_already_tells_of_itself_and_asks_for_nothing() -> None:
    script = Script(length=LENGTH, download=CACHED)
    script.begin(**FACTS, held=(0, 1))
    assert kinds(script.said) == ["Register"]
    effects = script.name("a")
    assert kinds(messages(effects)) == ["Started", "Finished"]
    assert asked(effects) == []
    assert kinds(effects)[-1] == "Complete"


def test_without_a_scheduler_a_whole_copy_is_whole() -> None:
    script = Script(length=LENGTH, download=CACHED)
    assert kinds(script.begin(**FACTS, held=(0, 1), scheduler=False)) == ["Complete"]


def test_where_nobody_has_a_cache_task_there_is_no_source_to_ask() -> None:
    script = Script(length=LENGTH, download=CACHED)
    script.begin(**FACTS)
    effects = script(SchedulerLost(reason="no candidate parents found", refused=True))
    assert [one for one in effects if isinstance(one, OpenSource | FetchSource)] == []
    (end,) = (one for one in effects if isinstance(one, GiveUp))
    assert "no candidate parents found" in end.error.detail
    assert "there is no source" in end.error.detail
    assert "disable_back_to_source" not in end.error.detail


def test_a_persistent_task_comes_from_its_storage_when_the_scheduler_says_so() -> None:
    script = Script(length=LENGTH, download=STORED)
    script.begin(**FACTS)
    script.answer(NeedBackToSource(description="no peer can help"))
    assert kinds(script.said) == ["Register", "BackToSourceStarted"]
    script.opened()
    for number in (0, 1):
        script.from_source(number)
    assert kinds(script.said)[-1] == "BackToSourceFinished"
    assert script.core.state is State.COMPLETE
