"""Pulls of images that nobody holds yet, as parts of `tests/bench/proxy.py`.

`docker`: one node. A real dockerd pulls from a registry behind a thin link, once straight and once
by a daemon's proxy, each with nothing of it there; one image a round, the two in turns. Root.

`speedup`: many nodes at once. Each is a daemon with links of its own and a client that asks its
proxy for the blobs of one image, three at a time, as dockerd does; the registry's link is thin. And
the same number of clients straight at the registry. The best that is possible: everything crosses
the thin link once, and everybody's link as often as it must.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import limited_origin
from bench.cold import MBIT, TAIL_BYTES
from bench.limited_origin import LimitedOrigin
from bench.yardstick import MIB, PATIENCE_S, make_file
from support.client import Dockerd
from support.daemon import command, daemon_arguments, environment
from support.image import Layer
from support.program import Place, Program
from support.registry import Registry

from odonata.swarm.local import running
from odonata.swarm.plan import SwarmOptions, make_plan

RULES: Final = '[{"regex": "blobs/sha256.*"}]'

DOCKER_LAYERS: Final = tuple(n * MIB for n in (2, 16, 48, 190))
"""256 MiB, in sizes that are as uneven as those of most images."""
DOCKER_RATE: Final = 400 * MBIT

NODES: Final = 8
LAYERS: Final = tuple(n * MIB for n in (2, 8, 32, 86))
REGISTRY_RATE: Final = 100 * MBIT
NODE_RATE: Final = 200 * MBIT
"""Each way, of every node and of the seed."""
LAYERS_AT_ONCE: Final = 3


# --- one node ---


def measure_docker(where: Path, rounds: int) -> dict[str, float]:
    """Figures of `docker`: medians over the rounds, ratios within each. `where`: a short path."""
    straight_s: list[float] = []
    through_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="odonata-", dir=where) as name:
        place = Place.make(Path(name))
        with Registry(place) as registry, registry.thin_link(DOCKER_RATE) as link:
            for number in range(rounds):
                layers = [Layer(size=size, seed=100 * number + size) for size in DOCKER_LAYERS]
                registry.push(f"bench/image:v{number}", layers)
                reference = registry.reference(f"bench/image:v{number}", link)
                turns = [straight_s, through_s]
                random.shuffle(turns)
                for times in turns:
                    is_through = times is through_s
                    with node(place, holds=sum(DOCKER_LAYERS) * is_through) as proxy:
                        way = proxy if is_through else None
                        times.append(pull_s(place, registry.authority(link), reference, way))
    ratios = [ours / theirs for ours, theirs in zip(through_s, straight_s, strict=True)]
    return {
        "docker_pull_cold_overhead": round(statistics.median(ratios), 3),
        "docker_pull_cold_worst": round(max(ratios), 3),
        "docker_pull_straight_s": round(statistics.median(straight_s), 2),
    }


@contextmanager
def node(place: Place, *, holds: int) -> Generator[str]:
    """A daemon that holds nothing, where dockerd is. Yields its proxy's URL.

    `holds`: how much it must have sent of its own at the end, or the figures mean nothing.
    """
    folder = place.folder / "node"
    folder.mkdir()
    words = command(*daemon_arguments(folder, 2, proxy__rules=RULES), "--log-format=json")
    with Program(place, "node", words, environ=environment()) as program:
        started = program.wait_until(lambda: said(program, "daemon_started"), "its start")
        yield f"http://127.0.0.2:{started[0]['proxy_port']}"
        answered = said(program, "request_answered")
    shutil.rmtree(folder)
    sent = sum(line["bytes"] for line in answered if line.get("kind") == "p2p")
    assert sent >= holds, f"only {sent} bytes came by the daemon: {answered}"


def said(program: Program, event: str) -> list[dict[str, Any]]:
    """What a daemon has logged under that name so far."""
    lines = program.err.read_text().split("\n")[:-1]  # the last one may be half
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return [one for one in events if one["event"] == event]


def pull_s(place: Place, registry: str, reference: str, proxy: str | None) -> float:
    """Seconds of one `docker pull` by a dockerd that has nothing."""
    with Dockerd(place, registry, proxy=proxy) as dockerd:
        began_s = time.perf_counter()
        dockerd.run("pull", "--quiet", reference)
        return time.perf_counter() - began_s


# --- many nodes ---


class Blob(NamedTuple):
    """A layer: where it is, and the digest that it must have."""

    url: str
    digest: str


async def measure_speedup(folder: Path, rounds: int) -> dict[str, float]:
    """Figures of `speedup`: medians over the rounds."""
    content = folder / "content"
    await asyncio.to_thread(make_file, content, max(LAYERS) // MIB)
    straight_s: list[float] = []
    swarm_s: list[float] = []
    async with AsyncExitStack() as stack:
        origin = await limited_origin.start(content, stack, in_all=REGISTRY_RATE)
        for number in range(rounds):
            image = make_image(origin, content.read_bytes(), number)
            straight_s.append(await pull_all_s(folder, image, [None] * NODES))
            options = SwarmOptions(
                peers=NODES,
                upload_rate_bytes_per_s=int(NODE_RATE),
                download_rate_bytes_per_s=int(NODE_RATE),
            )
            plan = make_plan(options, folder / f"swarm{number}")
            async with running(plan, lambda _name, _line: None):
                proxies = [f"http://127.0.0.1:{peer.proxy_port}" for peer in plan.peers]
                swarm_s.append(await pull_all_s(folder, image, proxies))
            await asyncio.to_thread(shutil.rmtree, folder / f"swarm{number}")
    speedup = statistics.median(a / b for a, b in zip(straight_s, swarm_s, strict=True))
    return {
        "pull_speedup": round(speedup, 2),
        "pull_speedup_share": round(speedup / best_speedup(), 3),
        "pull_straight_s": round(statistics.median(straight_s), 2),
        "pull_swarm_s": round(statistics.median(swarm_s), 2),
    }


def best_speedup() -> float:
    """What the links alone allow: everybody at the registry, over one copy for all of them."""
    size = sum(LAYERS)
    shared_s = NODES * size / ((NODES + 1) * NODE_RATE)  # from all uplinks, the seed's among them
    return NODES * size / REGISTRY_RATE / max(size / REGISTRY_RATE, size / NODE_RATE, shared_s)


def make_image(origin: LimitedOrigin, content: bytes, number: int) -> list[Blob]:
    """Layers that no other image has."""
    blobs: list[Blob] = []
    for place, size in enumerate(LAYERS):
        tail = 1 + 100 * number + place
        digest = hashlib.sha256(content[:size] + tail.to_bytes(TAIL_BYTES)).hexdigest()
        blobs.append(Blob(f"{origin.url(tail, size)}/blobs/sha256:{digest}", digest))
    return blobs


async def pull_all_s(folder: Path, image: Sequence[Blob], proxies: Sequence[str | None]) -> float:
    """Seconds until the last of the clients has it all; every byte must be right."""
    places = [folder / f"pulled{number}" for number in range(len(proxies))]
    for place in places:
        await asyncio.to_thread(place.mkdir)
    began_s = time.perf_counter()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for place, proxy in zip(places, proxies, strict=True):
            group.create_task(pull(place, image, proxy))
    took_s = time.perf_counter() - began_s
    for place in places:
        await asyncio.to_thread(check, place, image)
    return took_s


async def pull(place: Path, image: Sequence[Blob], proxy: str | None) -> None:
    """All blobs into the folder `place`, named by their digests."""
    words = [
        "curl",
        "-sf",
        "--no-progress-meter",
        "--parallel",
        "--parallel-max",
        str(LAYERS_AT_ONCE),
    ]
    words += ["--parallel-immediate", "--noproxy", "*"] if proxy is None else ["-x", proxy]
    for blob in image:
        words += ["-o", str(place / blob.digest), blob.url]
    client = await asyncio.create_subprocess_exec(*words)
    assert await client.wait() == 0, f"curl by {proxy} failed"


def check(place: Path, image: Sequence[Blob]) -> None:
    """And remove it."""
    for blob in image:
        with (place / blob.digest).open("rb") as file:
            found: Any = hashlib.file_digest(file, "sha256").hexdigest()
        assert found == blob.digest, f"{place} has other bytes than {blob.url}"
    shutil.rmtree(place)
