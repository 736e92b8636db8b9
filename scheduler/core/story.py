"""What the scheduler decided and why: a bounded record of its latest decisions, for `explain`.

It is memory for people, not telemetry: it is lost at a restart and never leaves the process by
itself. Decisions come often and are asked for seldom, so they are kept packed, and put into words,
and into features, only when somebody asks.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
from msgspec.structs import replace

from models.facts import CandidateBatch
from models.features import FEATURE_NAMES, feature_matrix
from odonata.wire.message import Value
from scheduler.core.candidate import Drop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.facts import BoolArray, FloatArray


class Outcome(StrEnum):
    """What a child was told."""

    PARENTS = "parents"
    SOURCE = "source"
    WAIT = "wait"
    SEED = "wait for a seed"
    REFUSED = "refused"


class Considered(Value, frozen=True, kw_only=True):
    """One candidate: its score if it was scored, and why it was dropped ("" if it was chosen).

    `features` is what a ranker sees of it, by the names of `models.features`, to some six digits;
    empty if it was not scored.
    """

    peer_id: str
    score: float | None = None
    dropped: str = ""
    features: dict[str, float] = {}


class Decision(Value, frozen=True, kw_only=True):
    """One decision. `candidates` holds the chosen ones first, best first, then some of the others.

    `useful_count` of the task's `peer_count` peers were able to serve at all. `ranker` was asked
    and `ranked_by` ranked, because of `fallback` if that is another one; `explored`: the chosen
    ones are not the best ones but drawn. `decision_id` is that of the record, "" if there is none.
    """

    at_s: float
    task_id: str
    child_id: str
    outcome: Outcome
    reason: str
    decision_id: str = ""
    ranker: str = ""
    ranked_by: str = ""
    model_version: str = ""
    fallback: str = ""
    explored: bool = False
    candidates: tuple[Considered, ...] = ()
    useful_count: int = 0
    peer_count: int = 0


class Told(Protocol):
    """Candidates as they are kept."""

    def candidates(self) -> tuple[Considered, ...]:
        """All of them in words."""
        ...


class Passed:
    """Candidates that were looked at and not scored, and why."""

    __slots__ = ("_dropped",)

    def __init__(self, dropped: tuple[tuple[str, str], ...]) -> None:
        """Pairs of peer id and reason."""
        self._dropped = dropped

    def candidates(self) -> tuple[Considered, ...]:
        """All of them in words."""
        return tuple(Considered(peer_id=one, dropped=why) for one, why in self._dropped)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Candidates of a choice: the n that were scored, and the others.

    Facts are kept in single precision, and `features` of a ranker that looked at any; of another
    one they are computed when somebody asks, and nearly (to six digits) what they would have been.
    With 25 candidates a decision takes about 5 KiB in all, 3.6 of them facts; the ids are the
    peers' own while those live, 2 KiB more when they are gone.
    """

    peer_ids: tuple[str, ...]
    scores: FloatArray
    facts: NDArray[np.float32]
    features: NDArray[np.float32] | None
    order: tuple[int, ...]
    """All rows, the best first."""
    chosen: tuple[int, ...]
    """Rows in the order of the answer."""
    unlinked: tuple[int, ...]
    """Rows that were picked, and whose edge could not be added."""
    left_out: BoolArray
    others: str
    """Why those who were neither picked nor left out as bad are not in the answer."""
    dropped: tuple[tuple[str, str], ...]
    limit: int
    """So many are told."""

    def candidates(self) -> tuple[Considered, ...]:
        """The chosen ones, then the other scored ones, both best first, then who was not scored."""
        rows = (*self.chosen, *(row for row in self.order if row not in self.chosen))[: self.limit]
        scores: list[float] = self.scores.tolist()
        features = self._features()
        scored = tuple(
            Considered(
                peer_id=self.peer_ids[row],
                score=scores[row],
                dropped=self._why(row),
                features=dict(zip(FEATURE_NAMES, features[row], strict=True)),
            )
            for row in rows
        )
        return scored + Passed(self.dropped[: self.limit - len(rows)]).candidates()

    def _why(self, row: int) -> str:
        if row in self.chosen:
            return ""
        if row in self.unlinked:
            return Drop.NO_EDGE
        return Drop.BAD if self.left_out[row] else self.others

    def _features(self) -> list[list[float]]:
        features = self.features
        if features is None:
            facts = self.facts.astype(np.float64, order="F")
            features = feature_matrix(CandidateBatch(facts)).astype(np.float32)
        rows: list[list[float]] = features.tolist()
        return rows


class Story:
    """The latest `limit` decisions."""

    def __init__(self, limit: int) -> None:
        self._decisions: deque[tuple[Decision, Told | None]] = deque(maxlen=limit)
        self.counts: Counter[tuple[Outcome, str, str]] = Counter()
        """All decisions ever, by outcome, by who ranked ("": nobody) and by fallback."""

    def add(self, decision: Decision, told: Told | None = None) -> None:
        """Remember a decision; the oldest one is forgotten when the story is full.

        `told` are its candidates, if they are not in the decision itself.
        """
        self._decisions.append((decision, told))
        self.counts[decision.outcome, decision.ranked_by, decision.fallback] += 1

    def named(self, prefix: str) -> tuple[list[str], list[str]]:
        """The ids of children and of tasks, each once, that begin so and are remembered."""
        children: dict[str, None] = {}
        tasks: dict[str, None] = {}
        for decision, _ in self._decisions:
            if decision.child_id.startswith(prefix):
                children[decision.child_id] = None
            if decision.task_id.startswith(prefix):
                tasks[decision.task_id] = None
        return list(children), list(tasks)

    def explain(
        self, *, task_id: str = "", child_id: str = "", latest: int | None = None
    ) -> list[Decision]:
        """Return the decisions still remembered, oldest first, of one task or child if named.

        Of many only the `latest` ones: each takes some 0.1 ms to put into words.
        """
        found = (
            (decision, told)
            for decision, told in reversed(self._decisions)
            if task_id in ("", decision.task_id) and child_id in ("", decision.child_id)
        )
        told_in_words = [
            decision if told is None else replace(decision, candidates=told.candidates())
            for decision, told in islice(found, latest)
        ]
        return told_in_words[::-1]
