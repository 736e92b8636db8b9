"""Limits of the system and variables of the environment: where advice begins, where failure."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from peer.doctor.finding import Level
from peer.doctor.network import check_proxy_variables
from peer.doctor.system import (
    FILES_LEAST,
    FILES_WANTED,
    judge_open_files,
    judge_waiting_connections,
    open_files_limit,
    waiting_connections_limit,
)
from peer.settings import DaemonSettings


@pytest.mark.parametrize(
    ("limit", "level"),
    [
        (FILES_WANTED, Level.OK),
        (FILES_WANTED - 1, Level.WARNING),
        (FILES_LEAST, Level.WARNING),
        (FILES_LEAST - 1, Level.FAILURE),
    ],
)
def test_open_files(limit: int, level: Level) -> None:
    assert judge_open_files(limit).level is level


def test_the_limit_is_this_process_s_own() -> None:
    assert open_files_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    code = "from peer.doctor.system import open_files_limit; print(open_files_limit())"
    run = subprocess.run(
        ["sh", "-c", f"ulimit -n 77; exec {sys.executable} -c '{code}'"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[4],
    )
    assert run.stdout == "77\n"


@pytest.mark.parametrize(
    ("text", "level"),
    [("4096\n", Level.OK), ("128\n", Level.WARNING), ("", Level.OK), (None, Level.OK)],
)
def test_somaxconn(text: str | None, level: Level, tmp_path: Path) -> None:
    path = tmp_path / "somaxconn"
    if text is not None:
        path.write_text(text)
    assert judge_waiting_connections(waiting_connections_limit(path)).level is level


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, Level.OK),
        ({"HTTP_PROXY": ""}, Level.OK),
        ({"HTTP_PROXY": "http://127.0.0.1:65001"}, Level.WARNING),
        ({"https_proxy": "localhost:65001"}, Level.WARNING),
        ({"ALL_PROXY": "http://user:secret@[::1]:65001/"}, Level.WARNING),
        ({"HTTPS_PROXY": "http://10.1.2.3:65001"}, Level.WARNING),  # host.ip
        ({"HTTP_PROXY": "http://127.0.0.1:3128"}, Level.OK),
        ({"HTTP_PROXY": "http://proxy.example:65001"}, Level.OK),
        ({"NO_PROXY": "127.0.0.1:65001"}, Level.OK),
        ({"HTTP_PROXY": "http://x:secret@127.0.0.1:port"}, Level.WARNING),
    ],
)
def test_a_proxy_variable_that_names_the_own_proxy(environ: dict[str, str], level: Level) -> None:
    settings = DaemonSettings.model_validate({"host": {"ip": "10.1.2.3"}})
    finding = check_proxy_variables(settings, environ)
    assert finding.level is level
    assert "secret" not in finding.detail
