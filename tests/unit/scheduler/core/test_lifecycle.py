"""The tables say exactly what the prose above them says."""

import pytest

from scheduler.core.lifecycle import (
    PEER_TRANSITIONS,
    TASK_TRANSITIONS,
    IllegalTransitionError,
    PeerState,
    PeerTrigger,
    TaskState,
    TaskTrigger,
    next_peer_state,
    next_task_state,
)

LIVE = [
    "Pending",
    "ReceivedEmpty",
    "ReceivedTiny",
    "ReceivedSmall",
    "ReceivedNormal",
    "Running",
    "BackToSource",
    "Succeeded",
]
RECEIVED = LIVE[1:5]

PEER_TABLE = {
    "RegisterEmpty": (["Pending"], "ReceivedEmpty"),
    "RegisterTiny": (["Pending"], "ReceivedTiny"),
    "RegisterSmall": (["Pending"], "ReceivedSmall"),
    "RegisterNormal": (["Pending"], "ReceivedNormal"),
    "Download": (RECEIVED, "Running"),
    "DownloadBackToSource": ([*RECEIVED, "Running"], "BackToSource"),
    "DownloadSucceeded": ([*RECEIVED, "Running", "BackToSource"], "Succeeded"),
    "DownloadFailed": (LIVE, "Failed"),
    "Leave": ([*LIVE, "Failed"], "Leave"),
}

TASK_TABLE = {
    "Download": (["Pending", "Succeeded", "Failed", "Leave"], "Running"),
    "DownloadSucceeded": (["Leave", "Running", "Failed"], "Succeeded"),
    "DownloadFailed": (["Running"], "Failed"),
    "Leave": (["Pending", "Running", "Succeeded", "Failed"], "Leave"),
}


def test_peer_table_has_the_states_of_the_wire() -> None:
    said = {
        (str(state), str(trigger), str(target))
        for (state, trigger), target in PEER_TRANSITIONS.items()
    }
    expected = {
        (source, trigger, target)
        for trigger, (sources, target) in PEER_TABLE.items()
        for source in sources
    }
    assert said == expected


def test_task_table_has_the_states_of_the_wire() -> None:
    said = {
        (str(state), str(trigger), str(target))
        for (state, trigger), target in TASK_TRANSITIONS.items()
    }
    expected = {
        (source, trigger, target)
        for trigger, (sources, target) in TASK_TABLE.items()
        for source in sources
    }
    assert said == expected


def test_legal_step() -> None:
    assert next_peer_state(PeerState.PENDING, PeerTrigger.LEAVE) is PeerState.LEAVE
    assert next_task_state(TaskState.FAILED, TaskTrigger.DOWNLOAD) is TaskState.RUNNING


def test_illegal_step_tells_the_story() -> None:
    with pytest.raises(IllegalTransitionError, match=r"Pending can't take Download; .* once upon"):
        next_peer_state(PeerState.PENDING, PeerTrigger.DOWNLOAD, "once upon a time")
    with pytest.raises(IllegalTransitionError, match="task in state Pending"):
        next_task_state(TaskState.PENDING, TaskTrigger.DOWNLOAD_FAILED)
