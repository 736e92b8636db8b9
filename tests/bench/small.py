"""How soon a small file is there, through a peer's proxy, as containers and tools ask for it.

    ./run bench small [--json OUT] [--files 100] [--rounds 3]

A scheduler, a seed and two peers, each a process. `warm`: the peer that is asked holds the file.
`cold`: it does not; it has to ask the scheduler, and fetches from the other peer, which holds it.
One request after the other, on one connection to the proxy; milliseconds until the last byte.

    warm_p50_ms                  the worst of the sizes
    cold_p50_ms, cold_p99_ms     of all sizes together

(For comparison: Dragonfly publishes 650 to 900 ms for what is called cold here.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import aiohttp  # noqa: E402  # after the path
import numpy as np  # noqa: E402
import uvloop  # noqa: E402
from bench import yardstick  # noqa: E402
from bench.datapath import Swarm, swarm  # noqa: E402

from odonata.swarm.plan import Member  # noqa: E402

SIZES: Final = {"1 B": 1, "4 KiB": 4096, "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}
HOLDER, CHILD = 0, 1
THROUGH_SWARM: Final = {"X-Dragonfly-Use-P2P": "true"}


async def ask(session: aiohttp.ClientSession, member: Member, url: str, size: int) -> float:
    """Milliseconds."""
    began_s = time.perf_counter()
    proxy = f"http://127.0.0.1:{member.proxy_port}"
    async with session.get(url, proxy=proxy, headers=THROUGH_SWARM) as response:
        body = await response.read()
    took_ms = (time.perf_counter() - began_s) * 1000
    assert response.status == 200, f"{url}: {response.status}"
    assert len(body) == size, f"{url} came with {len(body)} bytes"
    return took_ms


async def measure(one: Swarm, base_url: str, files: int, rounds: int) -> dict[str, Any]:
    holder, child = one.plan.peers[HOLDER], one.plan.peers[CHILD]
    cold: dict[str, list[float]] = {}
    warm: dict[str, list[float]] = {}
    async with aiohttp.ClientSession() as session:
        for name, size in SIZES.items():
            urls = [f"{base_url}/{size}?file={number}" for number in range(files)]
            for url in urls:
                await ask(session, holder, url, size)
            cold[name] = [await ask(session, child, url, size) for url in urls]
            warm[name] = [
                await ask(session, child, url, size) for _ in range(rounds) for url in urls
            ]
    everything = [took_ms for measured in cold.values() for took_ms in measured]
    return {
        "warm_p50_ms": max(percentile(measured, 50) for measured in warm.values()),
        "cold_p50_ms": percentile(everything, 50),
        "cold_p99_ms": percentile(everything, 99),
        "table": {
            name: {
                "warm_p50_ms": percentile(warm[name], 50),
                "warm_p99_ms": percentile(warm[name], 99),
                "cold_p50_ms": percentile(cold[name], 50),
                "cold_p99_ms": percentile(cold[name], 99),
            }
            for name in SIZES
        },
    }


def percentile(values: list[float], share: float) -> float:
    return round(float(np.percentile(values, share)), 2)


async def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    root = folder / "root"
    for size in SIZES.values():
        await asyncio.to_thread(write, root / str(size), size)
    with yardstick.nginx(folder, root) as nginx:
        async with swarm(folder / "swarm", 2) as one:
            return await measure(one, nginx.base_url, args.files, args.rounds)


def write(path: Path, size: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    lines = [f"{'ms':10}{'warm p50':>10}{'p99':>8}{'cold p50':>10}{'p99':>8}"]
    for name, row in result["table"].items():
        lines.append(
            f"{name:10}{row['warm_p50_ms']:>10.2f}{row['warm_p99_ms']:>8.2f}"
            f"{row['cold_p50_ms']:>10.2f}{row['cold_p99_ms']:>8.2f}"
        )
    lines += [f"{key:12}{value:>8}" for key, value in result.items() if key != "table"]
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=100, help="of each size")
    parser.add_argument("--rounds", type=int, default=3, help="of asking for what is held")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        result = uvloop.run(run(args, Path(name)))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    show(result)


if __name__ == "__main__":
    main()
