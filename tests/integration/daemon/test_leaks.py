"""Nothing of a task that is gone stays in a daemon: objects, tasks, descriptors are counted.

Memory itself is measured by `./run bench soak`; what it is made of can be counted here.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from dragonfly_api import dfdaemon_pb2
from support.content import make_content
from support.daemon import daemon, scheduler
from support.eventually import eventually
from support.origin import Origin

from odonata.grpc_client import open_channel
from odonata.grpc_stub import download_stub
from odonata.ids import url_task_id
from odonata.wire.dragonfly import download_request_to_wire
from odonata.wire.message import Download

TASKS = 60
SPARE = 6
"""Of a kind: work that a timer still ends, such as a connection that is kept."""

REMEMBERED = frozenset({"peer.core.upload.TaskPiece", "peer.core.giving.Gift"})
"""What was sent, on purpose and up to a bound (`SENT_MEMORY`, `GIFTS_MAX`), whoever has it now."""


def ours() -> Counter[str]:
    """Objects of the peer's own types, and asyncio's tasks."""
    gc.collect()
    kinds: Counter[str] = Counter()
    things: list[object] = gc.get_objects()
    for thing in things:
        kind = type(thing)
        if str(kind.__module__).startswith("peer."):
            kinds[f"{kind.__module__}.{kind.__qualname__}"] += 1
    kinds["asyncio.Task"] = len(asyncio.all_tasks())
    kinds["descriptors"] = len(list(Path("/proc/self/fd").iterdir()))
    return kinds


def content_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("content/tasks/*/*") if path.is_file()]


async def come_and_go(origin: Origin, channels: list[Any], numbers: range) -> None:
    """Tasks that the second host has from the first, and that both delete."""
    content = make_content(1000)
    urls = [origin.add(f"/{number}", content) for number in numbers]
    last = channels[-1]
    for url in urls:
        async for _ in last.DownloadTask(download_request_to_wire(Download(url=url))):
            continue
    for url in urls:
        request = dfdaemon_pb2.DeleteTaskRequest(task_id=url_task_id(url))
        for stub in channels:
            await stub.DeleteTask(request)


async def test_nothing_stays_of_tasks_that_are_gone(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, Origin() as origin:
        addrs = [(await stack.enter_async_context(scheduler())).address]
        seed = daemon(tmp_path, 2, seedPeer__enable=True, scheduler__addrs=addrs)
        hosts = [
            await stack.enter_async_context(seed),
            await stack.enter_async_context(daemon(tmp_path, 3, scheduler__addrs=addrs)),
        ]
        stubs = [
            download_stub(await stack.enter_async_context(open_channel(f"unix:{host.socket_path}")))
            for host in hosts
        ]
        await come_and_go(origin, stubs, range(SPARE))
        before = ours()
        await come_and_go(origin, stubs, range(SPARE, SPARE + TASKS))

        def left() -> dict[str, int]:
            more = (ours() - before).items()
            return {kind: n for kind, n in more if n > SPARE and kind not in REMEMBERED}

        await eventually(lambda: not left())
        assert content_files(tmp_path) == []
