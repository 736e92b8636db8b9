"""Worlds are made of the production cores unless somebody says otherwise."""

from __future__ import annotations

from peer.core.download import DownloadCore
from scheduler.core.core import SchedulerCore
from simulator.parts import Parts


def test_the_parts_are_the_production_cores_and_an_honest_check() -> None:
    parts = Parts()
    assert parts.scheduler is SchedulerCore
    assert parts.download is DownloadCore
    assert parts.accepts("crc32:1", "crc32:1")
    assert not parts.accepts("crc32:1", "crc32:2")
