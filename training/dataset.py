"""From telemetry to a data set: read, join, label, count.

A thin pipeline of the steps in `join` and `label`; the same telemetry gives the same rows, in the
order (at_s, decision_id, row), and the same file, whatever the order of folders, files and copies.

A decision that was logged under other features than today's is made anew from its facts if all of
today's facts were recorded, else it is left out; either is counted. So a data set holds one kind of
features only. The features come from the candidates' own columns, which were written when the
decision was made, and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from models.features import schema_hash
from odonata.errors import CallerError
from odonata.telemetry.record import SCHEMA_VERSION
from training import join, label, telemetry
from training.rows import (
    DECISION_COLUMNS,
    FEATURE_COLUMNS,
    Card,
    DataSet,
    DecisionCounts,
    DownloadCounts,
    Hosts,
    PieceCounts,
    Source,
    save,
    typed,
)
from training.skew import recompute
from training.telemetry import Telemetry

REASONS_MAX = 20
"""Reasons that the card tells apart; a scheduler may write whatever it heard."""


class Progress(Protocol):
    """Told how far a stage is: `done` of `total` steps."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


def build(directories: Sequence[Path], out: Path, progress: Progress = silent) -> Card:
    """Make a data set of the telemetry in `directories` and write it to the folder `out`.

    NotFoundError for a folder that is not there, CallerError if no decision can be used.
    """
    return save(assemble(directories, progress), out)


def assemble(directories: Sequence[Path], progress: Progress = silent) -> DataSet:
    """The same in memory only: the card names no checksum yet."""
    parts: list[Telemetry] = []
    sources: list[Source] = []
    for number, directory in enumerate(directories):
        progress("reading", number, len(directories))
        part = telemetry.read(directory)
        parts.append(part)
        sources.append(_source(directory, part))
    if not parts:
        raise CallerError("no telemetry folder is named; name at least one")
    progress("reading", len(directories), len(directories))
    return from_telemetry(telemetry.together(parts), tuple(sources), progress)


def from_telemetry(
    read: Telemetry, sources: tuple[Source, ...] = (), progress: Progress = silent
) -> DataSet:
    """Join, label and count: no files are read or written. CallerError if no decision is left."""
    candidates = join.distinct(read.candidates, join.CANDIDATE_KEY).frame
    sorted_out = _sort_out(read.decisions, candidates)
    if sorted_out.kept.empty:
        raise CallerError(_why_nothing(sorted_out.counts, sources))
    rows = _rows(sorted_out.kept, candidates, progress)
    progress("joining", 0, 1)
    tries = join.distinct_tries(read.pieces)
    place = join.places(tries.frame, rows, sorted_out.known)
    joined = label.with_kinds(tries.frame).loc[place == "joined"]
    rows = typed(join.attach(rows, label.outcomes(joined)))
    progress("joining", 1, 1)
    lost = tries.frame["decision_id"][place == "decision_lost"]
    card = Card(
        row_count=len(rows),
        decision_count=len(sorted_out.kept),
        observed_count=int(rows["observed"].sum()),
        first_at_s=float(rows["at_s"].min()),
        last_at_s=float(rows["at_s"].max()),
        record_schema=SCHEMA_VERSION,
        feature_schema=schema_hash(),
        hosts=_hosts(rows),
        decisions=sorted_out.counts,
        pieces=_piece_counts(len(read.pieces), tries, place),
        downloads=_download_counts(read.downloads, sorted_out.answers, tries.frame),
        failures=_failures(joined),
        lost_decisions=int(lost.nunique()),
        orphan_candidates=int((~candidates["decision_id"].isin(sorted_out.known)).sum()),
        sources=sources,
    )
    return DataSet(frame=rows, card=card)


# --- decisions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SortedOut:
    """Decisions that stay (`kept`), the ids of all that were read, each once, and the counts."""

    kept: pd.DataFrame
    known: set[str]
    answers: pd.Series[str]
    """The child of each decision that was an answer with parents, kept or not."""
    counts: DecisionCounts


_FATES = ["ambiguous", "other_record_schema", "without_choice", "without_candidates", "other_facts"]
"""Why a decision is left out, the first that holds: fields of `DecisionCounts`."""


def _sort_out(read: pd.DataFrame, candidates: pd.DataFrame) -> SortedOut:
    """Decide for every decision record whether its rows can be used."""
    once = join.distinct(read, join.DECISION_KEY)
    frame = once.frame
    groups = candidates.groupby("decision_id").agg(
        count=("row", "size"), last=("row", "max"), facts_whole=("facts_whole", "min")
    )
    group = groups.reindex(frame["decision_id"])
    is_whole = (group["count"] == group["last"] + 1).to_numpy(dtype=np.bool_)
    facts_whole = group["facts_whole"].eq(True).to_numpy(dtype=np.bool_)
    of_today = (frame["feature_schema"] == schema_hash()).to_numpy(dtype=np.bool_)
    fates = np.select(
        [
            frame["decision_id"].duplicated(keep=False).to_numpy(dtype=np.bool_),
            (frame["schema_version"] != SCHEMA_VERSION).to_numpy(dtype=np.bool_),
            group["count"].isna().to_numpy() & (frame["outcome"] == "source").to_numpy(),
            ~is_whole,
            ~of_today & ~facts_whole,
        ],
        _FATES,
        default="kept",
    )
    fate = pd.Series(fates, index=frame.index, dtype="str")
    kept = frame.assign(is_old=~of_today).loc[fate == "kept"]
    counts = DecisionCounts(
        read=len(read),
        repeated=once.repeated,
        **{name: int((fate == name).sum()) for name in _FATES},
        kept=len(kept),
        recomputed=int(kept["is_old"].sum()),
        to_source=int((kept["outcome"] == "source").sum()),
    )
    answers = frame.loc[frame["outcome"] == "parents", "child_id"]
    return SortedOut(kept, set(frame["decision_id"]), answers, counts)


def _rows(kept: pd.DataFrame, candidates: pd.DataFrame, progress: Progress) -> pd.DataFrame:
    """Candidates of the decisions that stay, with the decision's columns, in the final order."""
    names = [column.name for column in DECISION_COLUMNS]
    rows = candidates.merge(
        kept[[*names, "is_old"]], how="inner", on="decision_id", validate="many_to_one"
    ).sort_values(["at_s", "decision_id", "row"], kind="stable", ignore_index=True)
    rows["chosen"] = rows["slot"] >= 0
    old = rows["is_old"].astype("bool")
    if bool(old.any()):
        features = recompute(rows.loc[old], _counter(progress, "recomputing", kept["is_old"]))
        rows.loc[old, list(FEATURE_COLUMNS)] = features
    return rows


def _counter(progress: Progress, stage: str, wanted: pd.Series[bool]) -> Callable[[int], None]:
    total, done = int(wanted.sum()), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(stage, done, total)

    return advance


def _why_nothing(counts: DecisionCounts, sources: Sequence[Source]) -> str:
    places = ", ".join(source.directory for source in sources) or "the telemetry"
    if not counts.read:
        return (
            f"no decisions in {places}: name the folder that a scheduler with telemetry writes to"
        )
    return (
        f"none of {counts.read} decisions in {places} can be used: "
        f"{counts.other_record_schema} under another record schema, {counts.other_facts} under "
        f"other features and facts, {counts.ambiguous} under an id used twice, "
        f"{counts.without_candidates} without all their candidates; record new telemetry"
    )


# --- counts -------------------------------------------------------------------------------------


def _source(directory: Path, part: Telemetry) -> Source:
    return Source(
        directory=str(directory),
        decisions=len(part.decisions),
        candidates=len(part.candidates),
        pieces=len(part.pieces),
        downloads=len(part.downloads),
    )


def _hosts(rows: pd.DataFrame) -> Hosts:
    return Hosts(
        children=int(rows["child_host_id"].nunique()),
        candidates=int(rows["host_id"].nunique()),
        observed=int(rows.loc[rows["observed"], "host_id"].nunique()),
    )


def _piece_counts(read: int, tries: join.Distinct, place: pd.Series[str]) -> PieceCounts:
    ends = {str(name): int(count) for name, count in place.value_counts().items()}
    return PieceCounts(
        read=read, repeated=tries.repeated, twice_written=tries.twice_written, **ends
    )


def _download_counts(
    downloads: pd.DataFrame, answers: pd.Series[str], tries: pd.DataFrame
) -> DownloadCounts:
    """`answers`: the child of each recorded answer with parents."""
    once = join.distinct(downloads, ["child_id"])  # a peer id is of one download
    children = once.frame["child_id"]
    stored = tries.loc[tries["result"] == "ok", "child_id"]
    return DownloadCounts(
        read=len(downloads),
        repeated=once.repeated,
        failed=int((once.frame["result"] == "failed").sum()),
        decisions_told=int(once.frame["decision_count"].sum()),
        decisions_recorded=int(answers.isin(children).sum()),
        pieces_told=int(once.frame["piece_count"].sum()),
        pieces_recorded=int(stored.isin(children).sum()),
    )


def _failures(joined: pd.DataFrame) -> dict[str, int]:
    """Tries that brought nothing, by result and reason, the most frequent first."""
    bad = joined[joined["result"] != "ok"]
    names = bad["result"] + ": " + bad["reason"].where(bad["reason"] != "", "no reason given")
    counted = sorted(
        ((str(name), int(count)) for name, count in names.value_counts().items()),
        key=lambda pair: (-pair[1], pair[0]),
    )
    rest = sum(count for _, count in counted[REASONS_MAX:])
    return {**dict(counted[:REASONS_MAX]), **({"other reasons": rest} if rest else {})}
