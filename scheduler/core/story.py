"""What the scheduler decided and why: a bounded record of its latest decisions, for `explain`.

It is memory for people, not telemetry: it is lost at a restart and never leaves the process by
itself.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from odonata.wire.message import Value


class Outcome(StrEnum):
    """What a child was told."""

    PARENTS = "parents"
    SOURCE = "source"
    WAIT = "wait"
    SEED = "wait for a seed"
    REFUSED = "refused"


class Considered(Value, frozen=True, kw_only=True):
    """One candidate: its score if it was scored, and why it was dropped ("" if it was chosen)."""

    peer_id: str
    score: float | None = None
    dropped: str = ""


class Decision(Value, frozen=True, kw_only=True):
    """One decision. `candidates` holds the chosen ones first, best first, then some of the others.

    `useful_count` of the task's `peer_count` peers were able to serve at all.
    """

    at_s: float
    task_id: str
    child_id: str
    outcome: Outcome
    reason: str
    ranker: str = ""
    candidates: tuple[Considered, ...] = ()
    useful_count: int = 0
    peer_count: int = 0


class Story:
    """The latest `limit` decisions."""

    def __init__(self, limit: int) -> None:
        self._decisions: deque[Decision] = deque(maxlen=limit)

    def add(self, decision: Decision) -> None:
        """Remember a decision; the oldest one is forgotten when the story is full."""
        self._decisions.append(decision)

    def explain(self, *, task_id: str = "", child_id: str = "") -> list[Decision]:
        """Return the decisions still remembered, oldest first, of one task or child if named."""
        return [
            decision
            for decision in self._decisions
            if task_id in ("", decision.task_id) and child_id in ("", decision.child_id)
        ]
