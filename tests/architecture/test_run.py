"""`./run test` runs all tests: no folder of tests is forgotten, and none is named that is gone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = (ROOT / "run").read_text()


def test_every_folder_with_tests_is_run() -> None:
    lists = {
        name: folders.split()
        for name, folders in re.findall(r"^(pure|calm|real)='(.*)'$", RUN, re.MULTILINE)
    }
    named = [*lists["pure"], *lists["real"]]
    there = {path.relative_to(ROOT).parts[1] for path in ROOT.glob("tests/**/test_*.py")}
    assert sorted(named) == sorted(f"tests/{name}" for name in there)
    assert all((ROOT / name).exists() for name in lists["calm"])
