"""How soon a seed has a content from its origin: by one request and by several at once.

    ./run bench seed_source [--json OUT] [--size-mib 256] [--rounds 3] [--only KIND-OF-ORIGIN]

A scheduler, a seed and one child, each a process. The origin gives each connection 8 MiB a second,
or 50 MB (400 Mbit) in all. The child asks for a content that nobody holds, so the seed fetches it
and passes it on meanwhile. Each round has daemons of its own: one whose seed may have one request
at a time, and one with the default, which is asked for a second content as well, since it has
learned what pays there by then. Beside them curl, straight from the origin.

    gain_first, gain_next    the time with one request / with several, first and second content
    loss_first, loss_next    the same the other way round, from the origin that is limited in all
    over_curl                the child's time / curl's, from that origin, first content
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
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench import limited_origin, yardstick  # noqa: E402  # after the path
from bench.cold import run_curl  # noqa: E402
from bench.limited_origin import LimitedOrigin  # noqa: E402
from bench.yardstick import MIB  # noqa: E402
from support.daemon import daemon_arguments, get, process  # noqa: E402

RATES: Final = {
    "per_connection": {"per_connection": 8.0 * MIB},
    "in_all": {"in_all": 50e6},
}
CURL, ONE, FIRST, NEXT = "curl", "one request", "several, first", "several, next"
Times = dict[str, list[float]]


@asynccontextmanager
async def swarm(folder: Path, most: int | None) -> AsyncGenerator[Path]:
    """The child's socket. `most`: requests of the seed at once, None: the default."""
    own = {} if most is None else {"download__backToSourceConcurrentPieceCount": str(most)}
    server = ("server.listenIP=127.0.0.1", "server.port=0")
    async with process("scheduler", *(f"--set={one}" for one in server)) as scheduler:
        known = {"scheduler__addrs": f'["{scheduler.address}"]'}
        seed = daemon_arguments(folder, 2, seedPeer__enable="true", **known, **own)
        async with process(*seed), process(*daemon_arguments(folder, 3, **known)) as child:
            yield child.socket_path


class Round:
    """One after the other, each content once."""

    def __init__(self, origin: LimitedOrigin, content: bytes, folder: Path) -> None:
        self.times: Times = {}
        self._origin = origin
        self._content = content
        self._folder = folder
        self._number = 0

    async def run(self, number: int) -> None:
        """Every contender once, in shuffled order."""
        for name in random.Random(number).sample([CURL, ONE, FIRST], 3):
            with tempfile.TemporaryDirectory(dir=self._folder) as place:
                await self._measure(name, Path(place))

    async def _measure(self, name: str, place: Path) -> None:
        if name == CURL:
            await self._time(CURL, None, place)
            return
        async with swarm(place, 1 if name == ONE else None) as child:
            await self._time(name, child, place)
            if name == FIRST:
                await self._time(NEXT, child, place)

    async def _time(self, name: str, child: Path | None, place: Path) -> None:
        self._number += 1
        url, output = self._origin.url(self._number), place / "output"
        began_s = time.perf_counter()
        if child is None:
            await run_curl("-o", str(output), url)
        else:
            await get(child, url, output)
        self.times.setdefault(name, []).append(time.perf_counter() - began_s)
        await asyncio.to_thread(limited_origin.check, output, self._content, self._number)


async def measure(kind: str, size_mib: int, rounds: int, where: Path | None) -> Times:
    """Seconds of each contender, round by round."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where)))
        path = folder / "content"
        await asyncio.to_thread(yardstick.make_file, path, size_mib)
        origin = await limited_origin.start(path, stack, **RATES[kind])
        content = await asyncio.to_thread(path.read_bytes)
        contenders = Round(origin, content, folder)
        for number in range(rounds):
            await contenders.run(number)
        return contenders.times


def ratio(times: Times, one: str, other: str) -> float:
    """The median of what `one` took over what `other` took, round by round."""
    pairs = zip(times[one], times[other], strict=True)
    return round(statistics.median(left / right for left, right in pairs), 3)


def summed_up(kind: str, times: Times) -> dict[str, Any]:
    seconds = {name: round(statistics.median(took), 2) for name, took in times.items()}
    if kind == "in_all":
        return {
            "seconds": seconds,
            "loss_first": ratio(times, FIRST, ONE),
            "loss_next": ratio(times, NEXT, ONE),
            "over_curl": ratio(times, FIRST, CURL),
        }
    return {
        "seconds": seconds,
        "gain_first": ratio(times, ONE, FIRST),
        "gain_next": ratio(times, ONE, NEXT),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=sorted(RATES), help="default: both")
    parser.add_argument("--dir", type=Path, help="where files lie (default: /dev/shm, if there)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    where = args.dir or (memory if memory.is_dir() else None)
    result = {
        kind: summed_up(kind, asyncio.run(measure(kind, args.size_mib, args.rounds, where)))
        for kind in args.only or sorted(RATES)
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
