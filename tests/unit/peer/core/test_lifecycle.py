"""The table of states: complete, without traps, and loud about what it does not know."""

from __future__ import annotations

import pytest

from peer.core.lifecycle import (
    ENDED,
    STORY_LINES,
    TRANSITIONS,
    IllegalStepError,
    Lifecycle,
    State,
    Step,
)


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", sorted(set(State) - ENDED))
def test_everything_may_fail_or_finish(state: State) -> None:
    assert TRANSITIONS[state][Step.FINISH] is State.COMPLETE
    assert TRANSITIONS[state][Step.GIVE_UP] is State.FAILED


def test_every_state_can_be_reached_and_left() -> None:
    reached = {State.NEW}
    frontier = [State.NEW]
    while frontier:
        for target in TRANSITIONS[frontier.pop()].values():
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == set(State)
    assert {s for s in State if not TRANSITIONS[s]} == ENDED


def test_step_moves() -> None:
    life = Lifecycle()
    life.take(Step.REGISTER, 1.0)
    life.take(Step.SWARM, 2.0)
    assert life.state is State.SWARMING
    assert not life.ended


def test_illegal_step_tells_the_story() -> None:
    life = Lifecycle()
    life.note(1.0, "Begun")
    life.take(Step.FINISH, 1.5)
    with pytest.raises(IllegalStepError) as caught:
        life.take(Step.SWARM, 2.0)
    assert "Begun" in caught.value.detail
    assert "finish -> complete" in caught.value.detail


def test_story_is_bounded() -> None:
    life = Lifecycle()
    for i in range(3 * STORY_LINES):
        life.note(float(i), f"event {i}")
    assert len(life.story()) == STORY_LINES
    assert f"event {3 * STORY_LINES - 1}" in life.story()[-1]
