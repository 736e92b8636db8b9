"""What a report says of outcomes, in figures and as a table."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from odonata.errors import SourceError
from odonata.piece import MIB
from simulator.report import Giver, Outcome, SwarmReport, percentile


def outcome(name: str, took_s: float | None, *, error: str = "", crashed: bool = False) -> Outcome:
    return Outcome(
        name=name,
        started_at_s=1.0,
        ended_at_s=None if took_s is None else 1.0 + took_s,
        error=SourceError(error) if error else None,
        crashed=crashed,
        fetched_from={"seed1": 2 * MIB, "peer2": MIB},
    )


REPORT = SwarmReport(
    size=4 * MIB,
    bound_s=2.0,
    outcomes=(
        outcome("peer1", 4.0),
        outcome("peer2", 2.0),
        outcome("peer3", 3.0, error="origin is gone"),
        outcome("peer4", None, crashed=True),
        outcome("peer5", None),
    ),
    givers=(Giver(name="source", sent=6 * MIB), Giver(name="seed1", sent=8 * MIB)),
    source_requests=2,
    blamed=(("peer1", "peer2", 3),),
)


def test_figures() -> None:
    assert REPORT.times_s == [2.0, 4.0]
    assert REPORT.p50_s == pytest.approx(3.0)
    assert REPORT.stretch(REPORT.p50_s) == pytest.approx(1.5)
    assert REPORT.source_copies == pytest.approx(1.5)
    assert REPORT.copies("seed1") == pytest.approx(2.0)
    assert REPORT.copies("nobody") == 0


def test_failures_are_those_that_lived_and_did_not_get_it() -> None:
    assert REPORT.failures == ("peer3: origin is gone", "peer5: did not end")


def test_table_tells_everybody() -> None:
    page = StringIO()
    Console(width=120, file=page).print(REPORT.render())
    text = page.getvalue()
    for expected in (
        "peer1",
        "gave up",
        "crashed",
        "never ended",
        "p50 1.50",
        "1.50 copies in 2 requests",
        "1 pieces with a wrong digest",
        "1.0 MiB",  # from the source: what neither peers nor seeds gave
    ):
        assert expected in text


def test_empty_worlds_have_figures_too() -> None:
    empty = SwarmReport(size=0, bound_s=0.0, outcomes=(), givers=(), source_requests=0, blamed=())
    assert (empty.p50_s, empty.source_copies, empty.stretch(1.0)) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, 0.0), ([3.0], 99, 3.0), ([1.0, 2.0, 3.0], 50, 2.0), ([0.0, 100.0], 99, 99.0)],
)
def test_percentile(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)
