"""Ports in use: by the daemon, by another, and by somebody whom this user may not see."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from peer.doctor.finding import Level
from peer.doctor.holder import Holder, holder_of
from peer.doctor.network import judge_holder, running_daemon

ME = os.getpid()
NOBODY = 2**22 + 1
"""Above the largest process id there is."""


@pytest.mark.parametrize(
    ("holder", "daemon_pid", "level"),
    [
        (Holder(pid=ME, name="odonata"), ME, Level.OK),
        (Holder(pid=ME, name="nginx"), None, Level.FAILURE),
        (Holder(pid=ME, name="nginx"), NOBODY, Level.FAILURE),
        (None, ME, Level.WARNING),
        (None, NOBODY, Level.FAILURE),
        (None, None, Level.FAILURE),
    ],
    # Without the process id, which differs from worker to worker.
    ids=["daemon", "other", "other-dead-daemon", "unseen", "unseen-dead-daemon", "unseen-no-lock"],
)
def test_who_holds_a_port(holder: Holder | None, daemon_pid: int | None, level: Level) -> None:
    finding = judge_holder("port.x", "x.port", "127.0.0.1:1", holder, daemon_pid)
    assert finding.level is level


def test_the_holder_is_found_in_proc() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = holder_of(port)
        assert found is not None
        assert found.pid == ME
    assert holder_of(port) is None


def test_a_connection_is_no_listener() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert holder_of(client.getsockname()[1]) is None


@pytest.mark.parametrize(("text", "pid"), [("123  \n", 123), ("", None), ("x", None), (None, None)])
def test_the_lock_names_the_daemon(text: str | None, pid: int | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "lock").write_text(text)
    assert running_daemon(tmp_path) == pid
