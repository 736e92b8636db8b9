"""Which of the eligible candidates become a child's parents: features, ranking, the best few.

Bad parents are left out as long as anybody else is left; when all are bad the best of them still
beats the source. Equal scores are ordered by how few children their host has, then by a throw of
the dice, so that a swarm whose hosts say nothing of their bandwidth spreads all the same.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from models.facts import CandidateBatch
from models.features import location_affinity, same_idc
from scheduler.core.candidate import Drop, Survey, survey
from scheduler.core.lifecycle import SERVING, PeerState
from scheduler.core.story import Considered, Decision, Outcome

if TYPE_CHECKING:
    from models.ranker import Ranking
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

SURVEY_FACTOR = 2
"""Useful peers drawn per candidate scored: as a rule most of them are eligible."""

_FIRST_DOWNLOAD = (PeerState.RECEIVED_NORMAL, PeerState.RUNNING)


class Choice:
    """The chosen parents, best first, and what the story needs to tell about it."""

    def __init__(self, parents: list[Peer], scores: dict[str, float], reason: str) -> None:
        self.parents = parents
        self.scores = scores
        self.reason = reason


def choose(turn: Turn, child: Peer, seen: Survey) -> Choice:
    """Rank the eligible candidates and take the best; whoever is left out is noted in `seen`."""
    candidates = _sample(turn, seen)
    batch = facts(child, candidates, turn.now, turn.state.swarm_rate.bytes_per_s)
    ranking = turn.ranker.rank(batch, turn.rng.getrandbits(63))
    order = _order(turn, candidates, ranking)
    good = [row for row in order if not ranking.bad[row]]
    taken = (good or order)[: turn.limits.candidate_parent_limit]
    chosen = frozenset(taken)
    for row in order:
        if row not in chosen:
            is_bad = bool(good) and bool(ranking.bad[row])
            seen.dropped[candidates[row].id] = Drop.BAD if is_bad else Drop.OUTRANKED
    scores = {peer.id: float(ranking.scores[row]) for row, peer in enumerate(candidates)}
    return Choice([candidates[row] for row in taken], scores, ranking.fallback or ranking.ranked_by)


def look_around(turn: Turn, child: Peer) -> Survey:
    """Survey the child's candidates; of very many useful peers a sample, if it has any to offer.

    The sample is in no order: its first eligible peers are as good a batch as any other of them.
    """
    useful = child.task.useful
    batch = turn.limits.candidate_batch_limit
    if len(useful) > SURVEY_FACTOR * batch:
        sample = turn.rng.sample(list(useful.values()), SURVEY_FACTOR * batch)
        seen = survey(child, sample, enough=batch)
        if seen.eligible:
            return seen
    return survey(child)


def facts(
    child: Peer, candidates: list[Peer], now: float, swarm_rate_bytes_per_s: float = nan
) -> CandidateBatch:
    """Read what a ranker may know from the scheduler's state, one row per candidate."""
    return CandidateBatch.of_rows(
        [_row(child, peer, now, swarm_rate_bytes_per_s) for peer in candidates]
    )


def tell(turn: Turn, child: Peer, outcome: Outcome, reason: str, seen: Survey | None) -> None:
    """Note a decision that gave the child no parents."""
    dropped = {} if seen is None else seen.dropped
    _note(turn, child, outcome, reason, candidates=_considered(turn, {}, dropped))


def tell_choice(turn: Turn, child: Peer, choice: Choice, seen: Survey) -> None:
    """Note a decision that gave the child parents."""
    chosen = tuple(
        Considered(peer_id=peer.id, score=choice.scores[peer.id]) for peer in choice.parents
    )
    others = _considered(turn, choice.scores, seen.dropped)
    told = (chosen + others)[: turn.limits.story_candidate_limit]
    _note(
        turn,
        child,
        Outcome.PARENTS,
        choice.reason,
        ranker=turn.ranker.name,
        candidates=told,
    )


def _note(
    turn: Turn,
    child: Peer,
    outcome: Outcome,
    reason: str,
    *,
    ranker: str = "",
    candidates: tuple[Considered, ...] = (),
) -> None:
    turn.story.add(
        Decision(
            at_s=turn.now,
            task_id=child.task.id,
            child_id=child.id,
            outcome=outcome,
            reason=reason,
            ranker=ranker,
            candidates=candidates,
            useful_count=len(child.task.useful),
            peer_count=len(child.task.peers),
        )
    )


def _considered(
    turn: Turn, scores: dict[str, float], dropped: dict[str, Drop]
) -> tuple[Considered, ...]:
    first = list(dropped.items())[: turn.limits.story_candidate_limit]
    return tuple(
        Considered(peer_id=peer_id, score=scores.get(peer_id), dropped=reason)
        for peer_id, reason in first
    )


def _sample(turn: Turn, seen: Survey) -> list[Peer]:
    limit = turn.limits.candidate_batch_limit
    if len(seen.eligible) <= limit:
        return seen.eligible
    sample = turn.rng.sample(seen.eligible, limit)
    drawn = frozenset(peer.id for peer in sample)
    for peer in seen.eligible:
        if peer.id not in drawn:
            seen.dropped[peer.id] = Drop.NOT_SAMPLED
    return sample


def _order(turn: Turn, candidates: list[Peer], ranking: Ranking) -> list[int]:
    keys = [
        (-float(ranking.scores[row]), peer.host.concurrent_upload_count, turn.rng.random())
        for row, peer in enumerate(candidates)
    ]
    return sorted(range(len(candidates)), key=keys.__getitem__)


def _row(child: Peer, parent: Peer, now: float, swarm_rate_bytes_per_s: float) -> tuple[float, ...]:
    """One candidate's facts in the order of `models.facts.FACTS`."""
    host, task = parent.host, parent.task
    said, ours = host.announced, child.host.announced
    last, mean, deviation = parent.costs.latest_and_others()
    return (
        said.max_tx_bandwidth_bits_per_s,
        said.tx_bandwidth_bits_per_s,
        now - host.updated_at_s,
        said.is_seed,
        host.booked_tx_bits_per_s,
        host.upload_content_length,
        host.concurrent_upload_piece_count,
        host.concurrent_upload_count,
        same_idc(ours.idc, said.idc),
        location_affinity(ours.location, said.location),
        parent.state in _FIRST_DOWNLOAD,
        parent.state is PeerState.BACK_TO_SOURCE,
        parent.state is PeerState.SUCCEEDED,
        parent.state in SERVING,
        len(parent.pieces),
        task.graph.parent_count(parent.id),
        len(parent.costs),
        last,
        mean,
        deviation,
        parent.costs.limit,
        host.history.rate_bytes_per_s,
        host.history.recent_rate_bytes_per_s,
        host.history.piece_count(now),
        host.history.failure_count(now),
        host.history.age_s(now),
        swarm_rate_bytes_per_s,
        child.host.received.rate_bytes_per_s,
        task.piece_length or 0,
        task.piece_count,
    )
