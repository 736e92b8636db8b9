"""What the dynconfig file makes of itself, reading after reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from odonata.errors import ForbiddenError, SettingsError
from odonata.wire.message import Download, TaskType
from peer.runtime.dynconfig import DynconfigFile

WANTED = Download(url="http://origin.test/private/x?secret=1", tag="t")
BY_SETTINGS = ("10.0.0.9:8002",)


def of(tmp_path: Path, text: str, *, is_seed: bool = False) -> DynconfigFile:
    path = tmp_path / "dynconfig.yaml"
    path.write_text(text)
    file = DynconfigFile(path, BY_SETTINGS, is_seed=is_seed)
    file.read()
    return file


def test_without_a_file_the_settings_stand_and_nothing_is_forbidden() -> None:
    file = DynconfigFile(None, BY_SETTINGS, is_seed=False)
    assert file.read() == BY_SETTINGS
    file.check(WANTED)


def test_a_file_that_names_no_scheduler_leaves_those_of_the_settings(tmp_path: Path) -> None:
    assert of(tmp_path, "").read() == BY_SETTINGS
    assert of(tmp_path, "scheduler: {addr: 'x:1'}").read() == ("x:1",)


@pytest.mark.parametrize("is_seed", [False, True])
def test_each_kind_of_host_has_its_list(is_seed: bool, tmp_path: Path) -> None:
    section = "seedClientConfig" if is_seed else "clientConfig"
    text = f"{section}: {{blockList: {{task: {{download: {{urls: [/private/]}}}}}}}}"
    with pytest.raises(ForbiddenError, match="pattern '/private/'") as caught:
        of(tmp_path, text, is_seed=is_seed).check(WANTED)
    assert f"{section}.blockList of {tmp_path}" in caught.value.detail
    assert "secret" not in caught.value.detail
    of(tmp_path, text, is_seed=not is_seed).check(WANTED)


def test_a_file_that_breaks_leaves_what_was_forbidden(tmp_path: Path) -> None:
    file = of(tmp_path, "clientConfig: {blockList: {task: {download: {tags: [t]}}}}")
    path = tmp_path / "dynconfig.yaml"
    path.write_text("clientConfig: {blokList: {}}")
    with pytest.raises(SettingsError, match="blokList"):
        file.read()
    with pytest.raises(ForbiddenError, match="tag 't'"):
        file.check(WANTED)
    path.write_text("clientConfig: {blockList: {task: {download: {tags: [another]}}}}")
    file.read()
    file.check(WANTED)


STORED = Download(type=TaskType.PERSISTENT, url="s3://models/private/x")
CACHED = Download(type=TaskType.PERSISTENT_CACHE, url="", tag="t", application="a")


@pytest.mark.parametrize(
    ("text", "download"),
    [
        ("persistentTask: {ACT: {urls: [/private/]}}", STORED),
        ("persistentCacheTask: {ACT: {tags: [t]}}", CACHED),
        ("persistentCacheTask: {ACT: {applications: [a]}}", CACHED),
    ],
)
@pytest.mark.parametrize("act", ["download", "upload"])
def test_each_act_with_a_persistent_task_has_its_list(
    act: str, text: str, download: Download, tmp_path: Path
) -> None:
    file = of(tmp_path, f"clientConfig: {{blockList: {{{text.replace('ACT', act)}}}}}")
    checks = {"download": file.check_export, "upload": file.check_import}
    forbids = checks.pop(act)
    with pytest.raises(ForbiddenError, match=r"clientConfig\.blockList"):
        forbids(download)
    (allows,) = checks.values()
    allows(download)
    other = STORED if download is CACHED else CACHED
    forbids(other)
    file.check(download)


def test_what_is_forbidden_of_downloads_is_not_of_persistent_tasks(tmp_path: Path) -> None:
    """Nor the other way round: each has a list."""
    lists = "task: {download: {urls: [/private/], tags: [t], priorities: [0]}}"
    file = of(tmp_path, f"clientConfig: {{blockList: {{{lists}}}}}")
    for download in (STORED, CACHED):
        file.check_export(download)
        file.check_import(download)
