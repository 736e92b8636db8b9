"""What came of each chosen parent, and how good that was: outcomes, labels, grades.

An outcome is of one decision and one parent: all tries that the child made with that parent under
that decision (`join` says which those are). The label is the natural logarithm of its goodput:

    label_log_goodput = ln(bytes that arrived / time with at least one try in flight)

The time is the length of the union of the tries' intervals [end - total, end]: a stock child has
several pieces of one parent in flight at once, and their times must not be added up. Every try is
in it, also the ones that brought nothing: a try that was stopped would have taken at least as long
as it had (for a constant rate, bytes over all time spent is the likeliest one when some
waits were cut short).

Nothing that went wrong is a missing value; it is censored, in two ways:

- A parent `is_failed` if more tries failed than brought a piece, or if it only refused. It has no
  goodput, but a grade: the lowest. A try that was stopped since its parent cheats counts as failed.
  Refusals do not count beside anything else: who is refused goes elsewhere at once.
- A try is late if it was given up for its slowness, or if it was outrun: a second parent was asked
  for the same piece later and brought it first. That is no failure, but it cost its time. If
  nothing else came from the parent, the label is what its goodput was at best, as if one piece had
  just arrived when the last try was stopped: `is_censored`. (Without that, two in three slow hosts
  had no label at all in a simulated swarm of our own peers, for they hedge what is slow.)

Other tries that were stopped are neutral: the race was lost by who began it later, or the piece or
the parent was not wanted any more. Alone they say nothing, so the parent stays unobserved.

`is_thin` marks outcomes of fewer than 2 tries and less than 8 MB: one piece of a small
file mostly shows the start of a connection. They keep their label; who fits a model decides.

Unobserved candidates have no label and no grade. They were not chosen, and nobody knows why they
would have been worse: as "bad" examples they cost a ranker half its skill in a simulated swarm.
"""

from __future__ import annotations

from math import log

import numpy as np
import pandas as pd

from peer.core.effect import CancelReason
from peer.core.event import FailureReason
from peer.core.run_record import AHEAD, PASSED_ON

THIN_TRIES = 2
THIN_BYTES = 8_000_000
"""Enough is: so many tries, or so many bytes in one."""

MIN_BUSY_S = 1e-3
"""Shorter times count as this: stock clients and many clocks tell no less than a millisecond."""

GRADE_MAX = 7
GRADE_STEP = log(4 / 3)
"""One grade less for each quarter that goodput falls short: 7 down to three quarters of the best
in the decision, 6 down to 9/16, ..., 1 below 18 %. Fine where a choice is worth something (hosts of
one kind differ by tens of percent), and a host ten times slower is at the end."""
GRADE_FAILED = 0
GRADE_NONE = -1
"""Of candidates that were not observed: leave them out."""

REFUSED = FailureReason.REFUSED.value
LATE = CancelReason.LATE.value
HEDGED = CancelReason.HEDGED.value
BLAMED = CancelReason.BLAMED.value

OUTCOME_KEY = ["decision_id", "peer_id"]
COUNTS = {
    "piece_count": "ok",
    "failed_count": "failed",
    "refused_count": "refused",
    "late_count": "late",
    "neutral_count": "neutral",
}
"""Column of an outcome -> the kind of try that it counts."""


def with_kinds(tries: pd.DataFrame) -> pd.DataFrame:
    """The tries with a column `kind`: "ok", "failed", "refused", "late" or "neutral".

    Give all tries of a child, also those that join no decision: some are told from the others.
    """
    result, reason = tries["result"], tries["reason"]
    cancelled = result == "cancelled"
    rules = {
        "refused": (result == "failed") & (reason == REFUSED),
        "failed": (result == "failed") | (cancelled & (reason == BLAMED)),
        "late": cancelled & ((reason == LATE) | ((reason == HEDGED) & outrun(tries))),
        "neutral": cancelled,
    }
    kind = np.select(
        [where.to_numpy(dtype=bool) for where in rules.values()], list(rules), default="ok"
    )
    return tries.assign(kind=pd.Series(kind, index=tries.index, dtype="str"))


def outrun(tries: pd.DataFrame) -> pd.Series[bool]:
    """Whether another try of the same child brought the same piece although it began later.

    Both moments are by the child's clock. False for tries that brought their piece.
    """
    began = tries["at_s"] - tries["total_s"]
    is_ok = tries["result"] == "ok"
    key = [tries["child_id"], tries["number"]]
    brought = began.where(is_ok).groupby(key).transform("max")
    return (brought > began) & ~is_ok


def outcomes(tries: pd.DataFrame) -> pd.DataFrame:
    """One row per (decision_id, peer_id) that was tried: counts, bytes, busy_s, and the label.

    `tries` are piece records `with_kinds`, each once, with `parent_id` and a decision that named
    that parent. Columns: OUTCOME_KEY, the outcome columns of `rows`. What was passed on is left
    out: it came as fast as it came to the parent, from somebody whom nobody chose here. So is what
    was asked for ahead: a part of its time was waited for the scheduler.
    """
    tries = tries[~tries["reason"].isin((AHEAD, PASSED_ON))]
    kind = tries["kind"]
    frame = pd.DataFrame(
        {
            "decision_id": tries["decision_id"],
            "peer_id": tries["parent_id"],
            "bytes": tries["length"].where(kind == "ok", 0),
            "busy_s": busy_shares(tries),
            **{column: (kind == name).astype("int64") for column, name in COUNTS.items()},
        }
    )
    summed = frame.groupby(OUTCOME_KEY, sort=True, as_index=False).sum()
    asked = frame[OUTCOME_KEY].assign(asked=tries["length"].where(kind == "late", 0))
    largest = asked.groupby(OUTCOME_KEY, sort=True)["asked"].max()
    return label(summed, pd.Series(largest.to_numpy(), index=summed.index, dtype="int64"))


def busy_shares(tries: pd.DataFrame) -> pd.Series[float]:
    """What each try adds to the time its parent was busy for it, in seconds.

    The sum over a decision and parent is the length of the union of all [end - total, end].
    """
    spans = pd.DataFrame(
        {
            "decision_id": tries["decision_id"],
            "parent_id": tries["parent_id"],
            "start": tries["at_s"] - tries["total_s"].clip(lower=0.0),
            "end": tries["at_s"],
        }
    ).sort_values(["decision_id", "parent_id", "start", "end"], kind="stable")
    group = [spans["decision_id"], spans["parent_id"]]
    latest = spans["end"].groupby(group).cummax()
    before = latest.groupby(group).shift().fillna(-np.inf)
    from_s = np.maximum(spans["start"], before)
    return (spans["end"] - from_s).clip(lower=0.0).reindex(tries.index)


def label(outcome: pd.DataFrame, late_bytes: pd.Series[int]) -> pd.DataFrame:
    """The same outcomes with observed, is_failed, is_censored, is_thin and label_log_goodput added.

    `late_bytes`: of the largest piece that the parent was asked for in vain, in bytes.
    """
    pieces, failed, late = outcome["piece_count"], outcome["failed_count"], outcome["late_count"]
    tries = pieces + failed + outcome["refused_count"] + late
    observed = tries > 0
    is_failed = observed & ((failed > pieces) | (pieces + late == 0))
    # A late try of unknown length brought nothing that could be set against its time.
    is_failed |= (pieces == 0) & (late > 0) & (late_bytes <= 0)
    is_censored = observed & ~is_failed & (pieces == 0)
    moved = outcome["bytes"].where(~is_censored, late_bytes)
    goodput = moved / outcome["busy_s"].clip(lower=MIN_BUSY_S)
    return outcome.assign(
        observed=observed,
        is_failed=is_failed,
        is_censored=is_censored,
        is_thin=observed & (tries < THIN_TRIES) & (outcome["bytes"] < THIN_BYTES),
        label_log_goodput=np.log(goodput.where(observed & ~is_failed)),
    )


def grades(rows: pd.DataFrame) -> pd.Series[int]:
    """Relevance for a ranker, 0..7 within each decision, int64, aligned with `rows`.

    0: failed. 1..7: by goodput relative to the best labelled one of the decision in `rows` (7 for
    the best, so also for the only one and for all that are within a quarter of it); equal labels
    get equal grades. -1: not observed. Give only the rows that shall compete.
    """
    labels = rows["label_log_goodput"]
    best = labels.groupby(rows["decision_id"]).transform("max")
    below = (best - labels).to_numpy(dtype=np.float64)
    graded = np.clip(GRADE_MAX - np.floor(below / GRADE_STEP), GRADE_FAILED + 1, GRADE_MAX)
    graded[rows["is_failed"].to_numpy(dtype=np.bool_)] = GRADE_FAILED
    graded[~rows["observed"].to_numpy(dtype=np.bool_)] = GRADE_NONE
    return pd.Series(graded.astype(np.int64), index=rows.index)
