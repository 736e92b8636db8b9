"""How fast a piece goes from one peer's file to another's: ours beside curl <- nginx, in one run.

    python tests/bench/data_path.py fetch [--size-mib 1024] [--rounds 3] [--dir DIR] [--json]

Each round runs every contender once, in shuffled order; printed are medians of GB/s (wall) and of
CPU-seconds per GB of either side. Compare columns of one run, never runs: the machine is noisy.
Ours checks each piece's CRC-32 and indexes it; curl does neither. Contents are compared at the end.
nginx stands twice: as installed (`sendfile on`), and with the buffers that serve loopback best.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import uvloop  # noqa: E402  # after the path

from odonata.digest import piece_digest  # noqa: E402
from odonata.piece import piece_at, piece_count, piece_length_for  # noqa: E402
from odonata.wire.message import Download, Piece  # noqa: E402
from peer.runtime.buffer import BufferPool  # noqa: E402
from peer.runtime.piece_client import PieceClient  # noqa: E402
from peer.runtime.piece_server import PieceServer  # noqa: E402
from peer.runtime.storage.store import DiskStorage  # noqa: E402

TASK = "b" * 64
MIB = 1024 * 1024
GB = 1e9
IN_FLIGHT = 8
PATIENCE_S = 600.0

Outcome = dict[str, float]
"""wall_s, client_cpu_s, server_cpu_s of one transfer."""


# --- ours: each side is a process of its own ---


async def serve(folder: Path, content_file: Path) -> None:
    """Store the content, say the port, serve until stdin closes."""
    length = await asyncio.to_thread(os.path.getsize, content_file)
    piece_length = piece_length_for(length)
    async with (
        await DiskStorage.open(folder, keep=False) as storage,
        PieceServer(storage) as server,
    ):
        task = await storage.create(TASK, Download(url="http://bench.test/content"))
        await task.learn(length, piece_length, {})
        with content_file.open("rb") as file:
            for number in range(piece_count(length, piece_length)):
                offset, n_bytes = piece_at(number, length, piece_length)
                data = memoryview(file.read(n_bytes))
                piece = Piece(
                    number=number, offset=offset, length=n_bytes, digest=piece_digest(data)
                )
                await task.store(piece, data)
        await task.finish()
        await server.listen("127.0.0.1", 0)
        say({"port": server.port})
        await asyncio.to_thread(sys.stdin.read)


async def fetch(folder: Path, port: int, length: int) -> None:
    """Fetch everything, `IN_FLIGHT` pieces at once, and say what it took."""
    piece_length = piece_length_for(length)
    client = PieceClient(BufferPool())
    async with await DiskStorage.open(folder, keep=False) as storage:
        before, began_s = cpu_s(), time.perf_counter()
        task = await storage.create(TASK, Download(url="http://bench.test/content"))
        await task.learn(length, piece_length, {})
        numbers = iter(range(piece_count(length, piece_length)))

        async def work() -> None:
            for number in numbers:
                await client.fetch(
                    "127.0.0.1", port, task, number, parent_id="bench", timeout_s=PATIENCE_S
                )

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(work())
        wall_s = time.perf_counter() - began_s
        say({"wall_s": wall_s, "client_cpu_s": cpu_s() - before, "path": str(task.path)})


@contextmanager
def parent(folder: Path, content_file: Path) -> Generator[tuple[int, Callable[[], float]]]:
    """A peer that holds the content. Yields its port, and a function for its CPU seconds."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "serve", str(folder), str(content_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        yield port, lambda: process_cpu_s(server.pid)
        server.stdin.close()


def run_ours(
    folder: Path, content_file: Path, port: int, server_cpu_s: Callable[[], float]
) -> Outcome:
    before, length = server_cpu_s(), content_file.stat().st_size
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "take", str(folder / "child"), str(port),
         str(length)],
        check=True, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    said: dict[str, Any] = json.loads(done.stdout)
    said["server_cpu_s"] = server_cpu_s() - before
    compare(Path(said.pop("path")), content_file)
    shutil.rmtree(folder / "child")
    return said


# --- the yardstick ---

# An address of its own: between choosing a port and nginx taking it, others take ports too.
NGINX_IP = f"127.{os.getpid() % 250 + 2}.{os.getpid() // 250 % 250 + 2}.1"

NGINX = """
daemon off; worker_processes 1; error_log stderr crit; pid {folder}/nginx.pid;
events {{ }}
http {{
  access_log off; {tuning}
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {ip}:{port}; root {root}; }}
}}
"""


@contextmanager
def nginx(folder: Path, root: Path, tuning: str) -> Generator[tuple[int, Callable[[], float]]]:
    """Yields the port, and a function for the CPU seconds nginx has used."""
    program = shutil.which("nginx")
    assert program is not None
    with socket.socket() as probe:
        probe.bind((NGINX_IP, 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    user = "user root; " if os.geteuid() == 0 else ""
    config.write_text(
        user + NGINX.format(folder=folder, ip=NGINX_IP, port=port, root=root, tuning=tuning)
    )
    server = subprocess.Popen([program, "-c", str(config), "-p", str(folder), "-e", "stderr"])
    try:
        wait_for(port)
        yield port, lambda: sum(map(process_cpu_s, family(server.pid)))
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def run_curl(folder: Path, content_file: Path, tuning: str) -> Outcome:
    curl = shutil.which("curl")
    assert curl is not None
    output = folder / "curl.out"
    with nginx(folder, content_file.parent, tuning) as (port, server_cpu_s):
        before, began_s = server_cpu_s(), time.perf_counter()
        url = f"http://{NGINX_IP}:{port}/{content_file.name}"
        client = subprocess.Popen([curl, "-sf", "-o", str(output), url])
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        assert client.returncode == 0, "curl failed"
        wall_s = time.perf_counter() - began_s
        outcome = {
            "wall_s": wall_s,
            "client_cpu_s": usage.ru_utime + usage.ru_stime,
            "server_cpu_s": server_cpu_s() - before,
        }
    compare(output, content_file)
    output.unlink()
    return outcome


# --- measuring ---


def cpu_s() -> float:
    """CPU seconds of this process and all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def process_cpu_s(pid: int) -> float:
    """CPU seconds of another process, in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *map(int, children)]


def wait_for(port: int) -> None:
    """Return once somebody listens."""
    deadline_s = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((NGINX_IP, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


def compare(got: Path, wanted: Path) -> None:
    """Every byte must be right, or the figures mean nothing."""
    with got.open("rb") as left, wanted.open("rb") as right:
        while True:
            one, two = left.read(16 * MIB), right.read(16 * MIB)
            assert one == two, f"{got} differs from {wanted}"
            if not one:
                return


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def contenders(
    port: int, server_cpu_s: Callable[[], float]
) -> dict[str, Callable[[Path, Path], Outcome]]:
    """Everything that can run here, by name; our parent listens on `port`."""
    found: dict[str, Callable[[Path, Path], Outcome]] = {
        "odonata": lambda folder, file: run_ours(folder, file, port, server_cpu_s)
    }
    if shutil.which("nginx") and shutil.which("curl"):
        tuned = "sendfile off; output_buffers 2 256k;"
        found["curl <- nginx"] = lambda folder, file: run_curl(folder, file, "sendfile on;")
        found["curl <- nginx, tuned"] = lambda folder, file: run_curl(folder, file, tuned)
    return found


def bench(size_mib: int, rounds: int, where: Path | None) -> dict[str, Any]:
    """Medians of each contender, and ours relative to the tuned yardstick."""
    length = size_mib * MIB
    outcomes: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        (folder / "root").mkdir()
        content_file = folder / "root" / "content"
        with content_file.open("wb") as file:
            for seed in range(size_mib):
                file.write(random.Random(seed).randbytes(MIB))
        # The parent stays, so that each contender takes as much fresh memory as the others: on a
        # virtual machine the first touch of a page may cost more than all the rest.
        with parent(folder / "parent", content_file) as (port, server_cpu_s):
            everyone = list(contenders(port, server_cpu_s).items())
            for _ in range(rounds):
                random.shuffle(everyone)
                for contender, run in everyone:
                    outcomes.setdefault(contender, []).append(run(folder, content_file))
    table = {name: summary(measured, length) for name, measured in outcomes.items()}
    return {"size_mib": size_mib, "rounds": rounds, "folder": str(where or ""), "fetch": table}


def summary(measured: list[Outcome], length: int) -> Outcome:
    def median(key: str) -> float:
        return statistics.median(outcome[key] for outcome in measured)

    client, server = (median(f"{side}_cpu_s") * GB / length for side in ("client", "server"))
    return {
        "gb_per_s": round(length / GB / median("wall_s"), 3),
        "client_cpu_s_per_gb": round(client, 3),
        "server_cpu_s_per_gb": round(server, 3),
    }


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    lines = [f"{'':24}{'GB/s':>8}{'client':>10}{'server':>10}  CPU-s/GB"]
    for name, row in result["fetch"].items():
        lines.append(
            f"{name:24}{row['gb_per_s']:>8.2f}{row['client_cpu_s_per_gb']:>10.2f}"
            f"{row['server_cpu_s_per_gb']:>10.2f}"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fetch", help="1 GiB from one peer to another over loopback")
    command.add_argument("--size-mib", type=int, default=1024)
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument(
        "--dir", type=Path, help="where files lie (default: /dev/shm if it is there)"
    )
    command.add_argument("--json", action="store_true")
    side = commands.add_parser("serve")  # one process of the bench itself
    side.add_argument("folder", type=Path)
    side.add_argument("content_file", type=Path)
    side = commands.add_parser("take")  # the other one
    side.add_argument("folder", type=Path)
    side.add_argument("port", type=int)
    side.add_argument("length", type=int)
    args = parser.parse_args()
    if args.command == "serve":
        uvloop.run(serve(args.folder, args.content_file))
    elif args.command == "take":
        uvloop.run(fetch(args.folder, args.port, args.length))
    else:
        memory = Path("/dev/shm")
        where = args.dir or (memory if memory.is_dir() else None)
        result = bench(args.size_mib, args.rounds, where)
        if args.json:
            say(result)
        else:
            show(result)


if __name__ == "__main__":
    main()
