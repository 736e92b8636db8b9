"""How fast cached blobs come out of a daemon's HTTP proxy, beside curl from a tuned nginx.

    ./run bench proxy [--size-mib 1024] [--rounds 5] [--only PART]... [--json OUT]

`blob`: a whole daemon holds one blob; each round curl asks every contender once, in shuffled order:
nginx and the proxy by HTTP, and by HTTPS, which the proxy opens (`proxy.interceptHosts`).

    http_vs_nginx            nginx's time / ours
    mitm_vs_nginx_https      the same by HTTPS
    http_cpu, mitm_cpu       CPU of server and curl per byte: ours / nginx's

`small`: 1,000 requests a second for cached blobs of 1 KiB, as they come, on 32 connections; the
daemon has one core, whoever asks the other one.

    small_p50_ms, small_p99_ms     from when a request was due to its last byte
    small_per_s                    answered in fact
    small_cpu                      of the daemon's core

`pulls`: 200 pulls at once of 50 images, four layers each, through a daemon that holds nothing.

    pulls_wrong, pulls_s           layers that failed or were not their digest's; until the last

`docker` and `speedup`: see `image_pull.py`. 256 MiB behind 400 Mbit/s; 128 MiB for eight nodes of
200 Mbit/s each behind 100.

    docker_pull_cold_overhead      `docker pull` by one daemon's proxy / straight from the registry
    pull_speedup                   eight straight from the registry / the swarm's eight
    pull_speedup_share             of the speed-up that the links allow
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

import aiohttp  # noqa: E402  # after the path
import numpy as np  # noqa: E402
import uvloop  # noqa: E402
from bench import yardstick  # noqa: E402
from bench.image_pull import measure_docker, measure_speedup  # noqa: E402
from bench.yardstick import GB, MIB, Outcome, compare, cpu_s_of, make_file, nginx  # noqa: E402
from support.certificates import make_authority, make_signed  # noqa: E402
from support.daemon import Process, daemon_arguments, process  # noqa: E402

PARTS: Final = ("blob", "small", "pulls", "speedup", "docker")
HTTP, HTTPS = "nginx", "nginx, https"
OURS, OURS_HTTPS = "odonata", "odonata, https"
PAIRS: Final = {"http": (OURS, HTTP), "mitm": (OURS_HTTPS, HTTPS)}
PLACE: Final = "v2/bench/blobs"
NO_DIGEST: Final = f"{PLACE}/sha256:bench"
"""No digest that content could have: what is measured is the proxy, not the check of the whole."""

SMALL_FILES: Final = 200
SMALL_BYTES: Final = 1024
SMALL_PER_S: Final = 1000
SMALL_S: Final = 10.0
CONNECTIONS: Final = 32
"""What a pull of some images opens at once."""

IMAGES: Final = 50
PULLS: Final = 200
LAYER_BYTES: Final = (4096, 256 * 1024, 1024 * 1024, 5 * MIB)
LAYERS_AT_ONCE: Final = 3
"""Of one pull, as dockerd does it."""

Contender = tuple[list[str], Callable[[], float]]
"""What curl is told, and a function for the CPU seconds of the server so far."""


def ask(arguments: list[str], server_cpu_s: Callable[[], float]) -> Outcome:
    """One download to nowhere."""
    before, began_s = server_cpu_s(), time.perf_counter()
    client = subprocess.Popen(["curl", "-sf", "-o", "/dev/null", *arguments])
    _, status, usage = os.wait4(client.pid, 0)
    client.returncode = os.waitstatus_to_exitcode(status)
    assert client.returncode == 0, "curl failed"
    return Outcome(
        wall_s=time.perf_counter() - began_s,
        server_cpu_s=server_cpu_s() - before,
        client_cpu_s=usage.ru_utime + usage.ru_stime,
    )


async def measure_blob(folder: Path, length: int, rounds: int) -> dict[str, list[Outcome]]:
    """Every contender's outcomes, round by round."""
    content_file = folder / "root" / NO_DIGEST
    content_file.parent.mkdir(parents=True)
    make_file(content_file, length // MIB)
    authority = make_authority(folder)
    signed = make_signed(folder, authority, yardstick.NGINX_IP)
    trusting = ["--cacert", str(authority.cert)]
    contenders: dict[str, Contender] = {}
    async with AsyncExitStack() as stack:
        for name, tls in ((HTTP, None), (HTTPS, signed)):
            place = folder / f"nginx{len(contenders)}"
            place.mkdir()
            server = stack.enter_context(nginx(place, folder / "root", tls=tls))
            contenders[name] = ([*trusting, f"{server.base_url}/{NO_DIGEST}"], server.cpu_s)
        one = await stack.enter_async_context(opening_daemon(folder, authority.cert, authority.key))
        through = ["-x", f"http://127.0.0.2:{one.started['proxy_port']}"]
        for name, behind in ((OURS, HTTP), (OURS_HTTPS, HTTPS)):
            words = [*through, *contenders[behind][0]]
            contenders[name] = (words, lambda: cpu_s_of([one.pid]))
            await asyncio.to_thread(fill, words, folder / "first", content_file)
        outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
        for _ in range(rounds):
            order = list(contenders.items())
            random.shuffle(order)
            for name, contender in order:
                outcomes[name].append(await asyncio.to_thread(ask, *contender))
    return outcomes


def opening_daemon(folder: Path, cert: Path, key: Path) -> Any:
    """A daemon whose proxy opens TLS to nginx. An async context of its process."""
    return process(
        *daemon_arguments(
            folder,
            2,
            proxy__rules='[{"regex": "blobs/sha256.*"}]',
            proxy__server__caCert=str(cert),
            proxy__server__caKey=str(key),
            backend__caCert=str(cert),
        )
    )


def fill(arguments: list[str], output: Path, content_file: Path) -> None:
    """Have the daemon fetch the blob; every byte must be right, or the figures mean nothing."""
    subprocess.run(["curl", "-sf", "-o", str(output), *arguments], check=True)
    compare(output, content_file)


def summed_up(outcomes: dict[str, list[Outcome]], length: int) -> dict[str, Any]:
    """Medians over the rounds; ratios within each round."""
    facts: dict[str, Any] = {}
    for kind, (ours, theirs) in PAIRS.items():
        pairs = list(zip(outcomes[ours], outcomes[theirs], strict=True))
        wall = statistics.median(nginx.wall_s / our.wall_s for our, nginx in pairs)
        key = "http_vs_nginx" if kind == "http" else "mitm_vs_nginx_https"
        facts[key] = round(wall, 3)
        facts[f"{kind}_cpu"] = round(
            statistics.median(our.cpu_s / nginx.cpu_s for our, nginx in pairs), 3
        )
    per_gb = GB / length
    facts["table"] = {
        name: {
            "gb_per_s": round(1 / per_gb / statistics.median(o.wall_s for o in those), 3),
            "server": round(statistics.median(o.server_cpu_s for o in those) * per_gb, 3),
            "curl": round(statistics.median(o.client_cpu_s for o in those) * per_gb, 3),
        }
        for name, those in outcomes.items()
    }
    return facts


async def measure_small(folder: Path) -> dict[str, float]:
    """Small cached blobs at a rate that does not wait for answers."""
    root = folder / "small"
    (root / PLACE).mkdir(parents=True)
    paths = [make_blob(root, number, SMALL_BYTES) for number in range(SMALL_FILES)]
    place = folder / "nginx-small"
    place.mkdir()
    cores = sorted(os.sched_getaffinity(0))
    with nginx(place, root) as server:
        urls = [f"{server.base_url}/{path}" for path in paths]
        rules: Any = '[{"regex": "blobs/sha256.*"}]'
        async with process(*daemon_arguments(folder, 3, proxy__rules=rules)) as one:
            proxy = f"http://127.0.0.3:{one.started['proxy_port']}"
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            async with aiohttp.ClientSession(connector=connector) as session:
                for url in urls:
                    await fetch(session, proxy, url)
                pin(one, cores[0])
                os.sched_setaffinity(0, {cores[-1]})
                drain = asyncio.ensure_future(one.drain())
                try:
                    return await offer(session, proxy, urls, one)
                finally:
                    drain.cancel()


def make_blob(root: Path, number: int, size: int) -> str:
    """Its path below `root`."""
    content = random.Random(number).randbytes(size)
    path = f"{PLACE}/sha256:{hashlib.sha256(content).hexdigest()}"
    (root / path).write_bytes(content)
    return path


def pin(one: Process, core: int) -> None:
    """All of the daemon's threads on one core."""
    for thread in Path(f"/proc/{one.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


async def fetch(session: aiohttp.ClientSession, proxy: str, url: str) -> None:
    async with session.get(url, proxy=proxy) as response:
        body = await response.read()
        assert (response.status, len(body)) == (200, SMALL_BYTES), response.status


async def offer(
    session: aiohttp.ClientSession, proxy: str, urls: list[str], one: Process
) -> dict[str, float]:
    """One request each millisecond, whether the last ones were answered or not."""
    loop, took_s = asyncio.get_running_loop(), list[float]()
    total = int(SMALL_PER_S * SMALL_S)
    dice = random.Random(1)

    numbers = iter(range(total))

    async def connection() -> None:
        """Asks whatever is due next; what is due later than it can, it asks late."""
        for number in numbers:
            due_s = began_s + number / SMALL_PER_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            await fetch(session, proxy, dice.choice(urls))
            took_s.append(loop.time() - due_s)

    cpu_s, began_s = cpu_s_of([one.pid]), loop.time()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(connection())
    lasted_s = loop.time() - began_s
    return {
        "small_p50_ms": round(float(np.percentile(took_s, 50)) * 1000, 2),
        "small_p99_ms": round(float(np.percentile(took_s, 99)) * 1000, 2),
        "small_per_s": round(total / lasted_s, 1),
        "small_cpu": round((cpu_s_of([one.pid]) - cpu_s) / lasted_s, 3),
    }


async def measure_pulls(folder: Path) -> dict[str, float]:
    """Many pulls at once of images that nobody has."""
    root = folder / "images"
    (root / PLACE).mkdir(parents=True)
    images = [
        [make_blob(root, 10 * image + place, size) for place, size in enumerate(LAYER_BYTES)]
        for image in range(IMAGES)
    ]
    place = folder / "nginx-images"
    place.mkdir()
    with nginx(place, root) as server:
        rules: Any = '[{"regex": "blobs/sha256.*"}]'
        async with process(*daemon_arguments(folder, 4, proxy__rules=rules)) as one:
            proxy = f"http://127.0.0.4:{one.started['proxy_port']}"

            async def pull(layers: list[str]) -> int:
                connector = aiohttp.TCPConnector(limit=LAYERS_AT_ONCE)
                async with aiohttp.ClientSession(connector=connector) as session:
                    urls = (f"{server.base_url}/{path}" for path in layers)
                    return sum(await asyncio.gather(*(is_wrong(session, proxy, u) for u in urls)))

            began_s = time.monotonic()
            async with asyncio.timeout(yardstick.PATIENCE_S):
                wrong = await asyncio.gather(*(pull(images[n % IMAGES]) for n in range(PULLS)))
            return {"pulls_wrong": sum(wrong), "pulls_s": round(time.monotonic() - began_s, 2)}


async def is_wrong(session: aiohttp.ClientSession, proxy: str, url: str) -> bool:
    """Whether a blob does not come, or not as its digest says."""
    digest = hashlib.sha256()
    try:
        async with session.get(url, proxy=proxy) as response:
            async for data in response.content.iter_any():
                digest.update(data)
            return response.status != 200 or not url.endswith(digest.hexdigest())
    except aiohttp.ClientError:
        return True


def show(facts: dict[str, Any]) -> None:
    """A table for people."""
    lines = [f"{'':20}{'GB/s':>8}{'server':>10}{'curl':>10}  CPU-s/GB"] if "table" in facts else []
    for name, row in facts.get("table", {}).items():
        lines.append(f"{name:20}{row['gb_per_s']:>8.2f}{row['server']:>10.2f}{row['curl']:>10.2f}")
    lines += [f"{key:28}{value:>8}" for key, value in facts.items() if key != "table"]
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable; default: all")
    parser.add_argument("--dir", type=Path, help="where files lie (default: /dev/shm, if there)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    args = parser.parse_args()
    if not (shutil.which("nginx") and shutil.which("curl")):
        parser.error("this bench needs nginx and curl: apt install nginx curl")
    can_dock = os.geteuid() == 0 and shutil.which("dockerd") and shutil.which("docker-registry")
    parts = args.only or [part for part in PARTS if part != "docker" or can_dock]
    if "docker" in parts and not can_dock:
        parser.error("docker needs root, and: apt install docker.io docker-registry skopeo")
    memory, length = Path("/dev/shm"), args.size_mib * MIB
    where = args.dir or (memory if memory.is_dir() else None)
    facts: dict[str, Any] = {}
    for part in parts:
        with tempfile.TemporaryDirectory(dir=where) as name:
            if part == "blob":
                outcomes = asyncio.run(measure_blob(Path(name), length, args.rounds))
                facts |= summed_up(outcomes, length)
            elif part == "pulls":
                facts |= uvloop.run(measure_pulls(Path(name)))
            elif part == "speedup":
                facts |= uvloop.run(measure_speedup(Path(name), args.rounds))
            elif part == "docker":
                facts |= measure_docker(where or Path("/tmp"), args.rounds)
            else:
                facts |= uvloop.run(measure_small(Path(name)))
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n")
    show(facts)


if __name__ == "__main__":
    main()
