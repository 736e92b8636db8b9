"""Strong digests in the scheduler: who is told of them, and what they are worth as evidence."""

from __future__ import annotations

import pytest
from support.scheduler_world import PIECE_LENGTH, World, digests, download, host, parents

from odonata.digest import STRONG_DIGEST_BYTES
from odonata.wire.digest_list import unpack
from odonata.wire.message import AskDigests, Piece, PieceDigests, PieceFinished, TrafficType
from scheduler.core import proof
from scheduler.core.effect import Answer, SchedulerEffect
from scheduler.core.honesty import MEMORY_S
from scheduler.core.limits import Limits
from scheduler.core.standing import HostState

LIMITS = Limits(exploration=0.0, candidate_parent_limit=20, admission=False)
A, B = (letter * STRONG_DIGEST_BYTES for letter in (b"a", b"b"))
HOSTS = 10


def world_of(*, seed: bool = True) -> World:
    """h0 (a seed, or not) is at the source; h1 holds all; h2 to h5 are children of ours."""
    world = World(LIMITS)
    for number in range(HOSTS):
        world.announce(host(f"h{number}", seed=seed and number == 0))
    world.ours.update(f"p-h{number}" for number in range(HOSTS))
    world.register("p-h0", "h0", download(source=True))
    world.at_source("p-h0")
    world.holder("p-h1", "h1")
    for number in range(2, 6):
        world.register(f"p-h{number}", f"h{number}")
        world.started(f"p-h{number}")
    return world


def tell(world: World, peer_id: str, number: int, strong: bytes) -> list[SchedulerEffect]:
    return world.piece(peer_id, number, strong=strong)


def ask(world: World, peer_id: str) -> list[SchedulerEffect]:
    return world.say(peer_id, AskDigests())


def standing(world: World, host_id: str) -> HostState:
    return world.core.state.hosts[host_id].standing.state


def accuse(world: World, child: str, parent: str, *, by_list: bool = True) -> None:
    world.piece_failed(f"p-{child}", f"p-{parent}", wrong_digest=True, by_list=by_list)


# --- who is told ----------------------------------------------------------------------------------


def test_nobody_is_woken_for_a_digest_and_who_asks_is_told_once() -> None:
    world = world_of()
    assert digests(tell(world, "p-h0", 3, A)) == {}
    assert digests(ask(world, "p-h2")) == {"p-h2": {3: A}}
    assert digests(ask(world, "p-h2")) == {"p-h2": {}}, "there is an answer all the same"
    tell(world, "p-h0", 4, B)
    assert digests(ask(world, "p-h2")) == {"p-h2": {4: B}}


def test_who_is_given_parents_is_told_what_is_known() -> None:
    world = world_of()
    tell(world, "p-h0", 3, A)
    effects = world.register("p-h7", "h7")
    assert parents(effects)
    assert digests(effects) == {"p-h7": {3: A}}
    kinds = [type(e.answer).__name__ for e in effects if isinstance(e, Answer)]
    assert kinds == ["NormalTask", "PieceDigests"]


def test_a_stock_peer_is_told_nothing() -> None:
    world = world_of()
    tell(world, "p-h0", 3, A)
    effects = world.register("stock", "h7")
    assert parents(effects)
    assert digests(effects) == {}


def test_where_nobody_told_anything_nothing_is_told() -> None:
    world = world_of()
    world.piece("p-h0", 3)
    assert digests(world.register("p-h7", "h7")) == {}
    assert world.task().strong is None


def test_a_question_changes_nothing_else() -> None:
    world = world_of()
    before = world.peer("p-h0").state
    ask(world, "p-h0")
    assert world.peer("p-h0").state is before


def test_many_digests_come_in_answers_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "DIGESTS_PER_ANSWER", 64)
    world = world_of()
    ask(world, "p-h3")
    for number in range(150):
        tell(world, "p-h0", number, A)
        if number == 0:
            ask(world, "p-h3")  # from here on it is told news, the other one everything
    for child, count in (("p-h2", 150), ("p-h3", 149)):
        told = [e.answer for e in ask(world, child) if isinstance(e, Answer)]
        parts = [one for one in told if isinstance(one, PieceDigests)]
        assert [one.is_last for one in parts] == [False, False, True]
        assert all(len(one.packed) <= 64 * 40 for one in parts)
        assert sum(len(unpack(one.packed)) for one in parts) == count


def test_what_a_parent_brought_is_no_evidence_of_the_source() -> None:
    world = world_of()
    world.piece("p-h2", 0, "p-h1", strong=A)
    assert world.task().strong is None


def test_whoever_lost_its_scheduler_tells_this_one_what_it_had_from_the_source() -> None:
    world = world_of()
    piece = Piece(
        number=2,
        offset=2 * PIECE_LENGTH,
        length=PIECE_LENGTH,
        traffic_type=TrafficType.LOCAL_PEER,
        strong_digest=A,
    )
    world.say("p-h0", PieceFinished(piece=piece))
    assert digests(ask(world, "p-h2")) == {"p-h2": {2: A}}


# --- who is believed ------------------------------------------------------------------------------


def test_a_peer_does_not_outweigh_the_seed_and_is_put_to_the_test() -> None:
    world = world_of()
    tell(world, "p-h0", 0, A)
    tell(world, "p-h2", 0, B)
    assert digests(ask(world, "p-h3")) == {"p-h3": {0: A}}
    assert standing(world, "h2") is HostState.ON_PROBATION
    assert world.core.state.hosts["h2"].honesty.holds_wrong_bytes(world.now)


def test_what_an_evicted_host_told_is_taken_back() -> None:
    world = world_of(seed=False)
    tell(world, "p-h0", 0, A)
    assert digests(ask(world, "p-h2")) == {"p-h2": {0: A}}
    accuse(world, "h2", "h0", by_list=False)
    accuse(world, "h3", "h0", by_list=False)
    assert standing(world, "h0") is HostState.EVICTED
    assert digests(ask(world, "p-h2")) == {"p-h2": {0: b""}}
    tell(world, "p-h0", 1, A)
    assert digests(ask(world, "p-h2")) == {"p-h2": {}}


def test_digests_go_when_the_content_is_another_one() -> None:
    world = world_of()
    tell(world, "p-h0", 0, A)
    ask(world, "p-h2")
    world.task().forget_content()
    assert digests(ask(world, "p-h2")) == {"p-h2": {0: b""}}


# --- what an accusation by them is worth ----------------------------------------------------------


def test_bytes_that_are_not_what_the_seed_told_convict() -> None:
    world = world_of()
    tell(world, "p-h0", 0, A)
    accuse(world, "h2", "h1")
    assert standing(world, "h1") is HostState.ON_PROBATION
    assert "h1" in world.task().liars
    accuse(world, "h3", "h1")
    assert standing(world, "h1") is HostState.EVICTED


def test_a_peers_word_about_the_source_convicts_nobody() -> None:
    """Else one that makes up digests could have all others evicted by honest children."""
    world = world_of(seed=False)
    tell(world, "p-h0", 0, A)
    for child in ("h2", "h3", "h4"):
        accuse(world, child, "h1")
    assert standing(world, "h1") is HostState.ON_PROBATION
    assert "h1" in world.task().liars


def test_what_is_not_known_any_more_accuses_nobody() -> None:
    world = world_of()
    accuse(world, "h2", "h1")
    assert "h1" not in world.task().liars
    assert standing(world, "h1") is HostState.GOOD


def test_whom_others_contradicted_is_not_believed_for_a_while() -> None:
    world = world_of()
    tell(world, "p-h0", 0, A)
    tell(world, "p-h2", 0, B)
    world.now += MEMORY_S - 1.0
    accuse(world, "h2", "h1")
    assert standing(world, "h1") is HostState.GOOD
