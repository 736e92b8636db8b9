"""What a data set is like: the figures to look at before a ranker is fitted on it.

`describe` computes them (plain values, also for JSON), `render` makes tables of them. Nothing here
changes a data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from math import exp

import msgspec
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from odonata.units import format_rate
from odonata.wire.message import Value
from training.rows import Card, DataSet
from training.skew import Advance, SkewReport, liveness, skew

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
MISMATCHES_SHOWN = 10


class RankerShare(Value, frozen=True, kw_only=True):
    """The decisions that one ranker made when another one (or itself) was asked."""

    policy: str
    ranked_by: str
    model_version: str
    fallback: str
    decision_count: int
    explored_share: float
    chosen_count: int
    observed_count: int
    failed_count: int
    median_goodput_bytes_per_s: float | None
    """Over observed parents that did not fail; None: there was none."""


class Description(Value, frozen=True, kw_only=True):
    """Figures of a data set; shares are 0..1 (None: of nothing), rates in bytes/s."""

    card: Card
    candidates_per_decision: float
    chosen_count: int
    observed_share: float | None
    """Of the chosen candidates."""
    trainable_decision_count: int
    """With at least two observed parents: only these teach a ranker an order."""
    failed_count: int
    censored_count: int
    thin_count: int
    explored_share: float
    goodput_quantiles: dict[str, float]
    rankers: tuple[RankerShare, ...]
    skew: SkewReport
    constant_features: tuple[str, ...]
    lost_decision_share: float | None
    """Of the answers that peers say they got."""
    lost_piece_share: float | None
    """Of the pieces that peers say they stored."""


def describe(dataset: DataSet, advance: Advance | None = None) -> Description:
    """All figures of `dataset`; `advance` hears of every decision compared."""
    rows, card, downloads = dataset.frame, dataset.card, dataset.card.downloads
    first = rows.drop_duplicates("decision_id")
    chosen = int(rows["chosen"].sum())
    observed = rows.loc[rows["observed"]]
    per_decision = observed.groupby("decision_id").size()
    return Description(
        card=card,
        candidates_per_decision=len(rows) / len(first),
        chosen_count=chosen,
        observed_share=_share(len(observed), chosen),
        trainable_decision_count=int((per_decision >= 2).sum()),
        failed_count=int(observed["is_failed"].sum()),
        censored_count=int(observed["is_censored"].sum()),
        thin_count=int(observed["is_thin"].sum()),
        explored_share=float(first["explored"].mean()),
        goodput_quantiles=_quantiles(rows),
        rankers=tuple(_rankers(rows)),
        skew=skew(rows, advance),
        constant_features=liveness(rows),
        lost_decision_share=_lost(downloads.decisions_told, downloads.decisions_recorded),
        lost_piece_share=_lost(downloads.pieces_told, downloads.pieces_recorded),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _lost(told: int, recorded: int) -> float | None:
    return max(0.0, 1 - recorded / told) if told else None


def _quantiles(rows: pd.DataFrame) -> dict[str, float]:
    labels = rows["label_log_goodput"].dropna()
    if labels.empty:
        return {}
    return {f"p{100 * q:g}": exp(float(labels.quantile(q))) for q in QUANTILES}


def _rankers(rows: pd.DataFrame) -> Iterator[RankerShare]:
    key = ["policy", "ranked_by", "model_version", "fallback"]
    for names, own in rows.groupby(key, sort=True):
        policy, ranked_by, version, fallback = (str(n) for n in names)
        first = own.drop_duplicates("decision_id")
        labels = own["label_log_goodput"].dropna()
        yield RankerShare(
            policy=policy,
            ranked_by=ranked_by,
            model_version=version,
            fallback=fallback,
            decision_count=len(first),
            explored_share=float(first["explored"].mean()),
            chosen_count=int(own["chosen"].sum()),
            observed_count=int(own["observed"].sum()),
            failed_count=int(own["is_failed"].sum()),
            median_goodput_bytes_per_s=None if labels.empty else exp(float(labels.median())),
        )


# --- tables -------------------------------------------------------------------------------------


def render(description: Description) -> RenderableType:
    """The figures as tables for a terminal."""
    return Group(
        _overview(description),
        _goodput(description),
        _by_ranker(description),
        _pieces(description.card),
        _trust(description),
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _overview(description: Description) -> Table:
    card, decisions = description.card, description.card.decisions
    table = _table("Data set", "what", "count", "note")
    span = f"{_moment(card.first_at_s)} to {_moment(card.last_at_s)}"
    table.add_row("decisions", f"{card.decision_count:,}", span)
    table.add_row("  to the source", f"{decisions.to_source:,}", "")
    table.add_row(
        "  to learn an order from",
        f"{description.trainable_decision_count:,}",
        "two observed parents or more",
    )
    per_decision = f"{description.candidates_per_decision:.1f} per decision"
    table.add_row("candidates", f"{card.row_count:,}", per_decision)
    explored = f"{percent(description.explored_share)} of decisions explored"
    table.add_row("  chosen", f"{description.chosen_count:,}", explored)
    observed = f"{percent(description.observed_share)} of the chosen"
    table.add_row("  observed", f"{card.observed_count:,}", observed)
    table.add_row("  failed", f"{description.failed_count:,}", "mostly failed, or only refused")
    late = "brought nothing in time: goodput at best"
    table.add_row("  censored", f"{description.censored_count:,}", late)
    table.add_row("  thin", f"{description.thin_count:,}", "one try of less than 8 MB")
    hosts = card.hosts
    note = f"{hosts.observed:,} of them observed"
    table.add_row("hosts as candidates", f"{hosts.candidates:,}", note)
    table.add_row("hosts as children", f"{hosts.children:,}", "")
    return table


def _goodput(description: Description) -> RenderableType:
    quantiles = description.goodput_quantiles
    if not quantiles:
        return Text("No parent has a goodput: nothing can be learned from this.", style="red")
    table = Table(title="Goodput per decision and parent", title_justify="left", title_style="bold")
    for name in quantiles:
        table.add_column(name, justify="right")
    table.add_row(*(rate(value) for value in quantiles.values()))
    return table


def _by_ranker(description: Description) -> Table:
    table = _table(
        "Who ranked", "asked", "ranked", "why", "decisions", "explored", "observed", "failed",
        "median goodput",
    )  # fmt: skip
    for own in description.rankers:
        version = f" {own.model_version}" if own.model_version else ""
        table.add_row(
            own.policy,
            own.ranked_by + version,
            own.fallback,
            f"{own.decision_count:,}",
            percent(own.explored_share),
            percent(_share(own.observed_count, own.chosen_count)),
            percent(_share(own.failed_count, own.observed_count)),
            rate(own.median_goodput_bytes_per_s),
        )
    return table


_MEANINGS = {
    "joined": "count in an outcome",
    "from_source": "came from the source",
    "repeated": "copies of one record",
    "twice_written": "written by peer and scheduler",
    "other_record_schema": "under another record schema",
    "length_unknown": "of unknown length",
    "without_decision": "name no decision",
    "decision_lost": "name a decision that is not recorded",
    "decision_left_out": "name a decision that was left out",
    "not_a_candidate": "name a parent that was no candidate",
    "not_chosen": "name a parent that was not chosen",
    "ambiguous": "share their id with another decision",
    "other_facts": "under other features, without all facts",
    "without_choice": "to the source, without a candidate",
    "without_candidates": "without all their candidates",
    "recomputed": "features made anew from facts",
}


def _pieces(card: Card) -> Table:
    """Where records went, and why tries brought nothing; rows of zeros are left out."""
    table = _table("What became of the records", "record", "count")
    decisions: dict[str, int] = msgspec.to_builtins(card.decisions)
    pieces: dict[str, int] = msgspec.to_builtins(card.pieces)
    for kind, counts in (("decision", decisions), ("piece", pieces)):
        table.add_row(f"{kind} records", f"{counts['read']:,}", style="bold")
        for name, meaning in _MEANINGS.items():
            if counts.get(name):
                table.add_row(f"  {meaning}", f"{counts[name]:,}")
    if card.lost_decisions:
        table.add_row("decisions that pieces name, not recorded", f"{card.lost_decisions:,}")
    if card.orphan_candidates:
        table.add_row("candidates without their decision", f"{card.orphan_candidates:,}")
    table.add_section()
    for reason, count in card.failures.items():
        table.add_row(f"tries {reason}", f"{count:,}")
    return table


def _trust(description: Description) -> Table:
    """What would make the rows a bad teacher."""
    table = _table("Can it be trusted?", "check", "found")
    report = description.skew
    rows = f"equal in {report.row_count:,} rows, bit for bit"
    table.add_row("features recomputed against logged", rows if report.is_clean else "they differ")
    for mismatch in report.mismatches[:MISMATCHES_SHOWN]:
        example = f"{mismatch.count:,} rows, first {mismatch.decision_id} {mismatch.peer_id}: "
        values = f"logged {mismatch.logged!r}, recomputed {mismatch.recomputed!r}"
        table.add_row(f"  {mismatch.feature}", example + values, style="red")
    constant = ", ".join(description.constant_features)
    table.add_row("features that never change", constant or "none")
    table.add_row("answers lost", _lost_text(description.lost_decision_share))
    table.add_row("pieces lost", _lost_text(description.lost_piece_share))
    return table


def _lost_text(share: float | None) -> str:
    if share is None:
        return "unknown: no download records"
    return "none" if not share else percent(share)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def rate(bytes_per_s: float | None) -> str:
    return "-" if bytes_per_s is None else format_rate(bytes_per_s)


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
