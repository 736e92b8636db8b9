"""Daemons as processes that start in a tenth of a second, for tests that kill hundreds of them.

A nursery is a process (`daemon_fork`) that has loaded everything a daemon needs and runs nothing.
It forks a child for each line it reads, which becomes the daemon, and says how the child ended. One
at a time.

    async with nursery() as home:
        one = await home.start(daemon_arguments(folder, 2), folder / "log")
        os.kill(one.pid, signal.SIGKILL)
        await one.ended()
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.daemon import MIB, PATIENCE_S, ROOT, environment
from support.eventually import eventually


class Child:
    """A daemon that was forked."""

    def __init__(self, pid: int, err: Path, answers: asyncio.StreamReader) -> None:
        self.pid = pid
        self._err = err
        self._answers = answers
        self._status: int | None = None

    @property
    def has_ended(self) -> bool:
        """It was waited for."""
        return self._status is not None

    def events(self) -> list[dict[str, Any]]:
        """What it has logged so far, as far as the lines are whole."""
        lines = self._err.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def said(self, name: str) -> bool:
        return any(event["event"] == name for event in self.events())

    async def started(self) -> Path:
        """Where its socket is, once it says that it has started."""
        await eventually(lambda: self.said("daemon_started"), PATIENCE_S)
        return Path(next(one["path"] for one in self.events() if one["event"] == "daemon_started"))

    async def ended(self) -> int:
        """How it ended: an exit code, or minus the signal."""
        if self._status is None:
            async with asyncio.timeout(PATIENCE_S):
                self._status = int(await self._answers.readline())
        return self._status


class Nursery:
    """Made by `nursery`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._child: Child | None = None

    async def close(self) -> None:
        """End it, and the daemon that may still run."""
        if self._child is not None and not self._child.has_ended:
            os.kill(self._child.pid, signal.SIGKILL)
            await self._child.ended()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def start(self, arguments: Sequence[str], err: Path) -> Child:
        """Fork a daemon; the one before must have ended. It logs into `err`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await asyncio.to_thread(err.write_bytes, b"")  # what the one before said
        order = {"arguments": [*arguments[1:], "--log-format=json"], "err": str(err)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            pid = int(await self._process.stdout.readline())
        self._child = Child(pid, err, self._process.stdout)
        return self._child


@asynccontextmanager
async def nursery() -> AsyncGenerator[Nursery]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.daemon_fork",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        limit=MIB,
    )
    one = Nursery(process)
    try:
        yield one
    finally:
        await one.close()
