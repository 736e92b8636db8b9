"""What a daemon's memory does: over many tasks, and while it moves a few large ones at once.

    python tests/bench/soak.py [soak] [--tasks 1000] [--size-kib 64] [--keep] [--json [OUT]]
    python tests/bench/soak.py peak [--tasks 8] [--size-mib 1024] [--dir DIR] [--json [OUT]]

`soak`: task after task, 8 at once, from an origin through a seed to a peer; the resident memory of
both after each tenth of them, when they have been deleted again as collection would (`--keep`: they
stay). `rss_growth_mb` is what the peer gained from the second tenth to the last (the first fills
pools and caches). `peak`: all tasks at once, by a peer from the origin, then by another one from
it; `rss_peak_mb` is the greatest resident memory of either while it did.
Files that are stored count for nothing here: they are in the page cache, not in the daemon.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import grpc  # noqa: E402  # after the path
import grpc.aio  # noqa: E402
from bench.yardstick import MIB, nginx, say  # noqa: E402
from dragonfly_api import dfdaemon_pb2  # noqa: E402
from support.content import make_content  # noqa: E402
from support.daemon import Process, daemon_arguments, process  # noqa: E402
from support.origin import Origin  # noqa: E402

from odonata.grpc_client import open_channel  # noqa: E402
from odonata.grpc_stub import download_stub  # noqa: E402
from odonata.ids import url_task_id  # noqa: E402
from odonata.wire.dragonfly import download_request_to_wire  # noqa: E402
from odonata.wire.message import Download  # noqa: E402

AT_ONCE = 8
PATIENCE_S = 1800.0


def memory_mb(pid: int | str, key: str) -> float:
    """`VmRSS` or `VmHWM` (the peak since `forget_peak`) of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise AssertionError(f"no {key} of process {pid}")


def descriptors(pid: int) -> int:
    """What a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def forget_peak(pid: int) -> None:
    """From now on VmHWM is the peak since now (proc(5), clear_refs 5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@asynccontextmanager
async def swarm(folder: Path) -> AsyncGenerator[tuple[Process, Process]]:
    """A scheduler, a seed and a peer; the latter two are handed out."""
    async with AsyncExitStack() as stack:
        scheduler = await stack.enter_async_context(
            process("scheduler", "--listen-ip=127.0.0.1", "--port=0")
        )
        addrs = scheduler.address
        seed = await stack.enter_async_context(
            process(*daemon_arguments(folder, 2, scheduler__addrs=addrs, seedPeer__enable="true"))
        )
        peer = await stack.enter_async_context(
            process(*daemon_arguments(folder, 3, scheduler__addrs=addrs))
        )
        yield seed, peer


async def fetch(daemon: Process, urls: Sequence[str], at_once: int) -> None:
    """Have the daemon download all of `urls`, so many at once; nothing is written elsewhere."""
    turns = asyncio.Semaphore(at_once)

    async def one(channel: Any, url: str) -> None:
        async with turns:
            request = download_request_to_wire(Download(url=url))
            async for _ in download_stub(channel).DownloadTask(request):
                continue

    async with (
        asyncio.timeout(PATIENCE_S),
        open_channel(f"unix:{daemon.socket_path}") as channel,
    ):
        await asyncio.gather(*(one(channel, url) for url in urls))


async def delete(daemon: Process, urls: Sequence[str]) -> None:
    """Have the daemon forget them; a seed need not have been asked for each."""
    async with open_channel(f"unix:{daemon.socket_path}") as channel:
        stub = download_stub(channel)
        for url in urls:
            try:
                await stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=url_task_id(url)))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise


async def soak(folder: Path, tasks: int, size_kib: int, keep: bool) -> dict[str, Any]:
    """Resident memory and descriptors after each tenth of the tasks."""
    async with Origin() as origin, swarm(folder) as (seed, peer):
        rows: list[dict[str, float]] = []
        for tenth in range(10):
            numbers = range(tenth * tasks // 10, (tenth + 1) * tasks // 10)
            urls = [
                origin.add(f"/{number}", make_content(size_kib * 1024, number))
                for number in numbers
            ]
            await fetch(peer, urls, AT_ONCE)
            for daemon in () if keep else (seed, peer):
                await delete(daemon, urls)
            rows.append(
                {
                    "tasks": numbers.stop,
                    "peer_rss_mb": memory_mb(peer.pid, "VmRSS"),
                    "seed_rss_mb": memory_mb(seed.pid, "VmRSS"),
                    "peer_descriptors": descriptors(peer.pid),
                }
            )
    growth = rows[-1]["peer_rss_mb"] - rows[1]["peer_rss_mb"]
    return {"size_kib": size_kib, "keep": keep, "rows": rows, "rss_growth_mb": round(growth, 1)}


async def peak(folder: Path, tasks: int, size_mib: int) -> dict[str, Any]:
    """The greatest resident memory of a peer that fetches from the origin, and of one from it."""
    root = folder / "root"
    root.mkdir()
    with (root / "content").open("wb") as file:
        for number in range(size_mib):
            file.write(make_content(MIB, number))
    facts: dict[str, Any] = {"tasks": tasks, "size_mib": size_mib}
    with nginx(folder, root, tuning="sendfile on;") as origin:
        urls = [f"{origin.base_url}/content?task={number}" for number in range(tasks)]
        async with swarm(folder) as (seed, peer):
            facts["idle_mb"] = memory_mb(peer.pid, "VmRSS")
            for name, one in (("from_source", seed), ("from_peer", peer)):
                forget_peak(seed.pid)
                await fetch(one, urls, tasks)
                facts[f"{name}_peak_mb"] = memory_mb(one.pid, "VmHWM")
                facts[f"{name}_after_mb"] = memory_mb(one.pid, "VmRSS")
            facts["serving_peak_mb"] = memory_mb(seed.pid, "VmHWM")
    facts["rss_peak_mb"] = max(value for key, value in facts.items() if key.endswith("_peak_mb"))
    return facts


def show(facts: dict[str, Any]) -> None:
    """A table for people."""
    rows = facts.pop("rows", [])
    if rows:
        say_line("".join(f"{key:>18}" for key in rows[0]))
    for row in rows:
        say_line("".join(f"{value:>18}" for value in row.values()))
    for key, value in facts.items():
        say_line(f"{key:24}{value:>10}")


def say_line(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("soak", "peak"), default="soak")
    parser.add_argument("--tasks", type=int, help="default: 1000, or 8 for peak")
    parser.add_argument("--size-kib", type=int, default=64, help="of each task of the soak")
    parser.add_argument("--keep", action="store_true", help="the soak's tasks stay on the disks")
    parser.add_argument("--size-mib", type=int, default=1024, help="of each task of peak")
    parser.add_argument("--dir", type=Path, help="where the daemons' folders are made")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="OUT", help="facts, to OUT if named"
    )
    args = parser.parse_args()
    if args.what == "peak" and shutil.which("nginx") is None:
        parser.error("peak needs nginx")
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        work = (
            soak(Path(name), args.tasks or 1000, args.size_kib, args.keep)
            if args.what == "soak"
            else peak(Path(name), args.tasks or 8, args.size_mib)
        )
        facts = asyncio.run(work)
    if args.json is None:
        show(facts)
    elif args.json == "-":
        say(facts)
    else:
        Path(args.json).write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
