"""A sampled log of decisions: what `odonata explain` would say of them, as a line that is kept.

The story in memory holds the latest decisions and is gone with the process; this is the thin trail
that stays. Whether a decision is in it follows from its id alone, so that whoever logs anything of
the same decision, anywhere, agrees. The share is `scheduler.decisionLogShare`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, Protocol

import msgspec
import structlog

from odonata.telemetry.record import decision_id, source_decision_id
from odonata.wire.message import NeedBackToSource, NormalTask, SchedulerAnswer
from scheduler.core.story import Considered, Decision

HASH_BYTES: Final = 8

_log = structlog.get_logger(__name__)


class Counted(Protocol):
    """A peer, as the core counts its decisions."""

    decision_count: int
    source_count: int


class Explain(Protocol):
    """`SchedulerCore.explain`."""

    def __call__(
        self, *, task_id: str = "", child_id: str = "", latest: int | None = None
    ) -> list[Decision]: ...


def is_sampled(decision_id: str, share: float) -> bool:
    """Whether the decision of this id is one of the `share` that are logged."""
    digest = blake2b(decision_id.encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big") < share * 256**HASH_BYTES


class DecisionLog:
    """Writes a line for the answers it is told of, if their decision is sampled."""

    def __init__(
        self, share: float, peer: Callable[[str], Counted | None], explain: Explain
    ) -> None:
        """`peer` finds a peer of the core by its id; `explain` tells its latest decisions."""
        self._share = share
        self._peer = peer
        self._explain = explain

    def answered(self, child_id: str, answer: SchedulerAnswer) -> None:
        """A child was given parents or sent to the source; other answers are no decisions."""
        if not self._share:
            return
        peer = self._peer(child_id)
        if peer is None:
            return
        if isinstance(answer, NormalTask):
            self._write(decision_id(child_id, peer.decision_count), child_id)
        elif isinstance(answer, NeedBackToSource):
            self._write(source_decision_id(child_id, peer.source_count), child_id)

    def _write(self, id_: str, child_id: str) -> None:
        if not is_sampled(id_, self._share):
            return
        for decision in self._explain(child_id=child_id, latest=1):
            _log.info(
                "decision_sampled",
                decision_id=id_,
                task_id=decision.task_id,
                peer_id=child_id,
                outcome=str(decision.outcome),
                reason=decision.reason,
                ranker=decision.ranker,
                ranked_by=decision.ranked_by,
                model_version=decision.model_version,
                fallback=decision.fallback,
                explored=decision.explored,
                candidates=decision.useful_count,
                peers=decision.peer_count,
                considered=[_in_short(one) for one in decision.candidates],
            )


def _in_short(one: Considered) -> dict[str, object]:
    """Without what is empty: of thirty candidates a few were scored."""
    told: dict[str, object] = msgspec.to_builtins(one)
    return {key: value for key, value in told.items() if value not in (None, "", {})}
