"""The hand-written ranker of ours: an estimate of the rate the child will get, in logarithms.

    score = ln(expected rate of the host / rate of the swarm)
            - ln(children + 1)                       what one more child gets of it
            + 2 ln(1 - failure rate)                 what of that is of use
            + 0.3 same data centre + 0.2 location    what the way between them is worth
            + 0.5 share of the content it holds      what it can give at once

The expected rate is what the host has served at, by `served_to_swarm` of `models.features`: seldom
seen hosts are drawn towards what is thought of a stranger. A stranger is thought to be as fast as
the swarm, and half as far above or below it as its announced uplink is above or below the other
candidates' (a claim is no measurement: a slow host makes it too).

The latest ten seconds of serving are left out on purpose: a host whose children have just left
serves slower too, and no single term can tell the two apart. A host that truly slows down is for
the scheduler's judgement of bad nodes.

Nothing here learns or remembers. Every score is finite, whatever is unknown.
"""

from __future__ import annotations

import numpy as np

from models.facts import BoolArray, CandidateBatch, FloatArray
from models.prior import PRIOR_FAILURES, PRIOR_PIECES, PRIOR_SUCCESSES
from models.ranker import Ranking

RATIO_LIMIT = 7.0
"""Logarithms of ratios are clipped to this, as the features are: a thousand times."""
CLAIM_TRUST = 0.5
"""How much of an announced uplink's ratio to the others' counts for a stranger. Hosts of
one kind with one announced uplink were measured to differ up to ten times in what they give
(Bobtail, on EC2), so a claim says about half of what there is to know."""
FAILURE_WEIGHT = 2.0
"""A failed piece costs its own time and that of the next try: it counts twice."""
FAILURE_RATE_LIMIT = 0.99
"""Keeps the logarithm finite for a host of which everything fails."""
SAME_IDC_WEIGHT = 0.3
"""Within a data centre a host may be a third slower (e^-0.3 = 0.74) and still be preferred: the
way there is short and costs nobody an uplink. More would crowd the children of one data centre on
its first holder."""
LOCATION_WEIGHT = 0.2
"""The same for a wholly equal location; both together are worth 1.65 times the rate."""
FINISHED_WEIGHT = 0.5
"""A whole copy against an empty one is worth 1.65 times the rate: an empty one gives each piece
only when it has come itself. More would send everybody to the seed, whose uplink is scarce."""


class RuleRanker:
    """The `rule` ranker."""

    name = "rule"

    def rank(self, batch: CandidateBatch, seed: int) -> Ranking:
        """Score by the formula above; bad is only who can't serve."""
        del seed  # it draws no lots
        return Ranking(scores=rule_score(batch), bad=unable(batch), ranked_by=self.name)


def rule_score(batch: CandidateBatch) -> FloatArray:
    """The logarithm of the child's expected rate over the swarm's, shape (n,), finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return (
            expected_rate(batch)
            - np.log1p(_count(batch, "child_count"))
            + FAILURE_WEIGHT * np.log1p(-failure_rate(batch))
            + SAME_IDC_WEIGHT * _share(batch, "same_idc")
            + LOCATION_WEIGHT * _share(batch, "location_affinity")
            + FINISHED_WEIGHT * finished_share(batch)
        )


def unable(batch: CandidateBatch) -> BoolArray:
    """Who is in no state to serve: all that a ranker of ours calls bad.

    Who served badly is judged by the scheduler, over many decisions.
    """
    return ~batch.is_true("can_serve")


def expected_rate(batch: CandidateBatch) -> FloatArray:
    """Log rate of the host over the swarm's: its history as far as there is one, else a guess."""
    served = _log_ratio(batch["served_rate_bytes_per_s"], batch["swarm_rate_bytes_per_s"])
    count = _count(batch, "served_piece_count")
    weight = np.where(np.isnan(served), 0.0, count / (count + PRIOR_PIECES))
    return weight * np.nan_to_num(served) + (1.0 - weight) * claimed_rate(batch)


def claimed_rate(batch: CandidateBatch) -> FloatArray:
    """What is thought of a stranger: 0 is the swarm's rate, and that of who announces nothing."""
    uplink = batch["max_tx_bits_per_s"]
    known = np.isfinite(uplink) & (uplink > 0)
    if not known.any():
        return np.zeros(len(batch))
    log_uplink = np.log(np.where(known, uplink, 1.0))
    ratio = np.clip(log_uplink - log_uplink[known].mean(), -RATIO_LIMIT, RATIO_LIMIT)
    return np.where(known, CLAIM_TRUST * ratio, 0.0)


def failure_rate(batch: CandidateBatch) -> FloatArray:
    """Share of the host's pieces that failed, smoothed as the feature is; 0.05 of a stranger."""
    failed = _count(batch, "served_failure_count") + PRIOR_FAILURES
    rate = failed / (failed + _count(batch, "served_piece_count") + PRIOR_SUCCESSES)
    return np.clip(rate, 0.0, FAILURE_RATE_LIMIT)


def finished_share(batch: CandidateBatch) -> FloatArray:
    """Share of the content the candidate holds, 0..1; 0 while the size of the task is unknown."""
    total = _count(batch, "total_piece_count")
    share = _count(batch, "finished_piece_count") / np.maximum(total, 1.0)
    share = np.where(total > 0, np.clip(share, 0.0, 1.0), 0.0)
    return np.where(batch.is_true("is_finished"), 1.0, share)


def _log_ratio(rate: FloatArray, base: FloatArray) -> FloatArray:
    return np.clip(np.log(rate / base), -RATIO_LIMIT, RATIO_LIMIT)


def _count(batch: CandidateBatch, name: str) -> FloatArray:
    """A number of things: what is unknown or makes no sense is none."""
    return np.maximum(0.0, np.nan_to_num(batch[name]))


def _share(batch: CandidateBatch, name: str) -> FloatArray:
    return np.clip(np.nan_to_num(batch[name]), 0.0, 1.0)
