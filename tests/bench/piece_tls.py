"""What TLS between peers costs: pieces with it and without, side by side.

    ./run bench piece_tls [--json OUT] [--size-mib 512] [--rounds 5]

Two swarms, one with certificates of one authority (`storage.server.tls`) and one without, each a
scheduler, three parents that hold the content, and a child, all processes. In each round either
child fetches the content once, in shuffled order, and forgets it again; what came is compared with
what was sent, outside the time. CPU is that of child, parents and scheduler together.

    tls_vs_plain_wall, tls_vs_plain_cpu      medians of the ratios, round by round
    gb_per_s, client_cpu_s_per_gb, server_cpu_s_per_gb     medians of either
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench import yardstick  # noqa: E402  # after the path
from bench.datapath import median  # noqa: E402
from bench.yardstick import GB, MIB, Outcome  # noqa: E402
from dragonfly_api import dfdaemon_pb2  # noqa: E402
from support.certificates import make_authority, make_signed  # noqa: E402
from support.daemon import Process, daemon_arguments, get, process  # noqa: E402

from odonata import ids  # noqa: E402
from odonata.grpc_client import open_channel  # noqa: E402
from odonata.grpc_stub import download_stub  # noqa: E402
from odonata.wire.message import Download  # noqa: E402

PLAIN, TLS = "plain", "tls"
PARENTS: Final = 3
NUMBERS: Final = {PLAIN: 2, TLS: 12}
"""Of the first host of each swarm: the last byte of its address."""


class Side(NamedTuple):
    """One of the two swarms."""

    child: Process
    parents: list[Process]
    scheduler: Process

    async def fetch(self, url: str, content: Path, output: Path) -> Outcome:
        """The child fetches from those that hold it."""
        server = [one.pid for one in (*self.parents, self.scheduler)]
        before = yardstick.cpu_s_of([self.child.pid]), yardstick.cpu_s_of(server)
        began_s = time.perf_counter()
        await get(self.child.socket_path, url, output)
        wall_s = time.perf_counter() - began_s
        client_cpu_s = yardstick.cpu_s_of([self.child.pid]) - before[0]
        server_cpu_s = yardstick.cpu_s_of(server) - before[1]
        told = await self.child.until("download_finished")
        assert told["bytes_from_source"] == 0, "the parents hold it"
        await asyncio.to_thread(yardstick.compare, output, content)
        await self._forget(url)
        return Outcome(wall_s, client_cpu_s, server_cpu_s)

    async def _forget(self, url: str) -> None:
        request = dfdaemon_pb2.DeleteLocalTaskRequest(task_id=ids.task_id_of(Download(url=url)))
        async with open_channel(f"unix:{self.child.socket_path}") as channel:
            await download_stub(channel).DeleteLocalTask(request)


async def start(name: str, folder: Path, stack: AsyncExitStack) -> Side:
    """Runs until the stack is left."""
    place = folder / name
    place.mkdir()
    own: dict[str, str] = {}
    if name == TLS:
        authority = make_authority(place)
        signed = make_signed(place, authority, "peer")
        files = {"caCert": authority.cert, "cert": signed.cert, "key": signed.key}
        own = {f"storage__server__tls__{key}": str(path) for key, path in files.items()}
        own["storage__server__tls__required"] = "true"
    server = ("server.listenIP=127.0.0.1", "server.port=0")
    scheduler = await stack.enter_async_context(
        process("scheduler", *(f"--set={one}" for one in server))
    )
    own["scheduler__addrs"] = f'["{scheduler.address}"]'
    first = NUMBERS[name]
    parents = [
        await stack.enter_async_context(process(*daemon_arguments(place, first + number, **own)))
        for number in range(PARENTS + 1)
    ]
    return Side(parents.pop(), parents, scheduler)


async def measure(folder: Path, size_mib: int, rounds: int) -> dict[str, list[Outcome]]:
    """Of each round, in its order."""
    root = folder / "root"
    root.mkdir()
    content, output = root / "content", folder / "output"
    await asyncio.to_thread(yardstick.make_file, content, size_mib)
    outcomes: dict[str, list[Outcome]] = {PLAIN: [], TLS: []}
    async with AsyncExitStack() as stack:
        nginx = stack.enter_context(yardstick.nginx(folder, root))
        url = f"{nginx.base_url}/content"
        sides = {name: await start(name, folder, stack) for name in outcomes}
        for side in sides.values():
            for parent in side.parents:
                await get(parent.socket_path, url, output)
                await asyncio.to_thread(output.unlink)
            await side.fetch(url, content, output)  # connections, caches and buffers are there then
        for number in range(rounds):
            for name in random.Random(number).sample(list(sides), len(sides)):
                outcomes[name].append(await sides[name].fetch(url, content, output))
    return outcomes


def summed_up(outcomes: dict[str, list[Outcome]], length: int) -> dict[str, Any]:
    pairs = list(zip(outcomes[TLS], outcomes[PLAIN], strict=True))
    return {
        "tls_vs_plain_wall": median(tls.wall_s / plain.wall_s for tls, plain in pairs),
        "tls_vs_plain_cpu": median(tls.cpu_s / plain.cpu_s for tls, plain in pairs),
        "table": {
            name: {
                "gb_per_s": median(length / GB / one.wall_s for one in those),
                "client_cpu_s_per_gb": median(one.client_cpu_s * GB / length for one in those),
                "server_cpu_s_per_gb": median(one.server_cpu_s * GB / length for one in those),
            }
            for name, those in outcomes.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where files lie (default: /dev/shm, if there)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    where = args.dir or (memory if memory.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=where) as name:
        outcomes = asyncio.run(measure(Path(name), args.size_mib, args.rounds))
    result = summed_up(outcomes, args.size_mib * MIB)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
