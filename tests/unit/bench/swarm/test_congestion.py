"""What the kernel allows is widened for the bench only, and only if it has to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.swarm.congestion import allowed

from odonata.errors import UnavailableError


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "tcp_allowed_congestion_control"
    path.write_text("reno bbr\n")
    return path


def test_one_that_is_not_allowed_is_meanwhile(setting: Path) -> None:
    with allowed("cubic", setting):
        assert setting.read_text().split() == ["reno", "bbr", "cubic"]
    assert setting.read_text().split() == ["reno", "bbr"]


def test_it_is_taken_away_whatever_happens(setting: Path) -> None:
    with pytest.raises(RuntimeError), allowed("cubic", setting):
        raise RuntimeError
    assert setting.read_text().split() == ["reno", "bbr"]


def test_one_that_is_allowed_is_left_as_it_is(setting: Path) -> None:
    with allowed("bbr", setting):
        setting.write_text("bbr")
    assert setting.read_text() == "bbr"


def test_a_kernel_that_does_not_have_it_is_told_with_what_helps(tmp_path: Path) -> None:
    folder = tmp_path / "setting"
    folder.mkdir()
    (folder / "allowed").symlink_to("/proc/sys/net/ipv4/tcp_available_congestion_control")
    with (
        pytest.raises(UnavailableError, match=r"modprobe tcp_nothing"),
        allowed("nothing", folder / "allowed"),
    ):
        pass
