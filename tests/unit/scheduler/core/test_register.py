"""The four answers to a register, and the refusals."""

import pytest
from support.scheduler_world import (
    PIECE_LENGTH,
    World,
    answers,
    closes,
    download,
    host,
    parents,
    sent_to_source,
    triggers,
)

from odonata.wire.message import (
    EmptyTask,
    MetadataOnly,
    NeedBackToSource,
    NormalTask,
    Register,
    TaskType,
)
from scheduler.core.effect import Refuse
from scheduler.core.limits import Limits


@pytest.fixture
def world() -> World:
    made = World()
    made.announce(host("h1"), host("h2"), host("h3"))
    return made


def test_unknown_host(world: World) -> None:
    effects = world.register("p", "stranger")
    assert closes(effects) == {"p": "not_found"}
    assert "p" not in world.core.state.peers
    assert "t" not in world.core.state.tasks


def test_unknown_size_is_not_empty(world: World) -> None:
    assert sent_to_source(world.register("p", "h1", download(size=None))) == ["p"]


def test_no_bytes(world: World) -> None:
    assert answers(world.register("p", "h1", download(size=0))) == {"p": EmptyTask()}
    assert world.peer("p").state == "ReceivedEmpty"
    # Somebody else knows now.
    assert answers(world.register("q", "h2")) == {"q": EmptyTask()}


def test_metadata_only_makes_a_holder(world: World) -> None:
    assert answers(world.register("p", "h1", download(metadata=True, size=100))) == {
        "p": MetadataOnly()
    }
    assert world.peer("p").state == "Succeeded"
    assert world.task().state == "Succeeded"
    assert parents(world.register("q", "h2")) == {"q": ["p"]}
    # What the holder says afterwards changes nothing.
    assert not world.started("p")
    assert closes(world.finished("p")) == {"p": "ok"}


def test_asking_for_the_source_is_granted_whoever_serves(world: World) -> None:
    world.origin_fetcher("p", "h1")
    answer = answers(world.register("q", "h2", download(source=True)))["q"]
    assert isinstance(answer, NeedBackToSource)


def test_asking_for_the_source_beyond_the_cap() -> None:
    world = World(Limits(back_to_source_limit=1))
    world.announce(host("h1"), host("h2"), host("s", seed=True))
    world.origin_fetcher("p", "h1")
    assert closes(world.register("q", "h2", download(source=True))) == {"q": "failed_precondition"}
    assert sent_to_source(world.register("sp", "s", download(source=True))) == ["sp"]


def test_the_cap_is_free_again_when_one_has_finished() -> None:
    world = World(Limits(back_to_source_limit=1))
    world.announce(host("h1"), host("h2"))
    world.origin_fetcher("p", "h1")
    world.finished_from_source("p")
    assert sent_to_source(world.register("q", "h2", download(source=True))) == ["q"]


@pytest.mark.parametrize("kind", [TaskType.PERSISTENT, TaskType.PERSISTENT_CACHE, TaskType.CACHE])
def test_other_kinds_of_task(world: World, kind: TaskType) -> None:
    assert closes(world.register("p", "h1", download(kind=kind))) == {"p": "failed_precondition"}


def test_a_peer_that_comes_back_begins_anew(world: World) -> None:
    world.origin_fetcher("p", "h1")
    world.piece("p", 0)
    effects = world.register("p", "h1")
    assert sent_to_source(effects) == ["p"]
    assert not closes(effects)
    assert world.peer("p").pieces.numbers() == ()


def test_a_peer_id_belongs_to_one_task_and_host(world: World) -> None:
    world.origin_fetcher("p", "h1")
    (effect,) = world.register("p", "h2")
    assert isinstance(effect, Refuse)
    assert effect.error.code == "failed_precondition"


def test_the_parents_that_are_named_say_what_they_hold(world: World) -> None:
    world.register("p", "h1", download(source=True, size=3 * PIECE_LENGTH))
    world.at_source("p")
    world.piece("p", 2)
    world.piece("p", 0)
    answer = answers(world.register("q", "h2"))["q"]
    assert isinstance(answer, NormalTask)
    (parent,) = answer.parents
    assert parent.finished_pieces == (0, 2)
    assert parent.state == "BackToSource"
    assert parent.host == host("h1")
    assert parent.task.content_length == 3 * PIECE_LENGTH
    assert parent.task.piece_count == 3


@pytest.mark.parametrize(
    ("priority", "with_seed", "outcome"),
    [
        (0, True, "seed"),
        (4, True, "seed"),
        (5, True, "seed"),
        (6, True, "seed"),
        (3, True, "source"),
        (2, True, "not_found"),
        (1, True, "failed_precondition"),
        (0, False, "source"),
        (3, False, "source"),
        (2, False, "not_found"),
        (1, False, "failed_precondition"),
    ],
)
def test_priority_of_the_first(world: World, priority: int, with_seed: bool, outcome: str) -> None:
    if with_seed:
        world.announce(host("s", seed=True))
    effects = world.register("p", "h1", download(priority=priority))
    if outcome == "seed":
        assert triggers(effects)
    elif outcome == "source":
        assert sent_to_source(effects) == ["p"]
    else:
        assert closes(effects) == {"p": outcome}
        assert world.peer("p").state == "Failed"


@pytest.mark.parametrize("priority", [1, 2])
def test_priority_matters_only_while_there_is_no_source(world: World, priority: int) -> None:
    world.register("p", "h1")
    assert not closes(world.register("q", "h2", download(priority=priority)))
    assert world.core.stat_peer("q").is_waiting


def test_credentials_are_not_kept_with_the_task(world: World) -> None:
    wanted = download()
    world.register("p", "h1", wanted)
    kept = world.task().download
    assert kept.request_header == {}
    assert kept.extra == b""


def test_a_stranger_who_uses_a_holders_peer_id_is_turned_away_and_the_holder_stays(
    world: World,
) -> None:
    world.holder("p1", "h1")
    world.homes["p1"] = ("h2", "t")
    effects = world.say("p1", Register(download=download()))
    assert [type(effect) for effect in effects] == [Refuse]
    assert world.peer("p1").state == "Succeeded"
    world.homes["p1"] = ("nobody", "t")
    effects = world.say("p1", Register(download=download()))
    assert [type(effect) for effect in effects] == [Refuse]
    assert world.peer("p1").state == "Succeeded"


def test_a_peer_that_comes_back_with_a_wrong_download_hears_why(world: World) -> None:
    world.holder("p1", "h1")
    effects = world.register("p1", "h1", download(kind=TaskType.PERSISTENT))
    assert closes(effects) == {"p1": "failed_precondition"}


def test_who_knows_that_there_are_bytes_is_not_told_that_there_are_none(world: World) -> None:
    world.register("p1", "h1", download(size=0))
    answer = answers(world.register("p2", "h2", download(size=5)))["p2"]
    assert answer == NeedBackToSource(description="no parent and no seed can help")
    assert world.task().content_length == 5
