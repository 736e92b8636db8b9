"""When a gateway helps the others."""

from __future__ import annotations

from math import inf

from odonata.wire.message import FarShare
from peer.core.far_part import FarPart

HELP_AFTER = 0.25
EVEN = FarShare(index=0, count=2)


def told(at_s: float = 10.0) -> FarPart:
    part = FarPart(HELP_AFTER)
    part.tell(EVEN, at_s)
    return part


def nothing_taken(number: int) -> bool:
    return False


def test_nobody_is_helped_while_something_of_its_own_is_left() -> None:
    part = told()
    part.look([1, 3, 4], nothing_taken, 50.0)
    assert part.helps_at == inf


def test_the_others_are_helped_after_a_share_of_the_time_its_own_part_took() -> None:
    part = told(at_s=10.0)
    part.look([1, 3, 4], {4}.__contains__, 50.0)
    assert part.helps_at == 50.0 + HELP_AFTER * 40.0


def test_that_moment_does_not_move_while_its_part_is_done() -> None:
    part = told()
    part.look([1], nothing_taken, 50.0)
    at_s = part.helps_at
    part.look([1], nothing_taken, 55.0)
    assert part.helps_at == at_s


def test_what_has_to_be_asked_for_again_comes_first() -> None:
    part = told()
    part.look([1, 4], {4}.__contains__, 50.0)
    part.look([1, 4], nothing_taken, 51.0)
    assert part.helps_at == inf


def test_a_part_that_is_told_anew_is_begun_anew() -> None:
    part = told()
    part.look([1], nothing_taken, 50.0)
    part.tell(FarShare(index=1, count=2), 51.0)
    assert part.helps_at == inf
    part.look([], nothing_taken, 55.0)
    assert part.helps_at == 55.0 + HELP_AFTER * 4.0


def test_one_of_one_is_no_part() -> None:
    part = told()
    part.tell(FarShare(index=0, count=1), 20.0)
    assert part.share is None
    part.look([], nothing_taken, 55.0)
    assert part.helps_at == inf


def test_who_gives_the_others_up_has_no_part() -> None:
    part = told()
    part.look([1], nothing_taken, 50.0)
    part.give_up()
    assert part.share is None
    assert part.helps_at == inf, "nothing is to be woken for"
