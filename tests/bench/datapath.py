"""How fast content goes from peer to peer: real daemons beside curl from a tuned nginx, in one run.

    ./run bench datapath [--json OUT] [--size-mib 1024] [--rounds 5] [--only fetch|cold|memory]

A scheduler, a seed, three peers that hold the content and one that does not, each a process, all on
tmpfs and loopback. Every round runs each contender once, in shuffled order; a ratio is the median
of the rounds' ratios, so that both sides of one saw the same machine.

    fetch_vs_curl_wall   curl's time / ours: one child, three parents, every piece checked, indexed
    fetch_vs_curl_cpu    CPU of parents and child / CPU of nginx and curl
    bare_vs_curl_...     the same two of sockets, threads and BLAKE3 alone (`bare.py`): the bound
    serve_vs_nginx_cpu   CPU of a parent / of nginx, both asked by curl for the whole content
    cold_overhead        our time / curl's from a rate-limited origin, when nobody holds the content
    rss_peak_mb          of a daemon that moves eight contents of 1 GiB at once
    rss_growth_mb        of a daemon from its 200th small content to its 1,000th

Two cores are what there is: measure with nothing else running. The contents are compared, always.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import uvloop  # noqa: E402  # after the path
from bench import yardstick  # noqa: E402
from bench.cold import cold  # noqa: E402
from bench.settled import settled_memory  # noqa: E402
from bench.soak import peak, soak  # noqa: E402
from bench.yardstick import GB, MIB, Outcome  # noqa: E402
from dragonfly_api import dfdaemon_pb2  # noqa: E402

from odonata import ids  # noqa: E402
from odonata.grpc_client import open_channel  # noqa: E402
from odonata.grpc_stub import download_stub  # noqa: E402
from odonata.swarm.local import running  # noqa: E402
from odonata.swarm.plan import Member, SwarmOptions, SwarmPlan, make_plan  # noqa: E402
from odonata.swarm.process import Processes  # noqa: E402
from odonata.wire.message import Download  # noqa: E402
from peer.get import get_file  # noqa: E402

PARENTS: Final = 3
BARE: Final = Path(__file__).with_name("bare.py")
PARTS: Final = ("fetch", "cold", "memory")
TASKS_AT_ONCE: Final = 8
SOAK_TASKS: Final = 1000
SOAK_SIZE_KIB: Final = 64
Facts = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """A scheduler, a seed, the parents and, last, the child."""

    plan: SwarmPlan
    processes: Processes
    folder: Path

    @property
    def child(self) -> Member:
        return self.plan.peers[-1]

    @property
    def parents(self) -> tuple[Member, ...]:
        return self.plan.peers[:-1]

    def cpu_s(self, *members: Member) -> float:
        """What their processes have used so far."""
        return yardstick.cpu_s_of(self.processes.child(one.name).process.pid for one in members)

    async def get(self, member: Member, url: str, output: Path) -> None:
        """What `odonata get` does, on that host."""
        assert member.socket is not None, "daemons have one"
        await get_file(Download(url=url, output_path=str(output)), member.socket, quiet=True)

    async def forget(self, member: Member, url: str) -> None:
        """That host holds the content no more."""
        task_id = ids.task_id_of(Download(url=url))
        async with open_channel(f"unix:{member.socket}") as channel:
            await download_stub(channel).DeleteLocalTask(
                dfdaemon_pb2.DeleteLocalTaskRequest(task_id=task_id)
            )


@asynccontextmanager
async def swarm(folder: Path, peers: int) -> AsyncGenerator[Swarm]:
    plan = make_plan(SwarmOptions(peers=peers, seeds=1), folder)
    async with running(plan, lambda _name, _line: None) as processes:
        yield Swarm(plan=plan, processes=processes, folder=folder)


async def fetch_once(one: Swarm, url: str, content: Path) -> Outcome:
    """The child fetches from those that hold it."""
    output = one.folder / "fetched"
    everybody = one.plan.daemons
    others = [member for member in everybody if member is not one.child]
    client, server = one.cpu_s(one.child), one.cpu_s(*others, one.plan.scheduler)
    began_s = time.perf_counter()
    await one.get(one.child, url, output)
    wall_s = time.perf_counter() - began_s
    outcome = Outcome(
        wall_s=wall_s,
        client_cpu_s=one.cpu_s(one.child) - client,
        server_cpu_s=one.cpu_s(*others, one.plan.scheduler) - server,
    )
    await asyncio.to_thread(yardstick.compare, output, content)
    await one.forget(one.child, url)
    return outcome


async def curl_once(url: str, content: Path, output: Path, cpu_s: Callable[[], float]) -> Outcome:
    outcome = await asyncio.to_thread(yardstick.curl, url, output, cpu_s)
    await asyncio.to_thread(yardstick.compare, output, content)
    return outcome


async def bare_once(content: Path, output: Path) -> Outcome:
    """What is left when nothing but the bytes is moved."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(BARE), str(content), str(output), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, "the bare transfer failed"
    facts = json.loads(said)
    await asyncio.to_thread(yardstick.compare, output, content)
    return Outcome(facts["wall_s"], facts["client"], facts["server"])


async def measure(folder: Path, size_mib: int, rounds: int) -> dict[str, Any]:
    """Fetching and serving, contender by contender."""
    root = folder / "root"
    root.mkdir()
    content = root / "content"
    await asyncio.to_thread(yardstick.make_file, content, size_mib)
    outcomes: dict[str, list[Outcome]] = {}
    with yardstick.nginx(folder, root) as nginx:
        async with swarm(folder / "swarm", PARENTS + 1) as one:
            url = f"{nginx.base_url}/content"
            for parent in one.parents:
                await one.get(parent, url, folder / "held")
                await asyncio.to_thread((folder / "held").unlink)
            served, output = await serving_url(one, url), folder / "curled"
            contenders: dict[str, Callable[[], Awaitable[Outcome]]] = {
                "odonata": lambda: fetch_once(one, url, content),
                "bare sockets": lambda: bare_once(content, output),
                "curl <- nginx": lambda: curl_once(url, content, output, nginx.cpu_s),
                "curl <- odonata": lambda: curl_once(
                    served, content, output, lambda: one.cpu_s(one.parents[0])
                ),
            }
            for contender in contenders.values():
                await contender()  # connections, caches and buffers are there afterwards
            names = list(contenders)
            for number in range(rounds):
                random.Random(number).shuffle(names)
                for name in names:
                    outcomes.setdefault(name, []).append(await contenders[name]())
    return summed_up(outcomes, size_mib * MIB)


async def serving_url(one: Swarm, url: str) -> str:
    """Where the first parent serves the content to tools."""
    parent = one.parents[0]
    port = json.loads(parent.config.read_text())["storage"]["server"]["tcpPort"]
    return f"http://127.0.0.1:{port}/download/{ids.task_id_of(Download(url=url))}"


def summed_up(outcomes: dict[str, list[Outcome]], length: int) -> dict[str, Any]:
    ours, bare, curls, served = (
        outcomes[name] for name in ("odonata", "bare sockets", "curl <- nginx", "curl <- odonata")
    )
    ratios: dict[str, float] = {}
    for name, those in (("fetch", ours), ("bare", bare)):
        pairs = list(zip(those, curls, strict=True))
        ratios[f"{name}_vs_curl_wall"] = median(curl.wall_s / one.wall_s for one, curl in pairs)
        ratios[f"{name}_vs_curl_cpu"] = median(one.cpu_s / curl.cpu_s for one, curl in pairs)
    return {
        **ratios,
        "serve_vs_nginx_cpu": median(
            our.server_cpu_s / curl.server_cpu_s for our, curl in zip(served, curls, strict=True)
        ),
        "table": {
            name: {
                "gb_per_s": median(length / GB / one.wall_s for one in measured),
                "client_cpu_s_per_gb": median(one.client_cpu_s * GB / length for one in measured),
                "server_cpu_s_per_gb": median(one.server_cpu_s * GB / length for one in measured),
            }
            for name, measured in outcomes.items()
        },
    }


def median(values: Iterable[float]) -> float:
    return round(float(statistics.median(values)), 3)


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    lines = [f"{'':18}{'GB/s':>8}{'client':>10}{'server':>10}  CPU-s/GB"]
    for name, row in result.get("table", {}).items():
        lines.append(
            f"{name:18}{row['gb_per_s']:>8.2f}{row['client_cpu_s_per_gb']:>10.2f}"
            f"{row['server_cpu_s_per_gb']:>10.2f}"
        )
    lines += [f"{key:20}{value:>8}" for key, value in result.items() if key != "table"]
    sys.stdout.write("\n".join(lines) + "\n")


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, one part after the other, each with folders of its own."""
    memory = Path("/dev/shm")
    where = args.dir or (memory if memory.is_dir() else None)
    result: dict[str, Any] = {}
    if "fetch" in args.only:
        with tempfile.TemporaryDirectory(dir=where) as name, settled_memory(Path(name)):
            result |= uvloop.run(measure(Path(name), args.size_mib, args.rounds))
    if "cold" in args.only:
        result |= cold(size_mib=args.cold_size_mib, rounds=args.rounds, where=where)
    if "memory" in args.only:
        # On a disk: sixteen copies of a GiB are more than most machines' memory.
        with tempfile.TemporaryDirectory() as name:
            facts = asyncio.run(peak(Path(name), TASKS_AT_ONCE, args.size_mib))
        result["rss_peak_mb"] = facts["rss_peak_mb"]
        with tempfile.TemporaryDirectory() as name:
            facts = asyncio.run(soak(Path(name), SOAK_TASKS, SOAK_SIZE_KIB, keep=False))
        result["rss_growth_mb"] = facts["rss_growth_mb"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--cold-size-mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable; default: all")
    parser.add_argument("--dir", type=Path, help="where files lie (default: /dev/shm, if there)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    args = parser.parse_args()
    args.only = args.only or PARTS
    result = measured(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    show(result)


if __name__ == "__main__":
    main()
