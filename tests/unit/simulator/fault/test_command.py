"""`odonata sim --faults`: a campaign, one seed explained, and failures that say how to see them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from odonata.errors import CallerError, OdonataError
from simulator.command import sim
from simulator.fault.command import explain
from simulator.fault.draw import draw_plan
from simulator.fault.run import run_plan
from simulator.parts import Parts


def call(*args: str) -> Result:
    return CliRunner().invoke(sim, args)


def takes_anything(stated: str, came: str) -> bool:
    del stated, came
    return True


WRONG = Parts(accepts=takes_anything)


def wrong_seed() -> int:
    """The first seed in which somebody gets wrong bytes if he takes any, and more goes wrong."""
    for seed in range(1, 200):
        plan = draw_plan(seed)
        if len(plan.faults) > 2 and "uploads corrupt" in {fault.kind for fault in plan.faults}:
            findings = run_plan(plan, parts=WRONG).findings
            if any("wrong bytes" in finding for finding in findings[:1]):
                return seed
    raise AssertionError("no seed has wrong bytes")


def test_a_campaign_counts_faults_and_endings() -> None:
    result = call("--faults", "--seeds", "6", "--first", "10", "--jobs", "1")
    assert result.exit_code == 0, result.output
    for expected in ("fault", "runs", "failed", "6 seeds from 10", "whole", "of a core each"):
        assert expected in result.output


def test_one_seed_is_explained() -> None:
    result = call("--faults", "--seed", "279", "--explain")
    assert result.exit_code == 0, result.output
    assert "6.    16.6 s  the clock of scheduler jumps ahead by 400 s" in result.output
    assert "endings: " in result.output
    assert "WRONG" not in result.output


def test_one_seed_with_some_of_its_faults() -> None:
    result = call("--faults", "--seed", "279", "--only", "3")
    assert "the clock of peer1 jumps" in result.output
    assert "disk" not in result.output
    quiet = call("--faults", "--seed", "279", "--only", "none")
    assert "jumps" not in quiet.output


def test_a_failing_seed_says_what_is_wrong_and_how_to_see_it_with_less(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = wrong_seed()
    with pytest.raises(OdonataError, match=f"seed {seed} fails: .* holds wrong bytes"):
        explain(seed, None, parts=WRONG)
    told = capsys.readouterr().out
    assert "WRONG: " in told
    assert f"replay: ./run sim --faults --seed {seed} --explain" in told
    assert f"enough: ./run sim --faults --seed {seed} --only " in told
    assert "[swarming]" in told, "the story of the download that was misled"


@pytest.mark.parametrize("only", ["0", "7", "a", "1,,2", ""])
def test_faults_that_the_seed_has_not_are_refused(only: str) -> None:
    result = call("--faults", "--seed", "279", "--only", only)
    assert isinstance(result.exception, CallerError)
    assert "numbers from 1 to 6" in result.exception.detail


@pytest.mark.parametrize("option", [("--seed", "3"), ("--explain",), ("--only", "1")])
def test_options_of_the_search_need_it(option: tuple[str, ...]) -> None:
    result = call(*option)
    assert isinstance(result.exception, CallerError)
    assert "--faults" in result.exception.detail


def test_only_needs_a_seed() -> None:
    result = call("--faults", "--only", "1")
    assert isinstance(result.exception, CallerError)
    assert "--seed" in result.exception.detail


def test_a_swarm_has_no_thousands_of_seed_hosts() -> None:
    result = call("--seeds", "2000")
    assert isinstance(result.exception, CallerError)
    assert "at most 100" in result.exception.detail
