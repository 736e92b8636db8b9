"""Many runs in one table: medians and their ranges, with rejected runs left out."""

from __future__ import annotations

import json

import pytest
from bench.swarm.outcome import HostOutcome, RunOutcome, Usage
from bench.swarm.summary import (
    Spread,
    document_of,
    markdown_of,
    matrix_of,
    rows_of,
    spread,
    tables_of,
)


def run(policy: str, took_s: float | None, *, rejected: str = "") -> RunOutcome:
    host = HostOutcome(name="peer1", arrived_at_s=0.0, ended_at_s=took_s, failure="", pieces=())
    return RunOutcome(
        scenario="flash",
        policy=policy,
        world=1,
        size=10,
        bound_s=2.0,
        hosts=(host,),
        origin_bytes=10,
        uplinks={},
        usage=Usage(cpu_s=1.0, idle=0.3, idle_worst=0.1),
        rejected=rejected,
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, 1.0, 2.0], (2.0, 1.0, 3.0)),
        ([1.0, None, 2.0], (2.0, 1.0, None)),
        ([1.0, None, None], (None, 1.0, None)),
        ([], (None, None, None)),
    ],
)
def test_none_is_above_everything(
    values: list[float | None], expected: tuple[float | None, ...]
) -> None:
    middle, lowest, highest = expected
    assert spread(values) == Spread(middle=middle, lowest=lowest, highest=highest)


def test_rejected_runs_are_counted_and_left_out() -> None:
    row, other = rows_of(
        [
            run("rule", 4.0),
            run("direct", 9.0),
            run("rule", 6.0),
            run("rule", 99.0, rejected="the CPU was busy"),
        ]
    )
    assert (row.policy, row.runs, row.rejected) == ("rule", 2, 1)
    assert row.figures["p50_s"] == Spread(middle=5.0, lowest=4.0, highest=6.0)
    assert row.figures["stretch_p50"].middle == 2.5
    assert (other.policy, other.runs) == ("direct", 1)


def test_tables_have_a_column_for_each_policy() -> None:
    rows = rows_of([run("rule", 4.0), run("rule", 6.0), run("direct", None)])
    text = markdown_of(rows)
    assert "| flash | rule | direct |" in text
    assert "| p50 s | 5.0 (4.0-6.0) | - |" in text
    assert "| hosts that failed | 0 | 0 |" in text
    (table,) = tables_of(rows)
    assert [column.header for column in table.columns] == ["", "rule", "direct"]


def test_many_policies_are_lines_of_a_matrix() -> None:
    rows = rows_of([run("rule", 4.0), run("dag", None), run("random", 1.0, rejected="busy")])
    assert matrix_of(rows).splitlines() == [
        "|  | flash |",
        "| --- | --- |",
        "| rule | 2.00/2.00, 0.0 |",
        "| dag | -/-, 0.0 |",
        "| random | rejected |",
    ]


def test_the_document_holds_every_run() -> None:
    document = json.loads(document_of([run("rule", 4.0)], {"command": ["flash"]}))
    assert document["command"] == ["flash"]
    assert document["runs"][0]["outcome"]["hosts"][0]["ended_at_s"] == 4.0
    assert document["runs"][0]["figures"]["stretch_p50"] == 2.0
    assert document["rows"][0]["figures"]["p50_s"]["middle"] == 4.0
