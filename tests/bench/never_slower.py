"""What a swarm costs that brings nothing: a daemon beside curl, from the same origin, in one run.

    ./run bench never_slower [--json OUT] [--rounds 3] [--only CASE ...]

An origin whose uplink carries 50 MB (400 Mbit) a second, a scheduler, four parents that hold the
contents, and a child for each size and moment, all processes. In front of the parents' piece ports
stand relays, which decide what becomes of a child's requests:

    good      they are answered
    silent    they are accepted, and not a byte comes back
    trickle   they are answered with 4 KiB a second from each parent
    dead      the parents were killed
    nobody    the child was told of a scheduler that is not there

Each round begins with new daemons, in shuffled order of the cases. A child is asked for a content
as it is (`first`), or after it has learned (`learned`): `LESSONS` small contents from good parents,
and one that nobody has. Just before each of these curl, straight from the origin.

    curl_s, first_s, learned_s             medians over the rounds
    first_more_s, learned_more_s           the median of how much longer than curl it took
    first_copies, learned_copies           what it took from the origin, in contents, at most
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench import limited_origin, yardstick  # noqa: E402  # after the path
from bench.cold import TAIL_BYTES, run_curl  # noqa: E402
from bench.limited_origin import LimitedOrigin  # noqa: E402
from bench.yardstick import MIB  # noqa: E402
from support.daemon import Process, daemon_arguments, get, process  # noqa: E402

GOOD, SILENT, TRICKLE, DEAD, NOBODY = "good", "silent", "trickle", "dead", "nobody"
CASES: Final = (GOOD, SILENT, TRICKLE, DEAD, NOBODY)
SIZES: Final = {"1 MiB": MIB, "64 MiB": 64 * MIB}
RATE_BYTES_PER_S: Final = 50e6
PARENTS: Final = (2, 3, 4, 5)
CHILDREN: Final = (6, 7, 8, 9)
LESSONS: Final = 12
LESSON_BYTES, COLD_BYTES = 64 * 1024, 8 * MIB
TRICKLE_BYTES, TRICKLE_PAUSE_S = 1024, 0.25
ETHERNET_SEGMENT_BYTES: Final = 1460
CHUNK_BYTES: Final = 256 * 1024
FIRST, LEARNED = "first", "learned"
Times = dict[str, list[float]]


class Relay:
    """Stands in front of one parent's piece port, at another address of this machine."""

    def __init__(self, number: int) -> None:
        self.manner = GOOD
        self._open: set[asyncio.StreamWriter] = set()
        self.ip, self.behind_ip = f"127.0.0.{number}", f"127.0.1.{number}"
        with socket.socket() as probe:
            probe.bind((self.ip, 0))
            self.port: int = probe.getsockname()[1]

    def behave(self, manner: str) -> None:
        """From now on; connections that are kept from before are closed."""
        self.manner = manner
        for connection in self._open:
            connection.close()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        serving: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:

            def accept(child: asyncio.StreamReader, to_child: asyncio.StreamWriter) -> None:
                serving.append(group.create_task(self._serve(child, to_child)))

            server = await asyncio.start_server(accept, self.ip, self.port)
            try:
                yield
            finally:
                server.close()
                for one in serving:
                    one.cancel()

    async def _serve(self, child: asyncio.StreamReader, to_child: asyncio.StreamWriter) -> None:
        self._open.add(to_child)
        with contextlib.suppress(OSError, ExceptionGroup):
            if self.manner == SILENT:
                while await child.read(CHUNK_BYTES):
                    pass
            else:
                await self._pass_on(child, to_child)
        self._open.discard(to_child)
        to_child.close()

    async def _pass_on(self, child: asyncio.StreamReader, to_child: asyncio.StreamWriter) -> None:
        connection = socket.socket()
        if self.manner == TRICKLE:
            # As on an Ethernet: loopback buffers megabytes in between, which count as sent.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_SEGMENT_BYTES)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TRICKLE_BYTES)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (self.behind_ip, self.port))
        limit = TRICKLE_BYTES if self.manner == TRICKLE else 4 * CHUNK_BYTES
        parent, to_parent = await asyncio.open_connection(sock=connection, limit=limit)
        try:
            async with asyncio.TaskGroup() as group:
                there = group.create_task(self._copy(child, to_parent))
                await self._copy(parent, to_child, slowly=True)
                there.cancel()
        finally:
            to_parent.close()

    async def _copy(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, slowly: bool = False
    ) -> None:
        while True:
            is_slow = slowly and self.manner == TRICKLE
            data = await source.read(TRICKLE_BYTES if is_slow else CHUNK_BYTES)
            if not data:
                return
            to.write(data)
            await to.drain()
            if is_slow:
                await asyncio.sleep(TRICKLE_PAUSE_S)


class Bench:
    """One after the other, each content once. `figures`: by case, size and moment."""

    def __init__(self, origin: LimitedOrigin, content: bytes, folder: Path) -> None:
        self.figures: dict[tuple[str, str], Times] = defaultdict(lambda: defaultdict(list))
        self._origin = origin
        self._content = content
        self._folder = folder
        self._number = 0

    async def run(self, case: str) -> None:
        """One round of one case."""
        async with AsyncExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            server = ("server.listenIP=127.0.0.1", "server.port=0")
            scheduler = await stack.enter_async_context(
                process("scheduler", *(f"--set={one}" for one in server))
            )
            relays = [Relay(number) for number in PARENTS]
            parents = await asyncio.gather(
                *(self._parent(one, scheduler.address, place, stack) for one in relays)
            )
            known = scheduler.address if case != NOBODY else "127.0.0.1:1"
            children = await asyncio.gather(
                *(self._child(place, number, known, stack) for number in CHILDREN)
            )
            taught = children[: len(SIZES)]
            held = [await self._hold(parents, size) for size in (*SIZES.values(), *SIZES.values())]
            await self._teach(taught, parents)
            if case == DEAD:
                for parent in parents:
                    await parent.kill()
            moments = (LEARNED, LEARNED, FIRST, FIRST)
            plan = list(zip([*SIZES, *SIZES], moments, children, held, strict=True))
            random.Random(self._number).shuffle(plan)
            for name, moment, child, number in plan:
                await self._time((case, name), moment, child, number, relays)

    async def _child(
        self, place: Path, number: int, scheduler: str, stack: AsyncExitStack
    ) -> Process:
        arguments = daemon_arguments(place, number, scheduler__addrs=f'["{scheduler}"]')
        return await stack.enter_async_context(process(*arguments))

    async def _parent(
        self, relay: Relay, scheduler: str, place: Path, stack: AsyncExitStack
    ) -> Process:
        await stack.enter_async_context(relay.open())
        own = {"storage__server__ip": relay.behind_ip, "storage__server__tcpPort": relay.port}
        number = int(relay.ip.rpartition(".")[2])
        arguments = daemon_arguments(place, number, scheduler__addrs=f'["{scheduler}"]', **own)
        return await stack.enter_async_context(process(*arguments))

    async def _teach(self, children: list[Process], parents: list[Process]) -> None:
        output = self._folder / "output"
        for _ in range(LESSONS):
            number = await self._hold(parents[:1], LESSON_BYTES)
            for child in children:
                await self._get(child, number, LESSON_BYTES, output)
        for child in children:
            await self._get(child, self._new(), COLD_BYTES, output)

    async def _hold(self, parents: list[Process], size: int) -> int:
        """A content that these hold, and nobody else."""
        number = self._new()
        for parent in parents:
            await self._get(parent, number, size, self._folder / "held")
        return number

    async def _time(
        self, key: tuple[str, str], moment: str, child: Process, number: int, relays: list[Relay]
    ) -> None:
        case, name = key
        times, size, output = self.figures[key], SIZES[name], self._folder / "output"
        straight = self._new()
        began_s = time.perf_counter()
        await run_curl("-o", str(output), self._origin.url(straight, size))
        curl_s = time.perf_counter() - began_s
        await asyncio.to_thread(self._check, output, straight, size)
        for relay in relays:
            relay.behave(case)
        began_s = time.perf_counter()
        brought = await self._get(child, number, size, output)
        took_s = time.perf_counter() - began_s
        for relay in relays:
            relay.behave(GOOD)
        times["curl_s"].append(curl_s)
        times[f"{moment}_s"].append(took_s)
        times[f"{moment}_more_s"].append(took_s - curl_s)
        times[f"{moment}_copies"].append(brought / (size + TAIL_BYTES))

    async def _get(self, one: Process, number: int, size: int, output: Path) -> int:
        """Bytes that it took from the origin."""
        await get(one.socket_path, self._origin.url(number, size), output)
        told = await one.until("download_finished")
        await asyncio.to_thread(self._check, output, number, size)
        return int(told["bytes_from_source"])

    def _check(self, output: Path, number: int, size: int) -> None:
        limited_origin.check(output, self._content[:size], number)

    def _new(self) -> int:
        self._number += 1
        return self._number


async def measure(cases: list[str], rounds: int, where: Path | None) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where)))
        path = folder / "content"
        await asyncio.to_thread(yardstick.make_file, path, max(SIZES.values()) // MIB)
        origin = await limited_origin.start(path, stack, in_all=RATE_BYTES_PER_S)
        bench = Bench(origin, await asyncio.to_thread(path.read_bytes), folder)
        for number in range(rounds):
            for case in random.Random(number).sample(cases, len(cases)):
                await bench.run(case)
        return {
            f"{case}, {name}": {figure: summed_up(figure, took) for figure, took in times.items()}
            for (case, name), times in sorted(bench.figures.items())
        }


def summed_up(figure: str, took: list[float]) -> float:
    """Of copies the most, of seconds the median."""
    return round(max(took) if figure.endswith("copies") else statistics.median(took), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=CASES, help="default: all")
    parser.add_argument("--dir", type=Path, help="where files lie (default: /dev/shm, if there)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    where = args.dir or (memory if memory.is_dir() else None)
    result = asyncio.run(measure(args.only or list(CASES), args.rounds, where))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
