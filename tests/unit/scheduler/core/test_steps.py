"""The steps of a life are few, and told in words."""

from scheduler.core.lifecycle import PeerState, PeerTrigger, TaskState, TaskTrigger
from scheduler.core.steps import Steps


def test_steps_are_told_oldest_first() -> None:
    steps = Steps(3)
    assert steps.told() == "nothing yet"
    steps.add(1.25, PeerTrigger.REGISTER_NORMAL, PeerState.PENDING, PeerState.RECEIVED_NORMAL)
    steps.add(2.0, PeerTrigger.DOWNLOAD, PeerState.RECEIVED_NORMAL, PeerState.RUNNING)
    assert steps.told() == (
        "1.250 s RegisterNormal: Pending -> ReceivedNormal; "
        "2.000 s Download: ReceivedNormal -> Running"
    )


def test_the_oldest_are_forgotten() -> None:
    steps = Steps(2)
    for number in range(5):
        steps.add(float(number), TaskTrigger.DOWNLOAD, TaskState.PENDING, TaskState.RUNNING)
    assert steps.told() == (
        "3.000 s Download: Pending -> Running; 4.000 s Download: Pending -> Running"
    )


def test_every_step_of_both_lives_can_be_told() -> None:
    for state in (*PeerState, *TaskState):
        for trigger in (*PeerTrigger, *TaskTrigger):
            steps = Steps(1)
            steps.add(0.0, trigger, state, state)
            assert steps.told() == f"0.000 s {trigger}: {state} -> {state}"
