"""Runtimes' files: what is written, what is left alone, and how it is taken back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from odonata.errors import CallerError, StorageError
from peer.client_setup import MARK, PLANS, Setup, Wish
from peer.init_command import init

CONFIG = Path("/etc/containerd/config.toml")
KEPT = Path("/etc/containerd/config.toml.before-odonata")
DEFAULT = Path("/etc/containerd/certs.d/_default/hosts.toml")

Files = dict[Path, str]


def planned(runtime: str, files: Mapping[Path, str], *, undo: bool = False, **wish: Any) -> Setup:
    return PLANS[runtime](Wish(**wish), files.get, undo=undo)


def applied(files: Files, setup: Setup) -> Files:
    """The files afterwards; what each change says of before is held to be true."""
    after = dict(files)
    for change in setup.changes:
        assert files.get(change.path) == change.before
        if change.backup is not None:
            assert change.before is not None
            after[change.backup] = change.before
        if change.after is None:
            del after[change.path]
        else:
            after[change.path] = change.after
    return after


@pytest.mark.parametrize("runtime", PLANS)
def test_once_is_enough_and_undo_leaves_nothing(runtime: str) -> None:
    files = applied({}, planned(runtime, {}))
    assert files
    assert planned(runtime, files).changes == ()
    assert applied(files, planned(runtime, files, undo=True)) == {}
    assert planned(runtime, {}, undo=True).changes == ()


@pytest.mark.parametrize("runtime", PLANS)
def test_another_proxy_takes_the_place_of_the_first(runtime: str) -> None:
    files = applied({}, planned(runtime, {}))
    files = applied(files, planned(runtime, files, proxy="http://10.0.0.1:4001"))
    assert any("http://10.0.0.1:4001" in text for text in files.values())
    assert not any("65001" in text for text in files.values())


@pytest.mark.parametrize("runtime", ["docker", "crio"])
def test_a_percent_sign_is_no_specifier_of_systemds(runtime: str) -> None:
    (change,) = planned(runtime, {}, proxy="http://u:p%40ss@h:1").changes
    assert change.after is not None
    assert '"HTTPS_PROXY=http://u:p%%40ss@h:1"' in change.after
    assert planned(runtime, {}).then[-1] == f"systemctl restart {runtime}"


@pytest.mark.parametrize("runtime", PLANS)
def test_a_file_of_somebody_elses_is_not_touched(runtime: str) -> None:
    (path, *_) = (change.path for change in planned(runtime, {}).changes)
    for undo in (False, True):
        with pytest.raises(CallerError, match="not written by"):
            planned(runtime, {path: "mine"}, undo=undo)


@pytest.mark.parametrize(
    "proxy", ["", "h:1", "https://h:1", "http://h", "http://h:1/x", "http://h:1?x", 'http://h"x:1']
)
@pytest.mark.parametrize("runtime", PLANS)
def test_what_is_no_proxy_is_told(runtime: str, proxy: str) -> None:
    with pytest.raises(CallerError, match=r"^--proxy "):
        planned(runtime, {}, proxy=proxy)


# --- containerd -----------------------------------------------------------------------------------

VERSION_2 = """# my own words
version = 2
root = "/data"  # a disk of its own

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "pause"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = ""
"""
VERSION_3 = """version = 3
[plugins.'io.containerd.cri.v1.images'.registry]
"""


@pytest.mark.parametrize("before", [VERSION_2, VERSION_3, "version = 3\n", "version = 2\n"])
def test_config_toml_is_edited_in_place_and_comes_back(before: str) -> None:
    files = {CONFIG: before}
    after = applied(files, planned("containerd", files))
    table = tomllib.loads(after[CONFIG])
    was = tomllib.loads(before)
    name = "cri.v1.images" if was["version"] == 3 else "grpc.v1.cri"
    plugin = table["plugins"][f"io.containerd.{name}"]
    assert plugin["registry"]["config_path"] == "/etc/containerd/certs.d"
    assert after[KEPT] == before
    assert all(line in after[CONFIG] for line in before.splitlines() if "config_path" not in line)
    assert planned("containerd", after).changes == ()
    assert applied(after, planned("containerd", after, undo=True)) == files


def test_a_folder_that_is_named_already_is_used() -> None:
    files = {CONFIG: VERSION_2.replace('config_path = ""', 'config_path = "/my/certs"')}
    setup = planned("containerd", files)
    assert [change.path for change in setup.changes] == [Path("/my/certs/_default/hosts.toml")]
    after = applied(files, setup)
    assert applied(after, planned("containerd", after, undo=True)) == files


def test_what_was_changed_since_is_not_lost() -> None:
    files = {CONFIG: VERSION_2}
    after = applied(files, planned("containerd", files))
    after[CONFIG] += "# more\n"
    with pytest.raises(CallerError, match="was changed since"):
        planned("containerd", after, undo=True)


def test_registries_have_files_of_their_own() -> None:
    registries = ("https://a.test", "b.test:5000", "http://[::1]:5000/")
    after = applied({}, planned("containerd", {}, registries=registries))
    certs = DEFAULT.parent.parent
    servers = {
        path.parent.name: tomllib.loads(text)
        for path, text in after.items()
        if certs in path.parents
    }
    assert {name: one["server"] for name, one in servers.items()} == {
        "a.test": "https://a.test",
        "b.test:5000": "https://b.test:5000",
        "[::1]:5000": "http://[::1]:5000",
    }
    host = servers["a.test"]["host"]["http://127.0.0.1:65001"]
    assert host["capabilities"] == ["pull", "resolve"]
    assert host["header"] == {"X-Dragonfly-Registry": ["https://a.test"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version = 1\n", "version 1: migrate"),
        ("root = '/x'\n", "version 1: migrate"),
        ("version = ", "is not TOML"),
        ("version = 2\nplugins = 3\n", "plugins is no table"),
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors.x]\na = []\n',
            "registry.mirrors",
        ),
    ],
)
def test_a_config_toml_that_will_not_do_is_told(text: str, told: str) -> None:
    with pytest.raises(CallerError, match=told):
        planned("containerd", {CONFIG: text})


@pytest.mark.parametrize("registry", ["", "ftp://a", "a.test/path", "https://"])
def test_what_is_no_registry_is_told(registry: str) -> None:
    with pytest.raises(CallerError, match=r"^--registry "):
        planned("containerd", {}, registries=(registry,))


# --- the command ----------------------------------------------------------------------------------


def run(*words: str) -> str:
    done = CliRunner().invoke(init, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_files_are_written_with_their_backup_and_taken_back(tmp_path: Path) -> None:
    config = tmp_path / CONFIG.relative_to("/")
    config.parent.mkdir(parents=True)
    config.write_text(VERSION_2)
    config.chmod(0o640)
    root = ("--root", str(tmp_path))
    shown = run("containerd", *root, "--dry-run")
    assert '+  config_path = "/etc/containerd/certs.d"' in shown
    assert config.read_text() == VERSION_2
    assert run("containerd", *root).endswith("# now: systemctl restart containerd\n")
    assert config.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / KEPT.relative_to("/")).read_text() == VERSION_2
    assert (tmp_path / DEFAULT.relative_to("/")).read_text().startswith(MARK)
    assert run("containerd", *root) == "nothing to do: it is so already\n"
    told = json.loads(run("containerd", *root, "--undo", "--json"))
    assert (told["done"], len(told["changes"])) == (True, 3)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (files, config.read_text()) == ([config], VERSION_2)


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("no folder")
    done = CliRunner().invoke(init, ["docker", "--root", str(tmp_path)])
    assert isinstance(done.exception, StorageError)
    assert "docker.service.d" in done.exception.detail


def test_a_registry_is_containerds_affair() -> None:
    done = CliRunner().invoke(init, ["docker", "--registry", "a.test"])
    assert done.exit_code == 2
    assert "for containerd" in done.output
