"""What the scheduler decided and why: a bounded record of its latest decisions, for `explain`.

It is memory for people, not telemetry: it is lost at a restart and never leaves the process by
itself. Decisions come often and are asked for seldom, so a choice is kept as it is recorded, with
the little that only people want to know, and put into words, and into features, only when somebody
asks.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from msgspec.structs import replace

from models.facts import CandidateBatch
from models.features import FEATURE_NAMES, feature_matrix
from odonata.telemetry.record import DecisionRecord
from odonata.wire.message import Value
from scheduler.core.candidate import Drop


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


class Ranked(NamedTuple):
    """Candidates of a choice: those of its record, who were scored, and the others.

    A record with 25 candidates takes some 9 KiB, 7.4 of them facts (and 6 more if its ranker looked
    at features); the ids are the peers' own while those live, 2 KiB more when they are gone.
    """

    record: DecisionRecord
    order: tuple[int, ...]
    """All rows, the best first."""
    unlinked: tuple[int, ...]
    """Rows that were picked, and whose edge could not be added."""
    dropped: tuple[tuple[str, str], ...]
    limit: int
    """So many are told."""

    def candidates(self) -> tuple[Considered, ...]:
        """The chosen ones, then the other scored ones, both best first, then who was not scored."""
        slots = np.frombuffer(self.record.slots, dtype="<i4").tolist()
        chosen = sorted((row for row in self.order if slots[row] >= 0), key=slots.__getitem__)
        rows = (*chosen, *(row for row in self.order if slots[row] < 0))[: self.limit]
        scores: list[float] = np.frombuffer(self.record.scores, dtype="<f8").tolist()
        features = self._features()
        scored = tuple(
            Considered(
                peer_id=self.record.peer_ids[row],
                score=scores[row],
                dropped="" if slots[row] >= 0 else self._why(row),
                features=dict(zip(FEATURE_NAMES, features[row], strict=True)),
            )
            for row in rows
        )
        return scored + Passed(self.dropped[: self.limit - len(rows)]).candidates()

    def _why(self, row: int) -> str:
        if row in self.unlinked:
            return Drop.NO_EDGE
        if self.record.bad[row]:
            return Drop.BAD
        return Drop.NOT_DRAWN if self.record.explored else Drop.OUTRANKED

    def _features(self) -> list[list[float]]:
        record, count = self.record, len(self.record.peer_ids)
        if record.features:
            features = np.frombuffer(record.features, dtype="<f8").reshape(count, -1)
        else:
            facts = np.frombuffer(record.facts, dtype="<f8").reshape(count, -1)
            features = feature_matrix(CandidateBatch(np.asfortranarray(facts, dtype=np.float64)))
        rows: list[list[float]] = features.astype(np.float32).tolist()
        return rows


def _in_words(record: DecisionRecord, told: Told) -> Decision:
    return Decision(
        at_s=record.at_s,
        task_id=record.task_id,
        child_id=record.child_id,
        outcome=Outcome(record.outcome),
        reason=record.reason,
        decision_id=record.decision_id,
        ranker=record.policy,
        ranked_by=record.ranked_by,
        model_version=record.model_version,
        fallback=record.fallback,
        explored=record.explored,
        candidates=told.candidates(),
        useful_count=record.useful_count,
        peer_count=record.peer_count,
    )


class Story:
    """The latest `limit` decisions."""

    def __init__(self, limit: int) -> None:
        self._decisions: deque[tuple[Decision, Told | None] | Ranked] = deque(maxlen=limit)
        self.counts: Counter[tuple[Outcome, str, str]] = Counter()
        """All decisions ever, by outcome, by who ranked ("": nobody) and by fallback."""

    def add(self, decision: Decision, told: Told | None = None) -> None:
        """Remember a decision; the oldest one is forgotten when the story is full.

        `told` are its candidates, if they are not in the decision itself.
        """
        self._decisions.append((decision, told))
        self.counts[decision.outcome, decision.ranked_by, decision.fallback] += 1

    def add_choice(self, choice: Ranked) -> None:
        """Remember a decision that gave parents."""
        self._decisions.append(choice)
        record = choice.record
        self.counts[Outcome.PARENTS, record.ranked_by, record.fallback] += 1

    def named(self, prefix: str) -> tuple[list[str], list[str]]:
        """The ids of children and of tasks, each once, that begin so and are remembered."""
        children: dict[str, None] = {}
        tasks: dict[str, None] = {}
        for decision, *_ in self._decisions:
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
            one
            for one in reversed(self._decisions)
            if task_id in ("", one[0].task_id) and child_id in ("", one[0].child_id)
        )
        return [_told(one) for one in islice(found, latest)][::-1]


def _told(kept: tuple[Decision, Told | None] | Ranked) -> Decision:
    if isinstance(kept, Ranked):
        return _in_words(kept.record, kept)
    decision, told = kept
    return decision if told is None else replace(decision, candidates=told.candidates())
