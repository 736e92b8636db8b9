"""The notebooks run from top to bottom, ask a question first and answer it last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 400.0
RUNNER = ROOT / "tests" / "support" / "notebook_runner.py"


def name_of(path: Path) -> str:
    return path.stem


def cells_of(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return cells


def printed(path: Path) -> str:
    """What a notebook prints when it is run in its own folder, as a reader does."""
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(path)],
        cwd=path.parent,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_there_are_three() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_it_asks_first_and_answers_last(path: Path) -> None:
    cells = cells_of(path)
    first, last = cells[0], cells[-1]
    assert first["cell_type"] == last["cell_type"] == "markdown"
    heading = "".join(first["source"]).splitlines()[0]
    assert heading.startswith("# ")
    assert heading.endswith("?")
    assert "".join(last["source"]).startswith("## Answer\n")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_it_is_kept_without_outputs(path: Path) -> None:
    assert not [cell["id"] for cell in cells_of(path) if cell.get("outputs")]


def test_telemetry_names_the_slow_peers() -> None:
    """Nobody told the scheduler; the records do."""
    assert "'slowest': ['peer-3', 'peer-6']" in printed(NOTEBOOKS[0])


def test_the_ranker_is_judged_beside_the_others() -> None:
    told = printed(NOTEBOOKS[1])
    found = re.search(r"\{'regret@1 on held-out hosts': (\{.*?\})\}", told)
    assert found is not None, told[-2000:]
    regret = json.loads(found[1].replace("'", '"'))
    assert set(regret) == {"dragonfly", "rule", "random", "linear", "learned"}
    assert regret["learned"] < regret["random"]


def test_a_thin_seed_is_worse_whoever_ranks() -> None:
    told = printed(NOTEBOOKS[2]).strip().splitlines()[-1]
    stretch = json.loads(told.replace("'", '"'))
    assert all(
        thin > usual for thin, usual in zip(stretch["thin seed"], stretch["as it is"], strict=True)
    )
