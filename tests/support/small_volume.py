"""Small volumes of their own for a test, and how to fill one to the last byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_volume(path: Path, size: str) -> Generator[Path]:
    """A tmpfs of that size at `path`. Skips the test where nobody may mount one."""
    program = shutil.which("mount")
    if os.geteuid() != 0 or program is None:
        pytest.skip("needs root, to mount a tmpfs")
    path.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
    if subprocess.run([program, *options], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        yield path
    finally:
        unmount = shutil.which("umount")
        assert unmount is not None
        subprocess.run([unmount, "-l", str(path)], check=True)


def remount(path: Path, options: str) -> None:
    """Change a mounted volume: `ro`, `rw`, `size=16m`."""
    program = shutil.which("mount")
    assert program is not None
    subprocess.run([program, "-o", f"remount,{options}", str(path)], check=True)


def fill(volume: Path, *, leave_bytes: int = 0) -> Path:
    """A file that takes all that is left of the volume, but for `leave_bytes`."""
    ballast = volume / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave_bytes))
    return ballast
