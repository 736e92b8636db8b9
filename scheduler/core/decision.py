"""What is told and recorded of a decision: its line in the story, its record for the telemetry.

A child's answers with parents are counted, and so are its ways to the source: the count makes the
id of the record, by which the pieces that the child then fetches find it again
(`odonata.telemetry.record`). Decisions to wait are told and not recorded: nothing comes of them.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING

from models.facts import FACT_NAMES
from models.features import FEATURE_NAMES, feature_matrix, schema_hash
from odonata.telemetry.record import DecisionRecord, decision_id, source_decision_id
from scheduler.core.effect import WriteRecord
from scheduler.core.story import Decision, Outcome, Passed, Ranked

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
        told = Passed(tuple(islice(seen.dropped.items(), turn.limits.story_candidate_limit)))
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
    """Count, tell and record a choice whose parents were linked to the child.

    The record is made in any case: it is what the story keeps.
    """
    child.decision_count += 1
    if child.account is not None:
        child.account.name(child.decision_count, choice.parents)
    linked = _linked(choice)
    record = _record(turn, child, choice, linked)
    turn.story.add_choice(_ranked(turn, choice, seen, record, linked))
    if turn.limits.records:
        turn.effects.append(WriteRecord(record=record))


def _features(turn: Turn, choice: Choice) -> FloatArray | None:
    """What the ranker saw; of one that looks at none, None but for a sample of the decisions.

    They follow from the facts, and whoever reads the record computes them: that costs several times
    what ranking by the rule does, and all would wait for it.
    """
    features, limits = choice.ranking.features, turn.limits
    if features is not None or not limits.records:
        return features
    is_sampled = choice.draw_seed % limits.feature_record_interval == 0
    return feature_matrix(choice.batch) if is_sampled else None


def _linked(choice: Choice) -> tuple[int, ...]:
    """The rows of those who are parents now, in the order of the answer."""
    picked, parents = choice.picked.rows, choice.parents
    if len(parents) == len(picked):
        return picked
    return tuple(row for row in picked if choice.candidates[row] in parents)


def _ranked(
    turn: Turn, choice: Choice, seen: Survey, record: DecisionRecord, linked: tuple[int, ...]
) -> Ranked:
    picked, limit = choice.picked, turn.limits.story_candidate_limit
    unlinked: tuple[int, ...] = ()
    if linked is not picked.rows:
        unlinked = tuple(row for row in picked.rows if row not in linked)
    dropped = tuple(islice(seen.dropped.items(), limit)) if seen.dropped else ()
    return Ranked(record, picked.order, unlinked, dropped, limit)


def _record(
    turn: Turn,
    child: Peer,
    choice: Choice,
    linked: tuple[int, ...],
) -> DecisionRecord:
    candidates, ranking, picked = choice.candidates, choice.ranking, choice.picked
    features = _features(turn, choice)
    slots = [-1] * len(candidates)
    for slot, row in enumerate(linked):
        slots[row] = slot
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
        feature_schema="" if features is None else _SCHEMA,
        fact_names=FACT_NAMES,
        feature_names=() if features is None else FEATURE_NAMES,
        peer_ids=tuple([peer.id for peer in candidates]),
        host_ids=tuple([peer.host.announced.id for peer in candidates]),
        scores=_doubles(ranking.scores),
        slots=struct.pack(f"<{len(slots)}i", *slots),
        propensities=_doubles(picked.propensities),
        bad=picked.left_out.tobytes(),
        facts=choice.batch.row_bytes(),
        features=b"" if features is None else _doubles(features),
    )


def _doubles(values: FloatArray) -> bytes:
    """Little-endian doubles, row by row, whatever the machine's own order is."""
    return values.astype("<f8", copy=False).tobytes()
