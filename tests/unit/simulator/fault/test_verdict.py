"""What the verdict takes for an honest error, and what not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from odonata.piece import PIECE_LENGTH_MIN
from simulator.fault.ending import Ending
from simulator.fault.plan import (
    AnyFault,
    Cancel,
    Crash,
    Cut,
    Delay,
    DiskFull,
    Liar,
    Plan,
    SourceTrouble,
)
from simulator.fault.verdict import of_ending
from simulator.scenario import Scenario

WHOLE = Ending(
    host="peer1",
    peer_id="p",
    is_seed=False,
    started_at_s=1.0,
    ended_at_s=9.0,
    crashed=False,
    error="",
    detail="",
    status_code=None,
    wrong=(),
    missing=(),
    state="complete",
    story=(),
)
NO_SOURCE = replace(
    WHOLE, error="source", detail="source failed: connection refused by the origin", missing=(0,)
)
NOT_FOUND = replace(NO_SOURCE, detail="source failed: the origin answered 404", status_code=404)
PRIVATE = replace(
    WHOLE,
    error="unavailable",
    missing=(0,),
    detail="pieces are missing; the source was not asked because disable_back_to_source is set",
)
CANCELLED = replace(
    WHOLE,
    error="unavailable",
    missing=(0,),
    detail="the download was cancelled: nobody wants it any more",
)
FULL = replace(WHOLE, error="disk_full", missing=(0,), detail="no space left on device")


def plan_of(*faults: AnyFault, private: tuple[str, ...] = ("peer1",)) -> Plan:
    return Plan(
        seed=1,
        scenario=Scenario(size=PIECE_LENGTH_MIN, piece_length=PIECE_LENGTH_MIN),
        policy="rule",
        stock=(),
        private=private,
        sized=False,
        faults=faults,
    )


@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        (WHOLE, None),
        (replace(WHOLE, crashed=True, ended_at_s=None), None),
        (NO_SOURCE, SourceTrouble(at_s=2.0, what="refuse", lasts_s=1.0)),
        (NO_SOURCE, Cut(at_s=2.0, one=("peer1",), other=("seed1", "source"), lasts_s=None)),
        (NOT_FOUND, SourceTrouble(at_s=2.0, what="not found", lasts_s=1.0)),
        (PRIVATE, Crash(at_s=2.0, host="seed1", manner="reset", back_after_s=None)),
        (CANCELLED, Cancel(at_s=2.0, host="peer1")),
        (FULL, DiskFull(host="peer1", pieces=0)),
    ],
)
def test_what_is_well(ending: Ending, fault: AnyFault | None) -> None:
    assert of_ending(plan_of() if fault is None else plan_of(fault), ending) == ""


@pytest.mark.parametrize(
    ("ending", "fault", "word"),
    [
        (replace(WHOLE, wrong=(2,)), None, "wrong bytes"),
        (replace(WHOLE, wrong=(2,), crashed=True), None, "wrong bytes"),
        (replace(WHOLE, missing=(2,)), None, "completed without"),
        (replace(WHOLE, ended_at_s=None, state="swarming"), None, "stuck"),
        (replace(WHOLE, ended_at_s=600.0), None, "too late"),
        (replace(WHOLE, ended_at_s=9000.0), Cancel(at_s=2.0, host="peer2"), "too late"),
        (NO_SOURCE, None, "without a cause"),
        (NO_SOURCE, SourceTrouble(at_s=10.0, what="refuse", lasts_s=1.0), "without a cause"),
        (NO_SOURCE, SourceTrouble(at_s=2.0, what="slow", lasts_s=1.0), "without a cause"),
        (NO_SOURCE, Cut(one=("peer2",), other=("source",), lasts_s=None), "without a cause"),
        (NOT_FOUND, SourceTrouble(at_s=2.0, what="unavailable", lasts_s=1.0), "without a cause"),
        (PRIVATE, Delay(up_to_s=1.0, lasts_s=20.0), "without a cause"),
        (PRIVATE, None, "without a cause"),
        (CANCELLED, Cancel(at_s=2.0, host="peer2"), "without a cause"),
        (FULL, DiskFull(host="peer2", pieces=0), "without a cause"),
        (replace(FULL, error="internal"), DiskFull(host="peer1", pieces=0), "without a cause"),
        (NO_SOURCE, Liar(host="peer2", lie="digest"), "without a cause"),
    ],
)
def test_what_is_not(ending: Ending, fault: AnyFault | None, word: str) -> None:
    assert word in of_ending(plan_of() if fault is None else plan_of(fault), ending)


def test_who_may_ask_the_source_has_no_such_excuse() -> None:
    crash = Crash(at_s=2.0, host="seed1", manner="reset", back_after_s=None)
    assert "without a cause" in of_ending(plan_of(crash, private=()), PRIVATE)


def test_a_source_that_had_been_well_for_long_is_no_excuse() -> None:
    trouble = SourceTrouble(at_s=2.0, what="refuse", lasts_s=1.0)
    later = replace(NO_SOURCE, ended_at_s=500.0)
    assert "without a cause" in of_ending(plan_of(trouble), later)
