"""curl as a client of a daemon's proxy: what it was answered, what it wrote, how it ended."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from peer.runtime.daemon import Daemon

MAX_TIME_S = 60
"""Of one fetch, on a loaded machine: a test that needs it has failed."""


@dataclass(frozen=True)
class Fetched:
    """`code` is curl's exit code: 0 means that it takes the body for a whole one."""

    code: int
    status: int
    header: dict[str, str]
    body: bytes

    def is_right(self, content: bytes) -> bool:
        """The client has it all, and says so."""
        return (self.code, self.status) == (0, 200) and self.body == content

    def is_visibly_short(self, content: bytes) -> bool:
        """The client has the beginning, and knows that the rest is missing."""
        is_start = len(self.body) < len(content) and content.startswith(self.body)
        return self.code != 0 and self.status == 200 and is_start


async def fetch(at: Daemon, url: str, folder: Path, *headers: str) -> Fetched:
    """GET `url` through the proxy of a daemon; `headers` are lines of the request."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is missing: apt-get install curl")
    ip, port = at.proxy_address
    head, body = folder / "curl.head", folder / "curl.body"
    for path in (head, body):
        path.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(program, "-q", "-sS", "--max-time", str(MAX_TIME_S), "--noproxy", ""),
        *("--proxy", f"http://{ip}:{port}", "-D", str(head), "-o", str(body)),
        *(word for line in headers for word in ("-H", line)),
        url,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.communicate()
    assert process.returncode is not None
    lines = head.read_text(encoding="latin-1").splitlines() if head.exists() else []
    pairs = (line.partition(":") for line in lines[1:] if line)
    return Fetched(
        code=process.returncode,
        status=int(lines[0].split()[1]) if lines else 0,
        header={name.lower(): value.strip() for name, _, value in pairs},
        body=body.read_bytes() if body.exists() else b"",
    )
