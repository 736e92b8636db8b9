"""Five hundred downloads at once on one daemon: all end right, in a fair order, and leave nothing.

A scheduler, a seed and a peer, all in this process, so that what they leave can be counted. The
peer gets everything from the seed while the seed gets it from the origin.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.content import make_content
from support.daemon import MIB, PATIENCE_S, daemon, scheduler, sha256
from support.eventually import eventually
from support.origin import Manners, Origin

from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub
from odonata.wire.dragonfly import download_request_to_wire
from odonata.wire.message import Download
from peer.runtime.hub import MAX_DOWNLOADS

TASKS = 500
KIB = 1024
SMALL = (1, *(100 * KIB,) * 9, *(300 * KIB,) * 7, MIB, MIB, 5 * MIB)
LARGE = (MIB, 2 * MIB, 3 * MIB, 5 * MIB)
SPARE_DESCRIPTORS = 8
"""Connections that are kept for a minute."""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class Burst:
    """`TASKS` contents, all asked of one daemon in one moment, in their order."""

    def __init__(self, origin: Origin, outputs: Path, sizes: tuple[int, ...]) -> None:
        dice, block = Random(1), make_content(6 * MIB)
        self._contents = [block[n * 1000 :][: dice.choice(sizes)] for n in range(TASKS)]
        self._outputs = outputs
        self.gate = asyncio.Event()
        manners = Manners(gate=self.gate)
        self.paths = [f"/{n}" for n in range(TASKS)]
        self._urls = [
            origin.add(*both, manners) for both in zip(self.paths, self._contents, strict=True)
        ]
        self.ended: list[int] = []

    async def run(self, socket_path: Path) -> None:
        """Every one of them is written, with the right bytes."""
        async with open_channel(f"unix:{socket_path}") as channel:
            await asyncio.gather(*(self._get(channel, n) for n in range(TASKS)))

    async def _get(self, channel: Any, number: int) -> None:
        output = self._outputs / str(number)
        download = Download(url=self._urls[number], output_path=str(output))
        async for _ in download_stub(channel).DownloadTask(download_request_to_wire(download)):
            continue
        self.ended.append(number)
        digest = await asyncio.to_thread(sha256, output)
        assert digest == hashlib.sha256(self._contents[number]).hexdigest()

    def overtaken(self) -> list[int]:
        """Of each, in the order they ended: how many came later and ended earlier."""
        return [sum(later > n for later in self.ended[:at]) for at, n in enumerate(self.ended)]


@pytest.mark.parametrize("sizes", [SMALL, pytest.param(LARGE, marks=pytest.mark.long)])
async def test_five_hundred_at_once_end_right_and_fairly_and_leave_nothing(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    outputs, folder = tmp_path / "outputs", tmp_path / "hosts"
    outputs.mkdir()
    async with AsyncExitStack() as stack, Origin() as origin:
        addrs = [(await stack.enter_async_context(scheduler())).address]
        seed = daemon(folder, 2, seedPeer__enable=True, scheduler__addrs=addrs)
        await stack.enter_async_context(seed)
        peer = await stack.enter_async_context(daemon(folder, 3, scheduler__addrs=addrs))
        burst = Burst(origin, outputs, sizes)
        gc.collect()
        descriptors_before, tasks_before = descriptors(), len(asyncio.all_tasks())
        files_before = files(folder)

        going = asyncio.ensure_future(burst.run(peer.socket_path))
        await eventually(lambda: len(origin.requests) >= MAX_DOWNLOADS, PATIENCE_S)
        assert len(origin.requests) == MAX_DOWNLOADS, "the others wait for their turn"
        burst.gate.set()
        async with asyncio.timeout(PATIENCE_S):
            await going

        # Who has its turn may be overtaken by those who have theirs; nobody is passed over.
        assert max(burst.overtaken()) <= MAX_DOWNLOADS
        assert sum(map(origin.copies, burst.paths)) <= 1.02 * TASKS
        await origin.stop()  # connections to it, and for pieces, are kept for some seconds
        await eventually(
            lambda: descriptors() <= descriptors_before + SPARE_DESCRIPTORS, PATIENCE_S
        )
        await eventually(
            lambda: len(asyncio.all_tasks()) <= tasks_before + SPARE_DESCRIPTORS, PATIENCE_S
        )
        new = files(folder) - files_before
        assert len(new) == 2 * TASKS, "one content file each, on either host"
        assert files(outputs) == {str(n) for n in range(TASKS)}
