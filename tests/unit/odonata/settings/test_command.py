"""`odonata config` and the options that every program shares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import structlog
from click.testing import CliRunner, Result
from support import settings_file

from odonata.cli import SettingsOptions, root, settings_options
from odonata.settings.log import ProgramSettings
from odonata.settings.printing import as_yaml
from peer.settings import DaemonSettings
from scheduler.settings import SchedulerSettings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ODONATA_")]:
        monkeypatch.delenv(name)


def config(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["config", *arguments])


def write(folder: Path, text: str) -> str:
    file = folder / "test.yaml"
    file.write_text(text)
    return str(file)


def line_of(result: Result, start: str) -> str:
    (line,) = [line for line in result.stdout.splitlines() if line.strip().startswith(start)]
    return " ".join(line.split())


def test_each_value_stands_beside_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODONATA_HOST__IDC", "ber1")
    file = write(tmp_path, settings_file.PEER)
    result = config("daemon", "--config", file, "--set", "upload.disableShared=true")
    assert (result.exit_code, result.stderr) == (0, "")
    assert line_of(result, "idc:") == "idc: ber1 # ODONATA_HOST__IDC"
    assert line_of(result, "disableShared:") == "disableShared: true # command line"
    assert line_of(result, "addrs:") == (
        "addrs: ['127.0.0.1:8002'] # test.yaml:5 (scheduler.netAddrs)"
    )
    assert line_of(result, "port: 65001") == "port: 65001 # test.yaml:8 (proxy.tcpListen.port)"
    assert line_of(result, "pieceTimeout:") == "pieceTimeout: 30s # default"
    assert result.stdout.startswith("# test.yaml:1: jaeger has no effect: ")


def test_what_is_printed_loads_again_and_means_the_same(tmp_path: Path) -> None:
    text = settings_file.DFDAEMON_2_5.replace(
        "Authorization: Bearer abcdef123456", "Authorization: '***'"
    )
    first = settings_file.load_text(DaemonSettings, text, tmp_path)
    again = settings_file.load_text(DaemonSettings, as_yaml(first), tmp_path)
    assert again.settings == first.settings


@pytest.mark.parametrize(
    ("program", "text", "n_hidden"),
    [
        ("scheduler", settings_file.SCHEDULER, 1),
        ("manager", settings_file.MANAGER, 2),
        ("daemon", settings_file.DFDAEMON_2_5, 1),
        (
            "daemon",
            (
                "proxy:\n"
                "  server: {basicAuth: {username: u, password: hunter2}}\n"
                "  registryMirror: {addr: 'https://user:hunter2@registry.test'}\n"
                "  rules: [{regex: 'https://u:hunter2@h.test/'}]\n"
            ),
            3,
        ),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_secrets_are_hidden(
    tmp_path: Path, program: str, text: str, n_hidden: int, form: tuple[str, ...]
) -> None:
    result = config(program, "-c", write(tmp_path, text), *form)
    assert result.exit_code == 0, result.output
    for secret in ("hunter2", "abcdef123456", "password: dragonfly", '"password": "dragonfly"'):
        assert secret not in result.output
    assert result.stdout.count("***") == n_hidden


def test_json_has_values_origins_and_warnings(tmp_path: Path) -> None:
    file = write(tmp_path, settings_file.SEED_PEER)
    document = json.loads(config("daemon", "--config", file, "--json").stdout)
    assert document["settings"]["seedPeer"] == {"enable": True, "type": "super"}
    assert document["settings"]["dynconfig"]["refreshInterval"] == "10s"
    assert document["origins"]["seedPeer.enable"] == (
        "test.yaml:10 (scheduler.manager.seedPeer.enable)"
    )
    assert len(document["warnings"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("deamon",),
            (
                "odonata: 'deamon' is no program with settings: "
                "name one of daemon, manager, scheduler\n"
            ),
        ),
        (
            ("daemon", "--set", "proxy.server.port"),
            "odonata: --set needs KEY=VALUE, such as --set proxy.server.port=65001\n",
        ),
        (
            ("daemon", "--set", "proxy.server.prot=1"),
            (
                "odonata: command line: proxy.server.prot ('1') is not a known key; "
                "did you mean proxy.server.port?\n"
            ),
        ),
        (
            ("scheduler", "--config", "/nowhere/s.yaml"),
            "odonata: /nowhere/s.yaml: can't read the settings file: No such file or directory\n",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = config(*arguments)
    assert (result.stdout, result.stderr, result.exit_code) == ("", message, 2)


def test_the_file_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODONATA_CONFIG", write(tmp_path, "server: {port: 8102}"))
    assert line_of(config("scheduler"), "port:") == "port: 8102 # test.yaml:1"


# --- options of other commands --------------------------------------------------------------------


def settings_of(
    model: type[ProgramSettings], flags: dict[str, Any], *arguments: str
) -> tuple[Result, list[ProgramSettings]]:
    seen: list[ProgramSettings] = []

    @click.command()
    @settings_options
    def program(options: SettingsOptions) -> None:
        seen.append(options.apply(model, flags))

    before = structlog.get_config()
    try:
        return CliRunner().invoke(program, arguments), seen
    finally:
        structlog.configure(**before)


def test_flags_of_a_command_win_over_set_and_none_says_nothing() -> None:
    flags = {"server.port": 1, "server.listenIP": None}
    _, (settings,) = settings_of(
        SchedulerSettings, flags, "--set", "server.port=2", "--set", "server.listenIP=127.0.0.9"
    )
    assert isinstance(settings, SchedulerSettings)
    assert (settings.server.port, settings.server.listen_ip) == (1, "127.0.0.9")


def test_apply_sets_up_logs_and_says_what_has_no_effect(tmp_path: Path) -> None:
    file = write(tmp_path, settings_file.SEED_PEER)
    result, (settings,) = settings_of(
        DaemonSettings, {}, "-c", file, "--log-format", "json", "--log-level", "warning"
    )
    assert (settings.log.format, settings.log.level) == ("json", "warning")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["event"] for event in events] == ["setting_ignored", "setting_ignored"]
    assert events[0]["setting"].startswith("test.yaml:1: jaeger has no effect")
    assert events[0]["program"] == "daemon"


def test_config_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-c", "from odonata.cli import main; main()",
            "config", "daemon", "-c", write(tmp_path, "proxy: {tcpListen: {prot: 1}}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "odonata: test.yaml:1: proxy.tcpListen.prot (1) is not a known key; "
        "did you mean proxy.tcpListen.port?\n"
    )
