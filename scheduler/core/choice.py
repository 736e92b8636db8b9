"""Which of the eligible candidates become a child's parents: facts, ranking, the best few.

All chances of a decision (equals, exploration) come from one seed, drawn once per decision and
recorded with it; only who is looked at, of very many, does not, for no record knows of the others
(`shortlist`). How rows are taken from a ranking is `pick`'s; what is told and
recorded of it is `decision`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.core.candidate import Drop, Survey, survey
from scheduler.core.facts import facts
from scheduler.core.pick import SEED_BITS, Lots, Pick, pick
from scheduler.core.seed_share import spare_seeds

if TYPE_CHECKING:
    from models.facts import CandidateBatch
    from models.ranker import Ranking
    from scheduler.core.peer import Peer
    from scheduler.core.turn import Turn

ENOUGH_PART = 4
"""Of those drawn, one in so many must be eligible, or all are looked at: the child is in an unusual
place (behind most others, after a part of the content) that no list by worth knows of."""

BLIND_FACTOR = 2
"""Useful peers in a blind sample per candidate scored: as a rule most of them are eligible."""

ORDINARY_PRIORITIES = (0, 6)
"""Levels of downloads that may explore: what is sent when nobody asked for anything special (0 on
the wire, 6 by Dragonfly's commands and its proxy). Every other level is somebody's wish."""


@dataclass(slots=True, kw_only=True, eq=False)
class Choice:
    """A decision among `candidates`, which are the rows of `batch`, `ranking` and `picked`.

    `parents` are the chosen ones in the order of the answer; whoever could not be linked to the
    child is taken out of it before the choice is told and recorded.
    """

    candidates: list[Peer]
    batch: CandidateBatch
    ranking: Ranking
    picked: Pick
    draw_seed: int
    parents: list[Peer]

    @property
    def reason(self) -> str:
        """Why it came out like this, in a word or two."""
        if self.picked.explored:
            return "explored"
        return self.ranking.fallback or self.ranking.ranked_by


def look_around(turn: Turn, child: Peer) -> Survey:
    """Survey the child's candidates, at most `candidate_batch_limit` of them, and draw a seed.

    Of more useful peers a shortlist is looked at. If that has too few to offer, all are.
    """
    task, limit = child.task, turn.limits.candidate_batch_limit
    if not task.useful:
        return Survey()
    draw_seed = turn.rng.getrandbits(SEED_BITS)
    seen = None
    if len(task.useful) > limit:
        seen = survey(child, _drawn(turn, child, limit), limit)
        if len(seen.eligible) * ENOUGH_PART < limit:
            seen = _all_around(turn, child, limit)
    seen = seen or survey(child)
    seen.draw_seed = draw_seed
    return seen


def choose(turn: Turn, child: Peer, seen: Survey, places: int | None = None) -> Choice:
    """Rank the eligible, of whom there is at least one, and take the best.

    For so many `places`; None: as many as an answer has.
    """
    turn.state.cluster.spare_loaded(seen)
    spare_seeds(seen, turn.limits)
    candidates = seen.eligible
    batch = facts(child, candidates, turn.now, turn.state)
    ranking = turn.ranker.rank(batch, seen.draw_seed)
    picked = pick(
        ranking,
        [peer.host.concurrent_upload_count for peer in candidates],
        Lots(turn.rng, seen.draw_seed),
        places=turn.limits.candidate_parent_limit if places is None else places,
        exploration=turn.limits.exploration if may_explore(child) else 0.0,
    )
    return Choice(
        candidates=candidates,
        batch=batch,
        ranking=ranking,
        picked=picked,
        draw_seed=seen.draw_seed,
        parents=[candidates[row] for row in picked.rows],
    )


def may_explore(child: Peer) -> bool:
    """Whether this child can bear a parent that is not thought to be the best.

    Not one whose parents have failed it, or were taken from it, before; not one with a single piece
    to fetch, which a slow parent would delay as a whole; not one with a priority of its own.
    """
    if child.decision_count or child.blocked or child.task.piece_count == 1:
        return False
    return child.download.priority in ORDINARY_PRIORITIES


def _drawn(turn: Turn, child: Peer, limit: int) -> list[Peer]:
    task = child.task
    if turn.limits.blind_sample:
        useful = list(task.useful.values())
        return turn.rng.sample(useful, min(len(useful), BLIND_FACTOR * limit))
    return task.shortlist.draw(child.host.place.idc, limit, turn.state.standard(), turn.rng)


def _all_around(turn: Turn, child: Peer, limit: int) -> Survey:
    """Survey all useful peers; of very many eligible ones some, by lot."""
    seen = survey(child)
    if len(seen.eligible) > limit:
        everybody, seen.eligible = seen.eligible, turn.rng.sample(seen.eligible, limit)
        drawn = frozenset(peer.id for peer in seen.eligible)
        for peer in everybody:
            if peer.id not in drawn:
                seen.dropped[peer.id] = Drop.NOT_SAMPLED
    return seen
