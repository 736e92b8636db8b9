"""How fast a cached blob comes out of a daemon's HTTP proxy: curl -x beside curl <- nginx.

    python tests/bench/proxy.py [--size-mib 1024] [--rounds 5] [--dir DIR] [--json]

A whole daemon holds the blob; each round asks every contender once, in shuffled order. Printed are
medians of GB/s (wall), of CPU-seconds per GB of server and of curl, and the median of what ours
takes relative to tuned nginx in the same round. Compare columns of one run, never runs.
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
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench.yardstick import (  # noqa: E402  # after the path
    GB,
    MIB,
    Outcome,
    compare,
    cpu_s_of,
    make_file,
    nginx,
)
from support.daemon import daemon_arguments, process  # noqa: E402  # after the path

BLOB = "v2/bench/blobs/sha256:bench"
"""No digest that content could have: what is measured is the proxy, not the check of the whole."""
OURS, DEFAULT, TUNED = "odonata's proxy", "nginx", "nginx, tuned"
TUNING = {DEFAULT: "sendfile on;", TUNED: "sendfile off; output_buffers 2 256k;"}

Contender = tuple[list[str], Callable[[], float]]
"""What curl is told, and a function for the CPU seconds of the server so far."""


def ask(arguments: list[str], server_cpu_s: Callable[[], float]) -> Outcome:
    """One download to nowhere."""
    before, began_s = server_cpu_s(), time.perf_counter()
    client = subprocess.Popen(["curl", "-sf", "-o", "/dev/null", *arguments])
    _, status, usage = os.wait4(client.pid, 0)
    client.returncode = os.waitstatus_to_exitcode(status)
    assert client.returncode == 0, "curl failed"
    return Outcome(
        wall_s=time.perf_counter() - began_s,
        server_cpu_s=server_cpu_s() - before,
        client_cpu_s=usage.ru_utime + usage.ru_stime,
    )


async def measure(folder: Path, length: int, rounds: int) -> dict[str, list[Outcome]]:
    """Every contender's outcomes, round by round."""
    content_file = folder / "root" / BLOB
    content_file.parent.mkdir(parents=True)
    make_file(content_file, length // MIB)
    contenders: dict[str, Contender] = {}
    async with AsyncExitStack() as stack:
        for name, tuning in TUNING.items():
            place = folder / name.replace(" ", "")
            place.mkdir()
            server = stack.enter_context(nginx(place, folder / "root", tuning=tuning))
            contenders[name] = ([f"{server.base_url}/{BLOB}"], server.cpu_s)
        [url], _ = contenders[TUNED]
        rules: Any = '[{"regex": "blobs/sha256.*"}]'
        one = await stack.enter_async_context(
            process(*daemon_arguments(folder, 2, proxy__rules=rules))
        )
        by_proxy = ["-x", f"http://127.0.0.2:{one.started['proxy_port']}", url]
        contenders[OURS] = (by_proxy, lambda: cpu_s_of([one.pid]))
        await asyncio.to_thread(fill, by_proxy, folder / "first", content_file)
        outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
        for _ in range(rounds):
            order = list(contenders.items())
            random.shuffle(order)
            for name, contender in order:
                outcomes[name].append(await asyncio.to_thread(ask, *contender))
    return outcomes


def fill(by_proxy: list[str], output: Path, content_file: Path) -> None:
    """Have the daemon fetch the blob; every byte must be right, or the figures mean nothing."""
    subprocess.run(["curl", "-sf", "-o", str(output), *by_proxy], check=True)
    compare(output, content_file)


def summary(outcomes: dict[str, list[Outcome]], length: int) -> dict[str, dict[str, float]]:
    """Medians, by contender."""

    def median(name: str, key: str) -> float:
        return float(statistics.median(getattr(outcome, key) for outcome in outcomes[name]))

    table = {
        name: {
            "gb_per_s": round(length / GB / median(name, "wall_s"), 3),
            "server_cpu_s_per_gb": round(median(name, "server_cpu_s") * GB / length, 3),
            "client_cpu_s_per_gb": round(median(name, "client_cpu_s") * GB / length, 3),
        }
        for name in outcomes
    }
    pairs = zip(outcomes[OURS], outcomes[TUNED], strict=True)
    ratios = [ours.wall_s / theirs.wall_s for ours, theirs in pairs]
    table[OURS]["wall_vs_tuned_nginx"] = round(statistics.median(ratios), 2)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--dir", type=Path, help="where files lie (default: /dev/shm if it is there)"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not (shutil.which("nginx") and shutil.which("curl")):
        parser.error("this bench needs nginx and curl: apt install nginx curl")
    memory = Path("/dev/shm")
    length = args.size_mib * MIB
    with tempfile.TemporaryDirectory(dir=args.dir or (memory if memory.is_dir() else None)) as name:
        outcomes = asyncio.run(measure(Path(name), length, args.rounds))
    table = summary(outcomes, length)
    if args.json:
        facts = {"size_mib": args.size_mib, "rounds": args.rounds, "proxy": table}
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    sys.stdout.write(f"{'':20}{'GB/s':>8}{'server':>10}{'curl':>10}  CPU-s/GB\n")
    for name, row in table.items():
        sys.stdout.write(
            f"{name:20}{row['gb_per_s']:>8.2f}{row['server_cpu_s_per_gb']:>10.2f}"
            f"{row['client_cpu_s_per_gb']:>10.2f}\n"
        )


if __name__ == "__main__":
    main()
