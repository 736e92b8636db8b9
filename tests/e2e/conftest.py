"""What the tests with real clients need: root on Debian, the programs, a place to put all."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.program import Place, mounts_of, processes_of
from support.registry import Registry

# Program -> Debian package.
NEEDED = {
    "buildah": "buildah",
    "containerd": "containerd",
    "ctr": "containerd",
    "curl": "curl",
    "docker": "docker.io",
    "docker-registry": "docker-registry",
    "dockerd": "docker.io",
    "git": "git",
    "git-lfs": "git-lfs",
    "podman": "podman",
    "runc": "runc",
    "setpriv": "util-linux",
    "skopeo": "skopeo",
    "unshare": "util-linux",
    "zstd": "zstd",
}


@pytest.fixture(scope="session")
def real_clients() -> None:
    """Skips, in one line, what can't run here."""
    missing = sorted({package for name, package in NEEDED.items() if shutil.which(name) is None})
    if os.geteuid() != 0:
        pytest.skip("real clients need root: container runtimes mount")
    if not Path("/etc/debian_version").exists():
        pytest.skip("real clients are tested as Debian packages: this is no Debian")
    if missing:
        pytest.skip(f"real clients are missing: apt-get install {' '.join(missing)}")
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("real clients need a container that may mount, such as a privileged one")


@pytest.fixture(scope="module")
def place(real_clients: None) -> Iterator[Place]:
    """A short path (sockets live there); at the end nothing runs or is mounted below it."""
    folder = Path(tempfile.mkdtemp(prefix="odonata-e2e-", dir="/tmp"))
    try:
        yield Place.make(folder)
        assert not processes_of(folder), "left running"
        assert not mounts_of(folder), "left mounted"
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def registry(place: Place) -> Iterator[Registry]:
    with Registry(place) as registry:
        yield registry
