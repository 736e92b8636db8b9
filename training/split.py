"""Which decisions a ranker learns from and which judge it: never the same, never close relatives.

Two ways to hold out, since a ranker can cheat in two ways:

**By time** (`time_split`): the newest decisions judge, as they would have in production. What a
decision is labelled with happens after it: a training decision whose download still ran when the
first judging decision was made would know its future. So between the two lies an *embargo* longer
than the longest download seen. Data of one short session would vanish in it; if the embargo takes
more than half of the older decisions, each is held to its own download's end instead (`is_exact`).
Tasks whose decisions lie on both sides judge only, where the training part can spare them.

**By hosts** (`host_folds`): a ranker that has seen a host knows it by its habits, even though no
feature names it. The hosts are dealt to folds by a seed; each fold in turn is held out:

- a decision *touches* a host if its child lives there or one of its labelled parents does;
- decisions that touch a held-out host are not trained on at all (not even their other parents:
  lambdarank compares within the decision);
- judged are the labelled parents *on held-out hosts* of a decision, where there are two or more:
  new hosts against each other, whoever the child is. The whole set of candidates is still given to
  the rankers, since features compare a candidate with its group.

Seed peers are never held out: they are few, and known to be seeds; with the only seed held out
nothing could be learned about seeds at all.

All rows of a decision go one way. Nothing is fitted here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.facts import BoolArray, FloatArray
from odonata.errors import CallerError

TEST_SHARE = 0.25
"""Of the decisions, by time."""
EMBARGO_MARGIN = 1.25
"""A download's last piece may end later than its last decision tells."""
HOST_FOLDS = 8
"""Of decisions with four labelled parents half still teach, and two thirds are judged in one fold
or another; four folds would leave a quarter, or a thirteenth with eight."""
HOSTS_MIN = 4
"""Two in each of two folds: fewer can't be compared with each other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Masks over the rows of one data set.

    `train`: rows to fit on, whole decisions. `test`: whole decisions that judge. `judged`: rows of
    the test whose outcomes count.
    """

    name: str
    train: BoolArray
    test: BoolArray
    judged: BoolArray
    note: str

    def __post_init__(self) -> None:
        """A row on both sides is a bug."""
        assert not (self.train & self.test).any(), "a decision would judge what it taught"
        assert not (self.judged & ~self.test).any(), "judged rows are test rows"


def time_split(rows: pd.DataFrame, *, test_share: float = TEST_SHARE) -> Split:
    """The newest `test_share` of the decisions against older ones.

    CallerError if the data has one decision, or if nothing older is left.
    """
    times = decision_times(rows)
    if len(times) < 2:
        raise CallerError(f"{len(times)} decisions can't be split by time: record more downloads")
    cut_s = _cut(np.asarray(times, dtype=np.float64), test_share)
    at_s = rows["at_s"].to_numpy(dtype=np.float64)
    decision_at_s = rows["decision_id"].map(times).to_numpy(dtype=np.float64)
    test = decision_at_s >= cut_s
    end_s = rows["child_id"].map(_download_ends(rows)).to_numpy(dtype=np.float64)
    embargo_s = EMBARGO_MARGIN * _longest_download_s(rows)
    train = decision_at_s < cut_s - embargo_s
    is_exact = _decisions(rows, train) * 2 < _decisions(rows, ~test)
    if is_exact:
        train = ~test & (np.maximum(end_s, at_s) < cut_s)
    train, dropped = _without_shared_tasks(rows, train, test)
    if not train.any():
        raise CallerError(
            f"the data spans {_span_s(at_s):.0f} s and its longest download takes "
            f"{embargo_s / EMBARGO_MARGIN:.0f} s: no decision is old enough to learn from when the "
            "newest judge; record for longer"
        )
    gap = "each download's own end" if is_exact else f"an embargo of {embargo_s:.0f} s"
    note = f"newest {test_share:.0%} of {len(times)} decisions; gap: {gap}; {dropped}"
    judged: BoolArray = test & rows["observed"].to_numpy(dtype=bool)
    return Split(name="time", train=train, test=test, judged=judged, note=note)


def host_folds(rows: pd.DataFrame, *, seed: int, folds: int = HOST_FOLDS) -> list[Split]:
    """One split for each fold of hosts; every host that is no seed is held out once.

    CallerError with fewer than `HOSTS_MIN` such hosts.
    """
    hosts = _ordinary_hosts(rows)
    if len(hosts) < HOSTS_MIN:
        raise CallerError(
            f"{len(hosts)} hosts (without seeds) can't be held out in turn: at least {HOSTS_MIN} "
            "must have served or received"
        )
    folds = min(folds, len(hosts) // 2)
    fold_of = {host: number % folds for number, host in enumerate(_dealt(hosts, seed))}
    return [
        _host_split(rows, frozenset(host for host in hosts if fold_of[host] == fold), fold)
        for fold in range(folds)
    ]


def decision_times(rows: pd.DataFrame) -> pd.Series[float]:
    """When each decision was made, by its id."""
    return rows.groupby("decision_id", sort=False)["at_s"].min()


def _host_split(rows: pd.DataFrame, held_out: frozenset[str], fold: int) -> Split:
    labelled = rows["observed"].to_numpy(dtype=bool)
    parent_is_held = rows["host_id"].isin(held_out).to_numpy(dtype=bool)
    child_is_held = rows["child_host_id"].isin(held_out).to_numpy(dtype=bool)
    touches = _whole_decisions(rows, child_is_held | (parent_is_held & labelled))
    judged = labelled & parent_is_held
    judged &= _count_in_decision(rows, judged) >= 2
    test = _whole_decisions(rows, judged)
    note = f"{len(held_out)} of {len(_ordinary_hosts(rows))} hosts held out in turn"
    return Split(name=f"hosts {fold + 1}", train=~touches, test=test, judged=judged, note=note)


def _ordinary_hosts(rows: pd.DataFrame) -> list[str]:
    """Hosts that are no seeds and took part in an outcome or received, in order of their id."""
    seeds = set(rows.loc[rows["is_seed"] > 0, "host_id"].unique())
    parents = set(rows.loc[rows["observed"].astype(bool), "host_id"].unique())
    children = set(rows["child_host_id"].unique())
    return sorted((parents | children) - seeds)


def _dealt(hosts: list[str], seed: int) -> list[str]:
    """The hosts shuffled by a hash, so that one more host does not move all others."""
    return sorted(hosts, key=lambda host: hashlib.sha256(f"{seed}:{host}".encode()).digest())


def _cut(times: FloatArray, test_share: float) -> float:
    """The moment from which decisions judge; after the first one at least."""
    ordered = np.sort(times)
    number = min(len(ordered) - 1, int(np.ceil(len(ordered) * (1.0 - test_share))))
    return float(ordered[max(1, number)])


def _download_ends(rows: pd.DataFrame) -> pd.Series[float]:
    """When each child was done at the earliest: its latest decision and what came of it."""
    ends = rows[["child_id"]].assign(end_s=rows["at_s"] + rows["busy_s"].fillna(0.0))
    return ends.groupby("child_id", sort=False)["end_s"].max()


def _longest_download_s(rows: pd.DataFrame) -> float:
    starts = rows.groupby("child_id")["at_s"].min()
    return float((_download_ends(rows) - starts).max())


def _without_shared_tasks(
    rows: pd.DataFrame, train: BoolArray, test: BoolArray
) -> tuple[BoolArray, str]:
    """Leave tasks of the test out of the training part, unless that costs more than half of it."""
    shared = rows["task_id"].isin(rows.loc[test, "task_id"].unique()).to_numpy(dtype=bool)
    kept = train & ~shared
    if not (train & shared).any():
        return train, "no task on both sides"
    if _decisions(rows, kept) * 2 >= _decisions(rows, train):
        return kept, "tasks on both sides judge only"
    return train, "tasks lie on both sides"


def _whole_decisions(rows: pd.DataFrame, mask: BoolArray) -> BoolArray:
    """Spread a mask to all rows of each decision that it touches."""
    return _count_in_decision(rows, mask) > 0


def _count_in_decision(rows: pd.DataFrame, mask: BoolArray) -> FloatArray:
    """How many rows of its decision the mask has, for each row."""
    number = pd.factorize(rows["decision_id"])[0]
    count = np.bincount(number, weights=mask)[number]
    return np.asarray(count, dtype=np.float64)


def _decisions(rows: pd.DataFrame, mask: BoolArray) -> int:
    return int(rows.loc[mask, "decision_id"].nunique())


def _span_s(at_s: FloatArray) -> float:
    return float(at_s.max() - at_s.min())
