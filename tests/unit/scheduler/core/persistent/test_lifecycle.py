"""The tables say exactly what the prose above them says."""

import pytest

from scheduler.core.lifecycle import IllegalTransitionError
from scheduler.core.persistent.lifecycle import (
    PEER_TRANSITIONS,
    TASK_TRANSITIONS,
    PeerState,
    PeerTrigger,
    TaskState,
    TaskTrigger,
    next_peer_state,
    next_task_state,
)

IDLE = ["Pending", "Failed"]
RECEIVED = ["ReceivedEmpty", "ReceivedNormal"]

PEER_TABLE = {
    "Upload": (IDLE, "Uploading"),
    "RegisterEmpty": (IDLE, "ReceivedEmpty"),
    "RegisterNormal": (IDLE, "ReceivedNormal"),
    "Download": (RECEIVED, "Running"),
    "Succeeded": (["Uploading", "Running"], "Succeeded"),
    "Failed": (["Pending", "Uploading", *RECEIVED, "Running"], "Failed"),
}
TASK_TABLE = {
    "Upload": (IDLE, "Uploading"),
    "Succeeded": (["Uploading"], "Succeeded"),
    "Failed": (["Uploading"], "Failed"),
    "Lost": (["Succeeded"], "Failed"),
}


def test_the_tables_are_those_of_the_wire() -> None:
    for table, said in ((PEER_TRANSITIONS, PEER_TABLE), (TASK_TRANSITIONS, TASK_TABLE)):
        rows = {
            (source, trigger): target
            for trigger, (sources, target) in said.items()
            for source in sources
        }
        assert {(str(s), str(t)): str(e) for (s, t), e in table.items()} == rows


def test_what_is_missing_is_illegal_and_named() -> None:
    with pytest.raises(IllegalTransitionError, match=r"peer p is in state Succeeded.*Failed"):
        next_peer_state(PeerState.SUCCEEDED, PeerTrigger.FAIL, "p")
    with pytest.raises(IllegalTransitionError, match=r"task t is in state Uploading.*Upload"):
        next_task_state(TaskState.UPLOADING, TaskTrigger.UPLOAD, "t")
