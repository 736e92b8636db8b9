"""The examples of docs/library.md that need torch: data sets, workers, checkpoints.

torch weighs gigabytes, so it is in no lock file: where it is not installed they are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.daemon import daemon
from support.library_page import examples, origins, run_page, script
from support.origin import Origin


@pytest.mark.long
async def test_torch_reads_data_sets_and_checkpoints(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    parts = examples(torch=True)
    assert len(parts) >= 3
    weight = torch.arange(1000).reshape(10, 100)
    torch.save({"weight": weight}, tmp_path / "checkpoint.pt")
    async with origins(tmp_path) as names, Origin() as origin, daemon(tmp_path, 2) as one:
        url = origin.add("/checkpoint.pt", (tmp_path / "checkpoint.pt").read_bytes())
        code, said = await run_page(script(parts, checkpoint_url=url, **names), tmp_path, one)
    assert code == 0, said
