"""The limit of open files, in processes of their own: it would stay changed in this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

SCRIPT = """
import resource, sys
from peer.runtime.descriptors import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
said = allow_descriptors({wanted})
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (said, {hard})
print(said)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "holds"),
    [(64, 200, 1000, 200), (64, 200, 100, 100), (150, 200, 100, 150), (200, 200, 1000, 200)],
)
def test_the_soft_limit_goes_up_to_what_is_allowed_and_wanted(
    soft: int, hard: int, wanted: int, holds: int
) -> None:
    script = SCRIPT.format(soft=soft, hard=hard, wanted=wanted)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert int(done.stdout) == holds
