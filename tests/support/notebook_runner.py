"""Executes one notebook in the current folder and prints its outputs' text; a process of its own.

python -m support.notebook_runner NOTEBOOK
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

CELL_TIMEOUT_S = 300

warnings.simplefilter("ignore")  # Jupyter's own, about its past and its future


def run(path: Path) -> str:
    """Execute the notebook with the kernel over a local socket; return what its cells printed."""
    nbclient: Any = importlib.import_module("nbclient")  # after the filter; neither has types
    nbformat: Any = importlib.import_module("nbformat")
    notebook: Any = nbformat.read(path, as_version=4)
    client: Any = nbclient.NotebookClient(notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3")
    asyncio.run(client.async_execute())
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "\n".join(out.get("text", "") for cell in cells for out in cell.outputs)


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))  # noqa: T201  # what it is for
