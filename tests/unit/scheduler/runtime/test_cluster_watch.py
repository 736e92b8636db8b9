"""A configuration that changes under a running scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.eventually import eventually

from odonata.errors import SettingsError
from scheduler.core.cluster import ClusterConfig
from scheduler.runtime.cluster_watch import ClusterWatch
from scheduler.settings import DynConfigSettings


def limit(number: int) -> str:
    return f"schedulerClusterConfig: {{candidateParentLimit: {number}}}\n"


def watch(path: Path | None, seen: list[ClusterConfig], interval_s: float = 60.0) -> ClusterWatch:
    return ClusterWatch(DynConfigSettings(file=path, refresh_interval_s=interval_s), seen.append)


def limits(seen: list[ClusterConfig]) -> list[int | None]:
    return [config.candidate_parent_limit for config in seen]


async def test_without_a_file_there_is_nothing_to_do() -> None:
    seen: list[ClusterConfig] = []
    one = watch(None, seen)
    await one.start()
    await one.close()
    assert seen == []


async def test_each_change_is_told_once_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dynconfig.yaml"
    path.write_text(limit(2))
    seen: list[ClusterConfig] = []
    one = watch(path, seen)
    with capture_logs() as logs:
        await one.start()
        await one.check()
        path.write_text(limit(0))
        await one.check()
        await one.check()
        path.unlink()
        await one.check()
        path.write_text(limit(3))
        await one.check()
    await one.close()
    assert limits(seen) == [2, 3]
    refused = [entry["error"] for entry in logs if entry["event"] == "cluster_config_refused"]
    assert len(refused) == 2, "each complaint once"
    assert "0 is too small: at least 1" in refused[0]
    assert [entry["event"] for entry in logs].count("cluster_configured") == 2


async def test_the_file_is_read_again_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "dynconfig.yaml"
    path.write_text(limit(2))
    seen: list[ClusterConfig] = []
    one = watch(path, seen, 0.01)
    await one.start()
    other = tmp_path / "other"
    other.write_text(limit(3))
    other.replace(path)  # as configuration maps are exchanged
    await eventually(lambda: limits(seen) == [2, 3])
    await one.close()


async def test_the_file_itself_may_say_how_often(tmp_path: Path) -> None:
    path = tmp_path / "dynconfig.yaml"
    path.write_text("refreshInterval: 10ms\n" + limit(2))
    seen: list[ClusterConfig] = []
    one = watch(path, seen, 3600.0)
    await one.start()
    path.write_text(limit(3))
    await eventually(lambda: limits(seen) == [2, 3])
    await one.close()


@pytest.mark.parametrize("text", [None, limit(0), "a: [", "[]"])
async def test_at_the_start_a_bad_file_is_an_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "dynconfig.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError):
        await watch(path, []).start()
