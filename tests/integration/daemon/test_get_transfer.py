"""`odonata get --transfer-from-dfdaemon`: the command writes, the daemon only gives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import (
    MIB,
    PATIENCE_S,
    command,
    daemon,
    daemon_arguments,
    environment,
    process,
    run,
)
from support.eventually import eventually
from support.listing_daemon import file_entry, listing_daemon
from support.origin import Manners, Origin

from peer.runtime.daemon import Daemon

CONTENT = make_content(9 * MIB + 3)
TRANSFER = "--transfer-from-dfdaemon"
FOREIGN_UID = 65534


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, 2) as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def get(socket_path: Path, url: str, output: Path, *words: str) -> tuple[int, str]:
    return await run("get", url, "-O", str(output), "-e", str(socket_path), TRANSFER, *words)


@asynccontextmanager
async def getting(
    one: Daemon, url: str, output: Path
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A command that has begun to write."""
    child = await asyncio.create_subprocess_exec(
        *command("get", url, "-O", str(output), "-e", str(one.socket_path), TRANSFER),
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        await eventually(lambda: names_in(output.parent) != [])
        yield child
    finally:
        async with asyncio.timeout(PATIENCE_S):
            await child.communicate()


async def test_the_file_is_the_callers_own(one: Daemon, origin: Origin, folder: Path) -> None:
    url, out = origin.add("/blob", CONTENT), folder / "out"
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    code, said = await get(one.socket_path, url, out, "--digest", digest)
    assert (code, out.read_bytes()) == (0, CONTENT), said
    assert said.startswith(f"{out}: 9.0 MiB")
    facts = out.stat()
    assert (facts.st_nlink, facts.st_uid) == (1, os.geteuid()), "no link to the daemon's file"
    assert facts.st_mode & 0o777 == 0o666 & ~_umask()
    assert names_in(folder) == ["out"]


def _umask() -> int:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("Umask:")
    )
    return int(line.split()[1], 8)


async def test_what_is_there_stays_unless_it_is_to_be_replaced(
    one: Daemon, origin: Origin, folder: Path
) -> None:
    url, out = origin.add("/blob", CONTENT), folder / "out"
    out.write_bytes(b"mine")
    code, said = await get(one.socket_path, url, out)
    assert (code, out.read_bytes()) == (1, b"mine")
    assert f"{out} exists" in said
    assert origin.requests == [], "said before anything is moved"
    code, said = await get(one.socket_path, url, out, "--overwrite", "--no-progress")
    assert (code, said, out.read_bytes()) == (0, "", CONTENT)
    for wrong, why in ((folder / "no" / "out", "there is no folder"), (folder, "is a folder")):
        code, said = await get(one.socket_path, url, wrong, "--overwrite")
        assert (code, why in said) == (2, True), said
    code, said = await get(one.socket_path, url, folder / "other", "--force-hard-link")
    assert (code, TRANSFER in said) == (2, True), said
    assert names_in(folder) == ["out"]


async def test_what_fails_leaves_nothing(one: Daemon, origin: Origin, folder: Path) -> None:
    slow = origin.add("/slow", CONTENT, Manners(rate_bytes_per_s=256 * 1024))
    for url, words, why in (
        (origin.url("/none"), (), "Bad Status Code: 404"),
        (origin.add("/blob", CONTENT), ("--digest", f"sha256:{'0' * 64}"), "0" * 64),
        (slow, ("--timeout", "500ms"), "more than 0.5 s"),
    ):
        code, said = await get(one.socket_path, url, folder / "out", *words)
        assert (code, why in said) == (1, True), said
        assert names_in(folder) == []


async def test_an_interruption_leaves_nothing(one: Daemon, origin: Origin, folder: Path) -> None:
    gate = asyncio.Event()
    url = origin.add("/blob", CONTENT, Manners(gate=gate))
    async with getting(one, url, folder / "out") as child:
        assert not (folder / "out").exists()
        child.send_signal(signal.SIGINT)
    assert child.returncode == 130
    assert names_in(folder) == []
    gate.set()


async def test_a_file_that_appears_meanwhile_is_not_replaced(
    one: Daemon, origin: Origin, folder: Path
) -> None:
    gate = asyncio.Event()
    out = folder / "out"
    async with getting(one, origin.add("/blob", CONTENT, Manners(gate=gate)), out) as child:
        out.write_bytes(b"mine")
        gate.set()
    assert (child.returncode, out.read_bytes()) == (1, b"mine")
    assert names_in(folder) == ["out"]


async def test_a_folder_is_fetched_so_too(one: Daemon, origin: Origin, folder: Path) -> None:
    contents = {"a": make_content(5 * MIB), "sub/b": b"bb", "sub/empty": b""}
    url = origin.url("/d")
    entries = [
        file_entry(origin.add(f"/d/{name}", data), len(data)) for name, data in contents.items()
    ]
    socket_path = folder.parent / "l.sock"
    async with listing_daemon(socket_path, one.socket_path, {url: entries}):
        code, said = await get(socket_path, url, folder, "-r")
        assert code == 0, said
        assert "3 files" in said
    for name, data in contents.items():
        assert (folder / name).read_bytes() == data
        assert (folder / name).stat().st_nlink == 1


async def test_a_folder_that_the_daemon_may_not_write_to(
    origin: Origin, folder: Path, tmp_path: Path
) -> None:
    """The daemon's root is without root's powers: other people's folders are closed to it."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be a daemon with less power than its caller")
    os.chown(folder, FOREIGN_UID, FOREIGN_UID)
    url, out = origin.add("/blob", CONTENT), folder / "out"
    powerless = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    async with process(*daemon_arguments(tmp_path, 2), within=powerless) as one:
        code, said = await run("get", url, "-O", str(out), "-e", str(one.socket_path))
        assert (code, str(folder) in said) == (1, True), said
        code, said = await get(one.socket_path, url, out)
        assert (code, out.read_bytes()) == (0, CONTENT), said
