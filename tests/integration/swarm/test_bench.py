"""The swarm bench on small swarms: whole contents, nothing left behind, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench.swarm import namespaces
from bench.swarm.campaign import Wish, run_all
from bench.swarm.outcome import RunOutcome, figures_of
from bench.swarm.policy import POLICIES
from bench.swarm.world import Scale

from odonata.errors import CapacityError
from odonata.piece import MIB
from simulator.scenario import MBIT

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.long
"""A minute in all, and a machine with other work to do rejects its runs: on request."""

SMALL = Scale(peers=3, size=2 * MIB, piece_length=128 * 1024, peer_rate=16 * MBIT)
TIMEOUT_S = 60.0


def measure(
    policies: tuple[str, ...], *, shaped: bool, scenario: str = "flash"
) -> list[RunOutcome]:
    wish = Wish(
        scenarios=(scenario,),
        policies=tuple(POLICIES[name] for name in policies),
        n_runs=1,
        scale=SMALL,
        shaped=shaped,
    )
    try:
        return run_all(wish, lambda _: None, lambda _name, _length: None, lambda _run: None)
    except CapacityError as error:
        pytest.skip(error.detail)


def left_behind() -> list[str]:
    listed = namespaces.run("ip", "netns", "list").split()
    return [name for name in listed if name.startswith(namespaces.PREFIX)]


def check(run: RunOutcome, least: float) -> None:
    """`least`: of the stretch, for nobody is faster than the links."""
    figures = figures_of(run)
    assert [host.failure for host in run.hosts] == [""] * SMALL.peers
    for host in run.hosts:
        assert sorted(piece.number for piece in host.pieces) == list(range(16))
        assert {piece.giver for piece in host.pieces} <= {"origin", *run.uplinks} - {host.name}
    assert figures.stretch_p50 is not None
    assert figures.stretch_p50 > least


def skip_unless_namespaces() -> None:
    why_not = namespaces.why_not()
    if why_not:
        pytest.skip(why_not)


def test_a_swarm_in_namespaces() -> None:
    skip_unless_namespaces()
    namespaces.run("ip", "netns", "add", f"{namespaces.PREFIX}stale")
    for run in measure(("rule", "dragonfly"), shaped=True):
        check(run, 0.95)
        assert run.origin_bytes == SMALL.size
        extra = figures_of(run).extra_share
        assert extra is not None
        assert -0.05 < extra < 1.0
    assert left_behind() == []


@pytest.mark.parametrize("scenario", ["image", "small", "lossy"])
def test_contents_that_are_not_alike_and_links_that_are_far(scenario: str) -> None:
    skip_unless_namespaces()
    (run,) = measure(("rule",), shaped=True, scenario=scenario)
    assert [host.failure for host in run.hosts] == [""] * SMALL.peers
    n_contents = {"image": 10, "small": 300, "lossy": 1}[scenario]
    for host in run.hosts:
        assert sorted(one.content for one in host.files) == list(range(n_contents))
        assert sum(piece.length for piece in host.pieces) == run.size
    assert run.origin_bytes == run.size
    assert left_behind() == []


def test_a_swarm_on_loopback() -> None:
    for run in measure(("direct", "rule"), shaped=False):
        check(run, 0.5)  # a second's worth of bytes passes a daemon's limit at once
        copies = SMALL.peers if run.policy == "direct" else 1
        assert run.origin_bytes == copies * SMALL.size


def test_whoever_stops_it_finds_nothing_left() -> None:
    skip_unless_namespaces()
    words = ["flash", "--policy=direct", "--policy=rule", "--runs=1", "--peers=2", "--size=1MiB"]
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]  # as a shell's background job does
    bench = subprocess.Popen(
        [*ignoring, sys.executable, str(ROOT / "tests/bench/swarm"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TERM": "dumb"},
    )
    assert bench.stdout is not None
    with bench:
        try:
            first = bench.stdout.readline()
            if "another swarm bench" in first:
                pytest.skip(first)
            assert first.startswith("flash 1 "), "a run is over, the next one is under way"
            assert len(left_behind()) == 6, "a router, origin, scheduler, seed, two peers"
            bench.send_signal(signal.SIGTERM)  # it is turned into what Ctrl-C does
            said = bench.stdout.read()
            assert bench.wait(TIMEOUT_S) == 130
        finally:
            bench.terminate()
    assert "stopped" in said
    assert left_behind() == []
