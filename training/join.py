"""Which try belongs to which decision: piece records joined with decisions and candidates.

The key is the decision's id and the parent's peer id. The peer counts its answers, so a record
names the latest decision that named this parent: pieces fetched after decision n + 1 named the same
parent again carry n + 1 already, and nothing here guesses by time (hosts' clocks differ).

Telemetry is delivered at least once, read from several folders, and may be written twice; so:

- Two rows are copies of one record if child, parent, piece number, moment (`at_s`), result and
  writer agree. A child asks one parent for one piece again only after the last try ended, so two
  tries can't end at the same moment; and a copy has the very same moment, for it is the same frame
  of the same file, with the same clock offset.
- A peer that records its tries may be recorded by the scheduler too. The clocks differ, so the
  moments don't agree; but both heard of the tries with one parent for one piece in the same order.
  The k-th one that brought it (or: did not) is the same try for both, and the peer's record stays:
  the scheduler knows neither queueing nor why a try was stopped. What the scheduler heard without a
  piece number can't be matched; it is dropped if the peer recorded anything.
- Rows of one decision id that are not copies of each other are different decisions (a peer id used
  twice). Nobody can tell whose pieces are whose: none of them is used.

Every row that is read ends in exactly one place: an outcome, or a counted bucket. This module joins
and counts; it labels nothing, and reads and writes no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from odonata.telemetry.record import SCHEMA_VERSION

RECORD_KEY = ["child_id", "parent_id", "number", "at_s", "result", "written_by"]
"""The identity of a piece record (see above)."""
TRY_KEY = ["child_id", "parent_id", "number", "is_ok", "turn"]
"""The identity of a try, whoever recorded it: `turn` counts a writer's records of one kind."""
DECISION_KEY = ["decision_id", "at_s", "child_id", "task_id"]
CANDIDATE_KEY = ["decision_id", "peer_id"]
BY_PEER = "peer"
FROM_SOURCE = "back_to_source"


@dataclass(frozen=True, slots=True)
class Distinct:
    """Rows without copies; `repeated` and `twice_written` count what was left out."""

    frame: pd.DataFrame
    repeated: int
    twice_written: int = 0


def distinct(frame: pd.DataFrame, key: list[str]) -> Distinct:
    """One row for each value of `key`, sorted by it: the same for any order of the rows."""
    has_copies = frame.duplicated(key, keep=False)
    copies = frame.loc[has_copies]
    # Should copies differ after all, their own columns say which one stays, not their order.
    rest = [str(name) for name in frame.columns if str(name) not in key]
    firsts = copies.sort_values([*key, *rest], kind="stable").drop_duplicates(key)
    once = pd.concat([frame.loc[~has_copies], firsts])
    once = once.sort_values(key, kind="stable", ignore_index=True)
    return Distinct(frame=once, repeated=len(frame) - len(once))


def distinct_tries(pieces: pd.DataFrame) -> Distinct:
    """One row for each try, by the rules above; the peer's own where there is one."""
    records = distinct(pieces, RECORD_KEY)
    frame = records.frame.assign(
        is_ok=records.frame["result"] == "ok",
        by_peer=records.frame["written_by"] == BY_PEER,
    )
    # RECORD_KEY sorts by child, parent and number, then by time: turns count in that order.
    same_piece = ["child_id", "parent_id", "number", "is_ok", "written_by"]
    frame["turn"] = frame.groupby(same_piece).cumcount()
    frame = frame.sort_values([*TRY_KEY, "by_peer"], kind="stable")
    told_by_peer = frame.groupby(["child_id", "parent_id"])["by_peer"].transform("max")
    nameless = (frame["number"] < 0) & ~frame["by_peer"] & told_by_peer
    frame = frame[~nameless].drop_duplicates(TRY_KEY, keep="last")
    return Distinct(
        frame=frame.drop(columns=["is_ok", "by_peer", "turn"]).reset_index(drop=True),
        repeated=records.repeated,
        twice_written=len(records.frame) - len(frame),
    )


def places(tries: pd.DataFrame, candidates: pd.DataFrame, known: set[str]) -> pd.Series[str]:
    """Where each try ends: "joined", or the `rows.PieceCounts` bucket that counts it.

    `candidates` are those of the decisions that are used (decision_id, peer_id, slot; no copies),
    `known` the ids of all recorded decisions.
    """
    decision = tries["decision_id"]
    slots = candidates[[*CANDIDATE_KEY, "slot"]].rename(columns={"peer_id": "parent_id"})
    # Many tries to one candidate: never more rows than tries, and in their order.
    matched = tries[["decision_id", "parent_id"]].merge(
        slots, how="left", on=["decision_id", "parent_id"], validate="many_to_one"
    )
    slot = matched["slot"].to_numpy(dtype=np.float64, na_value=np.nan)
    kept = set(candidates["decision_id"])
    rules = [
        ("from_source", tries["traffic"] == FROM_SOURCE),
        ("other_record_schema", tries["schema_version"] != SCHEMA_VERSION),
        ("length_unknown", (tries["result"] == "ok") & (tries["length"] <= 0)),
        ("without_decision", (decision == "") | (tries["parent_id"] == "")),
        ("decision_lost", ~decision.isin(known)),
        ("decision_left_out", ~decision.isin(kept)),
    ]
    place = np.select(
        [*(where.to_numpy(dtype=bool) for _, where in rules), np.isnan(slot), slot < 0],
        [*(name for name, _ in rules), "not_a_candidate", "not_chosen"],
        default="joined",
    )
    return pd.Series(place, index=tries.index, dtype="str")


def attach(candidates: pd.DataFrame, outcome: pd.DataFrame) -> pd.DataFrame:
    """Every candidate with its outcome, or with zeros and no label where there is none.

    As many rows as `candidates`, in their order.
    """
    rows = candidates.merge(outcome, how="left", on=CANDIDATE_KEY, validate="one_to_one")
    for name in outcome.columns.difference(CANDIDATE_KEY):
        if name == "label_log_goodput":
            continue
        kind = outcome[name].dtype
        nothing: bool | float = False if kind == np.bool_ else 0
        rows[name] = rows[name].astype("object").where(rows[name].notna(), nothing).astype(kind)
    return rows
