"""The steps of a life are few, and told in words."""

from scheduler.core.lifecycle import PeerState, PeerTrigger, TaskState, TaskTrigger
from scheduler.core.steps import STEP_LIMIT, told, with_step


def test_steps_are_told_oldest_first() -> None:
    assert told(b"") == "nothing yet"
    steps = with_step(
        b"", 1.25, PeerTrigger.REGISTER_NORMAL, PeerState.PENDING, PeerState.RECEIVED_NORMAL
    )
    steps = with_step(
        steps, 2.0, PeerTrigger.DOWNLOAD, PeerState.RECEIVED_NORMAL, PeerState.RUNNING
    )
    assert told(steps) == (
        "1.250 s RegisterNormal: Pending -> ReceivedNormal; "
        "2.000 s Download: ReceivedNormal -> Running"
    )


def test_the_oldest_are_forgotten() -> None:
    steps = b""
    for number in range(STEP_LIMIT + 3):
        steps = with_step(
            steps, float(number), TaskTrigger.DOWNLOAD, TaskState.PENDING, TaskState.RUNNING
        )
    lines = told(steps).split("; ")
    assert len(lines) == STEP_LIMIT
    assert lines[0] == "3.000 s Download: Pending -> Running"
    assert lines[-1] == f"{STEP_LIMIT + 2}.000 s Download: Pending -> Running"


def test_every_step_of_both_lives_can_be_told() -> None:
    for state in (*PeerState, *TaskState):
        for trigger in (*PeerTrigger, *TaskTrigger):
            steps = with_step(b"", 0.0, trigger, state, state)
            assert told(steps) == f"0.000 s {trigger}: {state} -> {state}"
