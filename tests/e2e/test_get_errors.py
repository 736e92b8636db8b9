"""What goes wrong on a user's host, with the real program: one message, an exit code, no harm done.

`odonata get` against origins and arguments of all kinds is in tests/integration/daemon/test_get.py;
here are the errors that need a disk of their own, or a daemon that meets them at its start.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.content import MIB, make_content
from support.origin import Manners, Origin
from support.program import Place, Program

pytestmark = pytest.mark.e2e

ODONATA = str(Path(sys.executable).with_name("odonata"))
SMALL_DISK = "16m"
RECOVERY_TIMEOUT_S = 30.0
TOO_LARGE = make_content(24 * MIB)
FITS = make_content(2 * MIB, seed=2)
_MOUNT_TMPFS = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True)
class Daemon:
    """A running daemon."""

    folder: Path
    program: Program

    @property
    def output(self) -> Path:
        """A folder for what is downloaded."""
        return self.folder / "out"

    def written(self) -> dict[str, bytes]:
        """What lies there, in the daemon's own view: it may have mounts that we don't see."""
        view = Path(f"/proc/{self.program.pid}/root{self.output}")
        return {path.name: path.read_bytes() for path in view.iterdir()}


@pytest.fixture
def folder(place: Place) -> Iterator[Path]:
    folder = place.folder / "daemon"
    (folder / "data").mkdir(parents=True)
    (folder / "out").mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def origin() -> AsyncGenerator[Origin]:
    async with Origin() as origin:
        yield origin


@asynccontextmanager
async def daemon(
    place: Place, folder: Path, *arguments: str, small_disk: Path | None = None
) -> AsyncGenerator[Daemon]:
    """A daemon in `folder`; `small_disk` is a folder that is a disk of SMALL_DISK to it."""
    words = daemon_words(folder, *arguments)
    if small_disk is not None:
        mount = ["/bin/sh", "-c", _MOUNT_TMPFS, "sh", SMALL_DISK, str(small_disk)]
        words = [*mount, *words]
    program = Program(place, "daemon", words)
    with program:

        def started() -> bool:
            return '"daemon_started"' in program.err.read_text()

        await asyncio.to_thread(program.wait_until, started, "its start")
        yield Daemon(folder, program)


def daemon_words(folder: Path, *arguments: str) -> list[str]:
    any_port = ("--upload-port=0", "--piece-port=0", "--proxy-port=0", "--ip=127.0.0.1")
    places = (f"--data-dir={folder / 'data'}", f"--socket={folder / 'd.sock'}")
    return [ODONATA, "daemon", "--log-format=json", *any_port, *places, *arguments]


async def get(place: Place, one: Daemon, url: str, name: str) -> tuple[int, str]:
    """Exit code and the lines of errors of `odonata get` into the output folder."""
    words = ["get", url, "-O", str(one.output / name), "-e", str(one.folder / "d.sock")]
    done = await asyncio.to_thread(place.call, ODONATA, *words, "--no-progress")
    return done.returncode, done.stderr


def said_once(text: str) -> str:
    """The one message in a program's output, which may hold log lines too."""
    assert "Traceback" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("odonata: "))
    return line


# --- at the start of a daemon ---------------------------------------------------------------------


def test_a_wrong_key_is_answered_with_the_right_one(place: Place, folder: Path) -> None:
    config = folder / "config.yaml"
    config.write_text("proxy:\n  ruls:\n    - regex: blobs/sha256.*\n")
    done = place.call(*daemon_words(folder, f"--config={config}"))
    assert done.returncode == 2
    line = said_once(done.stderr)
    assert f"{config.name}:3: " in line
    assert "proxy.ruls" in line
    assert "rules" in line.replace("ruls", "")


def test_a_folder_that_takes_nothing_is_named(place: Place, folder: Path) -> None:
    """/proc takes no folders from anybody, root included."""
    done = place.call(*daemon_words(folder, "--data-dir=/proc/odonata"))
    assert done.returncode in {1, 2}
    assert "/proc/odonata" in said_once(done.stderr)


async def test_without_its_scheduler_a_daemon_asks_the_source(
    place: Place, folder: Path, origin: Origin
) -> None:
    with socket.socket() as nobody:  # bound, but it does not listen
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with daemon(place, folder, f"--scheduler={address}") as one:
            assert await get(place, one, origin.add("/blob", FITS), "blob") == (0, "")
            said = one.program.err.read_text()
    assert (folder / "out" / "blob").read_bytes() == FITS
    events = [json.loads(line) for line in said.splitlines()]
    warned = {event["event"]: event for event in events if event["level"] == "warning"}
    assert warned["scheduler_unreachable"]["scheduler"] == address
    assert "set scheduler.addrs, or start the scheduler" in said


# --- full disks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["length-known", "length-unknown"])
@pytest.mark.parametrize("full", ["data", "out"])
async def test_a_full_disk_is_said_and_survived(
    place: Place, folder: Path, origin: Origin, full: str, chunked: bool
) -> None:
    """Of an unknown length, the disk fills while the content arrives; the next round of garbage
    collection then makes room again.
    """
    manners = Manners(chunked=True, ranges=False) if chunked else Manners()
    url = origin.add("/large", TOO_LARGE, manners)
    async with daemon(place, folder, "--set=gc.interval=1s", small_disk=folder / full) as one:
        code, said = await get(place, one, url, "large")
        assert code == 1
        assert "free some space" in said_once(said)
        assert one.written() == {}, "nothing half-done is left"
        fits = origin.add("/fits", FITS)
        async with asyncio.timeout(RECOVERY_TIMEOUT_S):
            while (await get(place, one, fits, "fits")) != (0, ""):
                assert one.written() == {}
        assert one.written() == {"fits": FITS}


# --- an origin that dies --------------------------------------------------------------------------


async def test_what_an_origin_gave_before_it_died_is_not_asked_for_again(
    place: Place, folder: Path, origin: Origin
) -> None:
    manners = Manners(short_by=len(TOO_LARGE) // 2)
    async with daemon(place, folder) as one:
        code, said = await get(place, one, origin.add("/large", TOO_LARGE, manners), "large")
        assert code == 1
        said_once(said)
        assert not (one.output / "large").exists(), "no short file"
        before = origin.sent_bytes("/large")
        assert (await get(place, one, origin.add("/large", TOO_LARGE), "large"))[0] == 0
        assert (one.output / "large").read_bytes() == TOO_LARGE
        assert origin.sent_bytes("/large") - before < len(TOO_LARGE)
