"""The data folder: what the doctor says of folders and volumes, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peer.doctor.finding import Finding, Level
from peer.doctor.storage import Volume, check_storage, judge_file_system
from peer.settings import GcPolicySettings

GIB = 1024**3
ROOMY = {
    "total_bytes": 100 * GIB,
    "free_bytes": 60 * GIB,
    "total_inodes": 1_000_000,
    "free_inodes": 900_000,
}


def findings(folder: Path, policy: GcPolicySettings | None = None, **volume: int) -> dict[str, Any]:
    found = check_storage(
        folder,
        policy or GcPolicySettings(),
        look=lambda _: Volume(**{**ROOMY, **volume}),
        kind=lambda _: "ext4",
    )
    return {finding.check: finding for finding in found}


def bad(found: dict[str, Finding]) -> list[tuple[str, Level]]:
    return [(name, one.level) for name, one in found.items() if one.level is not Level.OK]


def test_a_roomy_folder_is_well_and_left_as_it_was(tmp_path: Path) -> None:
    assert bad(findings(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_yet_is_well(tmp_path: Path) -> None:
    found = findings(tmp_path / "a" / "b")
    assert bad(found) == []
    assert "will be made" in found["storage.folder"].detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [Path("/sys/kernel"), Path("/proc/odonata")])
def test_a_folder_that_takes_no_files_is_a_failure_even_for_root(folder: Path) -> None:
    found = findings(folder)
    assert bad(found) == [("storage.folder", Level.FAILURE)]
    assert "storage.dir" in (found["storage.folder"].fix or "")


def test_a_file_in_its_place_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = findings(tmp_path / "file" / "data")
    assert bad(found) == [("storage.folder", Level.FAILURE)]
    assert "a file stands where a folder should be" in (found["storage.folder"].fix or "")


@pytest.mark.parametrize(
    ("policy", "volume", "expected"),
    [
        ({}, {"free_bytes": 21 * GIB}, None),
        ({}, {"free_bytes": 20 * GIB}, Level.WARNING),
        ({}, {"free_bytes": GIB // 32}, Level.FAILURE),
        ({"disk_threshold_bytes": 10 * GIB}, {"free_bytes": 10 * GIB}, None),
        ({"disk_threshold_bytes": 10 * GIB}, {"free_bytes": 10 * GIB - 1}, Level.WARNING),
        ({"disk_threshold_bytes": 10 * GIB}, {"free_bytes": 0}, Level.FAILURE),
    ],
)
def test_room_is_measured_against_the_marks_of_collection(
    policy: dict[str, int], volume: dict[str, Any], expected: Level | None, tmp_path: Path
) -> None:
    found = findings(tmp_path, GcPolicySettings.model_validate(policy), **volume)
    assert bad(found) == ([] if expected is None else [("storage.space", expected)])


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ({"free_inodes": 50_000}, None),
        ({"free_inodes": 49_999}, Level.WARNING),
        ({"free_inodes": 63}, Level.FAILURE),
        ({"free_inodes": 0, "total_inodes": 0}, None),  # btrfs
    ],
)
def test_inodes(volume: dict[str, Any], expected: Level | None, tmp_path: Path) -> None:
    found = findings(tmp_path, **volume)
    assert bad(found) == ([] if expected is None else [("storage.inodes", expected)])


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("ext4", Level.OK),
        ("", Level.OK),
        ("nfs4", Level.WARNING),
        ("fuse.sshfs", Level.WARNING),
        ("overlay", Level.WARNING),
        ("tmpfs", Level.WARNING),
    ],
)
def test_file_systems(kind: str, level: Level) -> None:
    assert judge_file_system(kind, "/data").level is level


def test_a_real_memory_volume_is_told_from_a_disk() -> None:
    found = {one.check: one for one in check_storage(Path("/dev/shm"), GcPolicySettings())}
    assert found["storage.file_system"].level is Level.WARNING
    assert found["storage.file_system"].detail.startswith("tmpfs")
