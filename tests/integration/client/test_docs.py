"""The examples of docs/library.md, run one after another as a reader would, in one process."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pandas as pd
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, ROOT, daemon, environment, scheduler
from support.origin import Origin
from support.source_world import S3World

PAGE = ROOT / "docs" / "library.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PREFACE = """
import pathlib
from odonata.client.filesystem import register
register()
url, csv_url, parquet_url, folder = {url!r}, {csv_url!r}, {parquet_url!r}, pathlib.Path({folder!r})
s3_url, s3_endpoint = {s3_url!r}, {s3_endpoint!r}
"""


def script(**names: str) -> str:
    """All examples, each told apart by a line if one fails."""
    examples: list[str] = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) >= 8
    parts = (f"# --- example {number}\n{text}" for number, text in enumerate(examples, 1))
    return PREFACE.format(**names) + "\n".join(parts)


async def test_every_example_does_what_it_says(tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": range(50_000), "name": [f"n{n}" for n in range(50_000)]})
    frame.to_parquet(tmp_path / "frame.parquet")
    out = tmp_path / "out"
    out.mkdir()
    async with Origin() as origin, S3World(tmp_path) as s3, scheduler() as app:
        await s3.fill({"t/frame.csv": frame.to_csv(index=False).encode()})
        names = {
            "url": origin.add("/model.bin", make_content(9 * MIB + 3)),
            "csv_url": origin.add("/frame.csv", frame.to_csv(index=False).encode()),
            "parquet_url": origin.add("/frame.parquet", (tmp_path / "frame.parquet").read_bytes()),
            "folder": str(out),
            "s3_url": s3.url("t/frame.csv"),
            "s3_endpoint": s3.address,
        }
        async with (
            daemon(tmp_path, 2, scheduler__addrs=app.address),
            daemon(tmp_path, 3, scheduler__addrs=app.address) as one,
        ):
            page = tmp_path / "page.py"
            page.write_text(script(**names))
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                str(page),
                env=environment() | {"ODONATA_DAEMON_SOCKET": str(one.socket_path)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            async with asyncio.timeout(PATIENCE_S):
                said, _ = await child.communicate()
    assert child.returncode == 0, said.decode()
    assert b"from peers" in said
