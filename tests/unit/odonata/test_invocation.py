"""What is printed to be typed can be typed as it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from odonata.invocation import command


def install(folder: Path, says: str = "") -> Path:
    """A program `odonata` and the interpreter beside it; returns the latter."""
    folder.mkdir(parents=True)
    program = folder / "odonata"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)
    return folder / "python"


def typed(line: str, search_path: str) -> str:
    """What a shell makes of it."""
    told = subprocess.run(
        ["/bin/sh", "-c", line],
        env={"PATH": search_path},
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()


@pytest.mark.parametrize("folder", ["bin", "a checkout/.venv/bin"])
def test_what_the_shell_does_not_find_by_its_name_is_named_by_its_path(
    folder: str, tmp_path: Path
) -> None:
    python = install(tmp_path / folder, "ours")
    other = tmp_path / "elsewhere"
    other.mkdir()
    line = command("odonata", python=str(python), search_path=str(other))
    assert typed(line, str(other)) == "ours"


def test_what_the_shell_finds_is_named_shortly(tmp_path: Path) -> None:
    python = install(tmp_path / "bin", "ours")
    assert command("odonata", python=str(python), search_path=str(python.parent)) == "odonata"


def test_a_link_on_the_path_is_the_same_program(tmp_path: Path) -> None:
    python = install(tmp_path / "environment" / "bin", "ours")
    local = tmp_path / "local"
    local.mkdir()
    (local / "odonata").symlink_to(python.with_name("odonata"))
    assert command("odonata", python=str(python), search_path=str(local)) == "odonata"


def test_another_program_of_that_name_is_not_meant(tmp_path: Path) -> None:
    python = install(tmp_path / "ours", "ours")
    other = install(tmp_path / "theirs", "theirs").parent
    line = command("odonata", python=str(python), search_path=str(other))
    assert typed(line, str(other)) == "ours"


def test_what_is_installed_nowhere_keeps_its_name(tmp_path: Path) -> None:
    assert command("mlflow", python=str(tmp_path / "python"), search_path=os.devnull) == "mlflow"
