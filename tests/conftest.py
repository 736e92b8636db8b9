"""Rules for every test run: long tests only on request, and nothing skipped where CI says so."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

_skipped: list[str] = []

# How long an example takes is the machine's affair: speed is shown by benchmarks.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A run that was started in the background by a shell ignores SIGINT, and so would all it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# gRPC's fork handlers run in each child that uvloop forks, before it becomes another program, and
# kill some of them (2 in 1,000). They are for children that go on with gRPC; ours never do.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run soaks and sweeps")
    parser.addoption(
        "--rewrite", action="store_true", help="renew golden files (transcripts, drawn tables)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(f"{report.nodeid}: {report.longreprtext}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed run: a missing package must not look like success."""
    if os.environ.get("CI") == "true" and _skipped and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") == "true" and _skipped:
        terminalreporter.section("skipped although CI=true", red=True)
        for line in _skipped:
            terminalreporter.line(line)
