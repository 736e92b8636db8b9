"""Figures of a study: medians over worlds of the judged files, and the gap to the bound."""

from __future__ import annotations

from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

from simulator.study import FileOutcome, HostOutcome, WorldOutcome
from simulator.summary import summarise, table


def host(name: str, took_s: float | None, failure: str = "") -> HostOutcome:
    return HostOutcome(
        host=name,
        uplink_bytes_per_s=1.0,
        is_slow=False,
        degrades=False,
        vanishes=False,
        started_at_s=0.0,
        took_s=took_s,
        failure=failure,
        from_peers_bytes=0,
        from_seeds_bytes=0,
        from_source_bytes=0,
    )


def world(policy: str, seed: int, *times_s: float, bound_s: float = 10.0) -> WorldOutcome:
    """A first file that does not count, and one that does."""

    def file(number: int, times: tuple[float, ...]) -> FileOutcome:
        return FileOutcome(
            number=number,
            bound_s=bound_s,
            source_copies=1.0,
            seed_copies=3.0,
            source_requests=1,
            hosts=(
                *(host(f"peer{i}", took) for i, took in enumerate(times)),
                host("dead", None, "crashed"),
            ),
        )

    return WorldOutcome(
        scenario="x",
        policy=policy,
        client="own",
        seed=seed,
        judged_from=2,
        files=(file(1, (999.0,)), file(2, times_s)),
    )


def test_rows_count_the_judged_files_alone() -> None:
    (row,) = summarise([world("rule", 1, 20.0, 20.0, 20.0), world("rule", 2, 40.0)])
    assert row.middle("p50_s") == 30.0
    assert row.middle("stretch_p99") == 3.0
    assert row.p99_spread == (2.0, 4.0)
    assert row.failures == 0  # who crashed did not fail
    assert row.gap_closed == ()


def test_the_gap_is_closed_world_by_world() -> None:
    dragonfly, rule = summarise(
        [
            world("dragonfly", 1, 50.0),
            world("dragonfly", 2, 30.0),
            world("rule", 1, 20.0),
            world("rule", 2, 40.0),
        ]
    )
    assert rule.gap_closed == pytest.approx((0.75, -0.5))
    assert dragonfly.gap_closed == pytest.approx((0.0, 0.0))


def test_the_table_fits_eighty_columns_and_tells_failures_if_there_are_any() -> None:
    def printed(outcomes: list[WorldOutcome]) -> str:
        out = StringIO()
        Console(file=out, width=80).print(table(summarise(outcomes)))
        return out.getvalue()

    good = printed([world("dragonfly", 1, 50.0), world("rule", 1, 20.0)])
    assert "20/20/20" in good
    assert "75%" in good
    assert "failed" not in good
    bad = world("rule", 1, 20.0)
    failed = FileOutcome(
        number=2,
        bound_s=10.0,
        source_copies=0.0,
        seed_copies=0.0,
        source_requests=1,
        hosts=(host("peer1", 10.0), host("peer2", None, "gave up")),
    )
    told = printed([replace(bad, files=(failed,), judged_from=1), bad])
    assert "failed" in told
    assert "…" not in told
