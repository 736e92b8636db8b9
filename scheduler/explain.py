"""`odonata explain`: asks a running scheduler why it decided so, and shows the answer.

It speaks to the scheduler's status page (`metrics.enable`), which keeps the latest decisions, and
to nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from models.guard import FALLBACKS
from odonata.wire.message import Value
from scheduler.status_client import ask_page

FEATURE_COLUMNS: Final = 6
"""Candidates whose features stand side by side: as many as a terminal has room for."""


class Candidate(Value, frozen=True, kw_only=True):
    """One candidate: `dropped` says why it was not chosen ("": it was)."""

    peer_id: str
    score: float | None = None
    dropped: str = ""
    features: dict[str, float | None] = {}


class Explained(Value, frozen=True, kw_only=True):
    """One decision, see `scheduler.core.story.Decision`; `at_s` is in seconds since 1970."""

    at_s: float
    task_id: str
    child_id: str
    outcome: str
    reason: str
    decision_id: str = ""
    ranker: str = ""
    ranked_by: str = ""
    model_version: str = ""
    fallback: str = ""
    explored: bool = False
    candidates: tuple[Candidate, ...] = ()
    useful_count: int = 0
    peer_count: int = 0


class Explanation(Value, frozen=True, kw_only=True):
    """The page's answer: the latest decisions, oldest first, and whether there were more."""

    decisions: tuple[Explained, ...]
    more: bool = False


def ask(url: str, kind: str | None, id_: str) -> Explanation:
    """The latest decisions about a peer or task; `kind` None: whichever is called so.

    `id_` may be the beginning of an id, if it is that of only one. Errors: those of `ask_page`.
    """
    return ask_page(url, "/explain", {kind or "id": id_}, Explanation)


# --- for people -----------------------------------------------------------------------------------


def show(console: Console, explanation: Explanation, last: int) -> None:
    """Print the `last` decisions, the latest one at the end."""
    decisions = explanation.decisions[-last:]
    if explanation.more or len(decisions) < len(explanation.decisions):
        console.print(f"The latest {len(decisions)} decisions; more with --last or --json.\n")
    for decision in decisions:
        for line in _heading(decision):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        if decision.candidates:
            console.print(_candidate_table(decision.candidates))
        scored = [one for one in decision.candidates if one.features][:FEATURE_COLUMNS]
        if scored:
            console.print(_feature_table(scored))
        console.print()


def _heading(decision: Explained) -> Iterator[str]:
    at = datetime.fromtimestamp(decision.at_s).astimezone()
    yield f"{at:%Y-%m-%d %H:%M:%S.%f%z}  {decision.outcome}  {decision.decision_id}".rstrip()
    yield f"  child   {decision.child_id}"
    yield f"  task    {decision.task_id}"
    yield f"  ranked  {who_ranked(decision)}"
    yield f"  reason  {decision.reason or '-'}"
    yield (
        f"  seen    {decision.useful_count} of {decision.peer_count} peers of the task could serve"
    )


def who_ranked(decision: Explained) -> str:
    """Who ranked, and why it was not the one that was asked."""
    if not decision.ranked_by:
        return "nobody: there was nothing to rank"
    text = decision.ranked_by
    if decision.model_version:
        text += f", model {decision.model_version}"
    if decision.fallback:
        why = FALLBACKS.get(decision.fallback, decision.fallback)
        text += f" instead of {decision.ranker} ({decision.fallback}: {why})"
    return f"{text}; explored: parents were drawn" if decision.explored else text


def _candidate_table(candidates: Sequence[Candidate]) -> Table:
    table = Table("#", "candidate", "score", "verdict", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].justify = table.columns[2].justify = "right"
    table.columns[1].overflow = "fold"
    for number, one in enumerate(candidates, start=1):
        score = "-" if one.score is None else f"{one.score:.3f}"
        table.add_row(str(number), one.peer_id, score, one.dropped or "chosen")
    return table


def _feature_table(candidates: Sequence[Candidate]) -> Table:
    table = Table("feature", box=box.SIMPLE_HEAD, pad_edge=False)
    for number in range(1, len(candidates) + 1):
        table.add_column(f"#{number}", justify="right")
    for name in candidates[0].features:
        values = (one.features.get(name) for one in candidates)
        table.add_row(name, *("?" if value is None else f"{value:.3g}" for value in values))
    return table
