"""Studies: the same bytes whatever the number of jobs, and what `odonata simulate` leaves."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.tiny_world import tiny

from odonata.errors import CallerError, SettingsError
from odonata.telemetry.parquet import read_table
from simulator.command import simulate
from simulator.policy import policy_named
from simulator.study import Order, WorldOutcome, run_worlds
from simulator.study_files import RUNS, draw, write_runs

SMALL = ("--peers", "5", "--seeds", "2", "--set", "size=8MiB", "--jobs", "1")


def orders(telemetry: Path | None = None) -> list[Order]:
    return [
        Order(
            name="tiny",
            scenario=tiny(peers=4),
            policy=policy_named(policy),
            client="own",
            seed=seed,
            telemetry=telemetry,
        )
        for seed in (1, 2)
        for policy in ("rule", "random")
    ]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_number_of_jobs_changes_not_a_byte(tmp_path: Path) -> None:
    seen: list[str] = []

    def study(folder: Path, jobs: int) -> list[WorldOutcome]:
        done: list[Order] = []
        outcomes = run_worlds(orders(folder / "telemetry"), jobs=jobs, on_done=done.append)
        seen.append(" ".join(sorted(order.stem for order in done)))
        write_runs(outcomes, folder)
        draw(outcomes, "Does it work?", folder)
        return outcomes

    assert study(tmp_path / "one", 1) == study(tmp_path / "two", 2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 4 * 4 + 2
    assert seen[0] == seen[1]


def test_policies_of_one_world_never_share_an_id(tmp_path: Path) -> None:
    run_worlds(orders(tmp_path), jobs=1)
    decisions = read_table([tmp_path], "decision").column("decision_id").to_pylist()
    assert len(decisions) == len(set(decisions)) > 0


def call(tmp_path: Path, *args: str) -> Result:
    return CliRunner().invoke(simulate, [*args, *SMALL, "--out", str(tmp_path)])


def test_simulate_prints_a_table_and_writes_a_plot_and_all_runs(tmp_path: Path) -> None:
    result = call(tmp_path, "flash", "--policy", "rule", "--policy", "random", "--telemetry")
    assert result.exit_code == 0, result.output
    for expected in ("rule", "random", "stretch", "2 worlds", RUNS, "completion.png"):
        assert expected in result.output
    assert (tmp_path / RUNS).is_file()
    assert (tmp_path / "completion.png").read_bytes().startswith(b"\x89PNG")
    assert read_table([tmp_path / "telemetry"], "download").num_rows == 2 * 2 * 6


def test_simulate_prints_json(tmp_path: Path) -> None:
    options = ("--policy", "dragonfly", "--policy", "rule", "--json")
    result = call(tmp_path, "lognormal", *options, "--files", "2")
    assert result.exit_code == 0, result.output
    dragonfly, rule = json.loads(result.stdout)
    assert (dragonfly["policy"], rule["policy"]) == ("dragonfly", "rule")
    assert [world["seed"] for world in rule["worlds"]] == [1, 2]
    assert len(rule["gap_closed"]) == 2


def test_simulate_says_what_is_wrong(tmp_path: Path) -> None:
    def error(*args: str) -> object:
        return call(tmp_path, *args).exception

    assert isinstance(error("rush"), CallerError)
    assert isinstance(error("flash", "--policy", "best"), CallerError)
    assert isinstance(error("flash", "--set", "size"), CallerError)
    assert isinstance(error("flash", "--set", "sise=1MiB"), SettingsError)
    with pytest.raises(CallerError, match="manifest"):
        raise error("flash", "--policy", "learned", "--model", str(tmp_path))  # type: ignore[misc]  # an error
