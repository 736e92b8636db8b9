"""How fast a program reads what the daemon of its host holds: each way beside a plain file read.

    ./run bench library [--size-mib 1024] [--rounds 5] [--reads 1000] [--json OUT]

One daemon, in a process of its own, holds one content (on /dev/shm); every round reads it once by
each way, in shuffled order. Printed are medians: seconds, GiB/s, CPU-seconds of the client (curl is
one, too) and of the daemon. Then so many reads of 4 KiB by jumps, one after another: p50 and
p99. Compare lines of one run, never runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from support.daemon import daemon_arguments, process  # noqa: E402  # after the path
from support.origin import Origin  # noqa: E402

from odonata.client import Client  # noqa: E402
from odonata.client.filesystem import OdonataFileSystem  # noqa: E402

MIB = 1024 * 1024
STEP_BYTES = MIB
SMALL_BYTES = 4096
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Of another process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def drain(reader: Any) -> int:
    """Read it to its end; bytes."""
    buffer, total = bytearray(STEP_BYTES), 0
    while count := reader.readinto(buffer):
        total += count
    return total


def measured(work: Callable[[], None], pid: int) -> dict[str, float]:
    """One run of `work`: seconds, and CPU-seconds of all who had a part in it."""
    before, began_s, daemon_s = os.times(), time.perf_counter(), cpu_s(pid)
    work()
    wall_s, after = time.perf_counter() - began_s, os.times()
    own_s = after.user + after.system - before.user - before.system
    child_s = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return {
        "wall_s": wall_s,
        "client_cpu_s": own_s + child_s,
        "daemon_cpu_s": cpu_s(pid) - daemon_s,
    }


class Bench:
    """Every way to read `url`, which the daemon at `socket_path` holds."""

    def __init__(self, folder: Path, url: str, size: int, started: dict[str, Any]) -> None:
        self.url, self.size, self.folder = url, size, folder
        self.client = Client(started["path"])
        self.sent = Client(started["path"], files=False)
        self.fs: Any = OdonataFileSystem(endpoint=started["path"])
        self.proxy = f"http://127.0.0.2:{started['proxy_port']}"
        self.client.download(url, folder / "plain")

    def ways(self) -> dict[str, Callable[[], None]]:
        return {
            "plain file read": self.plain,
            "client.open": lambda: self.open(self.client),
            "fsspec open": self.fsspec_open,
            "output_path, then read": self.output,
            "proxy, by curl": self.curl,
            "client.open, bytes sent": lambda: self.open(self.sent),
        }

    def plain(self) -> None:
        with (self.folder / "plain").open("rb", buffering=0) as file:
            assert drain(file) == self.size

    def open(self, client: Client) -> None:
        with client.open(self.url) as reader:
            assert drain(reader) == self.size

    def fsspec_open(self) -> None:
        with self.fs.open(self.url) as file:
            assert drain(file) == self.size

    def output(self) -> None:
        path = self.folder / "output"
        self.client.download(self.url, path, overwrite=True)
        with path.open("rb", buffering=0) as file:
            assert drain(file) == self.size
        path.unlink()

    def curl(self) -> None:
        words = ["curl", "-sf", "-x", self.proxy, "-o", "/dev/null", "-w", "%{size_download}"]
        said = subprocess.run(
            [*words, "-H", "X-Dragonfly-Use-P2P: true", self.url], check=True, capture_output=True
        )
        assert int(said.stdout) == self.size

    def small(self, reads: int) -> dict[str, dict[str, float]]:
        """Milliseconds of small reads by jumps."""
        ways: dict[str, Callable[[int], bytes]] = {
            "client.read": lambda at: self.client.read(self.url, at, SMALL_BYTES),
            "fsspec cat_file": lambda at: self.fs.cat_file(self.url, at, at + SMALL_BYTES),
            "client.read, bytes sent": lambda at: self.sent.read(self.url, at, SMALL_BYTES),
        }
        return {name: _percentiles(read, reads, self.size) for name, read in ways.items()}


def _percentiles(read: Callable[[int], bytes], reads: int, size: int) -> dict[str, float]:
    places = random.Random(1)
    taken_ms: list[float] = []
    for _ in range(reads):
        at = places.randrange(size - SMALL_BYTES)
        began_s = time.perf_counter()
        assert len(read(at)) == SMALL_BYTES
        taken_ms.append((time.perf_counter() - began_s) * 1000)
    taken_ms.sort()
    return {"p50_ms": taken_ms[reads // 2], "p99_ms": taken_ms[int(reads * 0.99)]}


def run(bench: Bench, pid: int, rounds: int, reads: int) -> dict[str, Any]:
    """All of it."""
    ways = bench.ways()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    order = list(ways)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            runs[name].append(measured(ways[name], pid))
    medians = {
        name: {key: statistics.median(one[key] for one in taken) for key in taken[0]}
        for name, taken in runs.items()
    }
    return {"size_bytes": bench.size, "whole": medians, "small": bench.small(reads)}


def table(result: dict[str, Any]) -> str:
    """For people."""
    gib = result["size_bytes"] / 1024**3
    lines = [f"{'':26}{'s':>8}{'GiB/s':>8}{'client CPU s':>14}{'daemon CPU s':>14}"]
    for name, one in result["whole"].items():
        rate = gib / one["wall_s"]
        cpus = f"{one['client_cpu_s']:14.2f}{one['daemon_cpu_s']:14.2f}"
        lines.append(f"{name:26}{one['wall_s']:8.3f}{rate:8.2f}{cpus}")
    lines += ["", f"{'4 KiB by jumps':26}{'p50 ms':>8}{'p99 ms':>8}"]
    for name, one in result["small"].items():
        lines.append(f"{name:26}{one['p50_ms']:8.2f}{one['p99_ms']:8.2f}")
    return "\n".join(lines) + "\n"


async def main(words: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    size = words.size_mib * MIB
    try:
        async with Origin() as origin, process(*daemon_arguments(folder, 2)) as daemon:
            url = origin.add("/content", os.urandom(MIB) * words.size_mib)
            bench = await asyncio.to_thread(Bench, folder, url, size, daemon.started)
            result = await asyncio.to_thread(run, bench, daemon.pid, words.rounds, words.reads)
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(table(result))
    if words.json:
        words.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    asyncio.run(main(parser.parse_args()))
