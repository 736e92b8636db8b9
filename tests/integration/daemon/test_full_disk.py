"""A whole daemon on a volume that is really full: index, content files and all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.content import make_content
from support.daemon import MIB, daemon_arguments, process, run
from support.origin import Manners, Origin

VOLUME_BYTES = 16 * MIB
SMALL = make_content(MIB)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of our own; only root may mount one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a tmpfs")
    path = tmp_path / "volume"
    path.mkdir()
    options = ["-o", f"size={VOLUME_BYTES}", "-t", "tmpfs", "none", str(path)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


def fill(volume: Path) -> Path:
    """Take every byte that is left."""
    ballast = volume / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


async def get(socket_path: Path, url: str, output: Path) -> tuple[int, str]:
    return await run("get", url, "-O", str(output), "-e", str(socket_path), "--no-progress")


def arguments(tmp_path: Path, volume: Path) -> list[str]:
    return daemon_arguments(tmp_path, 2, storage__dir=str(volume / "data"))


@pytest.mark.parametrize("manners", [Manners(), Manners(ranges=False, chunked=True)])
async def test_a_content_that_does_not_fit_leaves_room_for_one_that_does(
    tmp_path: Path, volume: Path, origin: Origin, manners: Manners
) -> None:
    """Whether its length is told beforehand or not."""
    big = origin.add("/big", make_content(VOLUME_BYTES + 4 * MIB), manners)
    small = origin.add("/small", SMALL)
    async with process(*arguments(tmp_path, volume)) as one:
        code, said = await get(one.socket_path, big, tmp_path / "big")
        assert code == 1
        (line,) = said.splitlines()
        assert "free some space" in line
        assert not (tmp_path / "big").exists()
        assert await get(one.socket_path, small, tmp_path / "small") == (0, "")
        assert (tmp_path / "small").read_bytes() == SMALL
        code, events = await one.terminate()
    assert code == 0
    assert not [event for event in events if event["level"] == "error"]


async def test_a_volume_that_others_filled_is_told_and_outlived(
    tmp_path: Path, volume: Path, origin: Origin
) -> None:
    """Not even the index can grow."""
    url = origin.add("/blob", SMALL)
    async with process(*arguments(tmp_path, volume)) as one:
        ballast = fill(volume)
        code, said = await get(one.socket_path, url, tmp_path / "url")
        assert code == 1
        (line,) = said.splitlines()
        assert "free" in line
        ballast.unlink()
        assert await get(one.socket_path, url, tmp_path / "url") == (0, "")
        code, events = await one.terminate()
    assert code == 0
    assert not [event for event in events if event["level"] == "error"]


async def test_a_daemon_starts_on_a_full_volume(
    tmp_path: Path, volume: Path, origin: Origin
) -> None:
    """Or nothing could ever make room there."""
    url = origin.add("/blob", SMALL)
    async with process(*arguments(tmp_path, volume)) as one:
        assert await get(one.socket_path, url, tmp_path / "out") == (0, "")
    fill(volume)
    async with process(*arguments(tmp_path, volume)) as one:
        assert await get(one.socket_path, url, tmp_path / "again") == (0, "")
        assert origin.copies("/blob") == 1
        # It makes room for another one by forgetting this one.
        other = origin.add("/other", SMALL[: MIB // 2])
        assert await get(one.socket_path, other, tmp_path / "other") == (0, "")
        assert (await one.terminate())[0] == 0
