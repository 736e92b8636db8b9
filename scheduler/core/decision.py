"""What is told and recorded of a decision: its line in the story, its record for the telemetry.

A child's answers with parents are counted, and so are its ways to the source: the count makes the
id of the record, by which the pieces that the child then fetches find it again
(`odonata.telemetry.record`). Decisions to wait are told and not recorded: nothing comes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.facts import FACT_NAMES
from models.features import FEATURE_NAMES, feature_matrix, schema_hash
from odonata.telemetry.record import DecisionRecord, decision_id, source_decision_id
from scheduler.core.candidate import Drop
from scheduler.core.effect import WriteRecord
from scheduler.core.story import Decision, Outcome, Told

if TYPE_CHECKING:
    from models.facts import FloatArray
    from scheduler.core.candidate import Survey
    from scheduler.core.choice import Choice
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

_SCHEMA = schema_hash()


def tell(turn: Turn, child: Peer, outcome: Outcome, reason: str, seen: Survey | None) -> None:
    """Tell a decision that gave the child no parents."""
    told = None
    if seen is not None and seen.dropped:
        first = tuple(seen.dropped.items())[: turn.limits.story_candidate_limit]
        told = Told(tuple(one for one, _ in first), tuple(drop for _, drop in first))
    turn.story.add(
        Decision(
            at_s=turn.now,
            task_id=child.task.id,
            child_id=child.id,
            outcome=outcome,
            reason=reason,
            useful_count=len(child.task.useful),
            peer_count=len(child.task.peers),
        ),
        told,
    )


def note_source(turn: Turn, child: Peer, reason: str, seen: Survey | None) -> None:
    """Tell and record that the child was sent to the source."""
    tell(turn, child, Outcome.SOURCE, reason, seen)
    child.source_count += 1
    if not turn.limits.records:
        return
    record = DecisionRecord(
        decision_id=source_decision_id(child.id, child.source_count),
        at_s=turn.now,
        task_id=child.task.id,
        child_id=child.id,
        child_host_id=child.host.id,
        outcome=str(Outcome.SOURCE),
        reason=reason,
        policy=turn.ranker.name,
        ranked_by="",
        useful_count=len(child.task.useful),
        peer_count=len(child.task.peers),
    )
    turn.effects.append(WriteRecord(record=record))


def note_choice(turn: Turn, child: Peer, choice: Choice, seen: Survey) -> None:
    """Count, tell and record a choice whose parents were linked to the child."""
    child.decision_count += 1
    if child.account is not None:
        child.account.name(child.decision_count, choice.parents)
    features = choice.ranking.features
    if features is None:
        features = feature_matrix(choice.batch)
    _tell_choice(turn, child, choice, features, seen)
    if turn.limits.records:
        turn.effects.append(WriteRecord(record=_record(turn, child, choice, features)))


def _tell_choice(
    turn: Turn, child: Peer, choice: Choice, features: FloatArray, seen: Survey
) -> None:
    ranking = choice.ranking
    turn.story.add(
        Decision(
            at_s=turn.now,
            task_id=child.task.id,
            child_id=child.id,
            outcome=Outcome.PARENTS,
            reason=choice.reason,
            decision_id=decision_id(child.id, child.decision_count),
            ranker=turn.ranker.name,
            ranked_by=ranking.ranked_by,
            model_version=ranking.model_version,
            fallback=ranking.fallback,
            explored=choice.picked.explored,
            useful_count=len(child.task.useful),
            peer_count=len(child.task.peers),
        ),
        _told(turn.limits.story_candidate_limit, choice, features, seen),
    )


def _told(limit: int, choice: Choice, features: FloatArray, seen: Survey) -> Told:
    """The chosen ones, then the other scored ones, both best first, then who was not scored."""
    picked, candidates = choice.picked, choice.candidates
    linked = frozenset(peer.id for peer in choice.parents)
    chosen = [row for row in picked.rows if candidates[row].id in linked]
    taken = frozenset(chosen)
    rows = (chosen + [row for row in picked.order if row not in taken])[:limit]
    others = tuple(seen.dropped.items())[: limit - len(rows)]
    dropped = tuple("" if row in taken else _why_dropped(choice, row) for row in rows)
    return Told(
        tuple(candidates[row].id for row in rows) + tuple(one for one, _ in others),
        dropped + tuple(drop for _, drop in others),
        choice.ranking.scores[rows],
        features[rows],
    )


def _why_dropped(choice: Choice, row: int) -> Drop:
    picked = choice.picked
    if row in picked.rows:
        return Drop.NO_EDGE
    if picked.left_out[row]:
        return Drop.BAD
    return Drop.NOT_DRAWN if picked.explored else Drop.OUTRANKED


def _record(turn: Turn, child: Peer, choice: Choice, features: FloatArray) -> DecisionRecord:
    candidates, ranking, picked = choice.candidates, choice.ranking, choice.picked
    rows = {peer.id: row for row, peer in enumerate(candidates)}
    slots = np.full(len(candidates), -1, dtype="<i4")
    for slot, parent in enumerate(choice.parents):
        slots[rows[parent.id]] = slot
    return DecisionRecord(
        decision_id=decision_id(child.id, child.decision_count),
        at_s=turn.now,
        task_id=child.task.id,
        child_id=child.id,
        child_host_id=child.host.id,
        outcome=str(Outcome.PARENTS),
        reason=choice.reason,
        policy=turn.ranker.name,
        ranked_by=ranking.ranked_by,
        model_version=ranking.model_version,
        fallback=ranking.fallback,
        draw_seed=choice.draw_seed,
        exploration=picked.exploration,
        explored=picked.explored,
        useful_count=len(child.task.useful),
        peer_count=len(child.task.peers),
        feature_schema=_SCHEMA,
        fact_names=FACT_NAMES,
        feature_names=FEATURE_NAMES,
        peer_ids=tuple(rows),
        host_ids=tuple(peer.host.id for peer in candidates),
        scores=_doubles(ranking.scores),
        slots=slots.tobytes(),
        propensities=_doubles(picked.propensities),
        bad=picked.left_out.astype(np.uint8).tobytes(),
        facts=_doubles(choice.batch.facts),
        features=_doubles(features),
    )


def _doubles(values: FloatArray) -> bytes:
    """Little-endian doubles, row by row, whatever the machine's own order is."""
    return values.astype("<f8", copy=False).tobytes()
