"""The order of runs, the place they have to themselves, and the content that is spread."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.swarm import campaign
from bench.swarm.content import fault_of, make_content, make_contents
from bench.swarm.ground import loopback
from bench.swarm.outcome import RunOutcome, Usage
from bench.swarm.policy import POLICIES, policy_named
from bench.swarm.world import Scale, plan_world, scaled

from odonata.errors import CallerError
from odonata.swarm.demo.image import blob_path
from simulator.scenario_file import load_scenario


def test_scenarios_take_turns() -> None:
    wish = campaign.Wish(
        scenarios=("flash", "churn"),
        policies=(POLICIES["rule"],),
        n_runs=2,
        scale=Scale(),
        shaped=False,
        first_world=4,
    )
    assert list(campaign.order(wish)) == [(4, "flash"), (4, "churn"), (5, "flash"), (5, "churn")]
    assert wish.n_total == 4


def outcome(policy: str, world: int, rejected: str = "") -> RunOutcome:
    return RunOutcome(
        scenario="flash",
        policy=policy,
        world=world,
        size=1,
        bound_s=1.0,
        hosts=(),
        origin_bytes=0,
        uplinks={},
        usage=Usage(cpu_s=0.0, idle=1.0, idle_worst=1.0),
        rejected=rejected,
    )


def test_a_picture_shows_the_first_run_that_counts() -> None:
    runs = [outcome("rule", 1, "busy"), outcome("rule", 2), outcome("rule", 3)]
    assert [run.world for run in campaign.chosen(runs, "flash")] == [2]
    assert campaign.chosen(runs, "churn") == []


def test_links_that_change_need_namespaces() -> None:
    world = plan_world("degrade", scaled(load_scenario("degrade"), Scale()), 1)
    with pytest.raises(CallerError, match="as root"), loopback(world):
        pass


def test_unknown_policies_are_told() -> None:
    with pytest.raises(CallerError, match="choose one of rule"):
        policy_named("chance")


def test_a_content_is_the_same_for_the_same_number_and_a_wrong_copy_is_found(
    tmp_path: Path,
) -> None:
    content = make_content(tmp_path / "a", 3_000_000, 1)
    assert make_content(tmp_path / "b", 3_000_000, 1).digest == content.digest
    assert make_content(tmp_path / "c", 3_000_000, 2).digest != content.digest
    copy = blob_path(content.folder, content.digest)
    assert fault_of(copy, content) == ""
    with copy.open("r+b") as file:
        file.write(b"\0\0\0\0")
    assert "sha256:" in fault_of(copy, content)
    assert fault_of(tmp_path / "none", content) == "there is no file"


def test_contents_of_the_same_size_are_not_alike(tmp_path: Path) -> None:
    three = make_contents(tmp_path, (1000, 1000, 5), 1)
    assert [content.size for content in three] == [1000, 1000, 5]
    assert len({content.digest for content in three}) == 3
    assert [fault_of(blob_path(tmp_path, one.digest), one) for one in three] == [""] * 3
    assert three[0].digest == make_content(tmp_path / "alone", 1000, 1).digest
