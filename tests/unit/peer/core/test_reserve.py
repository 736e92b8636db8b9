"""Short contents: no more parents than pieces, until something goes wrong."""

from __future__ import annotations

from math import inf

import pytest
from msgspec.structs import replace
from support.download import PIECE, Script, asked, of, parent_of, piece_of

from odonata.wire.message import NormalTask, Parent
from peer.core.effect import ConnectParent, DownloadEffect
from peer.core.event import FailureReason, ParentHolds, Ticked
from peer.core.limits import DownloadLimits
from peer.core.reserve import HAS_ALL, Reserve

NAMES = tuple("abcdefgh")
PATIENCE_S = DownloadLimits().reserve_patience_s
LONGEST_S = DownloadLimits().reserve_patience_max_s


def named(*names: str, pieces: int = 1, has_all: str = NAMES[0], seeds: str = "") -> NormalTask:
    """Parents of a content of so many pieces, of which those in `has_all` have all."""
    parents: list[Parent] = []
    for name in names:
        one = parent_of(name, seed=name in seeds)
        state = HAS_ALL if name in has_all else "Running"
        parents.append(replace(one, state=state, task=replace(one.task, piece_count=pieces)))
    return NormalTask(parents=tuple(parents))


def connected(effects: list[DownloadEffect]) -> list[str]:
    return [effect.parent.peer_id for effect in of(effects, ConnectParent)]


def begun(*, pieces: int = 1, limits: DownloadLimits | None = None) -> Script:
    script = Script(length=pieces * PIECE, limits=limits)
    script.begin()
    return script


@pytest.mark.parametrize(("pieces", "count"), [(1, 1), (2, 2), (6, 6), (8, 8), (40, 8)])
def test_as_many_as_there_are_pieces(pieces: int, count: int) -> None:
    script = begun(pieces=pieces)
    assert len(connected(script.answer(named(*NAMES, pieces=pieces)))) == count


@pytest.mark.parametrize(
    ("pieces", "limits"), [(0, DownloadLimits()), (1, DownloadLimits(few_first=False))]
)
def test_all_where_the_length_is_unknown_or_the_rule_is_off(
    pieces: int, limits: DownloadLimits
) -> None:
    script = begun(limits=limits)
    assert connected(script.answer(named(*NAMES, pieces=pieces))) == list(NAMES)


def test_who_has_the_content_comes_first_in_the_order_of_the_scheduler() -> None:
    script = begun(pieces=2)
    answer = named(*NAMES, pieces=2, has_all="cgh", seeds="ac")
    assert connected(script.answer(answer)) == ["c", "g"]


@pytest.mark.parametrize(
    "reason", [FailureReason.REFUSED, FailureReason.NOT_FOUND, FailureReason.UNREACHABLE]
)
def test_a_failure_calls_the_others_in(reason: FailureReason) -> None:
    script = begun()
    script.answer(named(*NAMES, has_all="ab"))
    script.connect("a")
    script.holds("a", 0)
    assert connected(script.failed("a", 0, reason)) == list("bcdefgh")


def test_a_broken_list_calls_the_others_in() -> None:
    script = begun()
    script.answer(named(*NAMES))
    assert connected(script.ended("a", finished=False)) == list("bcdefgh")


def test_the_others_are_called_in_when_nothing_comes_in_time() -> None:
    script = begun()
    script.answer(named(*NAMES))
    script.now += PATIENCE_S / 2
    assert connected(script(Ticked())) == []
    script.now += PATIENCE_S / 2
    assert connected(script(Ticked())) == list("bcdefgh")
    script.now += PATIENCE_S
    assert connected(script(Ticked())) == [], "once"


def test_what_is_on_its_way_is_waited_for_longer() -> None:
    script = begun()
    script.answer(named(*NAMES))
    script.connect("a")
    script.holds("a", 0)
    script.now += PATIENCE_S
    assert connected(script(Ticked())) == []
    script.now += LONGEST_S - PATIENCE_S
    assert connected(script(Ticked())) == list("bcdefgh")


def test_what_is_not_on_its_way_is_not_waited_for() -> None:
    script = begun(pieces=2)
    script.answer(named(*NAMES, pieces=2))
    script.connect("a")
    script.holds("a", 0)
    script.now += PATIENCE_S
    assert connected(script(Ticked())) == list("cdefgh")


def test_nobody_is_called_in_who_is_no_parent_any_more() -> None:
    reserve = Reserve(PATIENCE_S, LONGEST_S, 16)
    assert reserve.divide(list(named(*NAMES).parents), 2, 0.0)
    reserve.keep("abc")
    assert [parent.peer_id for parent in reserve.call_in(PATIENCE_S)] == ["c"]
    assert reserve.due_at == inf


def test_a_blamed_one_is_not_called_in() -> None:
    script = begun(pieces=2)
    script.answer(named(*NAMES, pieces=2))
    script(ParentHolds(peer_id="a", pieces=(replace(piece_of(0, 2 * PIECE), offset=7),)))
    script.connect("b")
    assert "a" not in connected(script.answer(named("a", *NAMES[4:], pieces=2)))


def test_so_many_are_remembered_and_the_latest_stay() -> None:
    reserve = Reserve(PATIENCE_S, LONGEST_S, 3)
    reserve.divide(list(named(*NAMES, has_all="").parents), 0, 0.0)
    assert [parent.peer_id for parent in reserve.call_in(PATIENCE_S)] == list("fgh")


def test_the_piece_comes_from_the_first() -> None:
    script = begun()
    script.answer(named(*NAMES, has_all="ab"))
    script.connect("a")
    assert asked(script.holds("a", 0)) == [("a", 0)]
    assert not connected(script.stored("a", 0))
