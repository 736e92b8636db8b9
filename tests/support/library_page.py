"""The examples of docs/library.md as one program, and the origins that they read.

async with origins(folder) as names, daemon(...) as one:
    code, said = await run_page(script(examples(), **names), folder, one)
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, ROOT, environment
from support.hub_service import TOKEN, HubService, HubStore
from support.origin import Origin
from support.source_world import S3World

from peer.runtime.daemon import Daemon

_PAGE = ROOT / "docs" / "library.md"
_EXAMPLE = re.compile(r"^```python(| torch)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PREFACE = """
import pathlib
from odonata.client.filesystem import register
register()
folder = pathlib.Path(folder)
"""


def examples(*, torch: bool = False) -> list[str]:
    """Those that need torch, or all others, in their order."""
    found: list[tuple[str, str]] = _EXAMPLE.findall(_PAGE.read_text())
    return [text for mark, text in found if bool(mark) is torch]


def script(parts: Sequence[str], **names: str) -> str:
    """One after another, as a reader would, each told apart by a line if one fails."""
    values = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    texts = (f"# --- example {number}\n{text}" for number, text in enumerate(parts, 1))
    return values + _PREFACE + "\n".join(texts)


@asynccontextmanager
async def origins(folder: Path) -> AsyncGenerator[dict[str, str]]:
    """Whatever the page's names mean; its `folder` is made below this one."""
    (folder / "out").mkdir()
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
            "folder": str(folder / "out"),
            "url": origin.add("/model.bin", make_content(9 * MIB + 3)),
            "csv_url": origin.add("/frame.csv", csv),
            "parquet_url": origin.add("/frame.parquet", (folder / "frame.parquet").read_bytes()),
            "s3_url": s3.url("t/frame.csv"),
            "s3_endpoint": s3.address,
            "hub_url": hub.address,
            "hub_token": TOKEN,
        }


async def run_page(text: str, folder: Path, one: Daemon) -> tuple[int | None, str]:
    """Exit code of the program, and what it said."""
    page = folder / "page.py"
    page.write_text(text)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(page)),
        env=environment() | {"ODONATA_DAEMON_SOCKET": str(one.socket_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        said, _ = await child.communicate()
    return child.returncode, said.decode()
