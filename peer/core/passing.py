"""Pieces that are passed on while they come: which to ask for. Pure choice, nothing is changed.

A piece that must be whole before it goes on takes as many times its length as it has stations, and
the last pieces of a content leave a thin seed long before everybody has them: with 64 pieces and 16
peers the end is a fifth of the whole, with 16 pieces more than half. So a parent of ours says what
it is being sent, and passes on what has come of it; it keeps back the end until it has checked the
whole, so that nobody has a piece before somebody has proved it.

Asked for is what nobody near has yet: the newest pieces, whose spreading is what takes long. They
come beside those that parents have: at the rate at which their parent gets them, so that they leave
room, and are no measure of the parent. Whoever is far, or a seed, is not asked: its way to us is
scarce, and each of us that asks would use it once.

All that is for seeds that are scarce. Beside a wide one nobody asks, so nobody tells either: each
word about a piece goes to every child, and is answered. Who has no seed among its parents goes by
the last one it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peer.core.selection import Choice, Situation, by_spare_rate, is_told_wide

if TYPE_CHECKING:
    from random import Random

    from peer.core.parents import Parents, ParentState


def choose_passed_on(situation: Situation, rng: Random, now: float) -> Choice | None:
    """The next piece to ask a parent for that is being sent it, None if there is none."""
    if is_needed(situation.parents) is not True:
        return None
    able = [p for p in situation.parents if p.coming and _may_pass_on(situation, p, now)]
    for state in by_spare_rate(able, rng):
        numbers = [n for n in state.coming if _is_new(situation, n)]
        if numbers:
            return Choice(state, rng.choice(numbers))
    return None


def is_needed(parents: Parents) -> bool | None:
    """No seed that we know gives whatever is new to whoever asks; None: nobody can say yet."""
    told = {is_told_wide(state, parents) for state in parents if state.is_seed}
    if not told:
        return not parents.had_wide_seed
    return False if True in told else None if None in told else True


def tells_coming(parents: Parents) -> bool:
    """Whether children should hear of what is on its way to us. It remembers a wide seed."""
    needed = is_needed(parents)
    parents.had_wide_seed = needed is False
    return not parents.had_wide_seed


def _may_pass_on(situation: Situation, state: ParentState, now: float) -> bool:
    is_free = state.passes_on < situation.limits.passed_on_per_parent
    is_open = max(state.avoid_until, state.pass_on_after) <= now and not state.leaving
    return is_free and is_open and not state.is_dear


def _is_new(situation: Situation, number: int) -> bool:
    """It is missing, on its way from nobody, and nobody near has it.

    Nor has it broken off before: hosts that none but each other pass a piece on to could keep it up
    among them for ever, each a moment after the one before has lost it.
    """
    parents = situation.parents
    if not situation.content.lacks(number) or situation.taken(number):
        return False
    return not parents.near_holders(number) and number not in parents.broken_off
