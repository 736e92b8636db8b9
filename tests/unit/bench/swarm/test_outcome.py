"""The figures of a run, from what was seen of it."""

from __future__ import annotations

import numpy as np
import pytest
from bench.swarm.calibrate import Overhead
from bench.swarm.ground import Carried
from bench.swarm.outcome import (
    VANISHED,
    Arrival,
    FileOutcome,
    HostOutcome,
    RunOutcome,
    Usage,
    balance,
    edges,
    figures_of,
    payload,
    percentile,
)
from msgspec.structs import replace


def host(name: str, took_s: float | None, *givers: str, failure: str = "") -> HostOutcome:
    """Got a piece of 10 bytes each second, then ended."""
    return HostOutcome(
        name=name,
        arrived_at_s=1.0,
        ended_at_s=None if took_s is None else 1.0 + took_s,
        failure=failure,
        pieces=tuple(
            Arrival(at_s=2.0 + number, number=number, length=10, giver=giver)
            for number, giver in enumerate(givers)
        ),
    )


def run(*hosts: HostOutcome, received: dict[str, float] | None = None) -> RunOutcome:
    return RunOutcome(
        scenario="flash",
        policy="rule",
        world=1,
        size=20,
        bound_s=2.0,
        hosts=hosts,
        origin_bytes=21,
        uplinks={"seed1": 10.0, "peer1": 5.0, "peer2": 10.0},
        received=received or {},
        usage=Usage(cpu_s=4.0, idle=0.5, idle_worst=0.2),
    )


@pytest.mark.parametrize("share", [0, 37, 50, 99, 100])
def test_percentiles_are_numpys(share: float) -> None:
    times = [3.0, 1.0, 4.0, 1.5, 9.0]
    assert percentile(times, share) == pytest.approx(float(np.percentile(times, share)))


def test_a_host_that_never_ended_is_later_than_all_others() -> None:
    assert percentile([1.0, None, 2.0], 50) == 2.0
    assert percentile([1.0, None, 2.0], 99) is None
    assert percentile([], 50) is None


def test_figures_of_a_run() -> None:
    one = run(host("peer1", 3.0, "seed1", "peer2"), host("peer2", 5.0, "seed1", "peer1"))
    figures = figures_of(one)
    assert (figures.p50_s, figures.max_s) == (4.0, 5.0)
    assert (figures.stretch_p50, figures.stretch_p99) == pytest.approx((2.0, 2.49))
    assert (figures.origin_copies, figures.seed_copies) == (1.05, 1.0)
    assert figures.first_piece_s == 1.0
    assert figures.cpu_s_per_gb == pytest.approx(4.0 / 40e-9)
    # Both gave ten bytes, one of them over half the uplink.
    assert figures.balance == pytest.approx((2 + 1) ** 2 / (2 * (4 + 1)))
    assert (figures.extra_share, figures.failures) == (None, 0)


def test_who_only_asks_gives_nothing() -> None:
    one = run(host("peer1", 3.0, "origin"), host("peer2", 5.0, "origin"))
    assert figures_of(replace(one, sent={"peer1": 0.1, "peer2": 0.15})).balance is None
    figures = figures_of(replace(one, sent={"peer1": 10.0, "peer2": 20.0}))
    assert figures.balance == pytest.approx(1.0), "each as much as it can"


def test_extra_bytes_are_what_came_beyond_the_pieces() -> None:
    one = run(host("peer1", 3.0, "seed1", "seed1"), received={"peer1": 25.0})
    assert figures_of(one).extra_share == pytest.approx(0.25)


def test_who_vanished_is_not_waited_for_and_who_failed_is_counted() -> None:
    gone = host("peer1", None, "seed1", failure=VANISHED)
    figures = figures_of(run(gone, host("peer2", 5.0, "seed1")))
    assert (figures.max_s, figures.failures) == (5.0, 0)
    figures = figures_of(run(host("peer1", 2.0, failure="wrong"), host("peer2", 5.0)))
    assert (figures.max_s, figures.failures) == (None, 1)


@pytest.mark.parametrize(
    ("loads", "expected"), [([2, 2, 2], 1.0), ([4, 0, 0, 0], 0.25), ([0, 0], None), ([], None)]
)
def test_balance(loads: list[float], expected: float | None) -> None:
    assert balance(loads) == expected


def test_copies_across_are_payload_and_there_are_none_within_one_site() -> None:
    one_site = run(host("peer1", 4.0, "seed1"))
    assert figures_of(one_site).cross_copies is None
    assert figures_of(replace(one_site, crossed_bytes=21.0)).cross_copies == pytest.approx(1.05)


def test_pieces_across_are_those_that_the_first_site_gave_to_another() -> None:
    far = run(host("peer1", 4.0, "seed1"), host("peer2", 4.0, "seed1"), host("peer3", 4.0, "peer2"))
    sites = {"seed1": 0, "peer1": 0, "peer2": 1, "peer3": 1}
    (one_piece,) = {piece.length for piece in far.hosts[1].pieces}
    crossed = one_piece * len(far.hosts[1].pieces)
    assert figures_of(replace(far, sites=sites)).cross_pieces == pytest.approx(crossed / far.size)
    assert figures_of(far).cross_pieces is None
    moved = figures_of(replace(far, sites={**sites, "seed1": 1}))
    assert moved.cross_pieces == 0.0
    assert moved.back_pieces == pytest.approx(crossed / far.size)
    assert figures_of(replace(far, sites=sites)).back_pieces == 0.0
    del sites["seed1"]
    assert figures_of(replace(far, sites=sites)).cross_pieces is None, "who knows"


def test_payload_is_found_behind_headers_and_acknowledgements() -> None:
    overhead = Overhead(along=1.05, against=0.02)
    sent, received = 700.0, 300.0
    carried = Carried(
        sent=round((1.05 * sent + 0.02 * received) * 1000),
        received=round((1.05 * received + 0.02 * sent) * 1000),
    )
    assert payload(carried, overhead) == pytest.approx((sent * 1000, received * 1000))


def test_edges_sum_by_giver_and_taker() -> None:
    one = host("peer1", 3.0, "seed1", "peer2", "seed1")
    assert edges([one]) == {("seed1", "peer1"): 20, ("peer2", "peer1"): 10}


def test_single_contents_have_percentiles_of_their_own() -> None:
    def fetching(name: str, *took_s: float, failure: str = "") -> HostOutcome:
        files = [FileOutcome(content=n, took_s=s, failure="") for n, s in enumerate(took_s)]
        if failure:
            files.append(FileOutcome(content=9, took_s=99.0, failure=failure))
        return replace(host(name, sum(took_s), "seed1"), files=tuple(files))

    figures = figures_of(run(fetching("peer1", 0.1, 0.2), fetching("peer2", 0.3, 0.4)))
    assert figures.file_p50_s == pytest.approx(0.25)
    assert figures.file_max_s == 0.4
    broken = figures_of(run(fetching("peer1", 0.1, failure="gone"), fetching("peer2", 0.3, 0.4)))
    assert broken.file_max_s is None
    assert broken.file_p50_s == pytest.approx(0.35)
    alone = figures_of(run(fetching("peer1", 1.0), fetching("peer2", 2.0)))
    assert alone.file_p50_s is None, "it is the host's own"
