"""`./run test` runs all tests: no folder of tests is forgotten, and none is named that is gone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_folder_with_tests_is_run() -> None:
    lists = re.findall(r"^(?:pure|real)='(.*)'$", (ROOT / "run").read_text(), re.MULTILINE)
    named = [name for one in lists for name in one.split()]
    there = {path.relative_to(ROOT).parts[1] for path in ROOT.glob("tests/**/test_*.py")}
    assert len(lists) == 2
    assert sorted(named) == sorted(f"tests/{name}" for name in there)
