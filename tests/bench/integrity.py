"""What it costs to know that bytes are right: hashes alone, and a child's whole fetch with each.

    python tests/bench/integrity.py [--size-mib 256] [--rounds 5] [--dir DIR] [--json OUT]

A parent in a process of its own serves a content; a child, another process each time, fetches all
of it with 8 pieces in flight: checking the CRC-32 alone (`crc`), against a list of strong digests
too (`list`), or that and then the SHA-256 of the whole, read along as it grows (`whole`); `source`
stands for the first fetcher, which computes strong digests for others. Each round runs each once,
in shuffled order; printed are medians of CPU-seconds per GB, of the child alone. Compare columns
of one run, never runs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import msgspec  # noqa: E402  # after the path
import uvloop  # noqa: E402
from bench.raw_parent import TASK, parent  # noqa: E402
from bench.yardstick import GB, MIB, PATIENCE_S, own_cpu_s, say  # noqa: E402

from odonata.digest import crc32, strong_digest  # noqa: E402
from odonata.piece import piece_at, piece_count, piece_length_for  # noqa: E402
from odonata.wire.message import Download, Piece, TrafficType  # noqa: E402
from peer.runtime.buffer import BufferPool  # noqa: E402
from peer.runtime.piece_client import PieceClient  # noqa: E402
from peer.runtime.storage.store import DiskStorage  # noqa: E402
from peer.runtime.whole_digest import WholeCheck  # noqa: E402

IN_FLIGHT: Final = 8
MODES: Final = ("crc", "list", "whole", "source")


def digests_of(content_file: Path, length: int) -> dict[int, bytes]:
    """What a scheduler would tell."""
    piece_length = piece_length_for(length)
    with content_file.open("rb") as file:
        return {
            number: strong_digest(file.read(piece_at(number, length, piece_length)[1]))
            for number in range(piece_count(length, piece_length))
        }


class _FromSource:
    """A task that takes what a peer sends for what a source sent: it computes strong digests."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    async def receive(
        self, piece: Piece, data: memoryview, rest: Callable[[], Piece | None]
    ) -> Piece | None:
        whole = rest()
        return None if whole is None else await self.store(whole, data)

    async def store(self, piece: Piece, data: memoryview) -> Piece:
        from_source = msgspec.structs.replace(piece, traffic_type=TrafficType.BACK_TO_SOURCE)
        stored: Piece = await self._task.store(from_source, data)
        return stored


async def fetch(mode: str, folder: Path, port: int, content_file: Path) -> None:
    """Fetch everything and say what it took."""
    length = (await asyncio.to_thread(content_file.stat)).st_size
    digests = await asyncio.to_thread(digests_of, content_file, length)
    data = await asyncio.to_thread(content_file.read_bytes)
    whole = f"sha256:{hashlib.sha256(data).hexdigest()}"
    del data
    piece_length = piece_length_for(length)
    client = PieceClient(BufferPool())
    async with await DiskStorage.open(folder, keep=False) as storage:
        task: Any = await storage.create(TASK, Download(url="http://bench.test/content"))
        await task.learn(length, piece_length, {})
        if mode in ("list", "whole"):
            task.expect(digests)
        check = WholeCheck(task, (whole,)) if mode == "whole" else None
        target: Any = _FromSource(task) if mode == "source" else task
        before, began_s = own_cpu_s(), time.perf_counter()
        numbers = iter(range(piece_count(length, piece_length)))

        async def work() -> None:
            for number in numbers:
                await client.fetch(
                    "127.0.0.1", port, target, number, parent_id="bench", timeout_s=PATIENCE_S
                )

        async with asyncio.TaskGroup() as beside:
            following = None if check is None else beside.create_task(check.follow())
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(work())
            fetched_s = time.perf_counter() - began_s
            if check is not None and following is not None:
                following.cancel()
                await check.finish()
        wall_s = time.perf_counter() - began_s
        say({"cpu_s": own_cpu_s() - before, "wall_s": wall_s, "tail_s": wall_s - fetched_s})


def take(mode: str, folder: Path, port: int, content_file: Path) -> dict[str, float]:
    """One fetch by a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--take", mode, str(folder), str(port),
         str(content_file)],
        check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    shutil.rmtree(folder)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def hashes() -> dict[str, float]:
    """CPU-seconds per GB of each hash alone, over pieces of 4 MiB."""
    data = memoryview(bytearray(random.Random(1).randbytes(4 * MIB)))
    kinds: dict[str, Callable[[memoryview], object]] = {
        "crc32": crc32,
        "blake3": strong_digest,
        "sha256": lambda piece: hashlib.sha256(piece).digest(),
    }
    found: dict[str, float] = {}
    for name, kind in kinds.items():
        kind(data)
        began_s = time.process_time()
        for _ in range(32):
            kind(data)
        found[name] = round((time.process_time() - began_s) * GB / (32 * len(data)), 3)
    return found


def bench(size_mib: int, rounds: int, where: Path | None) -> dict[str, Any]:
    """Medians of each way to fetch."""
    measured: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        content_file = folder / "content"
        with content_file.open("wb") as file:
            for seed in range(size_mib):
                file.write(random.Random(seed).randbytes(MIB))
        with parent(folder / "parent", content_file) as (port, _):
            for _ in range(rounds):
                for mode in random.sample(MODES, len(MODES)):
                    measured[mode].append(take(mode, folder / "child", port, content_file))
    length = size_mib * MIB
    table = {
        mode: {
            "child_cpu_s_per_gb": round(_median(runs, "cpu_s") * GB / length, 3),
            "gb_per_s": round(length / GB / _median(runs, "wall_s"), 3),
            "tail_ms": round(1000 * _median(runs, "tail_s"), 1),
        }
        for mode, runs in measured.items()
    }
    return {"size_mib": size_mib, "rounds": rounds, "hash_cpu_s_per_gb": hashes(), "fetch": table}


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where files lie (default: /dev/shm)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    parser.add_argument("--take", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.take is not None:
        mode, folder, port, content_file = args.take
        uvloop.run(fetch(mode, Path(folder), int(port), Path(content_file)))
        return
    shm = Path("/dev/shm")  # a tmpfs, in a folder of our own
    result = bench(args.size_mib, args.rounds, args.dir or (shm if shm.is_dir() else None))
    text = json.dumps(result, indent=2)
    sys.stdout.write(text + "\n")
    if args.json is not None:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
