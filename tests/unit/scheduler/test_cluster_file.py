"""The file that an operator may change while a scheduler runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from odonata.block_list import BlockList
from odonata.errors import SettingsError
from scheduler.cluster_file import read_cluster_file
from scheduler.core.application import Application, UrlPriority
from scheduler.core.cluster import ClusterConfig

WHOLE = """
refreshInterval: 30s
applications:
  - name: training
    priority: {value: 4, urls: [{regex: "/checkpoints/", value: 3}, {regex: "x", value: 0}]}
  - name: serving
schedulerClusterConfig: {candidateParentLimit: 5, filterParentLimit: 20}
seedPeerClusterConfig:
  loadLimit: 1000
  blockList: {task: {download: {applications: [a], urls: ["^ftp:"], tags: [t], priorities: [1]}}}
schedulerClusterClientConfig:
  loadLimit: 100
  blockList: {task: {download: {tags: [old, older]}}}
"""
# The same as the manager's answers spell it.
SNAKE = (
    WHOLE.replace("candidateParentLimit", "candidate_parent_limit")
    .replace("filterParentLimit", "filter_parent_limit")
    .replace("loadLimit", "load_limit")
    .replace("blockList", "block_list")
)

CONFIG = ClusterConfig(
    applications=(
        Application(
            name="training",
            priority=4,
            url_priorities=(
                UrlPriority(regex="/checkpoints/", value=3),
                UrlPriority(regex="x", value=0),
            ),
        ),
        Application(name="serving"),
    ),
    candidate_parent_limit=5,
    filter_parent_limit=20,
    seed_load_limit=1000,
    peer_load_limit=100,
    seed_block_list=BlockList(applications=("a",), urls=("^ftp:",), tags=("t",), priorities=(1,)),
    peer_block_list=BlockList(tags=("old", "older")),
)


def written(folder: Path, text: str) -> Path:
    path = folder / "dynconfig.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [WHOLE, SNAKE], ids=["as in files", "as the manager spells it"])
def test_a_whole_file(tmp_path: Path, text: str) -> None:
    file, warnings = read_cluster_file(written(tmp_path, text))
    assert file.config() == CONFIG
    assert file.refresh_interval_s == 30.0
    assert warnings == ()


def test_an_empty_file_configures_nothing(tmp_path: Path) -> None:
    file, warnings = read_cluster_file(written(tmp_path, ""))
    assert file.config() == ClusterConfig()
    assert (file.refresh_interval_s, warnings) == (None, ())


def test_what_is_for_daemons_or_the_manager_is_known_and_said_to_do_nothing(tmp_path: Path) -> None:
    text = """
applications: [{id: 1, name: a, url: "http://a", bio: "who"}]
schedulerClusterConfig: {jobRateLimit: 10}
seedPeerClusterConfig: {blockList: {persistentTask: {upload: {tags: [x]}}}}
"""
    file, warnings = read_cluster_file(written(tmp_path, text))
    assert file.config() == ClusterConfig(applications=(Application(name="a"),))
    assert len(warnings) == 5
    assert all("has no effect" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("applications: [{name: a, priority: {value: 7}}]", "7 is too large: at most 6"),
        ("applications: [{priority: {value: 1}}]", "applications[0].name: is missing"),
        (
            'applications: [{name: a, priority: {urls: [{regex: "(", value: 1}]}}]',
            "'(' is not a regular expression in RE2's syntax",
        ),
        ("schedulerClusterConfig: {candidateParentLimit: 21}", "21 is too large: at most 20"),
        ("schedulerClusterConfig: {filterParentLimit: 9}", "9 is too small: at least 10"),
        ("seedPeerClusterConfig: {loadLimit: 50001}", "50001 is too large: at most 50000"),
        ("schedulerClusterClientConfig: {loadLimit: 2001}", "2001 is too large: at most 2000"),
        (
            "schedulerClusterClientConfig: {blockList: {task: {download: {priority: [1]}}}}",
            "did you mean schedulerClusterClientConfig.blockList.task.download.priorities?",
        ),
        ("schedulerCluster: {}", "is not a known key"),
    ],
)
def test_what_is_wrong_is_told_with_place_value_and_fix(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_cluster_file(written(tmp_path, text))
    assert said in caught.value.detail
    assert caught.value.detail.startswith("dynconfig.yaml:1")
