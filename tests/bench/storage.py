"""How soon a full storage opens, what it keeps in memory, and what reading pieces again costs.

    python tests/bench/storage.py [--tasks 2000] [--pieces 50] [--rounds 3] [--json [OUT]]

A folder of `tasks` x `pieces` finished pieces (1 byte each: opening reads none of them) is opened
again and again, each time in a process of its own. Printed are medians: seconds to open, resident
memory gained for each task; and CPU seconds for each GB that is verified from the page cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench.soak import memory_mb, say_line  # noqa: E402
from bench.yardstick import GB, MIB, own_cpu_s, say  # noqa: E402  # after the path
from support.content import cut, make_content, make_task_id  # noqa: E402

from odonata.wire.message import Download, Piece, TrafficType  # noqa: E402
from peer.runtime.storage.index import Index, Loaded, TaskRecord  # noqa: E402
from peer.runtime.storage.layout import Layout  # noqa: E402
from peer.runtime.storage.store import DiskStorage  # noqa: E402
from peer.runtime.storage.worker import Workers  # noqa: E402

VERIFIED_BYTES = 256 * MIB
PIECE_LENGTH = 4 * MIB


async def fill(folder: Path, tasks: int, pieces: int) -> None:
    """As if they had been downloaded: the same rows, files of the right length."""
    layout, workers = Layout(folder), Workers()
    layout.prepare()
    index = Index(layout.index, workers)
    await index.open()
    held: dict[str, tuple[TaskRecord, dict[int, Piece]]] = {}
    for number in range(tasks):
        task_id = make_task_id(str(number))
        path = layout.content_file(task_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(pieces))
        held[task_id] = (_record(task_id, pieces), {n: _piece(n) for n in range(pieces)})
    await index.put_all(Loaded(tasks=held, same_boot=True))
    await index.stamp_boot()
    await index.close()
    workers.close()


def _record(task_id: str, pieces: int) -> TaskRecord:
    return TaskRecord(
        id=task_id,
        url=f"https://registry.example.com/v2/library/x/blobs/sha256:{task_id}",
        content_length=pieces,
        piece_length=1,
        response_header={"etag": f'"{task_id}"', "content-type": "application/octet-stream"},
        created_at_s=1.0,
        used_at_s=time.time(),
        finished_at_s=2.0,
    )


def _piece(number: int) -> Piece:
    return Piece(
        number=number,
        offset=number,
        length=1,
        digest="crc32:3523407757",
        parent_id="10.0.0.7-host7-84ed0064-9f12-4eb2-9248-831d9fcc3be9",
        traffic_type=TrafficType.REMOTE_PEER,
        cost_s=0.0123,
        created_at_s=1.5,
    )


async def open_once(folder: Path) -> None:
    """In a process of its own: open, and say what that took."""
    pid, began_s, cpu_before = "self", time.perf_counter(), own_cpu_s()
    before = memory_mb(pid, "VmRSS")
    async with await DiskStorage.open(folder) as storage:
        facts = {
            "open_s": time.perf_counter() - began_s,
            "open_cpu_s": own_cpu_s() - cpu_before,
            "tasks": len(storage.tasks()),
        }
        gained = memory_mb(pid, "VmRSS") - before
        say(facts | {"rss_kb_per_task": 1024 * gained / max(1, len(storage.tasks()))})


async def verify(folder: Path) -> float:
    """CPU seconds for each GB of pieces that are read again."""
    content = make_content(PIECE_LENGTH) * (VERIFIED_BYTES // PIECE_LENGTH)
    async with await DiskStorage.open(folder) as storage:
        task = await storage.create(make_task_id("verified"), Download(url="http://x.test/"))
        await task.learn(len(content), PIECE_LENGTH, {})
        for piece, data in cut(content, PIECE_LENGTH):
            await task.store(piece, data)
        before = own_cpu_s()
        for number in task.held():
            assert await task.verify(number)
        return (own_cpu_s() - before) * GB / len(content)


def bench(tasks: int, pieces: int, rounds: int) -> dict[str, Any]:
    """Medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(fill(folder / "full", tasks, pieces))
        opened = [
            json.loads(
                subprocess.run(
                    [sys.executable, str(Path(__file__).resolve()), "open", str(folder / "full")],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for _ in range(rounds)
        ]
        cpu_per_gb = statistics.median(
            asyncio.run(verify(folder / f"verify{n}")) for n in range(rounds)
        )
    assert {one["tasks"] for one in opened} == {tasks}
    return {
        "tasks": tasks,
        "pieces": tasks * pieces,
        "open_s": round(statistics.median(one["open_s"] for one in opened), 3),
        "open_cpu_s": round(statistics.median(one["open_cpu_s"] for one in opened), 3),
        "rss_kb_per_task": round(statistics.median(one["rss_kb_per_task"] for one in opened), 1),
        "verify_cpu_s_per_gb": round(cpu_per_gb, 3),
    }


def main() -> None:
    if sys.argv[1:2] == ["open"]:  # one process of the bench itself
        asyncio.run(open_once(Path(sys.argv[2])))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--pieces", type=int, default=50, help="of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="OUT", help="facts, to OUT if named"
    )
    args = parser.parse_args()
    facts = bench(args.tasks, args.pieces, args.rounds)
    if args.json is None:
        for key, value in facts.items():
            say_line(f"{key:24}{value:>10}")
    elif args.json == "-":
        say(facts)
    else:
        Path(args.json).write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
