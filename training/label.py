"""What came of each chosen parent, and how good that was: outcomes, labels, grades.

An outcome is of one decision and one parent: all tries that the child made with that parent under
that decision (`join` says which those are). The label is the natural logarithm of its goodput:

    label_log_goodput = ln(bytes that arrived / time with at least one try in flight)

The time is the length of the union of the tries' intervals [end - total, end]: a stock child has
several pieces of one parent in flight at once, and their times must not be added up. Every try is
in it, also the ones that brought nothing: a try that was stopped would have taken at least as long
as it had (for a constant rate, bytes over all time spent is the likeliest one when some
waits were cut short).

Failures are no missing values, they are the worst ones. A parent `is_failed` if it brought nothing
although it was tried to the end (failed, refused, or given up as late), or if more tries failed
than brought a piece. It has no goodput then, but a grade: the lowest. A try that was stopped since
its parent cheats counts as failed. Late tries and refusals do not count as failures beside pieces
that arrived: the time says what the former cost, and who is refused goes elsewhere at once. Tries
that were hedged away, or stopped because the piece or the parent was not wanted any more, are
neutral: alone they say nothing about the parent, so it stays unobserved.

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


def kinds(tries: pd.DataFrame) -> pd.Series[str]:
    """What each try was: "ok", "failed", "refused", "late" or "neutral" (stopped for no fault)."""
    cancelled = tries["result"] == "cancelled"
    failed = (tries["result"] == "failed") | (cancelled & (tries["reason"] == BLAMED))
    kind = np.select(
        [
            (failed & (tries["reason"] == REFUSED)).to_numpy(dtype=bool),
            failed.to_numpy(dtype=bool),
            (cancelled & (tries["reason"] == LATE)).to_numpy(dtype=bool),
            cancelled.to_numpy(dtype=bool),
        ],
        ["refused", "failed", "late", "neutral"],
        default="ok",
    )
    return pd.Series(kind, index=tries.index, dtype="str")


def outcomes(tries: pd.DataFrame) -> pd.DataFrame:
    """One row per (decision_id, peer_id) that was tried: counts, bytes, busy_s, and the label.

    `tries` are piece records, each once, with `parent_id` and a decision that named that parent.
    Columns: OUTCOME_KEY and the outcome columns of `rows`.
    """
    frame = pd.DataFrame(
        {
            "decision_id": tries["decision_id"],
            "peer_id": tries["parent_id"],
            "bytes": tries["length"].where(tries["result"] == "ok", 0),
            "busy_s": busy_shares(tries),
        }
    )
    kind = kinds(tries)
    for column, name in COUNTS.items():
        frame[column] = (kind == name).astype("int64")
    return label(frame.groupby(OUTCOME_KEY, sort=True, as_index=False).sum())


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


def label(outcome: pd.DataFrame) -> pd.DataFrame:
    """The same outcomes with observed, is_failed, is_thin and label_log_goodput added."""
    pieces, failed = outcome["piece_count"], outcome["failed_count"]
    tries = pieces + failed + outcome["refused_count"] + outcome["late_count"]
    observed = tries > 0
    is_failed = observed & ((pieces == 0) | (failed > pieces))
    goodput = outcome["bytes"] / outcome["busy_s"].clip(lower=MIN_BUSY_S)
    labelled = observed & ~is_failed
    return outcome.assign(
        observed=observed,
        is_failed=is_failed,
        is_thin=observed & (tries < THIN_TRIES) & (outcome["bytes"] < THIN_BYTES),
        label_log_goodput=np.log(goodput.where(labelled)),
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
