"""Idle CPU from the text of /proc/stat."""

from __future__ import annotations

import pytest
from bench.swarm.machine import CpuTimes, cpu_times, idle_share

STAT = "cpu  10 1 20 300 40 5 6 7 3 0\ncpu0 1 2 3 4\n"


def test_all_cores_with_waiting_as_idle_and_guests_counted_once() -> None:
    assert cpu_times(STAT) == CpuTimes(idle=340, total=389)


def test_the_share_between_two_moments() -> None:
    assert idle_share(CpuTimes(100, 400), CpuTimes(110, 500)) == pytest.approx(0.1)
    assert idle_share(CpuTimes(100, 400), CpuTimes(100, 400)) == 1.0
