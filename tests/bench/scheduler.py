"""What a scheduler's answers cost: server CPU per register and per piece message, over real gRPC.

    python tests/bench/scheduler.py [--streams 600] [--holders 2000] [--rounds 3] [--json]

A scheduler in a process of its own, as `odonata scheduler` runs it (uvloop, with its logs), knows a
task with `--holders` peers that hold all of it. Against it, from this process: unary calls, and
whole AnnouncePeer streams of 0, 16 and 64 piece messages, each with a decision among the holders
(4 parents). `closed` waits for the answer before the pieces go, `ahead` sends all at once. Printed
is the CPU the server used (user and system, from /proc), medians over shuffled rounds; the client's
own speed does not count. Compare columns of one run, never runs: the machine is noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import msgspec  # noqa: E402  # after the path
import uvloop  # noqa: E402
from support.scheduler_client import (  # noqa: E402
    SchedulerClient,
    connected,
    host,
    piece,
    settings,
)

from odonata import logs  # noqa: E402
from odonata.wire.message import Finished, NormalTask, PieceFinished, Started  # noqa: E402
from scheduler.runtime.app import SchedulerApp  # noqa: E402

CONNECTIONS = 4
IN_FLIGHT = 32
CHILD_HOSTS = 64
PIECE_COUNTS = (0, 16, 64)
MEGA = 1e6
KIB = 1024

Work = Callable[[SchedulerClient], Awaitable[None]]
_serial = count()


# --- the server: a process of its own ---


async def serve() -> None:
    """Serve until stdin closes. The crowd of holders is not thinned out meanwhile."""
    logs.configure(program="scheduler")
    chosen = settings(request_rate_limit=1_000_000)
    async with SchedulerApp(chosen) as app:
        state = app.core.state
        state.limits = replace(state.limits, peer_count_limit_for_task=1_000_000)
        say({"address": app.address})
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def server() -> Generator[tuple[str, int]]:
    """Yields address and process id of a scheduler."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"], process.pid
        process.stdin.close()


# --- what it is asked ---


async def hold(client: SchedulerClient) -> None:
    """A host comes and says that it holds everything."""
    number = next(_serial)
    ip = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    await client.announce(host(f"holder-{number}", ip))
    peer = client.peer(f"holder-{number}", f"holder-peer-{number}")
    await peer.register(metadata_only=True)
    await peer.answer()
    await peer.send(Started(), Finished())
    await peer.end()


async def announce_child(client: SchedulerClient) -> None:
    """AnnounceHost. Children share nothing: the scheduler forgets them soon after they finish."""
    child = host(f"child-{next(_serial) % CHILD_HOSTS}", "127.0.0.2")
    await client.announce(msgspec.structs.replace(child, disable_shared=True))


async def stat(client: SchedulerClient) -> None:
    """StatTask."""
    await client.stat_task()


def stream(piece_count: int, *, ahead: bool) -> Work:
    """A whole AnnouncePeer conversation."""

    async def converse(client: SchedulerClient) -> None:
        number = next(_serial)
        peer = client.peer(f"child-{number % CHILD_HOSTS}", f"child-peer-{number}")
        pieces = [PieceFinished(piece=piece(n, "holder-peer-0")) for n in range(piece_count)]
        await peer.register()
        if not ahead:
            answer = await peer.answer()
            assert isinstance(answer, NormalTask)
        await peer.send(Started(), *pieces, Finished())
        if ahead:
            await peer.answer()
        await peer.end()

    return converse


def contenders() -> dict[str, Work]:
    """Everything that is measured, by name."""
    streams = {
        f"AnnouncePeer, {n} pieces, {'ahead' if ahead else 'closed'}": stream(n, ahead=ahead)
        for ahead in (False, True)
        for n in PIECE_COUNTS
    }
    return {"StatTask": stat, "AnnounceHost": announce_child, **streams}


# --- measuring ---


def process_cpu_s(pid: int) -> float:
    """CPU seconds of another process, in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of another process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def repeat(clients: list[SchedulerClient], work: Work, times: int) -> None:
    """Do `work` so often, with IN_FLIGHT of it under way."""
    todo = iter(range(times))

    async def worker(client: SchedulerClient) -> None:
        for _ in todo:
            await work(client)

    async with asyncio.TaskGroup() as tasks:
        for number in range(IN_FLIGHT):
            tasks.create_task(worker(clients[number % len(clients)]))


async def bench(streams: int, holders: int, rounds: int) -> dict[str, Any]:
    """Server CPU in us per call or stream, and what follows from it."""
    costs_us: dict[str, list[float]] = {name: [] for name in contenders()}
    with server() as (address, pid):
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(connected(address)) for _ in range(CONNECTIONS)
            ]
            before = resident_bytes(pid)
            await repeat(clients, hold, holders)
            holder_kib = (resident_bytes(pid) - before) / holders / KIB
            await repeat(clients, announce_child, CHILD_HOSTS)
            for _ in range(rounds):
                order = list(contenders().items())
                random.shuffle(order)
                for name, work in order:
                    began_s = process_cpu_s(pid)
                    await repeat(clients, work, streams)
                    used_s = process_cpu_s(pid) - began_s
                    costs_us[name].append(used_s / streams * MEGA)
    table = {name: round(statistics.median(costs), 1) for name, costs in costs_us.items()}
    return {
        "streams": streams,
        "holders": holders,
        "rounds": rounds,
        "resident_kib_per_holder": round(holder_kib, 1),
        "server_cpu_us": table,
        "per_core_second": rates(table),
    }


def rates(table: dict[str, float]) -> dict[str, int]:
    """Registers with a decision (the whole stream), and pieces by what each adds to a stream."""
    found: dict[str, int] = {}
    most = PIECE_COUNTS[-1]
    for how in ("closed", "ahead"):
        register_us = table[f"AnnouncePeer, 0 pieces, {how}"]
        stream_us = table[f"AnnouncePeer, {most} pieces, {how}"]
        found[f"registers, {how}"] = round(MEGA / register_us)
        found[f"pieces, {how}"] = round(most * MEGA / max(1.0, stream_us - register_us))
        found[f"pieces with their stream, {how}"] = round(most * MEGA / stream_us)
    return found


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    lines = [f"{'':36}{'server CPU us':>14}"]
    lines += [f"{name:36}{cost:>14.1f}" for name, cost in result["server_cpu_us"].items()]
    lines += ["", f"{'':36}{'per core-second':>16}"]
    lines += [f"{name:36}{rate:>16,}" for name, rate in result["per_core_second"].items()]
    lines += ["", f"resident memory per holder: {result['resident_kib_per_holder']} KiB"]
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=600, help="of each kind, in each round")
    parser.add_argument("--holders", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve())
        return
    result = uvloop.run(bench(args.streams, args.holders, args.rounds))
    if args.json:
        say(result)
    else:
        show(result)


if __name__ == "__main__":
    main()
