"""What it costs to go through a daemon when nobody has the content: beside curl, in one run.

    python tests/bench/cold.py [--size-mib 256] [--rate-mbit 400] [--rounds 5] [--dir DIR] [--json]

One scheduler and one daemon, each a process, and an origin whose uplink carries so much and no more
(a clock in user space that makes good `CREDIT_S` of lateness, as a router's queue does). Each round
asks every contender once, in shuffled order, for a content that is new to the daemon: curl straight
from the origin, what `odonata get` does by the daemon's socket (without the start of an
interpreter, which is told apart), and curl by the daemon's proxy. Printed are the medians of each
one's time over that of curl in the same round. What arrived is compared with what was sent, outside
the time.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench.yardstick import MIB, say  # noqa: E402  # after the path
from support.daemon import command, daemon_arguments, environment, get, process  # noqa: E402

MBIT = 125_000.0
CREDIT_S = 0.02
CHUNK_BYTES = 64 * 1024
TAIL_BYTES = 8
"""Contents differ in their last bytes alone, so that each has a digest of its own."""
STRAIGHT, GET, PROXY = "curl", "get", "curl by the proxy"
TIMEOUT_S = 300.0

Digest = Any
"""hashlib's, which has no public type."""
Contender = Callable[[str, Path], Awaitable[None]]
"""Fetches a URL into a file."""


# --- the origin, a process of its own ---


class Uplink:
    """Carries `rate_bytes_per_s`, however many share it."""

    def __init__(self, rate_bytes_per_s: float) -> None:
        self._rate_bytes_per_s = rate_bytes_per_s
        self._free_at_s = 0.0

    async def carry(self, n_bytes: int) -> None:
        """Return when `n_bytes` have passed."""
        now = time.monotonic()
        start_s = max(self._free_at_s, now - CREDIT_S)
        self._free_at_s = start_s + n_bytes / self._rate_bytes_per_s
        if self._free_at_s > now:
            await asyncio.sleep(self._free_at_s - now)


async def serve_origin(content_file: Path, rate_bytes_per_s: float) -> None:
    """Serve /NUMBER/...: the content with NUMBER for its tail. Say the port, end with stdin."""
    content = await asyncio.to_thread(content_file.read_bytes)
    uplink = Uplink(rate_bytes_per_s)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            number = int(head.split("/")[1])
            body = memoryview(content), memoryview(number.to_bytes(TAIL_BYTES))
            await send_body(writer, head, body, uplink)
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked has left
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    say({"port": server.sockets[0].getsockname()[1]})
    await asyncio.to_thread(sys.stdin.read)


async def send_body(
    writer: asyncio.StreamWriter,
    head: str,
    parts: tuple[memoryview, memoryview],
    uplink: Uplink,
) -> None:
    """The whole content, or what the Range header wants of it."""
    total = sum(map(len, parts))
    found = re.search(r"(?i)\r\nrange: bytes=(\d+)-(\d*)", head)
    first, last = (int(found[1]), int(found[2] or total - 1)) if found else (0, total - 1)
    end = min(last + 1, total)
    status = f"206 Partial\r\nContent-Range: bytes {first}-{end - 1}/{total}" if found else "200 OK"
    said = f"HTTP/1.1 {status}\r\nContent-Length: {end - first}\r\nConnection: close\r\n\r\n"
    writer.write(said.encode())
    base = len(parts[0])
    while first < end:
        stop = min(first + CHUNK_BYTES, end, base if first < base else end)
        part, away = (parts[0], 0) if first < base else (parts[1], base)
        await uplink.carry(stop - first)
        writer.write(part[first - away : stop - away])
        await writer.drain()
        first = stop


async def start_origin(content_file: Path, rate_bytes_per_s: float, stack: AsyncExitStack) -> str:
    """Returns its address."""
    words = [__file__, "origin", str(content_file), str(rate_bytes_per_s)]
    origin = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    stack.callback(origin.kill)
    assert origin.stdout is not None
    said = json.loads(await asyncio.wait_for(origin.stdout.readline(), TIMEOUT_S))
    return f"127.0.0.1:{said['port']}"


# --- the contenders ---


async def run_curl(*arguments: str) -> None:
    done = await asyncio.create_subprocess_exec("curl", "-sf", *arguments)
    assert await asyncio.wait_for(done.wait(), TIMEOUT_S) == 0, f"curl {arguments} failed"


async def measure(
    size_mib: int, rate_bytes_per_s: float, rounds: int, where: Path | None
) -> dict[str, list[float]]:
    """Seconds of each contender, round by round."""
    times: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where)))
        content, digest = make_content(folder, size_mib)
        address = await start_origin(content, rate_bytes_per_s, stack)
        scheduler = await stack.enter_async_context(
            process(
                "scheduler",
                *(f"--set={key}" for key in ("server.listenIP=127.0.0.1", "server.port=0")),
            )
        )
        arguments = daemon_arguments(folder, 2)
        arguments += [f'--set=scheduler.addrs=["{scheduler.address}"]']
        rule = '[{"regex": "blobs/sha256.*"}]'
        daemon = await stack.enter_async_context(process(*arguments, f"--set=proxy.rules={rule}"))
        proxy = f"http://127.0.0.2:{daemon.started['proxy_port']}"

        async def by_socket(url: str, output: Path) -> None:
            await get(daemon.socket_path, url, output)

        everyone: dict[str, Contender] = {
            STRAIGHT: lambda url, output: run_curl("-o", str(output), url),
            GET: by_socket,
            PROXY: lambda url, output: run_curl("-x", proxy, "-o", str(output), url),
        }
        number, output = 0, folder / "output"
        for _ in range(rounds):
            for name in random.sample(sorted(everyone), len(everyone)):
                number += 1
                tail = number.to_bytes(TAIL_BYTES)
                url = f"http://{address}/{number}/blobs/sha256:{digest_with(digest, tail)}"
                began_s = time.perf_counter()
                await everyone[name](url, output)
                times.setdefault(name, []).append(time.perf_counter() - began_s)
                await asyncio.to_thread(check, output, content, tail)
                output.unlink()
    return times


def make_content(folder: Path, size_mib: int) -> tuple[Path, Digest]:
    """A file whose pieces all differ, and its digest so far."""
    path, digest = folder / "content", hashlib.sha256()
    with path.open("wb") as file:
        for seed in range(size_mib):
            part = random.Random(seed).randbytes(MIB)
            file.write(part)
            digest.update(part)
    return path, digest


def digest_with(digest: Digest, tail: bytes) -> str:
    """Of the content with this tail."""
    one = digest.copy()
    one.update(tail)
    return str(one.hexdigest())


def check(output: Path, content: Path, tail: bytes) -> None:
    """Every byte must be right, or the figures mean nothing."""
    size = content.stat().st_size
    with output.open("rb") as file:
        file.seek(size)
        assert file.read() == tail, "the last bytes are wrong"
    with output.open("rb") as got, content.open("rb") as wanted:
        for _ in range(0, size, MIB):
            assert got.read(MIB) == wanted.read(MIB), f"{output} differs"


async def start_s() -> float:
    """What the command line takes to start, in seconds."""
    began_s = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        *command("get", "--help"), stdout=asyncio.subprocess.DEVNULL, env=environment()
    )
    await asyncio.wait_for(child.wait(), TIMEOUT_S)
    return time.perf_counter() - began_s


def ratios(times: dict[str, list[float]], name: str) -> list[float]:
    """One contender's times over those of curl, round by round."""
    return [one / base for one, base in zip(times[name], times[STRAIGHT], strict=True)]


def cold(
    size_mib: int = 256, rate_mbit: float = 400.0, rounds: int = 5, where: Path | None = None
) -> dict[str, float]:
    """`cold_overhead` and its like: medians over the rounds."""
    assert shutil.which("curl"), "the yardstick is curl: install it"
    times = asyncio.run(measure(size_mib, rate_mbit * MBIT, rounds, where))
    return {
        "cold_overhead": round(statistics.median(ratios(times, GET)), 4),
        "cold_overhead_worst": round(max(ratios(times, GET)), 4),
        "cold_overhead_proxy": round(statistics.median(ratios(times, PROXY)), 4),
        "curl_s": round(statistics.median(times[STRAIGHT]), 3),
        "command_start_s": round(asyncio.run(start_s()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--rate-mbit", type=float, default=400.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where files lie (default: /dev/shm if there)")
    parser.add_argument("--json", action="store_true")
    if sys.argv[1:2] == ["origin"]:  # a process of the bench itself
        asyncio.run(serve_origin(Path(sys.argv[2]), float(sys.argv[3])))
        return
    args = parser.parse_args()
    memory = Path("/dev/shm")
    where = args.dir or (memory if memory.is_dir() else None)
    result = cold(args.size_mib, args.rate_mbit, args.rounds, where)
    if args.json:
        say(dict(result))
    else:
        sys.stdout.write("".join(f"{key:24}{value}\n" for key, value in result.items()))


if __name__ == "__main__":
    main()
