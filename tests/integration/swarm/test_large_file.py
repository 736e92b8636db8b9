"""A file of 1 GiB arrives whole at several peers at once, and leaves the origin once."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from pathlib import Path

from odonata.swarm.demo.image import Image, Layer, blob_path
from odonata.swarm.demo.pull import SwarmPuller, sent_bytes, verify
from odonata.swarm.demo.tally import ORIGIN, Tally
from odonata.swarm.local import running
from odonata.swarm.plan import SwarmOptions, make_plan
from odonata.swarm.process import Processes

GIB = 1 << 30
BLOCK_BYTES = 16 << 20
NO_LIMIT_BYTES_PER_S = "1e12"
TIMEOUT_S = 180.0


def make_large(folder: Path) -> Image:
    """1 GiB in which no two pieces are alike: a random block, numbered."""
    block = random.Random(1).randbytes(BLOCK_BYTES - 8)  # content, not a secret
    digest = hashlib.sha256()
    with (folder / "large").open("wb") as file:
        for number in range(GIB // BLOCK_BYTES):
            for part in (number.to_bytes(8, "big"), block):
                digest.update(part)
                file.write(part)
    layer = Layer(digest=f"sha256:{digest.hexdigest()}", size=GIB)
    (folder / "large").rename(blob_path(folder, layer.digest))
    return Image(name="large/file", layers=(layer,))


async def listening(origin: Processes, folder: Path) -> str:
    words = [sys.executable, "-m", "odonata.swarm.demo.origin", str(folder), NO_LIMIT_BYTES_PER_S]
    port: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await origin.start("origin", words, lambda _name, line: port.set_result(line.split()[1]))
    return f"http://127.0.0.1:{await asyncio.wait_for(port, TIMEOUT_S)}"


async def test_one_gib_arrives_whole_at_two_peers_and_leaves_the_origin_once(
    tmp_path: Path,
) -> None:
    (blobs := tmp_path / "blobs").mkdir()
    image = await asyncio.to_thread(make_large, blobs)
    plan = make_plan(SwarmOptions(peers=2), tmp_path / "swarm")
    outs = [tmp_path / member.name for member in plan.peers]
    tallies = [Tally(member.name, image.size) for member in plan.peers]
    lines: list[str] = []
    async with (
        asyncio.timeout(TIMEOUT_S),
        Processes(lambda _name, _line: None) as others,
        running(plan, lambda name, line: lines.append(f"{name}: {line}")),
    ):
        origin = await listening(others, blobs)
        names = [member.name for member in plan.daemons]
        async with asyncio.TaskGroup() as group:
            for member, out, tally in zip(plan.peers, outs, tallies, strict=True):
                out.mkdir()
                puller = SwarmPuller(member, names, origin, image, out, tally)
                group.create_task(puller.pull())
        copies = await sent_bytes(origin) / image.size
    assert [tally.error for tally in tallies] == [None, None], "\n".join(lines)
    assert 1.0 <= copies <= 1.02
    assert all(tally.by_giver.get(ORIGIN, 0) == 0 for tally in tallies)
    for out in outs:
        assert await asyncio.to_thread(verify, image, out) == []
