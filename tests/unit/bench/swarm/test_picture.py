"""The picture of runs: a file of its own, the same for the same runs."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from bench.swarm.fleet import UNKNOWN
from bench.swarm.outcome import Arrival, HostOutcome, RunOutcome, Usage
from bench.swarm.picture import draw


def run(policy: str, giver: str = "seed1") -> RunOutcome:
    pieces = tuple(
        Arrival(at_s=1.0 + number, number=number, length=5, giver=giver) for number in range(2)
    )
    return RunOutcome(
        scenario="flash",
        policy=policy,
        world=1,
        size=10,
        bound_s=1.0,
        hosts=(
            HostOutcome(name="peer1", arrived_at_s=0.0, ended_at_s=2.0, failure="", pieces=pieces),
        ),
        origin_bytes=10,
        uplinks={"seed1": 1.0, "peer1": 1.0},
        usage=Usage(cpu_s=1.0, idle=0.5, idle_worst=0.5),
    )


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    one, other = tmp_path / "one.svg", tmp_path / "other.svg"
    for path in (one, other):
        draw([run("rule"), run("dragonfly")], path)
    assert one.read_bytes() == other.read_bytes()
    assert ET.parse(one).getroot().tag.endswith("svg")
    text = one.read_text()
    for word in ("flash: rule", "flash: dragonfly", "seed1", "peer1"):
        assert word in text


def test_where_nobody_says_who_gave_no_matrix_is_drawn(tmp_path: Path) -> None:
    draw([run("bittorrent", giver=UNKNOWN)], tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text()
    assert "who fed whom is not told" in text
    assert "copies" not in text
