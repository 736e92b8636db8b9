"""The examples of docs/library.md, run one after another as a reader would, in one process."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, ROOT, daemon, environment, scheduler
from support.hub_service import TOKEN, HubService, HubStore
from support.origin import Origin
from support.source_world import S3World

from peer.runtime.daemon import Daemon

PAGE = ROOT / "docs" / "library.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PREFACE = """
import pathlib
from odonata.client.filesystem import register
register()
url, csv_url, parquet_url, folder = {url!r}, {csv_url!r}, {parquet_url!r}, pathlib.Path({folder!r})
s3_url, s3_endpoint = {s3_url!r}, {s3_endpoint!r}
hub_url, hub_token = {hub_url!r}, {hub_token!r}
"""


def script(**names: str) -> str:
    """All examples, each told apart by a line if one fails."""
    examples: list[str] = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) >= 8
    parts = (f"# --- example {number}\n{text}" for number, text in enumerate(examples, 1))
    return PREFACE.format(**names) + "\n".join(parts)


@asynccontextmanager
async def origins(folder: Path) -> AsyncGenerator[dict[str, str]]:
    """Whatever the page's names mean, but for `folder`."""
    frame = pd.DataFrame({"number": range(50_000), "name": [f"n{n}" for n in range(50_000)]})
    frame.to_parquet(folder / "frame.parquet")
    csv = frame.to_csv(index=False).encode()
    async with (
        Origin() as origin,
        S3World(folder) as s3,
        HubStore() as store,
        HubService(store=store) as hub,
    ):
        await s3.fill({"t/frame.csv": csv})
        model = save({"weight": np.arange(1000, dtype=np.float32)})
        hub.contents["models/org/repo/main/model.safetensors"] = model
        yield {
            "url": origin.add("/model.bin", make_content(9 * MIB + 3)),
            "csv_url": origin.add("/frame.csv", csv),
            "parquet_url": origin.add("/frame.parquet", (folder / "frame.parquet").read_bytes()),
            "s3_url": s3.url("t/frame.csv"),
            "s3_endpoint": s3.address,
            "hub_url": hub.address,
            "hub_token": TOKEN,
        }


async def test_every_example_does_what_it_says(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    async with (
        origins(tmp_path) as names,
        scheduler() as app,
        daemon(tmp_path, 2, scheduler__addrs=app.address),
        daemon(tmp_path, 3, scheduler__addrs=app.address) as one,
    ):
        page = tmp_path / "page.py"
        page.write_text(script(folder=str(out), **names))
        code, said = await run_page(page, one)
    assert code == 0, said.decode()
    assert b"from peers" in said


async def run_page(page: Path, one: Daemon) -> tuple[int | None, bytes]:
    """Exit code, and what it said."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(page)),
        env=environment() | {"ODONATA_DAEMON_SOCKET": str(one.socket_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        said, _ = await child.communicate()
    return child.returncode, said
