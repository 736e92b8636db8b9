"""Many files of many sizes, all peers at once, one of them killed: everything ends right.

And nothing piles up: what a download took (descriptors, tasks) it gives back.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from support.content import make_content
from support.daemon import (
    MIB,
    PATIENCE_S,
    Process,
    daemon,
    daemon_arguments,
    get,
    process,
    scheduler,
    sha256,
)
from support.eventually import eventually
from support.origin import Manners, Origin

from odonata.errors import OdonataError, SourceError

SIZES = (
    *(0, 1, 100, 4095, 4096, 4097, 65_535, 65_536, 100_000, 300_000) * 2,
    *(MIB - 1, MIB, MIB + 1, 3 * MIB) * 3,
    *(4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, 8 * MIB + 1, 12 * MIB - 1, 12 * MIB, 9 * MIB),
)
PEERS = 6
COPIES_MAX = 1.02
SPARE_DESCRIPTORS = 8
"""What may be open beside the baseline for other reasons: a connection to be closed in a minute."""


class Files:
    """The origin's files, and how many of them have arrived where they should."""

    def __init__(self, origin: Origin, folder: Path) -> None:
        self._origin = origin
        self._folder = folder
        self._contents = {f"/{n}": make_content(size, n) for n, size in enumerate(SIZES)}
        self.urls = {path: origin.add(path, one) for path, one in self._contents.items()}
        self._digests = {
            path: hashlib.sha256(one).hexdigest() for path, one in self._contents.items()
        }
        self.arrived = 0

    async def all_to(self, name: str, peer: Process, tag: str) -> list[BaseException]:
        """One peer gets all of them at once, in an order of its own; returns what failed."""
        paths = list(self.urls)
        Random(name).shuffle(paths)  # no secret
        gets = (self._one_to(name, peer, path, tag) for path in paths)
        results = await asyncio.gather(*gets, return_exceptions=True)
        return [result for result in results if isinstance(result, BaseException)]

    async def _one_to(self, name: str, peer: Process, path: str, tag: str) -> None:
        output = self._folder / f"{name}-{tag}-{path[1:]}"
        await get(peer.socket_path, self.urls[path], output, tag=tag)
        assert await asyncio.to_thread(sha256, output) == self._digests[path]
        self.arrived += 1

    def hold_back_largest(self) -> asyncio.Event:
        """The origin sends half of it, and the rest when the event is set."""
        gate = asyncio.Event()
        path, content = max(self._contents.items(), key=lambda item: len(item[1]))
        self._origin.add(path, content, Manners(gate=gate))
        return gate

    def copies(self) -> float:
        """How many copies of everything the origin has sent: bytes, not files.

        On a busy machine one of hundreds of downloads may take its swarm for silent, and ask the
        origin for a file of a few bytes.
        """
        sent = sum(self._origin.sent_bytes(path) for path in self.urls)
        return sent / sum(SIZES)


def descriptors(peer: Process) -> int:
    return sum(1 for _ in Path(f"/proc/{peer.pid}/fd").iterdir())


async def kill_in_the_middle(files: Files, victim: Process, gate: asyncio.Event) -> None:
    """Of all the victim gets, one file cannot have arrived yet: it is held back at the gate."""
    before = files.arrived
    await eventually(lambda: files.arrived >= before + len(SIZES), timeout_s=PATIENCE_S)
    await victim.kill()
    gate.set()


async def test_everything_ends_right_though_a_peer_is_killed(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, Origin() as origin:
        app = await stack.enter_async_context(scheduler())
        files = Files(origin, tmp_path)

        async def start(number: int, **more: str) -> Process:
            arguments = daemon_arguments(tmp_path, number, scheduler__addrs=app.address, **more)
            return await stack.enter_async_context(process(*arguments))

        seed = await start(2, seedPeer__enable="true")
        peers = {f"peer{n}": await start(3 + n) for n in range(PEERS)}

        failed = await asyncio.gather(
            *(files.all_to(name, one, "first") for name, one in peers.items())
        )
        assert failed == [[]] * PEERS
        assert files.copies() <= COPIES_MAX
        before = {name: descriptors(one) for name, one in peers.items()}

        victim = peers.pop("peer3")
        gate = files.hold_back_largest()
        killing = asyncio.ensure_future(kill_in_the_middle(files, victim, gate))
        lost, *failed = await asyncio.gather(
            files.all_to("victim", victim, "second"),
            *(files.all_to(name, one, "second") for name, one in peers.items()),
        )
        await killing
        assert lost, "it was killed in the middle"
        assert all(isinstance(error, OdonataError) for error in lost)
        assert failed == [[]] * len(peers)
        assert files.copies() <= 2 * COPIES_MAX, "each tag is a task of its own"

        def piled_up() -> bool:
            spare = SPARE_DESCRIPTORS
            return any(descriptors(one) > before[name] + spare for name, one in peers.items())

        await eventually(lambda: not piled_up())
        for one in (seed, *peers.values()):
            code, events = await one.terminate()
            assert code == 0
            assert [event for event in events if event["level"] not in {"debug", "info"}] == []


def work_of_downloads(hosts: list[str]) -> list[str]:
    """Names of the tasks that carry out downloads of these hosts, in this process."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("hub:") or any(h in name for h in hosts)]


async def test_downloads_leave_no_work_behind_however_they_end(tmp_path: Path) -> None:
    content = make_content(9 * MIB)
    async with AsyncExitStack() as stack, Origin() as origin:
        app = await stack.enter_async_context(scheduler())
        addrs = [app.address]
        seed = daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=addrs)
        peers = [daemon(tmp_path, 3 + n, scheduler__addrs=addrs) for n in range(2)]
        daemons = [await stack.enter_async_context(one) for one in (seed, *peers)]
        hosts = [f"{one.facts.ip}-{one.facts.hostname}" for one in daemons]
        gate = asyncio.Event()
        slow = origin.add("/slow", content, Manners(gate=gate))
        right = origin.add("/right", content)

        leaving = [
            asyncio.ensure_future(get(one, slow, tmp_path / f"slow{n}"))
            for n, one in enumerate(daemons)
        ]
        await asyncio.gather(
            *(get(one, right, tmp_path / f"right{n}") for n, one in enumerate(daemons))
        )
        refused = await asyncio.gather(
            *(get(one, origin.url("/none"), tmp_path / "none") for one in daemons),
            return_exceptions=True,
        )
        assert [type(error) for error in refused] == [SourceError] * len(daemons)
        assert work_of_downloads(hosts)
        for going in leaving:
            going.cancel()
        await asyncio.wait(leaving)
        gate.set()  # a seed goes on to the end for whoever may come, as it was told to
        await eventually(lambda: not work_of_downloads(hosts), timeout_s=PATIENCE_S)
