"""What the scheduler decided and why: a bounded record of its latest decisions, for `explain`.

It is memory for people, not telemetry: it is lost at a restart and never leaves the process by
itself. Decisions come often and are asked for seldom, so they are kept packed, and put into words
only when somebody asks.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from models.features import FEATURE_NAMES
from odonata.wire.message import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.facts import FloatArray


class Outcome(StrEnum):
    """What a child was told."""

    PARENTS = "parents"
    SOURCE = "source"
    WAIT = "wait"
    SEED = "wait for a seed"
    REFUSED = "refused"


class Considered(Value, frozen=True, kw_only=True):
    """One candidate: its score if it was scored, and why it was dropped ("" if it was chosen).

    `features` is what the ranker saw of it, by the names of `models.features`, to seven digits;
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


class Told:
    """Candidates as they are kept: the first k with their scores and features, then the others.

    A decision with 32 of them takes 4.0 KiB in all (measured), 2.4 of them features in single
    precision; the ids are the peers' own while those live, 2 KiB more when they are gone.
    """

    __slots__ = ("_dropped", "_features", "_peer_ids", "_scores")

    def __init__(
        self,
        peer_ids: tuple[str, ...],
        dropped: tuple[str, ...],
        scores: FloatArray | None = None,
        features: FloatArray | None = None,
    ) -> None:
        """All in the same order; `scores` has shape (k,), `features` (k, len(FEATURES))."""
        self._peer_ids = peer_ids
        self._dropped = dropped
        self._scores = scores
        self._features: NDArray[np.float32] | None = (
            None if features is None else features.astype(np.float32)
        )

    def candidates(self) -> tuple[Considered, ...]:
        """All of them in words."""
        seen: list[tuple[float | None, dict[str, float]]] = []
        if self._scores is not None and self._features is not None:
            scores: list[float] = self._scores.tolist()
            rows: list[list[float]] = self._features.tolist()
            for score, row in zip(scores, rows, strict=True):
                seen.append((score, dict(zip(FEATURE_NAMES, row, strict=True))))
        seen += [(None, {})] * (len(self._peer_ids) - len(seen))
        return tuple(
            Considered(peer_id=peer_id, score=score, dropped=dropped, features=features)
            for peer_id, dropped, (score, features) in zip(
                self._peer_ids, self._dropped, seen, strict=True
            )
        )


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
