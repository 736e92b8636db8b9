"""The examples of docs/library.md, run one after another as a reader would, in one process."""

from __future__ import annotations

from pathlib import Path

from support.daemon import daemon, scheduler
from support.library_page import examples, origins, run_page, script


async def test_every_example_does_what_it_says(tmp_path: Path) -> None:
    parts = examples()
    assert len(parts) >= 9
    async with (
        origins(tmp_path) as names,
        scheduler() as app,
        daemon(tmp_path, 2, scheduler__addrs=app.address),
        daemon(tmp_path, 3, scheduler__addrs=app.address) as one,
    ):
        code, said = await run_page(script(parts, **names), tmp_path, one)
    assert code == 0, said
    assert "from peers" in said
