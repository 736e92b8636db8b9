"""What a scheduler's answers cost: server CPU per register and per piece message, over real gRPC.

    ./run bench scheduler [--json OUT] [--streams 1000] [--holders 2000] [--rounds 5]
                          [--transport h2 --transport grpcio] [--no-core]

A scheduler in a process of its own, as `odonata scheduler` runs it (uvloop, rule ranker), knows a
task with `--holders` peers that hold all of it. From this process come unary calls, and whole
AnnouncePeer streams: a Register with a decision among the holders (4 parents), Started, so many
piece messages, Finished. `ahead` sends all at once; `closed` waits for the answer, and then sends
the messages one by one, each with a write of its own. Every stream has a peer of its own; frames
are made before the clock starts (`support.h2_load`), so the sender hardly matters, and what is
counted is the CPU the server used (user and system, from /proc): medians over shuffled rounds.

    registers_per_core_s         1 s of CPU / a whole stream without pieces, sent ahead
    piece_messages_per_core_s    1 s / what a piece message adds to a stream, 64 of them, ahead
    ..._closed                   the same, closed
    ..._whole_streams            64 messages / the whole stream's CPU, register and decision too
    ..._grpcio                   the same with grpcio's server in place of our own

Compare columns of one run, never runs: the machine is noisy. With `tests/bench/scheduler_core.py`
there, its figures of the core alone are in the same file.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "bench")]  # runnable as it is

import msgspec  # noqa: E402  # after the path
import uvloop  # noqa: E402
from dragonfly_api import scheduler_pb2  # noqa: E402
from support.h2_load import run_load  # noqa: E402
from support.scheduler_client import TASK, download, host, piece, settings  # noqa: E402

from odonata import collector, logs  # noqa: E402
from odonata.settings.log import LogSettings  # noqa: E402
from odonata.wire.dragonfly import PeerRequest, host_to_wire, request_to_wire  # noqa: E402
from odonata.wire.message import (  # noqa: E402
    Finished,
    Host,
    PeerMessage,
    PieceFinished,
    Register,
    Started,
)
from scheduler.runtime.app import SchedulerApp  # noqa: E402

SERVICE: Final = "/scheduler.v2.Scheduler/"
CHILD_HOSTS = 64
PIECES = 64
CANDIDATES: Final = 4
MEGA = 1e6
KIB = 1024
TRANSPORTS: Final = ("h2", "grpcio")

_serial = count()

Messages = list[bytes]


# --- the server: a process of its own ---


async def serve(transport: str, log_level: str) -> None:
    """Serve until stdin closes. The crowd of holders is not thinned out meanwhile."""
    logs.configure(LogSettings.model_validate({"level": log_level}), program="scheduler")
    collector.look_seldom()
    chosen = settings(request_rate_limit=100_000_000, transport=transport)
    async with SchedulerApp(chosen, random.Random(7)) as app:
        state = app.core.state
        state.limits = replace(state.limits, peer_count_limit_for_task=1_000_000)
        say({"address": app.address})
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def server(transport: str, log_level: str) -> Generator[tuple[tuple[str, int], int]]:
    """Yields address and process id of a scheduler. Its log is written, and thrown away."""
    command = [sys.executable, __file__, "--serve", transport, "--log-level", log_level]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as own:
        assert own.stdin is not None
        assert own.stdout is not None
        ip, port = json.loads(own.stdout.readline())["address"].rsplit(":", 1)
        try:
            yield (ip, int(port)), own.pid
        finally:
            own.stdin.close()


# --- what it is asked ---


def peer_id(number: int, kind: str = "child") -> str:
    """As long as a stock peer's: address, host name, uuid."""
    return (
        f"10.0.{number >> 8 & 255}.{number & 255}-{kind}-{number:08x}-4f5c-4d0e-9a64-0242ac120002"
    )


def stream(host_id: str, peer: str, *messages: PeerMessage) -> Messages:
    """One AnnouncePeer stream."""
    return [
        request_to_wire(
            PeerRequest(host_id=host_id, task_id=TASK, peer_id=peer, message=message)
        ).SerializeToString()
        for message in messages
    ]


def announcements(hosts: list[Host]) -> list[Messages]:
    """AnnounceHost of each."""
    return [
        [scheduler_pb2.AnnounceHostRequest(host=host_to_wire(one)).SerializeToString()]
        for one in hosts
    ]


def holder_hosts(n: int) -> list[Host]:
    return [host(f"holder-{k}", f"10.{k >> 16 & 255}.{k >> 8 & 255}.{k & 255}") for k in range(n)]


def child_hosts() -> list[Host]:
    """Children share nothing: the scheduler forgets them soon after they finish."""
    return [
        msgspec.structs.replace(host(f"child-{k}", "127.0.0.2"), disable_shared=True)
        for k in range(CHILD_HOSTS)
    ]


def holdings(n: int) -> list[Messages]:
    """A peer of each holder's says that it holds everything."""
    said = (Register(download=download(metadata_only=True)), Started(), Finished())
    return [stream(f"holder-{k}", peer_id(k, "holder"), *said) for k in range(n)]


def downloads(n: int, piece_count: int) -> list[Messages]:
    """Streams of new children."""
    register = Register(download=download())
    made: list[Messages] = []
    for _ in range(n):
        number = next(_serial)
        pieces = [
            PieceFinished(piece=piece(k, peer_id((number + k) % CANDIDATES, "holder")))
            for k in range(piece_count)
        ]
        child = f"child-{number % CHILD_HOSTS}"
        made.append(stream(child, peer_id(number), register, Started(), *pieces, Finished()))
    return made


@dataclass(frozen=True)
class Load:
    """One thing that is measured."""

    rpc: str
    pieces: int = -1
    is_closed: bool = False

    def calls(self, n: int) -> list[Messages]:
        if self.rpc == "AnnounceHost":
            hosts = child_hosts()
            return announcements([hosts[k % CHILD_HOSTS] for k in range(n)])
        if self.rpc == "StatTask":
            return [
                [scheduler_pb2.StatTaskRequest(host_id="a", task_id=TASK).SerializeToString()]
            ] * n
        return downloads(n, self.pieces)


LOADS: Final = {
    "StatTask": Load("StatTask"),
    "AnnounceHost": Load("AnnounceHost"),
    "register, ahead": Load("AnnouncePeer", 0),
    "register, closed": Load("AnnouncePeer", 0, is_closed=True),
    "64 pieces, ahead": Load("AnnouncePeer", PIECES),
    "64 pieces, closed": Load("AnnouncePeer", PIECES, is_closed=True),
}


# --- measuring ---


def process_cpu_s(pid: int) -> float:
    """CPU seconds of another process, in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of another process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def bench(transport: str, options: argparse.Namespace) -> dict[str, Any]:
    """Server CPU in us per call or stream."""
    streams: int = options.streams
    costs_us: dict[str, list[float]] = {name: [] for name in LOADS}
    with server(transport, options.log_level) as (address, pid):
        before = resident_bytes(pid)
        await announce(address, holder_hosts(options.holders))
        await run_load(address, SERVICE + "AnnouncePeer", holdings(options.holders))
        holder_kib = (resident_bytes(pid) - before) / options.holders / KIB
        await announce(address, child_hosts())
        for _ in range(options.rounds):
            order = list(LOADS.items())
            random.shuffle(order)
            for name, load in order:
                calls = load.calls(streams)
                began_s = process_cpu_s(pid)
                await run_load(
                    address,
                    SERVICE + load.rpc,
                    calls,
                    is_closed=load.is_closed,
                    half_closes=load.pieces < 0,
                )
                costs_us[name].append((process_cpu_s(pid) - began_s) / streams * MEGA)
    table = {name: round(statistics.median(costs), 1) for name, costs in costs_us.items()}
    return {"resident_kib_per_holder": round(holder_kib, 1), "server_cpu_us": table}


async def announce(address: tuple[str, int], hosts: list[Host]) -> None:
    await run_load(address, SERVICE + "AnnounceHost", announcements(hosts), half_closes=True)


def rates(table: dict[str, float]) -> dict[str, int]:
    """The issue's figures from the costs."""
    found: dict[str, int] = {}
    for how, suffix in (("ahead", ""), ("closed", "_closed")):
        register_us, stream_us = table[f"register, {how}"], table[f"64 pieces, {how}"]
        found[f"registers_per_core_s{suffix}"] = round(MEGA / max(0.1, register_us))
        extra_us = max(0.1, stream_us - register_us)
        found[f"piece_messages_per_core_s{suffix}"] = round(PIECES * MEGA / extra_us)
        found[f"piece_messages_per_core_s{suffix}_whole_streams"] = round(PIECES * MEGA / stream_us)
    return found


def core_figures() -> dict[str, Any]:
    """What `scheduler_core` measures, if it is there."""
    if importlib.util.find_spec("scheduler_core") is None:
        return {}
    core: Any = importlib.import_module("scheduler_core")
    figures: dict[str, Any] = core.measure()
    return figures


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    for transport, found in result["transports"].items():
        sys.stdout.write(f"\n{transport:40}{'server CPU us':>14}\n")
        for name, cost in found["server_cpu_us"].items():
            sys.stdout.write(f"{name:40}{cost:>14.1f}\n")
        sys.stdout.write(f"resident KiB per holder{found['resident_kib_per_holder']:>31}\n")
    sys.stdout.write("\n")
    for name, value in result.items():
        if isinstance(value, int | float):
            sys.stdout.write(f"{name:54}{value:>14,}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=1000, help="of each kind, in each round")
    parser.add_argument("--holders", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, default=[])
    parser.add_argument("--log-level", default="info", help="of the server")
    parser.add_argument("--no-core", action="store_true", help="only what goes over gRPC")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    parser.add_argument("--serve", choices=TRANSPORTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve, options.log_level))
        return
    result: dict[str, Any] = {} if options.no_core else core_figures()
    result["transports"] = {}
    for transport in options.transport or TRANSPORTS:
        found = uvloop.run(bench(transport, options))
        result["transports"][transport] = found
        suffix = "" if transport == "h2" else f"_{transport}"
        result |= {f"{k}{suffix}": v for k, v in rates(found["server_cpu_us"]).items()}
    settled = {key: getattr(options, key) for key in ("streams", "holders", "rounds", "log_level")}
    result["options"] = settled
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
