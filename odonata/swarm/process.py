"""Starts, watches and stops the processes of a local swarm; leaves nothing behind.

Knows nothing of schedulers or peers: a process is a name and a list of words. Each runs on a leash
(see `leash`), in a session of its own: Ctrl-C reaches this program alone and the stop is orderly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from odonata.errors import UnavailableError

LINES_KEPT = 40  # of each process's output, shown when it dies before its time
STOP_TIMEOUT_S = (
    8.0  # a daemon says goodbye to its schedulers within 2 s; the rest is for a busy machine
)
LINE_BYTES_MAX = 1 << 20  # a longer line of output is somebody's bug; asyncio then drops it

OnLine = Callable[[str, str], None]


class Child:
    """One process: its name, its latest lines, its end."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_line: OnLine) -> None:
        self.name = name
        self.process = process
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._on_line = on_line

    async def follow(self) -> int:
        """Hand on each line of output until the process ends; return its exit status."""
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            self._on_line(self.name, line)
        return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone already is no error."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Processes:
    """The processes of one swarm. An async context: leaving it stops them, last started first."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._children: dict[str, Child] = {}
        self._followers: dict[str, asyncio.Task[int]] = {}

    async def start(self, name: str, words: Sequence[str], on_line: OnLine | None = None) -> Child:
        """Start `words` (an absolute program path first) as `name`; its lines go to `on_line`."""
        leash = [sys.executable, "-m", "odonata.swarm.leash", str(os.getpid()), *words]
        process = await asyncio.create_subprocess_exec(
            *leash,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
        child = Child(name, process, on_line or self._on_line)
        self._children[name] = child
        loop = asyncio.get_running_loop()
        self._followers[name] = loop.create_task(child.follow(), name=f"follow-{name}")
        return child

    def child(self, name: str) -> Child:
        """The process called `name`."""
        return self._children[name]

    async def first_end(self) -> Child:
        """Wait until any process ends; return it."""
        done, _ = await asyncio.wait(self._followers.values(), return_when=asyncio.FIRST_COMPLETED)
        return next(self._children[name] for name, task in self._followers.items() if task in done)

    async def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop one process and forget it; SIGKILL after STOP_TIMEOUT_S."""
        child, follower = self._children.pop(name), self._followers.pop(name)
        child.signal(number)
        try:
            await asyncio.wait_for(asyncio.shield(follower), STOP_TIMEOUT_S)
        except TimeoutError:
            child.signal(signal.SIGKILL)
            await follower

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop everybody: first the latest started (peers), last the first (the scheduler)."""
        names = list(reversed(self._children))
        await asyncio.gather(*(self.stop(name) for name in names[:-1]))
        for name in names[-1:]:
            await self.stop(name)


def died_early(child: Child) -> UnavailableError:
    """The error for a process that ended before it was asked to, with its last words."""
    last_words = "\n".join(f"    {line}" for line in child.lines) or "    (it said nothing)"
    status = child.process.returncode
    return UnavailableError(
        f"{child.name} ended with status {status}. Its last words:\n{last_words}"
    )
