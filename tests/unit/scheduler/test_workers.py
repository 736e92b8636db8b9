"""The command line of each of several workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from odonata.errors import SettingsError
from odonata.settings.loading import load
from scheduler.settings import MetricsSettings, SchedulerSettings, ServerSettings
from scheduler.workers import command_lines


def lines(**overrides: object) -> list[list[str]]:
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    settings = load(SchedulerSettings, overrides=given).settings
    return command_lines(settings, Path("/etc/s.yaml"), given)


def test_each_worker_has_ports_of_its_own_and_all_else_in_common() -> None:
    first, second = lines(
        server__port=9000, server__workers=2, metrics__addr=":8100", log__level="debug"
    )
    assert first == [
        "--config",
        "/etc/s.yaml",
        "--set=server.port=9000",
        "--set=server.workers=1",
        "--set=metrics.addr=0.0.0.0:8100",
        "--set=log.level=debug",
        "--set=log.worker=1",
    ]
    assert "--set=server.port=9001" in second
    assert "--set=metrics.addr=0.0.0.0:8101" in second
    assert "--set=log.worker=2" in second


def test_any_port_is_any_port_for_each() -> None:
    for line in lines(server__port=0, server__workers=3, metrics__addr="127.0.0.1:0"):
        assert "--set=server.port=0" in line
        assert "--set=metrics.addr=127.0.0.1:0" in line


def test_an_address_that_the_workers_can_not_be_given_is_refused() -> None:
    settings = SchedulerSettings(
        server=ServerSettings(workers=2), metrics=MetricsSettings(addr="[::1]:8000")
    )
    with pytest.raises(SettingsError, match="use an IPv4 address, or :8000 for all"):
        command_lines(settings, None, {})


def test_ports_must_suffice() -> None:
    with pytest.raises(SettingsError, match="worker 3 would need port 65536"):
        lines(server__port=65534, server__workers=3)
