"""Python as a user whom file modes concern: root is not, and tests may run as root.

Root keeps its name, for an interpreter may lie in a home that nobody else can enter, and loses what
puts it above modes and owners (capabilities(7)). Any other user is taken as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[2]
_POWERS: Final = "-dac_override,-dac_read_search,-fowner,-chown"
_TIMEOUT_S: Final = 60.0


def _without_powers() -> list[str]:
    """The start of a command line."""
    if os.geteuid() != 0:
        return []
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("root can be made to obey file modes by setpriv alone (util-linux)")
    return [program, "--bounding-set", _POWERS, "--inh-caps", _POWERS]


def run_unprivileged(module: str, *words: str | Path) -> str:
    """Run `python -m module words`; returns its stdout. AssertionError with all it said if not."""
    done = subprocess.run(
        [*_without_powers(), sys.executable, "-m", module, *map(str, words)],
        cwd=_ROOT / "tests",
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
