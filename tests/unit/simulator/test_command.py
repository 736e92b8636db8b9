"""`odonata sim` on the command line: a table, the same for the same seed, and honest failures."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from odonata.errors import CallerError, OdonataError
from simulator.command import sim

SMALL = ("--size", "16MiB", "--peers", "3")


def call(*args: str) -> Result:
    return CliRunner().invoke(sim, [*SMALL, *args])


def test_it_prints_a_table_and_the_stretch() -> None:
    result = call()
    assert result.exit_code == 0
    for expected in ("peer1", "peer3", "stretch", "1.00 copies in 1 requests", "bound"):
        assert expected in result.output


def test_the_same_seed_prints_the_same() -> None:
    assert call("--log").output == call("--log").output
    assert call("--log").output != call("--log", "--random-seed", "2").output


def test_as_json_it_prints_the_same_figures() -> None:
    told = json.loads(call("--json").output)
    assert [peer["name"] for peer in told["peers"]] == ["peer1", "peer2", "peer3"]
    assert told["size"] == 16 * 1024 * 1024
    assert (told["source_copies"], told["source_requests"], told["log"]) == (1.0, 1, None)
    for peer in told["peers"]:
        assert peer["took_s"] >= told["bound_s"]
        assert sum(peer["bytes_from"].values()) == told["size"]
    assert json.loads(call("--json", "--log").output)["log"]
    failed = call("--json", "--source-dies-after", "5MiB")
    assert isinstance(failed.exception, OdonataError)
    assert {peer["error"] for peer in json.loads(failed.output)["peers"]} == {"source"}
    assert isinstance(call("--json", "--faults").exception, CallerError)


def test_faults_are_understood() -> None:
    result = call("--crash", "seed1:2", "--bad-digest", "peer1", "--lose-scheduler", "50s")
    assert result.exit_code == 0, result.output


def test_downloads_that_fail_fail_the_command() -> None:
    result = call("--source-dies-after", "5MiB")
    assert isinstance(result.exception, OdonataError)
    assert "3 downloads failed" in result.exception.detail
    assert "gave up" in result.output


@pytest.mark.parametrize("crash", ["seed1", "seed1:x", ":3"])
def test_a_crash_needs_host_and_pieces(crash: str) -> None:
    result = call("--crash", crash)
    assert isinstance(result.exception, CallerError)
    assert "HOST:PIECES" in result.exception.detail


@pytest.mark.parametrize("option", ["--size", "--peer-rate", "--delay"])
def test_wrong_quantities_are_usage_errors(option: str) -> None:
    result = CliRunner().invoke(sim, [option, "plenty"])
    assert result.exit_code == 2
    assert "plenty" in result.output
