"""Processes of a swarm: followed while they run, stopped on leaving, leashed to their starter."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from odonata.swarm.process import Processes, died_early

SLEEPER = "import time; print('ready', flush=True); time.sleep(600)"
TIMEOUT_S = 20.0


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def test_leaving_stops_everybody() -> None:
    ready = asyncio.Event()
    seen: list[tuple[str, str]] = []

    def note(name: str, line: str) -> None:
        seen.append((name, line))
        if len(seen) == 2:
            ready.set()

    async with Processes(note) as processes:
        children = [await processes.start(n, [sys.executable, "-c", SLEEPER]) for n in ("a", "b")]
        await asyncio.wait_for(ready.wait(), TIMEOUT_S)
        assert all(alive(child.process.pid) for child in children)
    assert sorted(seen) == [("a", "ready"), ("b", "ready")]
    assert not any(alive(child.process.pid) for child in children)


async def test_a_process_that_dies_is_named_with_its_last_words() -> None:
    script = "print('the port is taken'); raise SystemExit(3)"
    async with Processes(lambda _name, _line: None) as processes:
        await processes.start("peer-1", [sys.executable, "-c", script])
        child = await asyncio.wait_for(processes.first_end(), TIMEOUT_S)
        error = died_early(child)
    assert error.detail == ("peer-1 ended with status 3. Its last words:\n    the port is taken")


async def test_the_leash_pulls_when_its_holder_is_killed() -> None:
    """kill -9 of the program that started a swarm leaves no daemon behind."""
    holder_script = f"""
import asyncio, sys
from odonata.swarm.process import Processes
async def main():
    async with Processes(lambda name, line: print(line, flush=True)) as processes:
        child = await processes.start("a", [sys.executable, "-c", {SLEEPER!r}])
        print("pid", child.process.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", holder_script, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    pid = 0
    async with asyncio.timeout(TIMEOUT_S):
        async for line in holder.stdout:
            words = line.decode().split()
            pid = int(words[1]) if words[0] == "pid" else pid
            if words == ["ready"]:
                break
    leashed = os.pidfd_open(pid)
    try:
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(leashed, gone.set)
        await asyncio.wait_for(gone.wait(), TIMEOUT_S)
    finally:
        asyncio.get_running_loop().remove_reader(leashed)
        os.close(leashed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_one_process_can_be_stopped_alone(number: signal.Signals) -> None:
    async with Processes(lambda _name, _line: None) as processes:
        first = await processes.start("a", [sys.executable, "-c", SLEEPER])
        second = await processes.start("b", [sys.executable, "-c", SLEEPER])
        await processes.stop("a", number)
        assert not alive(first.process.pid)
        assert alive(second.process.pid)
