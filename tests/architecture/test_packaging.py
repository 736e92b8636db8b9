"""The wheel holds exactly our packages, comes from the sdist, and works in a clean environment."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"odonata", "scheduler", "peer", "models", "training", "simulator", "manager"}

pytestmark = pytest.mark.packaging


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist that is built from the checkout; the back end is the locked one."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_wheel_holds_exactly_the_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == PACKAGES
    in_wheel = {name for name in names if name.endswith(".py")}
    in_tree = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert in_wheel == in_tree
    strangers = [
        name
        for name in names
        if not name.endswith((".py", "py.typed")) and ".dist-info/" not in name
    ]
    assert not strangers


def test_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Locked run-time packages and the wheel alone: the program starts and names its commands."""
    env = tmp_path / "env"
    venv.create(env, with_pip=True)
    pip = [str(env / "bin/python"), "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run(
        [*pip, "--require-hashes", "-r", str(ROOT / "deploy/locks/run.txt")],
        check=True,
        cwd=tmp_path,
    )
    subprocess.run([*pip, str(wheel)], check=True, cwd=tmp_path)
    odonata = str(env / "bin/odonata")
    shown = subprocess.run(
        [odonata, "--help"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert {"scheduler", "daemon", "get", "up", "demo", "sim", "config"} <= set(
        shown.stdout.split()
    )
    for arguments in (
        ["config", "daemon"],
        ["config", "scheduler"],
        ["sim", "--peers", "2", "--size", "8MiB"],
    ):
        subprocess.run([odonata, *arguments], check=True, capture_output=True, cwd=tmp_path)


def test_no_other_distribution_owns_our_package_names() -> None:
    owners = packages_distributions()
    for package in PACKAGES & set(owners):
        assert set(owners[package]) == {"odonata"}, f"{package} also comes from {owners[package]}"
